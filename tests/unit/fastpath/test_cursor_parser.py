"""The compiled parser reads a plain cursor as msgspec does, or declines it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from koko_presence._fastpath.cursor_parser import scanned
from koko_presence.protocol.codec import BadMessage, decode
from koko_presence.protocol.messages import CursorMessage

PLAIN = b'{"type":"cursor","roomId":"video_123","data":{"timestamp":15.5,"x":0.45,"y":0.3}}'


def agrees(data: bytes) -> bool:
    """Whether the parser reads the text; if so, asserts that msgspec reads the same."""
    found = scanned(data)
    if found is None:
        return False
    message = decode(data)
    assert isinstance(message, CursorMessage) and message.data is not None and message.id is None
    cursor = message.data
    told = (cursor.timestamp, cursor.x, cursor.y)
    assert cursor.target is UNSET
    assert found == (message.room_id.encode(), *(None if value is UNSET else value for value in told))
    return True


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        b' {\t"data" : { "y":1 , "x":0 },\r\n"roomId":"\xc3\xa9 \xf0\x9f\x91\x8d" , "type" : "cursor" } ',
        b'{"type":"cursor","roomId":"v","data":{"timestamp":1000000}}',
        b'{"type":"cursor","roomId":"v","data":{"timestamp":0.9007199254740993,"x":0.9523809523809523,"y":1.0}}',
        b'{"type":"cursor","roomId":"v","data":{"timestamp":0.1000000000000000055}}',
    ],
)
def test_plain_cursors_are_read_here(data: bytes) -> None:
    assert agrees(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", PLAIN[:-1], PLAIN + b"}", PLAIN + b"x", b"x" + PLAIN,
        PLAIN.replace(b"cursor", b"cursors"), PLAIN.replace(b"0.45", b"-0.0"), PLAIN.replace(b"0.45", b"1.0000001"),
        PLAIN.replace(b"0.45", b"4e-1"), PLAIN.replace(b"0.45", b"00.45"), PLAIN.replace(b"0.45", b".45"),
        PLAIN.replace(b"0.45", b"1."), PLAIN.replace(b"0.45", b"true"), PLAIN.replace(b"0.45", b'"0.45"'),
        PLAIN.replace(b"0.45", b"0." + b"4" * 20), PLAIN.replace(b"15.5", b"1000000.5"), PLAIN.replace(b"15.5", b"NaN"),
        PLAIN.replace(b',"y":0.3', b""), PLAIN.replace(b"}}", b',"target":"a"}}'), PLAIN.replace(b"}}", b',"x":0.1}}'),
        PLAIN.replace(b"}}", b",}}"), PLAIN.replace(b"}}", b'},"id":1}'), PLAIN.replace(b"}}", b'},"type":"cursor"}'),
        PLAIN.replace(b"video_123", b""), PLAIN.replace(b"video_123", b"a\\u0062"), PLAIN.replace(b"video_123", b"a\x01"),
        PLAIN.replace(b'{"timestamp":15.5,"x":0.45,"y":0.3}', b"null"),
        PLAIN.replace(b'{"timestamp":15.5,"x":0.45,"y":0.3}', b"{}"),
        PLAIN.replace(b'{"timestamp":15.5,"x":0.45,"y":0.3}', b"[]"),
    ],
)  # fmt: skip
def test_everything_else_is_left_to_msgspec(data: bytes) -> None:
    assert scanned(data) is None


@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN)), st.binary(min_size=0, max_size=2), st.integers(0, 3)), max_size=3)
)
def test_whatever_is_read_from_a_damaged_text_is_what_msgspec_reads(cuts: list[tuple[int, bytes, int]]) -> None:
    data = PLAIN
    for at, put, length in cuts:
        data = data[:at] + put + data[at + length :]
    if scanned(data) is None:
        return
    try:
        data.decode()
    except UnicodeDecodeError:
        return  # it can only be a room whose id is not UTF-8, and no session is in such a room
    try:
        assert agrees(data)
    except BadMessage:
        assert len(msgspec.json.decode(data)["roomId"]) > 128, "no session is in a room with so long a name either"


@given(st.floats(0.0, 1e6).map(abs), st.floats(0.0, 1.0).map(abs))
def test_numbers_are_read_to_the_last_bit(timestamp: float, x: float) -> None:
    data = msgspec.json.encode({"type": "cursor", "roomId": "v", "data": {"timestamp": timestamp, "x": x, "y": x}})
    found = scanned(data)
    if b"e-" in data:
        assert found is None
    elif found is not None:  # more than 19 digits are declined
        assert found == (b"v", timestamp, x, x)
