"""Clients that send as fast as they can are read at a bounded rate, closed, and delay no other client. The tests count
and measure no time.

Each flood runs twice: from loopback, which has no limits by address, and through a trusted proxy from an address that
has limits [Q5].
"""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from koko_presence.server.address_counts import CONNECTIONS, UNAUTHENTICATED
from koko_presence.server.address_limits import FREE, AddressUse
from koko_presence.server.flood_limits import PREAUTH_FRAMES
from koko_presence.server.tls_handshakes import HANDSHAKES_PER_ITERATION, HandshakeLimiter
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import CLOSE, CONTINUATION, PING, PONG, TEXT, RawSocket, frame
from tests.waiting import until

STRANGERS = {
    "pings": frame(PING, b"x"),
    "pongs": frame(PONG),
    "fragments": frame(CONTINUATION, b"a", fin=False),
    "binaries": frame(2, b"x"),
}
SOCKETS = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
HOME = "203.0.113.9"


class Client(RawSocket):
    """A client at `address`, as the proxy's header names it; without it at loopback."""

    def __init__(self, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(port, tls=context)
        self._forwarded = {"X_Forwarded_For": address} if address else {}

    def upgrade(self, path: str = "/presence", **headers: str | None) -> str:
        return super().upgrade(path, **headers, **self._forwarded)


@pytest.fixture(params=["", pytest.param(HOME, marks=pytest.mark.long)], ids=["loopback", "address"])
def address(request: pytest.FixtureRequest) -> str:
    """The address from which the flood comes."""
    return str(request.param)


def flooded(address: str, **settings: Any) -> AbstractAsyncContextManager[Live]:
    """A server, with limits by address for all addresses but loopback."""
    return live(trusted_proxies=["127.0.0.1"] if address else [], **settings)


def talk(
    server: Live, story: Callable[[RawSocket], Any], context: ssl.SSLContext | None = None, address: str = ""
) -> Any:
    with Client(server.worker.port, address, context) as ws:
        return story(ws)


async def assert_nothing_is_left(server: Live, address: str) -> None:
    """Assert that the connections are closed and no longer count for their address."""
    await until(lambda: not server.worker.acceptor.open_count)
    if address:
        counts = server.worker.addresses._counts
        assert counts.count(CONNECTIONS, counts.cell_indexes(address)) == 0
        assert counts.count(UNAUTHENTICATED, counts.cell_indexes(address)) == 0


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=pytest.mark.long)], ids=["tcp", "tls"])
@pytest.mark.parametrize("kind", STRANGERS)
def test_sixteen_frames_of_any_kind_come_before_auth_a2(
    run: Run, kind: str, address: str, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    """After the close no message is answered."""

    def story(ws: RawSocket) -> tuple[int | None, int]:
        ws.upgrade()
        data = STRANGERS[kind] * 5000
        if kind == "fragments":
            data = frame(TEXT, b"a", fin=False) + data
        with contextlib.suppress(OSError):  # the server cut the connection before all of it was sent
            ws.send(data)
        pongs, code = 0, None
        try:
            while True:
                got = ws.read_frame()
                pongs += got.opcode == PONG
                if got.opcode == CLOSE:
                    code = int.from_bytes(got.payload[:2], "big")
        except (EOFError, OSError):
            return code, pongs

    async def test() -> None:
        async with flooded(address, tls=certificate if tls else None) as server:
            code, pongs = await asyncio.to_thread(talk, server, story, trusting if tls else None, address)
            assert code in (4401, 4400), "4400: as many of them are no messages at all"
            assert pongs <= 1
            await assert_nothing_is_left(server, address)

    run(test())


def test_as_many_frames_as_are_allowed_before_auth_are_handled(run: Run, address: str) -> None:
    async def test() -> None:
        async with flooded(address) as server:
            token = server.token("ann")

            def story(ws: RawSocket) -> str:
                ws.upgrade()
                ws.send(
                    frame(PING) * PREAUTH_FRAMES + frame(TEXT, json.dumps({"type": "auth", "token": token}).encode())
                )
                while (got := ws.read_frame()).opcode == PONG:
                    pass
                return str(json.loads(got.payload)["type"])

            assert await asyncio.to_thread(talk, server, story, None, address) == "authenticated"

    run(test())


@SOCKETS
def test_pings_of_one_read_get_one_pong_with_the_last_payload(
    run: Run, address: str, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    """RFC 6455 section 5.5.3."""

    def story(ws: RawSocket) -> list[bytes]:
        ws.upgrade()
        ws.send(b"".join(frame(PING, bytes([number])) for number in range(10)))
        ws.send(frame(CLOSE, b"\x03\xe8"))
        found = []
        while (got := ws.read_frame()).opcode != CLOSE:
            found.append(got.payload)
        return found

    async def test() -> None:
        async with flooded(address, tls=certificate if tls else None) as server:
            pongs = await asyncio.to_thread(talk, server, story, trusting if tls else None, address)
            assert pongs[-1] == bytes([9]) and len(pongs) < 10

    run(test())


@SOCKETS
def test_a_flood_of_a_member_is_read_at_five_times_the_rate_and_ends_with_4429_l3(
    run: Run, address: str, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    """The kernel buffers the rest, and TCP flow control stops the sender. Frames that are sent while the server does
    not read count as well."""

    async def test() -> None:
        async with flooded(address, tls=certificate if tls else None, connection_hz=20, flood_s=0.5) as server:
            token = server.token("eve")

            def story(ws: RawSocket) -> tuple[dict[str, Any], int]:
                ws.upgrade()
                ws.send(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()))
                assert json.loads(ws.read_frame().payload)["type"] == "authenticated"
                read_budget.append(next(iter(server.worker.acceptor.connections)).read_budget)
                began = time.monotonic()
                ws.send(frame(PONG) * 20_000)
                notice: dict[str, Any] = {}
                while (got := ws.read_frame()).opcode != CLOSE:
                    if got.opcode == TEXT:
                        notice = json.loads(got.payload)
                took_s.append(time.monotonic() - began)
                return notice, int.from_bytes(got.payload[:2], "big")

            read_budget: list[Any] = []
            took_s: list[float] = []
            notice, code = await asyncio.to_thread(talk, server, story, trusting if tls else None, address)
            assert code == 4429
            assert notice["type"] == "server_notice" and notice["retryAfterMs"] == 10_000
            assert read_budget[0].frames <= 100 + 100 * took_s[0] + 10
            await assert_nothing_is_left(server, address)

    run(test())


def test_a_client_that_sends_after_the_close_is_not_read_and_cut(run: Run, address: str) -> None:
    async def test() -> None:
        async with flooded(address) as server:

            def story(ws: RawSocket) -> int:
                ws.upgrade()
                ws.send(frame(TEXT, b'{"type":"heartbeat"}') * 3)
                assert ws.read_close() == 4401
                sent = 0
                try:
                    while sent < 100_000_000:
                        sent += ws.sock.send(frame(PING, b"x" * 100) * 500)
                except OSError:
                    pass
                return sent

            sent = await asyncio.to_thread(talk, server, story, None, address)
            assert sent < 20_000_000, "so much more than is read is only what the kernel has room for"
            await assert_nothing_is_left(server, address)

    run(test())


def test_the_answer_to_a_close_of_the_server_is_read_behind_frames_sent_before_it(run: Run, address: str) -> None:
    async def test() -> None:
        async with flooded(address) as server:

            def story(ws: RawSocket) -> tuple[int | None, bytes]:
                ws.upgrade()
                ws.send(frame(TEXT, b'{"type":"heartbeat"}') * 3 + frame(PING, b"x" * 100) * 1000)
                code = ws.read_close()
                ws.send(frame(CLOSE, b"\x03\xe8"))
                return code, ws.read_to_end()

            assert await asyncio.to_thread(talk, server, story, None, address) == (4401, b"")

    run(test())


def test_http_in_pieces_and_pipelined_requests_are_answered_in_order(run: Run, address: str) -> None:
    forwarded = f"X-Forwarded-For: {address}\r\n".encode() if address else b""

    async def test() -> None:
        async with flooded(address) as server:

            def story(ws: RawSocket) -> bytes:
                for at in range(len(request := b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + forwarded + b"\r\n")):
                    ws.send(request[at : at + 1])
                ws.send(request * 199 + request[:-2] + b"Connection: close\r\n\r\n")
                return ws.read_to_end()

            answers = await asyncio.to_thread(talk, server, story, None, address)
            limited = answers.count(b"429 Too Many Requests")
            assert answers.count(b"200 OK") + limited == 201 and not (limited and not address)

    run(test())


def test_handshakes_wait_for_their_whole_first_record_and_begin_a_few_at_a_time(run: Run) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        begun: list[int] = []
        sizes: list[int] = []

        def begin(sock: socket.socket, use: AddressUse) -> None:
            if not sizes:
                loop.call_soon(count)
            sizes.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
            sock.close()

        def count() -> None:
            begun.append(len(sizes))
            sizes.clear()

        handshakes = HandshakeLimiter(begin)
        listening = socket.create_server(("127.0.0.1", 0))
        record = b"\x16\x03\x01\x00\x64" + b"x" * 100
        clients = []
        for _ in range(10):
            client = socket.create_connection(listening.getsockname())
            server, _ = listening.accept()
            server.setblocking(False)
            handshakes.add(server, 5.0, FREE)
            clients.append(client)
            client.send(record[:50])
        await asyncio.sleep(0.05)
        assert len(handshakes) == 10 and not begun
        for client in clients:
            client.send(record[50:])
        async with asyncio.timeout(5):
            while sum(begun) < 10:
                await asyncio.sleep(0.005)
        assert max(begun) <= HANDSHAKES_PER_ITERATION and len(handshakes) == 0
        plain = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        server.setblocking(False)
        handshakes.add(server, 5.0, FREE)
        plain.send(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionResetError):  # no TLS record: it is not read
            await loop.run_in_executor(None, plain.recv, 10)
        silent = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        server.setblocking(False)
        handshakes.add(server, 0.01, FREE)
        assert await loop.run_in_executor(None, silent.recv, 10) == b"", "it said nothing in time"
        for client in [*clients, plain, silent]:
            client.close()
        listening.close()

    run(test())
