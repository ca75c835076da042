"""Measures the frame of a cursor, against msgspec encoding the event and framing it."""

from itertools import cycle, islice
from typing import Any

import pytest

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.protocol.events import CursorShown, Event, encode

from . import cases
from .cases import ISO, ROOM, Run, measure

N = 2000


def by_msgspec(n: int) -> StreamFrame:
    numbers = [cases.cursor_numbers(number) for number in range(20)]
    for seq, (timestamp, x, y) in enumerate(islice(cycle(numbers), n), 1000):
        shown = CursorShown(timestamp=timestamp, x=x, y=y, color="#3b82f6")
        event = Event(
            type="cursor_moved", room_id=ROOM, user_id="user_0", session_id="session_0", data=shown, timestamp=ISO,
            seq=seq,
        )  # fmt: skip
        item = StreamFrame(frame_text(encode(event)), "session_0", "", "csession_0")
    return item


@pytest.mark.parametrize("run", [cases.make_cursor, by_msgspec], ids=["ours", "reference"])
def test_making_a_cursor(benchmark: Any, run: Run) -> None:
    item = measure(benchmark, run, N)
    assert item.frame == by_msgspec(N).frame and item.skip == "session_0" and item.merge == "csession_0"
