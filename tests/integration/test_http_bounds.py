"""Limits of an HTTP connection: unread answers, request heads, and the time between two requests."""

import asyncio
import contextlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.server.keepalive_upgrade import MAX_FIELDS, MAX_HEAD_BYTES
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import RawSocket, handshake
from tests.waiting import until

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
FIELDS = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_FIELDS))
SOCKETS = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


async def talk(server: Live, *data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Send pieces, each after the answer to the previous GET; return all bytes received."""

    def story() -> bytes:
        with RawSocket(server.worker.port, tls=context) as sock:
            said = b""
            for part in data:
                with contextlib.suppress(OSError):
                    sock.send(part)
                while part == GET and not said.endswith(b'"}'):
                    said += sock.sock.recv(4096)
            return said + sock.read_to_end()

    return await asyncio.to_thread(story)


@SOCKETS
def test_pipelined_requests_whose_answers_are_not_read_are_cut(
    run: Run, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    async def test() -> None:
        async with live(tls=certificate if tls else None, send_stuck_s=0.4) as server:
            # the largest static file, requested until the kernel's buffers are full
            side = server.worker._http
            path = max((name for name in side._files), key=lambda name: len(side._files[name]._body))
            asked = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2000
            assert len(side._files[path]._body) * 2000 > 8 << 20

            def flood() -> RawSocket:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", server.worker.port))
                sock.settimeout(0.2)
                whole = trusting.wrap_socket(sock, server_hostname="localhost") if tls else sock
                with contextlib.suppress(OSError):  # the server stops reading at some point
                    whole.sendall(asked)
                return whole  # type: ignore[return-value]

            deaf: Any = await asyncio.to_thread(flood)
            await until(lambda: server.worker.acceptor.open_count == 0)
            deaf.close()

    run(test())


@pytest.mark.parametrize("before", [[], [GET]], ids=["the first", "a later one"])
@pytest.mark.parametrize("kind", ["long", "many fields", "long upgrade", "many fields of an upgrade", "never ends"])
def test_every_head_of_a_connection_is_bounded(run: Run, kind: str, before: list[bytes]) -> None:
    long = b"".join(b"X-Long: " + b"y" * 6000 + b"\r\n" for _ in range(3))
    assert len(long) > MAX_HEAD_BYTES
    heads = {
        "long": GET[:-2] + long + b"\r\n",
        "many fields": GET[:-2] + FIELDS + b"\r\n",
        "long upgrade": handshake()[:-2] + long + b"\r\n",
        "many fields of an upgrade": handshake()[:-2] + FIELDS + b"\r\n",
        "never ends": b"POST / HTTP/1.1\r\nHost: x\r\n" + (b"X-More: " + b"y" * 600 + b"\r\n") * 100,
    }

    async def test() -> None:
        async with live() as server:
            said = await talk(server, *before, heads[kind])
            assert said.count(b"HTTP/1.1 200 ") == bool(before)
            assert said.count(b"HTTP/1.1 431 ") == 1 and b"16384 bytes and 32 fields" in said
            await until(lambda: server.worker.acceptor.open_count == 0)

    run(test())


def test_bodies_and_pipelined_requests_are_no_long_heads(run: Run) -> None:
    """A body that is refused before it arrives is no long head either."""
    body = json.dumps({"x": "y" * 60_000}).encode()
    post = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def test() -> None:
        async with live() as server:
            end = GET[:-2] + b"Connection: close\r\n\r\n"
            said = await talk(server, post, end)
            assert said.count(b"HTTP/1.1 404 ") == 1 and said.count(b"HTTP/1.1 200 ") == 1
            said = await talk(server, GET * 900, post + end)
            assert said.count(b"HTTP/1.1 404 ") == 1 and said.count(b"HTTP/1.1 200 ") == 901
            fit = GET[:-2] + FIELDS[: -len(b"X-31: y\r\n")] + b"X-Long: " + b"y" * 100 + b"\r\n\r\n"
            assert b" 431 " in await talk(server, fit), "Host is a field too"

    run(test())


def test_a_connection_between_two_requests_is_closed_after_keepalive_s(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            worker = server.worker
            changed = msgspec.structs.replace(worker.config.server, keepalive_s=0.05)
            worker.reload(msgspec.structs.replace(worker.config, server=changed))
            said = await talk(server, GET, GET)
            assert said.count(b"HTTP/1.1 200 ") == 2 and b"connection: close" not in said.lower()

    run(test())
