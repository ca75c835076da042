"""Headers and small texts, against frames built in plain Python [RFC 6455 section 5.2]."""

from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.frame_boundaries import header, unmasked
from tests.raw_ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

PAYLOADS = st.binary(max_size=20) | st.integers(120, 130).map(bytes) | st.sampled_from([65535, 65536, 70000]).map(bytes)
LONGEST = 70_000


@given(st.sampled_from([CONTINUATION, TEXT, BINARY]), PAYLOADS, st.booleans(), st.binary(max_size=10))
def test_a_header_is_read_once_it_is_whole(opcode: int, payload: bytes, fin: bool, behind: bytes) -> None:
    framed = frame(opcode, payload, fin=fin)
    size = len(framed) - len(payload)
    assert header(framed + behind, LONGEST) == (size, opcode, fin, len(payload))
    assert all(header(framed[:cut], LONGEST) is None for cut in range(size))


@given(st.sampled_from([CLOSE, PING, PONG]), st.binary(max_size=125))
def test_a_control_frames_header_is_read(opcode: int, payload: bytes) -> None:
    assert header(frame(opcode, payload), LONGEST) == (6, opcode, True, len(payload))


def test_what_no_client_may_send_is_seen_as_soon_as_it_can_be() -> None:
    opcodes = [bytes([0x80 | opcode, 0x80]) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)]
    assert {header(each, LONGEST) for each in opcodes} == {-1}
    assert {header(bytes([0x81 | bit, 0x80]), LONGEST) for bit in (0x40, 0x20, 0x10)} == {-2}
    assert {header(bytes([opcode, 0x80]), LONGEST) for opcode in (CLOSE, PING, PONG)} == {-3}
    assert {header(bytes([0x80 | opcode, 0]), LONGEST) for opcode in (CONTINUATION, TEXT, BINARY, CLOSE)} == {-4}
    assert {header(bytes([0x80 | opcode, 0x80 | 126]), LONGEST) for opcode in (CLOSE, PING, PONG)} == {-5}
    longer = [
        *(b"\x81\xfe" + size.to_bytes(2, "big") for size in (0, 1, 125)),
        *(b"\x81\xff" + size.to_bytes(8, "big") for size in (0, 125, 126, 65535, 1 << 63, (1 << 64) - 1)),
    ]
    assert {header(each, LONGEST) for each in longer} == {-6}
    assert {header(each[:-1], LONGEST) for each in longer} == {None}
    too_big = [b"\x81\xff" + size.to_bytes(8, "big") for size in (LONGEST + 1, 1 << 40, (1 << 63) - 1)]
    assert {header(each, LONGEST) for each in too_big} == {-7}
    assert header(b"\x81\x8b", 10) == -7
    assert header(b"\x81\xff" + LONGEST.to_bytes(8, "big"), LONGEST) is None, "fits"


@given(st.binary(max_size=1100), st.binary(max_size=10))
def test_a_small_masked_text_is_read(payload: bytes, behind: bytes) -> None:
    framed = frame(TEXT, payload)
    found = unmasked(framed + behind)
    assert found == ((payload, len(framed)) if len(payload) <= 1024 else None)
    for missing in (1, len(payload) // 2 + 1, len(framed) - 1, len(framed)):
        assert unmasked(framed[:-missing]) is None


@given(PAYLOADS)
def test_nothing_else_is_a_small_text(payload: bytes) -> None:
    for opcode in (CONTINUATION, BINARY, PING, CLOSE):
        assert unmasked(frame(opcode, payload)) is None
    framed = frame(TEXT, payload)
    for first in (0x01, 0xC1, 0xA1, 0x91):  # not final, reserved bits
        assert unmasked(bytes([first]) + framed[1:]) is None
    assert unmasked(framed[:1] + bytes([framed[1] & 0x7F]) + framed[2:]) is None, "not masked"
    assert unmasked(b"\x81\xfe\x00\x02\0\0\0\0hi") is None, "not the shortest form"
