"""Two films of a comparison room with an offset: is each on the frame of the room's position, paused and playing?"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

from .clips import ENCODINGS, Encoding
from .paused import END_S, FILM_S, PEOPLE, SETTLE_MS, set_medium
from .playing import INSTANT_MS, frame_at, percentile, with_missed
from .viewers import Film, Hall, Viewer, all_shown

OFFSET_S = 2.4
FILMS = (ENCODINGS["h264-25"], ENCODINGS["h264-29.97"])
TARGETS, OFFSETS_S = ("left", "right"), (0.0, OFFSET_S)
PLAYING_MS = 3000.0  # after the start, before the frames are compared


@dataclass
class Comparison:
    """Distances in frames from the frame of the room's position: paused of each page and film in each round, and while
    playing at each 5 ms of the time 3 s after the start."""

    paused: list[int] = field(default_factory=list)
    playing: list[int] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.worst_paused <= 1 and percentile(self.playing, 0.99) <= 1

    @property
    def worst_paused(self) -> int:
        return max(self.paused, default=0)


def right_frame(position: float, offset_s: float, encoding: Encoding) -> int:
    """The frame of a film at a position of the room, s."""
    return floor((position + offset_s) * encoding.rate)


def position_at(playback: dict[str, Any], wall_ms: float) -> float:
    """The room's position; server and pages have the same clock, as they are on one machine."""
    elapsed_s = max(0.0, wall_ms - playback["anchor"]) / 1000 if playback["isPlaying"] else 0.0
    return float(playback["currentTime"] + elapsed_s * playback["playbackRate"])


async def open_comparison(hall: Hall, room: str, people: Sequence[str] = PEOPLE) -> list[Viewer]:
    """Pages with both films, in a room that knows them."""
    films = [
        Film(encoding, FILM_S, options={"target": target, "mediaId": encoding.name})
        for encoding, target in zip(FILMS, TARGETS, strict=True)
    ]
    viewers = [await hall.open(user, room, films) for user in people]
    for encoding, target, offset in zip(FILMS, TARGETS, OFFSETS_S, strict=True):
        await set_medium(viewers[0], encoding, target=target, offset=offset)
    return viewers


async def distances(viewers: Sequence[Viewer], at: float) -> list[int]:
    """How many frames each displayed frame is from that of the room's position, which stands."""
    found = []
    for index, (encoding, offset) in enumerate(zip(FILMS, OFFSETS_S, strict=True)):
        for page in await all_shown(viewers, at, index):
            frame = right_frame(page["playback"]["currentTime"], offset, encoding)
            found.append(abs(page["frame"] - frame))
    return found


async def comparison(hall: Hall, rounds: int, seconds: float, rng: random.Random) -> Comparison:
    """`rounds` of seeks and pauses on either film, then `seconds` of playing."""
    result = Comparison()
    viewers = await open_comparison(hall, f"comparison_{rng.randrange(10**9)}")
    await viewers[0].act("seek", to=5.0)
    await asyncio.sleep(1.0)
    for _ in range(rounds):
        actor, film = rng.choice(viewers), rng.randrange(len(FILMS))
        if rng.random() < 0.5:
            await actor.act("play", film)
            await asyncio.sleep(rng.uniform(0.4, 0.9))
            acted = await actor.act("pause", film)
        else:
            acted = await actor.act("seek", film, to=rng.uniform(OFFSET_S + 0.1, FILM_S - END_S))
        result.paused += await distances(viewers, acted["at"] + SETTLE_MS)
    await viewers[0].act("seek", to=3.0)
    await asyncio.sleep(1.0)
    acted = await viewers[1].act("play")
    await asyncio.sleep(PLAYING_MS / 1000)
    for viewer in viewers:
        await viewer.call("takeRecord")
    await asyncio.sleep(seconds)
    end = await viewers[0].call("now")
    playback = (await viewers[0].call("shown"))["playback"]
    for viewer in viewers:
        records = await viewer.call("takeRecord")
        for record, encoding, offset in zip(records, FILMS, OFFSETS_S, strict=True):
            result.playing += while_playing(with_missed(record["frames"]), encoding, offset, playback, end)
        await viewer.close()
    return result


def while_playing(
    shown: Sequence[tuple[float, int]], encoding: Encoding, offset_s: float, playback: dict[str, Any], end: float
) -> list[int]:
    """Distances at each 5 ms of a record."""
    found = []
    at = shown[0][0] if shown else end
    while at < end:
        frame = frame_at(shown, at)
        assert frame is not None
        found.append(abs(frame - right_frame(position_at(playback, at), offset_s, encoding)))
        at += INSTANT_MS
    return found


def row(result: Comparison) -> list[str]:
    shares = [percentile(result.playing, share) for share in (0.5, 0.95, 0.99, 1.0)]
    wrong = sum(distance > 1 for distance in result.paused)
    return [f"{wrong} of {len(result.paused)}", str(result.worst_paused), *map(str, shares)]
