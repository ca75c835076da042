"""Malformed HTTP requests on the public port, as the first request of a connection and as a later one: each is answered
with a JSON error, and none is logged as a fault of the server."""

import asyncio
import logging

import msgspec
import pytest

from tests.integration.conftest import Run
from tests.live import live
from tests.raw_ws import RawSocket
from tests.unit.admin.test_malformed_requests import complete

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /trpc/presence.join HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
NOWHERE = POST.replace(b"/trpc/presence.join", b"/nowhere")

# request, status and a part of the message
MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "gzip": (POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "without a content-encoding"),
    "gzip where nothing is": (NOWHERE + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 404, "/presence"),
    "bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "Invalid character in chunk size"),
    "bad chunk where nothing is": (NOWHERE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunk size"),
    "length of letters": (POST + b"Content-Length: many\r\n\r\n", 400, "Content-Length"),
    "length above the limit": (POST + b"Content-Length: 99999999\r\n\r\n", 413, "65536 bytes"),
    "long line": (GET.replace(b"/healthz", b"/" + b"x" * 17_000), 431, "16384 bytes and 32 fields"),
    "many fields": (GET[:-2] + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n", 431, "32 fields"),
    "options": (GET.replace(b"GET", b"OPTIONS"), 405, "Only GET"),
    "connect": (GET.replace(b"GET /healthz", b"CONNECT 127.0.0.1:80"), 404, "not CONNECT"),
    "unknown method": (GET.replace(b"GET", b"BREW"), 400, "unknown method"),
    "NUL in the path": (GET.replace(b"/healthz", b"/%00"), 404, "Nothing here"),
    "bare NUL in the path": (GET.replace(b"/healthz", b"/\0"), 400, "Percent-encode"),
    "no ASCII in the path": (GET.replace(b"/healthz", b"/\xff"), 400, "Percent-encode"),
    "impossible port": (GET.replace(b"/healthz", b"http://127.0.0.1:99999/"), 400, "Percent-encode"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "Missing 'Host'"),
    "NUL in a field": (GET[:-2] + b"X: a\0b\r\n\r\n", 400, "no valid HTTP/1.1 request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "no TLS on this port: use http"),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400, "no HTTP request"),
}


def exchange(sock: RawSocket, request: bytes) -> bytes:
    sock.send(request)
    said = b""
    while not complete(said, request) and (more := sock.sock.recv(65_536)):
        said += more
    return said


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
def test_a_malformed_request_gets_an_error_that_says_what_to_do_and_no_log_line(
    run: Run, is_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def talk(port: int, request: bytes) -> bytes:
        with RawSocket(port) as sock:
            if not is_first:
                assert exchange(sock, GET).startswith(b"HTTP/1.1 200 ")
            return exchange(sock, request)

    async def test() -> None:
        async with live() as server:
            for name, (request, status, text) in MALFORMED.items():
                said = await asyncio.to_thread(talk, server.worker.port, request)
                head, _, body = said.partition(b"\r\n\r\n")
                assert int(head.split(b" ")[1]) == status, name
                assert text in body.decode(), name
                if b"application/json" in head:
                    assert msgspec.json.decode(body)["error"], name
                else:  # refused by the acceptor, before it is known to be HTTP
                    assert is_first and name in ("long line", "TLS"), name
            await asyncio.to_thread(talk, server.worker.port, GET)

    run(test())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_client_that_waits_for_it_is_told_to_send_the_body(run: Run) -> None:
    def talk(port: int) -> bytes:
        with RawSocket(port) as sock:
            sock.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            told = sock.sock.recv(65_536)
            assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
            return exchange(sock, b"{}")

    async def test() -> None:
        async with live() as server:
            said = await asyncio.to_thread(talk, server.worker.port)
            assert said.startswith(b"HTTP/1.1 401 "), "the token is missing"

    run(test())
