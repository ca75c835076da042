"""Frame boundaries and small texts, against frames built in plain Python [RFC 6455 section 5.2]."""

from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.frames import boundaries, unmasked
from tests.raw_ws import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame

PAYLOADS = st.binary(max_size=20) | st.integers(120, 130).map(bytes) | st.sampled_from([65535, 65536, 70000]).map(bytes)
OPCODES = st.sampled_from([CONTINUATION, TEXT, BINARY, PING, CLOSE])


@given(st.lists(st.tuples(OPCODES, PAYLOADS), max_size=5), st.lists(st.integers(1, 40), max_size=30))
def test_the_next_byte_begins_a_frame_exactly_where_one_ends(plan: list[tuple[int, bytes]], cuts: list[int]) -> None:
    ends, data = {0}, b""
    for opcode, payload in plan:
        data += frame(opcode, payload)
        ends.add(len(data))
    pieces, at = [], 0
    for cut in [*cuts, len(data)]:
        pieces.append(data[at : at + cut])
        at += cut
    places = [min(sum(map(len, pieces[: index + 1])), len(data)) for index in range(len(pieces))]
    assert boundaries(pieces) == [place in ends for place in places]


@given(st.binary(max_size=1100), st.binary(max_size=10))
def test_a_small_masked_text_is_read(payload: bytes, behind: bytes) -> None:
    framed = frame(TEXT, payload)
    found = unmasked(framed + behind)
    assert found == ((payload, len(framed)) if len(payload) <= 1024 else None)
    for missing in (1, len(payload) // 2 + 1, len(framed) - 1, len(framed)):
        assert unmasked(framed[:-missing]) is None


@given(PAYLOADS)
def test_all_else_is_left_to_picows(payload: bytes) -> None:
    for opcode in (CONTINUATION, BINARY, PING, CLOSE):
        assert unmasked(frame(opcode, payload)) is None
    framed = frame(TEXT, payload)
    for first in (0x01, 0xC1, 0xA1, 0x91):  # not final, reserved bits
        assert unmasked(bytes([first]) + framed[1:]) is None
    assert unmasked(framed[:1] + bytes([framed[1] & 0x7F]) + framed[2:]) is None, "not masked"
