"""RFC 6455 over raw sockets, case by case, in the order of the chapters of the Autobahn test suite."""

import time
from collections.abc import Iterator

import pytest

from tests.integration.servers import echo_server
from tests.raw_ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawSocket, frame, handshake


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with echo_server() as (_, port):  # type: ignore[attr-defined]
        yield port


@pytest.fixture
def ws(port: int) -> Iterator[RawSocket]:
    with RawSocket(port) as sock:
        assert "101" in sock.upgrade("/")
        yield sock


def closes(ws: RawSocket, data: bytes, code: int) -> None:
    ws.send(data)
    assert ws.read_close() == code


SIZES = [0, 1, 125, 126, 127, 128, 4096, 65535, 65536, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_1_framing(ws: RawSocket, opcode: int, size: int) -> None:
    payload = b"*" * size if opcode == TEXT else b"\xfe" * size
    ws.send(frame(opcode, payload))
    got = ws.read_frame()
    assert (got.first_byte, got.payload) == (0x80 | opcode, payload)


def test_1_frames_in_single_bytes(ws: RawSocket) -> None:
    for byte in frame(TEXT, "grüße".encode()):
        ws.send(bytes([byte]))
    assert ws.read_frame().payload == "grüße".encode()


@pytest.mark.parametrize("payload", [b"", b"ping", b"\x00\xff" * 10, b"x" * 125])
def test_2_pings_are_answered_with_their_payload(ws: RawSocket, payload: bytes) -> None:
    ws.send(frame(PING, payload))
    got = ws.read_frame()
    assert (got.opcode, got.payload) == (PONG, payload)


def test_2_a_ping_may_not_be_long(ws: RawSocket) -> None:
    closes(ws, frame(PING, b"x" * 126), 1002)


def test_2_unsolicited_pongs_are_ignored_and_ten_pings_get_ten_pongs(ws: RawSocket) -> None:
    ws.send(frame(PONG, b"unasked") + b"".join(frame(PING, bytes([n])) for n in range(10)))
    assert [ws.read_frame().payload for _ in range(10)] == [bytes([n]) for n in range(10)]


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_3_reserved_bits(ws: RawSocket, rsv: int, opcode: int) -> None:
    closes(ws, frame(opcode, b"", rsv=rsv), 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_4_reserved_opcodes(ws: RawSocket, opcode: int) -> None:
    ws.send(frame(TEXT, b"before"))
    assert ws.read_frame().payload == b"before"
    closes(ws, frame(opcode, b"x"), 1002)


def test_5_fragments_with_controls_between(ws: RawSocket) -> None:
    ws.send(frame(TEXT, b"one ", fin=False) + frame(PING, b"now") + frame(CONTINUATION, b"two ", fin=False))
    assert ws.read_frame().payload == b"now"
    ws.send(frame(PONG) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"three"))
    assert ws.read_frame().payload == b"one two three"
    ws.send(frame(TEXT, b"next"))
    assert ws.read_frame().payload == b"next"


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, b"x", fin=False),
        frame(CLOSE, b"", fin=False),
        frame(CONTINUATION, b"of nothing"),
        frame(CONTINUATION, b"of nothing", fin=False),
        frame(TEXT, b"one", fin=False) + frame(TEXT, b"two"),
        frame(TEXT, b"one", fin=False) + frame(BINARY, b"two", fin=False),
        frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"two") + frame(CONTINUATION, b"three"),
    ],
)
def test_5_fragments_out_of_order(ws: RawSocket, data: bytes) -> None:
    closes(ws, data, 1002)


VALID = ["", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff",
         "\ud7ff", "\ue000", "\ufffd", "\ufdd0", "👍👩‍👩‍👧‍👦"]  # fmt: skip
INVALID = [
    b"\x80", b"\xbf", b"\xc0", b"\xc2", b"\xe0\x80", b"\xf0\x80\x80", b"\xfe", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xed\xa0\x80",
    b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"ok \xce",
]  # fmt: skip


@pytest.mark.parametrize("text", VALID)
def test_6_valid_utf_8_whole_and_split_in_every_byte(ws: RawSocket, text: str) -> None:
    payload = text.encode("utf-8", "surrogatepass")
    ws.send(frame(TEXT, payload))
    assert ws.read_frame().payload == payload
    parts = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in payload]
    ws.send(frame(TEXT, b"", fin=False) + b"".join(parts) + frame(CONTINUATION))
    assert ws.read_frame().payload == payload


@pytest.mark.parametrize("payload", INVALID)
@pytest.mark.parametrize("split", [False, True])
def test_6_invalid_utf_8(ws: RawSocket, payload: bytes, split: bool) -> None:
    parts = [frame(CONTINUATION, bytes([byte]), fin=False) for byte in payload]
    whole = frame(TEXT, b"", fin=False) + b"".join(parts) + frame(CONTINUATION) if split else frame(TEXT, payload)
    closes(ws, whole, 1007)


def test_6_binary_may_hold_anything(ws: RawSocket) -> None:
    ws.send(frame(BINARY, b"".join(INVALID)))
    assert ws.read_frame().payload == b"".join(INVALID)


CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", CODES)
def test_7_closes_are_answered_with_their_code(ws: RawSocket, code: int) -> None:
    ws.send(frame(CLOSE, code.to_bytes(2, "big") + "gründe".encode()))
    assert ws.read_close() == code
    assert ws.read_to_end() == b""


@pytest.mark.parametrize("code", BAD_CODES)
def test_7_codes_that_are_none(ws: RawSocket, code: int) -> None:
    closes(ws, frame(CLOSE, code.to_bytes(2, "big")), 1002)


def test_7_an_empty_close(ws: RawSocket) -> None:
    closes(ws, frame(CLOSE), 1005)


def test_7_a_close_of_one_byte(ws: RawSocket) -> None:
    closes(ws, frame(CLOSE, b"\x03"), 1002)


def test_7_a_reason_that_is_no_text(ws: RawSocket) -> None:
    closes(ws, frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007)


def test_7_a_reason_of_123_bytes(ws: RawSocket) -> None:
    closes(ws, frame(CLOSE, b"\x03\xe8" + b"x" * 123), 1000)


def test_7_a_reason_too_long(ws: RawSocket) -> None:
    closes(ws, frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002)


def test_7_after_a_close_nothing_is_answered(ws: RawSocket) -> None:
    ws.send(frame(CLOSE, b"\x03\xe8") + frame(PING, b"late") + frame(TEXT, b"late"))
    assert ws.read_frame().opcode == CLOSE
    assert ws.read_to_end() == b""


@pytest.mark.parametrize(
    "length",
    [b"\x7e\x00\x05", b"\x7e\x00\x7d", b"\x7f" + (5).to_bytes(8, "big"), b"\x7f" + (65535).to_bytes(8, "big"),
     b"\x7f" + (1 << 63).to_bytes(8, "big"), b"\x7f" + b"\xff" * 8],
)  # fmt: skip
def test_lengths_that_are_not_minimal_or_negative(ws: RawSocket, length: bytes) -> None:
    closes(ws, frame(TEXT, b"12345", length=length), 1002)


@pytest.mark.parametrize("size", [(16 << 20) + 1, 1 << 40, 1 << 62])
def test_lengths_over_the_limit_are_refused_before_the_payload(ws: RawSocket, size: int) -> None:
    closes(ws, frame(BINARY, b"start", length=b"\x7f" + size.to_bytes(8, "big")), 1009)


def test_unmasked_frames_are_refused(ws: RawSocket) -> None:
    closes(ws, frame(TEXT, b"bare", masked=False), 1002)


def test_9_messages_of_16_mib_in_one_frame_and_in_many(ws: RawSocket) -> None:
    payload = b"0123456789abcdef" * (1 << 20)
    ws.send(frame(BINARY, payload))
    assert ws.read_frame().payload == payload
    step = 1 << 16
    parts = [frame(CONTINUATION, payload[at : at + step], fin=False) for at in range(0, len(payload), step)]
    ws.send(frame(BINARY, b"", fin=False) + b"".join(parts) + frame(CONTINUATION))
    assert ws.read_frame().payload == payload


def test_10_a_frame_behind_the_handshake_in_one_packet(port: int) -> None:

    with RawSocket(port) as ws:
        ws.send(handshake("/") + frame(TEXT, b"early") + frame(TEXT, b"x" * 5000))
        assert "101" in ws.read_head()
        assert ws.read_frame().payload == b"early" and len(ws.read_frame().payload) == 5000


def test_10_a_handshake_byte_by_byte(port: int) -> None:

    with RawSocket(port) as ws:
        for byte in handshake("/"):
            ws.send(bytes([byte]))
        assert "101" in ws.read_head()


def test_12_compression_is_not_taken_up(port: int) -> None:
    with RawSocket(port) as ws:
        ws.send(handshake("/", Sec_WebSocket_Extensions="permessage-deflate"))
        head = ws.read_head()
        assert "101" in head and "extensions" not in head.lower()


def test_a_message_left_open_does_not_grow_for_ever(port: int) -> None:
    with echo_server("--max-bytes", "65536") as (_, small), RawSocket(small) as ws:  # type: ignore[attr-defined]
        assert "101" in ws.upgrade("/")
        ws.send(frame(TEXT, b"x", fin=False) + b"".join(frame(CONTINUATION, b"x", fin=False) for _ in range(1100)))
        assert ws.read_close() == 1009


def test_the_budgets_of_the_echo_are_off_and_can_be_switched_on(port: int) -> None:
    def seconds_for(count: int, at: int) -> float:
        with RawSocket(at) as ws:
            assert "101" in ws.upgrade("/")
            began = time.monotonic()
            ws.send(b"".join(frame(TEXT, str(number).encode()) for number in range(count)))
            assert [ws.read_frame().payload for _ in range(count)] == [str(number).encode() for number in range(count)]
            return time.monotonic() - began

    seconds_for(5000, port)
    with echo_server("--frames-hz", "200") as (_, limited):  # type: ignore[attr-defined]
        assert seconds_for(300, limited) >= 0.4, "the first 200 at once, the others at 200 a second"
