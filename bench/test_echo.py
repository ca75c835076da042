"""Measures a cursor from its text to the write at every receiver, against decoding and encoding it with msgspec."""

from itertools import cycle, islice
from typing import Any

import msgspec
import pytest

from koko_presence._fastpath.framing import frame_text

from .cases import CURSORS, ISO, Rooms, measure

N = 200


def by_hand(n: int) -> bytes:
    read, write = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    for seq, data in enumerate(islice(cycle(CURSORS), n)):
        message = read(data)
        event = {
            "type": "cursor_moved",
            "roomId": message["roomId"],
            "userId": "user_0",
            "sessionId": "session_1",
            "data": {**message["data"], "color": "#3b82f6"},
            "timestamp": ISO,
            "seq": seq,
        }
        frame = frame_text(write(event))
    return frame


@pytest.mark.parametrize("size", [2, 100])
@pytest.mark.parametrize("side", ["ours", "reference"])
def test_echo_in_a_room_of(benchmark: Any, side: str, size: int) -> None:
    if side == "reference":
        assert b'"cursor_moved"' in measure(benchmark, by_hand, N)
        return
    rooms = Rooms(size)
    people = measure(benchmark, rooms.echo, N)
    frames = [browser.last[0] for browser in people]
    rooms.echo(1)  # all have sent equally often, so the first one sends
    changed = [index for index, browser in enumerate(people) if browser.last[0] is not frames[index]]
    assert changed == list(range(1, size))
    assert all(b'"cursor_moved"' in people[index].last[0] for index in changed)
