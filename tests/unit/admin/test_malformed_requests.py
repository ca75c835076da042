"""Malformed requests on the operator port: each is answered with a JSON error that says what to do, and none is logged
as a fault of the server. `tests/integration/test_malformed_http.py` does the same for the public port."""

import asyncio
import gzip
import logging
import zlib
from typing import Any

import msgspec
import pytest

from koko_presence.admin import api
from koko_presence.admin.operator_port import OperatorPort
from koko_presence.admin.server_api import ServerApi
from koko_presence.admin.stats import Stats
from koko_presence.config.schema import Operator
from koko_presence.protocol.survey import Answers, AnySurveyRequest
from tests.raw_ws import RawSocket

KEY = "the key of these tests, long enough to be one"
HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n".encode()
KICK = b'{"userId":"ann"}'


def post(path: str = "/api/kick", more: bytes = b"", body: bytes = KICK, sized: bool = True) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if sized else b""
    return b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b%b\r\n%b" % (
        path.encode(), HEAD, more, length, body,
    )  # fmt: skip


def get(path: bytes = b"/metrics", more: bytes = b"", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, path, HEAD, more)


def encoded(coding: str, body: bytes, path: str = "/api/kick") -> bytes:
    return post(path, f"Content-Encoding: {coding}\r\n".encode(), body)


def chunked(body: bytes, path: str = "/api/kick") -> bytes:
    return post(path, b"Transfer-Encoding: chunked\r\n", body, sized=False)


GZIPPED = gzip.compress(KICK)
UNENCODED = (415, "UNSUPPORTED_MEDIA_TYPE", "Leave Content-Encoding out")
TOO_LONG = (431, "HEAD_TOO_LARGE", "head is too large")
NO_HTTP = (400, "BAD_REQUEST", "no HTTP request")
INVALID = (400, "BAD_REQUEST", "no valid HTTP/1.1 request")
ADDRESS = (400, "BAD_REQUEST", "Percent-encode")
TWICE = (400, "INVALID_BODY", "'userId' stands more than once")

# request, status, code and a part of the message
MALFORMED: dict[str, tuple[bytes, tuple[int, str, str]]] = {
    "gzip": (encoded("gzip", GZIPPED), UNENCODED),
    "deflate": (encoded("deflate", zlib.compress(KICK)), UNENCODED),
    "br": (encoded("br", KICK), UNENCODED),
    "zstd": (encoded("zstd", KICK), UNENCODED),
    "broken gzip": (encoded("gzip", GZIPPED[:9]), UNENCODED),
    "gzip where nothing is": (encoded("gzip", GZIPPED[:9], "/nothing"), (404, "NOT_FOUND", "/api/openapi.json")),
    "gzip where nothing is read": (encoded("gzip", GZIPPED[:9], "/metrics"), (405, "METHOD_NOT_ALLOWED", "Use GET")),
    "bad chunk": (chunked(b"zz\r\n{"), (*INVALID[:2], "Invalid character in chunk size")),
    "bad chunk later": (chunked(b"2\r\n{}\r\nzz\r\n"), INVALID),
    "bad chunk where nothing is": (chunked(b"2\r\n{}\r\nzz\r\n", "/nothing"), INVALID),
    "unknown transfer coding": (post(more=b"Transfer-Encoding: gzip\r\n", sized=False), INVALID),
    "length and chunks": (chunked(b"")[:-2] + b"Content-Length: 1\r\n\r\n", INVALID),
    "negative length": (post(more=b"Content-Length: -1\r\n", sized=False), (*INVALID[:2], "Content-Length")),
    "length of letters": (post(more=b"Content-Length: many\r\n", sized=False), (*INVALID[:2], "Content-Length")),
    "two lengths": (post(more=b"Content-Length: 3\r\n"), (*INVALID[:2], "Content-Length")),
    "endless length": (post(more=b"Content-Length: " + b"9" * 30 + b"\r\n", sized=False), INVALID),
    "length above the limit": (
        post(more=b"Content-Length: 99999999\r\n", sized=False, body=b""), (413, "TOO_LARGE", "65536 bytes"),
    ),
    "other charset": (
        post(body=KICK.decode().encode("utf-16")).replace(b"/json", b"/json; charset=utf-16"),
        (400, "INVALID_BODY", "read as UTF-8, not as utf-16"),
    ),
    "garbled content type": (
        post().replace(b"application/json", b';;="\xff'), (415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: application/json"),
    ),
    "unknown expectation": (get(more=b"Expect: tea\r\n"), (417, "EXPECTATION_FAILED", "100-continue")),
    "long line": (get(b"/" + b"x" * 9000), TOO_LONG),
    "long field": (get(more=b"X: " + b"y" * 9000 + b"\r\n"), TOO_LONG),
    "many fields": (get(more=b"".join(b"X-%d: y\r\n" % number for number in range(200))), TOO_LONG),
    "options": (get(method=b"OPTIONS"), (405, "METHOD_NOT_ALLOWED", "Use GET or HEAD here, not OPTIONS.")),
    "options of all": (get(b"*", method=b"OPTIONS"), (404, "NOT_FOUND", "There is no *")),
    "trace": (get(method=b"TRACE"), (405, "METHOD_NOT_ALLOWED", "not TRACE")),
    "connect": (get(b"127.0.0.1:80", method=b"CONNECT"), (404, "NOT_FOUND", "There is no CONNECT")),
    "unknown method": (get(method=b"BREW"), NO_HTTP),
    "unknown path": (get(b"/metric"), (404, "NOT_FOUND", "There is no /metric here")),
    "NUL in the path": (get(b"/%00"), (404, "NOT_FOUND", "There is no /%00")),
    "bare NUL in the path": (get(b"/a\0b"), ADDRESS),
    "no UTF-8 in the path": (get(b"/api/rooms/%ff"), (400, "INVALID_PATH", "utf-8")),
    "no ASCII in the path": (get(b"/\xff"), ADDRESS),
    "impossible port": (get(b"http://127.0.0.1:99999/"), ADDRESS),
    "half an IPv6 address": (get(b"http://[::1/"), ADDRESS),
    "empty path": (get(b""), ADDRESS),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", (400, "BAD_REQUEST", "no TLS on this port: use http://")),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", NO_HTTP),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", INVALID),
    "unknown version": (b"GET / HTTP/x\r\n\r\n", INVALID),
    "no host": (b"GET /metrics HTTP/1.1\r\n\r\n", (*INVALID[:2], "Missing 'Host'")),
    "two hosts": (get(more=b"Host: other\r\n"), (*INVALID[:2], "Duplicate 'Host'")),
    "no colon": (get(more=b"no colon\r\n"), INVALID),
    "NUL in a field": (get(more=b"X: a\0b\r\n"), INVALID),
    "folded field": (get(more=b"X: a\r\n b\r\n"), INVALID),
    "old WebSocket": (get(more=b"Sec-WebSocket-Key1: x\r\n"), INVALID),
    "misspelt field": (
        post(body=b'{"userID":"ann"}'), (400, "INVALID_BODY", "`userID`. The fields are: userId, roomId, sessionId, reason"),
    ),
    "key twice": (post(body=b'{"userId":"ann","userId":"bob"}'), TWICE),
    "key twice, escaped": (post(body=b'{"userId":"ann","user\\u0049d":"bob"}'), TWICE),
    "key twice in data": (
        post("/api/rooms/r/broadcast", body=b'{"data":{"a":[{"b":1,"b":1}]}}'),
        (400, "INVALID_BODY", "'b' stands more than once"),
    ),
    "key twice for a re-check": (post("/api/recheck", body=b'{"userId":"ann","userId":"bob"}'), TWICE),
}  # fmt: skip


def converse(*requests: bytes) -> list[bytes]:
    """Send each request on a connection of its own to a new operator port; return what is received up to the end of the
    last body."""

    def talk(port: int, request: bytes) -> bytes:
        with RawSocket(port) as sock:
            sock.send(request)
            said = b""
            while not complete(said, request) and (more := sock.sock.recv(65_536)):
                said += more
            return said

    async def metrics() -> str:
        return "m 1\n"

    async def survey(request: AnySurveyRequest) -> Answers:
        return Answers(found=[], missing=[])

    async def stats() -> Stats:
        raise AssertionError("not called")

    async def story() -> list[bytes]:
        port = OperatorPort(lambda: "", metrics)
        ServerApi(lambda: KEY, survey, stats, lambda: None, lambda user_id, *, on: True).add_to(port.app)
        number = await port.start(Operator(port=0))
        try:
            return [await asyncio.to_thread(talk, number, request) for request in requests]
        finally:
            await port.stop()

    return asyncio.run(story())


def complete(said: bytes, request: bytes) -> bool:
    head, end, body = said.rpartition(b"\r\n\r\n")
    if not end or head.endswith(b"100 Continue"):
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    return request.startswith(b"HEAD ") or len(body) == int(fields[b"content-length"])


def parts(said: bytes) -> tuple[int, Any]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/json" in head, said
    return int(head.split(b" ")[1]), msgspec.json.decode(body)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_a_json_error_that_says_what_to_do_and_no_log_line(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, (status, code, text) = MALFORMED[name]
    caplog.set_level(logging.INFO)
    said, after = converse(request, get())
    found, body = parts(said)
    assert (found, body["error"]["code"]) == (status, code)
    assert text in body["error"]["message"]
    assert after.startswith(b"HTTP/1.1 200 ")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("more", [b"X: a\0b\r\n", b"no colon\r\n", b"X: " + b"y" * 9000 + b"\r\n"])
def test_a_request_that_cannot_be_read_is_not_logged_with_a_piece_of_its_cookie(
    more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (said,) = converse(get(more=b"Cookie: session_token=hunter2\r\n" + more + b"X-Later: hunter2\r\n"))
    assert parts(said)[0] in (400, 431)
    assert "hunter2" not in caplog.text and b"hunter2" not in said


def test_a_refusal_of_a_coding_names_the_one_that_is_accepted() -> None:
    (said,) = converse(encoded("gzip", GZIPPED))
    assert b"\r\nAccept-Encoding: identity\r\n" in said


def test_what_is_no_fault_is_answered() -> None:
    fine = (
        post(), post(more=b"Expect: 100-continue\r\n"), post(more=b"Content-Encoding: identity\r\n"),
        post().replace(b"/json", b"/json; charset=utf-8"), get(method=b"HEAD"), get(b"http://127.0.0.1/metrics"),
        chunked(b"10\r\n" + KICK + b"\r\n0\r\n\r\n"),
    )  # fmt: skip
    for request, said in zip(fine, converse(*fine), strict=True):
        assert b"HTTP/1.1 200 " in said, (request, said)


def test_a_body_that_does_not_arrive_is_answered_before_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_TIMEOUT_S", 0.1)
    (said,) = converse(post(more=b"Content-Length: 99\r\n", sized=False))
    status, body = parts(said)
    assert (status, body["error"]["code"]) == (408, "TIMEOUT") and "Content-Length" in body["error"]["message"]


def test_a_number_of_any_length_is_no_duplicate_and_no_fault_of_the_server() -> None:
    (said,) = converse(post("/api/rooms/r/broadcast", body=b'{"data":{"a":' + b"1" * 5000 + b"}}"))
    assert parts(said)[0] == 400


def test_an_exception_of_a_handler_is_logged_and_answered_as_json(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> str:
        raise AssertionError("a fault of ours")

    async def story() -> bytes:
        port = OperatorPort(lambda: "", fails)
        number = await port.start(Operator(port=0))

        def talk() -> bytes:
            with RawSocket(number) as sock:
                sock.send(get())
                return sock.read_to_end()

        try:
            return await asyncio.to_thread(talk)
        finally:
            await port.stop()

    status, body = parts(asyncio.run(story()))
    assert (status, body["error"]["code"]) == (500, "INTERNAL")
    assert [(record.getMessage(), record.levelname) for record in caplog.records] == [
        ("an HTTP request failed", "ERROR")
    ]
