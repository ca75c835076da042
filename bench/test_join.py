"""Measures the snapshot of a full room, against msgspec encoding the same reply from a dict."""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

import msgspec
import pytest

from .cases import PEOPLE, Rooms, Run, measure

N = 5


def payload(frame: bytes) -> bytes:
    assert frame[:2] == b"\x81\x7e"  # about 30 KB: two bytes of length
    return frame[4:]


def by_msgspec(rooms: Rooms) -> Run:
    reply, encode = msgspec.json.decode(payload(rooms.join_again(1))), msgspec.json.Encoder().encode

    def run(n: int) -> bytes:
        for _ in repeat(None, n):
            text = encode(reply)
        return b"\x81\x7e" + len(text).to_bytes(2, "big") + text

    return run


@pytest.mark.parametrize("side", ["ours", "reference"])
def test_joining_a_room_of_10_again(benchmark: Any, side: str) -> None:
    rooms = Rooms(10)
    run: Run = by_msgspec(rooms) if side == "reference" else rooms.leave_and_join
    joined = msgspec.json.decode(payload(measure(benchmark, run, N * 10)))
    assert joined["type"] == "joined" and len(joined["room"]["users"]) == 10


@pytest.mark.parametrize("way", [Rooms.join_again, Rooms.join_after_moves, Rooms.leave_and_join])
@pytest.mark.parametrize("side", ["ours", "reference"])
def test_joining_a_room_of_100(benchmark: Any, side: str, way: Callable[[Rooms, int], Any]) -> None:
    rooms = Rooms(PEOPLE)
    run: Run = by_msgspec(rooms) if side == "reference" else partial(way, rooms)
    joined = msgspec.json.decode(payload(measure(benchmark, run, N)))
    users = joined["room"]["users"]
    assert joined["type"] == "joined" and len(users) == PEOPLE
    assert sum("cursor" in user for user in users) >= PEOPLE - 1  # a member that left and joined again has no cursor
