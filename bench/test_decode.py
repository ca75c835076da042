"""Measures unmasking, parsing and decoding of messages, against plain Python and msgspec."""

from functools import partial
from itertools import cycle, islice
from typing import Any

import msgspec
import pytest

from koko_presence.protocol.messages import CursorMessage
from koko_presence.protocol.models import Cursor

from . import cases
from .cases import BAD, CURSORS, FRAMES, Run, last, measure

N = 2000
LAST = cases.cursor_numbers((N - 1) % len(CURSORS))


def untyped(texts: list[bytes], n: int) -> Any:
    return last(map(msgspec.json.Decoder().decode, islice(cycle(texts), n)))


def unmask_plainly(n: int) -> tuple[bytes, int]:
    """Unmask by whole numbers, the fastest way in plain Python."""
    for data in islice(cycle(FRAMES), n):
        size = len(data) - 6
        mask = (data[2:6] * (size // 4 + 1))[:size]
        text = (int.from_bytes(data[6:], "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return text, len(data)


@pytest.mark.parametrize("run", [cases.unmask_cursor, unmask_plainly], ids=["ours", "reference"])
def test_unmasking_a_cursor(benchmark: Any, run: Run) -> None:
    number = (N - 1) % len(CURSORS)
    assert measure(benchmark, run, N) == (CURSORS[number], len(FRAMES[number]))


@pytest.mark.parametrize("run", [cases.scan_cursor, partial(untyped, CURSORS)], ids=["ours", "reference"])
def test_scanning_a_plain_cursor(benchmark: Any, run: Run) -> None:
    found = measure(benchmark, run, N)
    timestamp, x, y = LAST
    if isinstance(found, dict):
        assert found["data"] == {"timestamp": timestamp, "x": x, "y": y}
    else:
        assert found == (b"video_123", timestamp, x, y)


@pytest.mark.parametrize("run", [cases.decode_cursor, partial(untyped, CURSORS)], ids=["ours", "reference"])
def test_decoding_a_cursor(benchmark: Any, run: Run) -> None:
    message = measure(benchmark, run, N)
    if not isinstance(message, dict):
        assert isinstance(message, CursorMessage) and isinstance(message.data, Cursor)
        assert (message.data.timestamp, message.data.x, message.data.y) == LAST


@pytest.mark.parametrize("run", [cases.explain, partial(untyped, [BAD])], ids=["ours", "reference"])
def test_explaining_a_bad_message(benchmark: Any, run: Run) -> None:
    found = measure(benchmark, run, N // 10)
    if not isinstance(found, dict):
        assert (found.code, found.id, found.room_id, found.type) == ("INVALID_DATA", 7, "video_123", "cursor")
