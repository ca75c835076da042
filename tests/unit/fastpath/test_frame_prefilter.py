"""The frame reader: whole frames from reads of any size, and never more than one frame buffered."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.frame_prefilter import FrameReader
from koko_presence._fastpath.listener import FrameListener
from tests.raw_ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LONGEST = 3000
PAYLOADS = st.binary(max_size=40) | st.sampled_from([125, 126, 1024, 1025, LONGEST]).map(os.urandom)


class Noting(FrameListener):
    """Records all calls; an invalid frame ends it, as it does a connection."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bool, bytes]] = []
        self.bad: list[int] = []
        self.events: list[str] = []

    def on_frame(self, kind: int, fin: bool, payload: bytes) -> None:
        self.frames.append((kind, fin, payload))

    def on_bad_frame(self, code: int, reason: str) -> None:
        self.bad.append(code)
        self.ignores_input = True

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def on_lost(self) -> None:
        self.events.append("lost")


def reading() -> tuple[Noting, FrameReader]:
    listener = Noting()
    return listener, FrameReader(listener, LONGEST)


@given(
    st.lists(st.tuples(st.sampled_from([CONTINUATION, TEXT, BINARY]), st.booleans(), PAYLOADS), max_size=6),
    st.lists(st.integers(1, 3100), max_size=20),
)
def test_frames_are_whole_whatever_the_pieces(plan: list[tuple[int, bool, bytes]], cuts: list[int]) -> None:
    listener, reader = reading()
    data = b"".join(frame(kind, payload, fin=fin) for kind, fin, payload in plan)
    for cut in [*cuts, len(data)]:
        reader.feed(data[:cut])
        data = data[cut:]
        assert reader.buffered_bytes <= LONGEST + 14
    assert listener.frames == plan and not listener.bad
    assert reader.buffered_bytes == 0


def test_byte_by_byte_no_more_is_kept_than_twice_what_has_come() -> None:
    listener, reader = reading()
    payload = os.urandom(LONGEST)
    for index, byte in enumerate(data := frame(BINARY, payload)):
        reader.feed(bytes([byte]))
        assert reader.buffered_bytes <= max(64, 2 * (index + 1)) and reader.buffered_bytes <= len(data)
    assert listener.frames == [(BINARY, True, payload)] and reader.buffered_bytes == 0


@pytest.mark.parametrize(
    "bad", [b"\x83\x80", b"\x81\x02hi", b"\xc1\x80", b"\x09\x80", b"\x89\xfe", b"\x81\xfe\x00\x01"]
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_nothing_behind_a_bad_frame_is_read_or_kept(bad: bytes, step: int) -> None:
    listener, reader = reading()
    data = frame(PING, b"before") + bad + b"x" * 50_000 + frame(TEXT, b"behind")
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        assert reader.buffered_bytes <= 64
    assert listener.bad == [1002] and listener.frames == [(PING, True, b"before")]


def test_a_frame_that_is_too_big_is_refused_by_its_header() -> None:
    listener, reader = reading()
    reader.feed(frame(BINARY, bytes(LONGEST + 1))[:4])
    assert listener.bad == [1009] and reader.buffered_bytes == 0


def test_while_it_is_closing_only_a_close_frame_is_delivered() -> None:
    listener, reader = reading()
    listener.closing = True
    for kind in (TEXT, BINARY, PING, PONG):
        reader.feed(frame(kind, b"late"))
    reader.feed(frame(CLOSE, b"\x03\xe8"))
    assert listener.frames == [(CLOSE, True, b"\x03\xe8")]


def test_after_the_connection_is_lost_nothing_is_buffered_and_nothing_delivered() -> None:
    listener, reader = reading()
    reader.pause_writing()
    reader.resume_writing()
    reader.feed(frame(BINARY, bytes(2000))[:1500])
    assert reader.buffered_bytes >= 1500
    reader.connection_lost(None)
    reader.connection_lost(None)
    reader.feed(frame(TEXT, b"late"))
    reader.pause_writing()
    assert listener.events == ["pause", "resume", "lost"] and not listener.frames and reader.buffered_bytes == 0
