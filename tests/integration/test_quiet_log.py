"""Nothing that a client does writes a log line above debug. Faults of clients are counted instead."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Run
from tests.live import live
from tests.raw_ws import TEXT, RawSocket, frame, handshake
from tests.waiting import PATIENCE_S

POST = b"POST /trpc/presence.join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
GET = b"GET /sdk/presence.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def reset(raw: RawSocket) -> None:
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.sock.close()


def hang_up(raw: RawSocket) -> None:
    raw.sock.close()


def read_all(raw: RawSocket) -> None:
    with contextlib.suppress(OSError):  # the server may have closed it already
        raw.sock.shutdown(socket.SHUT_WR)
    raw.read_to_end()


SAID: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "half a head": (b"GET /healthz HT",),
    "half a body": (POST + b"Content-Length: 100\r\n\r\n{",),
    "half a body later": (POST + b"Content-Length: 100\r\n\r\n{", b'"a":'),
    "half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",),
    "a bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{",),
    "a bad chunk later": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{", b"}\r\nzz\r\n"),
    "a bad chunk that nothing reads": (
        POST.replace(b"/trpc/presence.join", b"/nowhere") + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{",
        b"}\r\nzz\r\n",
    ),
    "a compressed body": (POST + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",),
    "a compressed body that nothing reads": (
        GET[:-2] + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    ),
    "a body that is waited for": (POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n",),
    "too long a body": (POST + b"Content-Length: 99999999\r\n\r\n{",),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n",),
    "no HTTP behind HTTP": (GET, b"\x00\x01\x02\r\n\r\n"),
    "half a head behind HTTP": (GET, b"GET /"),
    "a request that is not waited for": (GET * 20,),
    "an upgrade behind HTTP": (GET, handshake()),
    "an upgrade with a body": (GET, handshake(Content_Length="4"), b"body"),
    "half a frame": (handshake(), frame(TEXT, b"{}")[:3]),
    "a bad frame": (handshake(), b"\xff" * 10),
    "no JSON": (handshake(), frame(TEXT, b"{")),
    "no UTF-8": (handshake(), frame(TEXT, b"\xff")),
    "a call half told": (handshake("/trpc?connectionParams=1"), frame(TEXT, b"{")),
}


def say(port: int, said: tuple[bytes, ...], end: Callable[[RawSocket], None], tls: ssl.SSLContext | None) -> None:
    try:
        with RawSocket(port, tls=tls) as raw:
            for number, piece in enumerate(said):
                raw.send(piece)
                if number == 0 and len(said) > 1 and not piece.startswith(b"POST"):
                    raw.read_head()  # the next piece is sent separately
            end(raw)
    except (ConnectionError, EOFError, ssl.SSLError):
        pass  # the server has closed it first


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_what_a_client_does_is_not_logged(
    run: Run, secure: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    tls = trusting if secure else None
    caplog.set_level(logging.INFO)

    async def story() -> None:
        async with live(tls=certificate if secure else None) as server:
            acceptor, port = server.worker.acceptor, server.worker.port
            for said in SAID.values():
                for end in (hang_up, reset, read_all):
                    await asyncio.to_thread(say, port, said, end, tls)
            if secure:  # bytes that are no TLS from the start, and after the handshake
                await asyncio.to_thread(say, port, (GET,), hang_up, None)
                await asyncio.to_thread(garble, port, trusting)
            async with asyncio.timeout(PATIENCE_S):
                while acceptor.open_count:
                    await asyncio.sleep(0.01)

    run(story())
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []


def garble(port: int, tls: ssl.SSLContext) -> None:
    """A TLS handshake, then bytes that are no TLS."""
    with RawSocket(port, tls=tls) as raw:
        bare = socket.socket(fileno=raw.sock.detach())
        bare.sendall(b"\x17\x03\x03\x00\x05hello")
        bare.settimeout(PATIENCE_S)
        while bare.recv(4096):
            pass
        bare.close()
