"""A new version of a film while commands for the old one are under way: they are refused and change nothing [H18, H19].

Commands carry positions that occur once, so that an event tells which command it is of.
"""

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from koko_presence.client import PresenceClient, PresenceRefused, Room
from koko_presence.protocol.messages import MediaData, MediaMessage, PlaybackData, PlaybackMessage
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.waiting import until

ROOM = "video_versions"
VERSIONS, VIEWERS, LATE_COMMANDS = 100, 3, 2
ACTIONS = ("seek", "play", "pause", "sync")


class Witness:
    """Which film the room had when each command was applied, in the order of the room's events."""

    def __init__(self, room: Room) -> None:
        self.medium: str | None = None
        self.applied: list[tuple[float, str | None]] = []  # position of the command, the room's film
        room.on("media_changed", self._on_media)
        room.on("playback_synced", lambda event: self.applied.append((event.data.current_time, self.medium)))

    def _on_media(self, event: Any) -> None:
        self.medium = event.data.medium.media_id


async def command(room: Room, action: str, medium: str, position: float) -> str:
    """Send a command for a film; returns its error code, or "" if it was applied."""
    more: dict[str, Any] = {"is_playing": True, "playback_rate": 1.0} if action == "sync" else {}
    data = PlaybackData(action=action, current_time=position, media_id=medium, **more)  # type: ignore[arg-type]
    try:
        await room.request(PlaybackMessage(room_id=ROOM, data=data))
    except PresenceRefused as refused:
        assert isinstance(refused.state, dict), "the refused one learns the room's state"
        return refused.code
    return ""


async def delayed(turns: int, deed: Any) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await deed


async def versions(server: Live, rng: random.Random) -> None:
    async with AsyncExitStack() as stack:
        rooms = []
        for number in range(VIEWERS + 2):
            client = await stack.enter_async_context(PresenceClient(server.url, server.token(f"u{number}")))
            rooms.append(await client.join(ROOM, "video"))
        editor, watching, *viewers = rooms
        witness = Witness(watching)
        positions = itertools.count(1)
        meant: dict[float, str] = {}  # position, the film that the command named
        codes: list[str] = []

        def commands(medium: str, count: int) -> list[Any]:
            made = []
            for viewer in viewers:
                for position in itertools.islice(positions, count):
                    meant[float(position)] = medium
                    sent = command(viewer, rng.choice(ACTIONS), medium, float(position))
                    made.append(delayed(rng.randrange(30), sent))
            return made

        async def change(medium: str) -> None:
            data = MediaData(media_id=medium, duration=100_000.0, keep_position=rng.random() < 0.5)
            await editor.request(MediaMessage(room_id=ROOM, data=data))

        await change("version 0")
        for number in range(1, VERSIONS + 1):
            old, new = f"version {number - 1}", f"version {number}"
            changing = delayed(rng.randrange(30), change(new))
            _, *late = await asyncio.gather(changing, *commands(old, LATE_COMMANDS))
            codes += late
            assert not any(await asyncio.gather(*commands(new, 1))), "commands for the present film are applied"
        await until(lambda: len(witness.applied) >= len(meant) - sum(map(bool, codes)))

    wrong = [(position, medium) for position, medium in witness.applied if meant[position] != medium]
    assert wrong == []
    assert set(codes) == {"", "STALE"}, "some came before the change, some after it"
    assert len(witness.applied) == len(meant) - codes.count("STALE"), "a refused one has no event"


@pytest.mark.parametrize("workers", [1, 4])
def test_late_commands_never_move_the_new_version(run: Run, workers: int) -> None:
    async def story() -> None:
        # hundreds of refusals within seconds would be abuse
        async with live(
            workers=workers, playback_hz=1e5, playback_burst=10_000, max_errors=10_000, connection_hz=1e4
        ) as server:
            await versions(server, random.Random(workers))

    run(story())
