"""Frames as RFC 6455 wants them; and everybody gets everything but their own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.fanout import frame_text
from koko_presence._fastpath.outbox import Outbox, fan_out


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_frames_have_the_length_that_rfc_6455_says(size: int) -> None:
    framed = frame_text(b"x" * size)
    assert framed[0] == 0x81 and framed.endswith(b"x" * size)
    head = framed[: len(framed) - size]
    assert len(head) == (2 if size < 126 else 4 if size < 65536 else 10)
    assert (head[1] if size < 126 else int.from_bytes(head[2:], "big")) == size


class Wire:
    unsent_bytes = 0

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def send_frames(self, data: bytes) -> None:
        self.writes.append(data)


NAMES = st.sampled_from(["", "a", "b", "c", "elsewhere"])


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5), NAMES, NAMES), max_size=12))
def test_everybody_gets_everything_but_their_own_in_order_and_in_one_write(items: list[tuple[bytes, str, str]]) -> None:
    wires = {name: Wire() for name in "abc"}
    dirty: list[Outbox] = []
    boxes: dict[str, Any] = {name: Outbox(wire, 500, 1000, dirty.append, lambda: None) for name, wire in wires.items()}
    fan_out(
        [frame for frame, _, _ in items],
        [skip for _, skip, _ in items],
        [only for _, _, only in items],
        [""] * len(items),
        boxes,
    )
    for box in dirty:
        box.flush()
    for name, wire in wires.items():
        expected = b"".join(f for f, skip, only in items if skip != name and only in ("", name))
        assert wire.writes == ([expected] if expected else [])


def test_j2_more_than_the_hard_limit_unsent_is_slow() -> None:
    wire, slow = Wire(), []
    box = Outbox(wire, 500, 1000, lambda box: None, lambda: slow.append(True))
    wire.unsent_bytes = 1001
    box.write(b"x")
    box.flush()
    assert slow == [True] and wire.writes == []
