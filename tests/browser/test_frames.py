"""People who watch together see the same frame: films whose frames carry their numbers, read off the displayed picture in
three pages of a real Chromium.

`python -m bench.frame_accuracy` measures how fast; here only the outcome counts, so a busy machine does not matter.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from bench.frame_accuracy.clips import ENCODINGS, Encoding
from bench.frame_accuracy.comparison import FILMS, OFFSETS_S, open_comparison, position_at, right_frame
from bench.frame_accuracy.paused import ACTS, FILM_S, PEOPLE, apart, asked_for, perform, set_medium
from bench.frame_accuracy.playing import frame_at, with_missed
from bench.frame_accuracy.viewers import Film, Hall, Viewer, hall
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.browser, pytest.mark.soak]

ROUNDS = 8
# every rate once, and the long groups of pictures at slow and fast rates; whether the room knows the rate
CHOSEN = {
    "h264-23.976": False,
    "h264-24": True,
    "h264-25": False,
    "h264-29.97": True,
    "h264-50": False,
    "h264-59.94": True,
    "vp9-23.976": True,
    "vp9-59.94": False,
    "av1-29.97": False,
}
STILL_S = 0.5  # so long the pages must go on displaying the frame


async def wait_for_one_frame(viewers: Sequence[Viewer], is_right: Callable[[int], bool]) -> int:
    """Wait until all pages stand still on one frame, which is returned, and go on displaying it."""
    deadline = time.monotonic() + PATIENCE_S
    since, last = time.monotonic(), -1
    while True:
        await asyncio.sleep(0.02)
        pages = await asyncio.gather(*(viewer.call("shown") for viewer in viewers))
        frames = {-1 if page["seeking"] or not page["paused"] else page["frame"] for page in pages}
        now = time.monotonic()
        if len(frames) == 1 and frames != {-1} and all(map(is_right, frames)):
            if frames != {last}:
                since, (last,) = now, frames
            elif now - since > STILL_S:
                return last
        else:
            since, last = now, -1
        assert now < deadline, pages


def run(story: Callable[[Hall], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        async with hall() as place:
            await story(place)

    asyncio.run(play())


async def open_three(place: Hall, encoding: Encoding, room: str) -> list[Viewer]:
    return [await place.open(user, room, [Film(encoding, FILM_S)]) for user in PEOPLE]


@pytest.mark.parametrize(("name", "knows_rate"), list(CHOSEN.items()))
def test_pauses_steps_and_seeks_show_everybody_one_frame(name: str, knows_rate: bool) -> None:
    """H21: the frame that the command names, or for a pause any, the same on all pages."""
    encoding = ENCODINGS[name]
    rng = random.Random(name)
    last = round(FILM_S * encoding.rate) - 1

    async def story(place: Hall) -> None:
        viewers = await open_three(place, encoding, f"video_{name}")
        if knows_rate:
            await set_medium(viewers[0], encoding)
        await viewers[0].act("seek", to=5.03)
        before = await wait_for_one_frame(viewers, lambda frame: frame == int(5.03 * encoding.rate))
        # a room without a rate cannot step before a film has played: the time of a frame is not known
        for act in ["pause", *rng.choices(ACTS, k=ROUNDS)]:
            details, _ = await perform(act, viewers, rng)
            expected = asked_for(act, before, details, encoding.rate, last)
            before = await wait_for_one_frame(
                viewers,
                lambda frame, expected=expected: not apart([frame], expected),  # type: ignore[misc]
            )
        assert [viewer.errors for viewer in viewers] == [[], [], []]

    run(story)


def test_the_screen_has_the_frame_that_the_canvas_reads() -> None:
    async def story(place: Hall) -> None:
        (viewer,) = [await place.open("ann", "video_screen", [Film(ENCODINGS["h264-25"], FILM_S)])]
        for to in (2.5, 40.0, 13.37):
            await viewer.act("seek", to=to)
            frame = await wait_for_one_frame([viewer], lambda frame, to=to: frame == int(to * 25))  # type: ignore[misc]
            assert await viewer.painted() == frame

    run(story)


@pytest.mark.parametrize("name", ["h264-25", "vp9-59.94"])
def test_while_playing_the_pages_come_within_a_frame(name: str) -> None:
    """H22: one page starts 400 ms late and has a slow CPU; for a second all pages are at most one frame apart."""
    encoding = ENCODINGS[name]

    async def story(place: Hall) -> None:
        delays = (0.0, 200.0, 400.0)
        viewers = [
            await place.open(user, f"video_play_{name}", [Film(encoding, FILM_S, delay, delay)])
            for user, delay in zip(PEOPLE, delays, strict=True)
        ]
        await viewers[2].throttle(4)
        await viewers[0].act("play")
        deadline = time.monotonic() + PATIENCE_S
        timelines: list[list[tuple[float, int]]] = [[], [], []]
        while not within_a_frame(timelines):
            await asyncio.sleep(0.1)
            for viewer, timeline in zip(viewers, timelines, strict=True):
                timeline += with_missed((await viewer.call("takeRecord"))[0]["frames"])
            if (await viewers[0].call("shown"))["currentTime"] > FILM_S - 10:
                await viewers[0].act("seek", to=1.0)
            assert time.monotonic() < deadline, "the pages do not come within a frame"

    run(story)


def test_two_films_of_a_comparison_are_each_on_their_frame() -> None:
    """H17: 25 and 29.97 frames a second, the second 2.4 s ahead, paused and playing."""

    async def story(place: Hall) -> None:
        viewers = await open_comparison(place, "comparison_frames")
        for film, to in enumerate((20.0, 31.01, 7.77)):
            await viewers[film].act("seek", film % 2, to=to)
            await wait_for_right_frames(viewers, lambda playback, film=film, to=to: is_at(playback, film, to))  # type: ignore[misc]
        await viewers[2].act("play", 1)
        await wait_for_right_frames(viewers, lambda playback: bool(playback["isPlaying"]))
        await viewers[0].act("pause", 0)
        await wait_for_right_frames(viewers, lambda playback: not playback["isPlaying"])

    run(story)


def is_at(playback: dict[str, Any], film: int, to: float) -> bool:
    """Whether the room stands within a frame of second `to` of a film."""
    return bool(abs(playback["currentTime"] + OFFSETS_S[film % 2] - to) < 0.04)


async def wait_for_right_frames(viewers: Sequence[Viewer], is_right: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until each page shows both films within a frame of the room's position, ten times in a row."""
    deadline = time.monotonic() + PATIENCE_S
    in_a_row = 0
    while in_a_row < 10:
        await asyncio.sleep(0.05)
        pages = [page for viewer in viewers for page in await films_of(viewer)]
        in_a_row = in_a_row + 1 if all(is_right(page["playback"]) and off <= 1 for page, off in pages) else 0
        assert time.monotonic() < deadline, [off for _, off in pages]


async def films_of(viewer: Viewer) -> list[tuple[dict[str, Any], int]]:
    """What the page displays of each film, and by how many frames that is not the room's position."""
    found = []
    for index, (encoding, offset) in enumerate(zip(FILMS, OFFSETS_S, strict=True)):
        page = await viewer.call("shown", index)
        found.append(
            (page, abs(page["frame"] - right_frame(position_at(page["playback"], page["at"]), offset, encoding)))
        )
    return found


def within_a_frame(timelines: Sequence[Sequence[tuple[float, int]]]) -> bool:
    """Whether in the last second the displayed frames were at most one apart at 95 of 100 instants."""
    if not all(timelines):
        return False
    begin, end = max(timeline[0][0] for timeline in timelines), min(timeline[-1][0] for timeline in timelines)
    instants = [end - 1000 + step * 5 for step in range(200)]
    shown = [[frame_at(timeline, at) or 0 for timeline in timelines] for at in instants]
    return end - begin > 1000 and sum(max(frames) - min(frames) <= 1 for frames in shown) >= 190
