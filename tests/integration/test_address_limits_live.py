"""The acceptor refuses connections of an address above its limits and serves other addresses at the same time: behind a
trusted proxy, over TCP and TLS, and by the address of the socket [Q5]."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from koko_presence.protocol.metric_types import Counters
from koko_presence.protocol.survey import LimitedFound, ListLimited
from koko_presence.server.address_counts import CONNECTIONS, UNAUTHENTICATED
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import TEXT, RawSocket, frame, handshake
from tests.waiting import until

HOME, OFFICE = "203.0.113.9", "198.51.100.1"
SOCKETS = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def upgrade(address: str) -> bytes:
    return handshake(X_Forwarded_For=address)


def get(address: str, path: str = "/healthz") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\r\n".encode()


def held(server: Live, address: str = HOME) -> tuple[int, int]:
    """Connections of an address, and how many of them are not authenticated."""
    counts = server.worker.addresses._counts
    cell_indexes = counts.cell_indexes(address)
    return counts.count(CONNECTIONS, cell_indexes), counts.count(UNAUTHENTICATED, cell_indexes)


class Proxy:
    """Sends requests for any client address; closes all its connections at the end of the block."""

    def __init__(self, server: Live, context: ssl.SSLContext | None = None) -> None:
        self._port, self._context = server.worker.port, context
        self._sockets: list[RawSocket] = []

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.__exit__(None, None, None)

    def send(self, data: bytes) -> RawSocket:
        sock = RawSocket(self._port, tls=self._context)
        self._sockets.append(sock)
        sock.send(data)
        return sock

    def answer(self, data: bytes) -> str:
        """Return the whole answer to a request that is not an upgrade."""
        return self.send(data).read_to_end().decode("latin-1")

    def open(self, address: str) -> RawSocket | None:
        """Open a WebSocket. Return None if it was refused with 503 and a Retry-After."""
        sock = self.send(upgrade(address))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.sock.recv(1)
        if head.startswith(b"HTTP/1.1 503 "):
            assert b"Retry-After: " in head
            return None
        assert head.startswith(b"HTTP/1.1 101 ")
        return sock


def played(server: Live, context: ssl.SSLContext | None, story: Callable[[Proxy], Any]) -> Any:
    with Proxy(server, context) as proxy:
        return story(proxy)


@SOCKETS
def test_a_flood_of_websockets_takes_its_address_share_and_another_gets_in(
    run: Run, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    async def test() -> None:
        settings = {"address_connections": 6, "address_unauthenticated": 4, "trusted_proxies": ["127.0.0.1"]}
        async with live(tls=certificate if tls else None, **settings) as server:  # type: ignore[arg-type]
            token = server.token("ann")

            def flood(proxy: Proxy) -> None:
                opened = [proxy.open(HOME) for _ in range(10)]
                assert [sock is not None for sock in opened] == [True] * 4 + [False] * 6
                assert held(server) == (4, 4)
                other = proxy.open(OFFICE)
                for each in (other, opened[0]):
                    assert each is not None
                    each.send(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()))
                    assert json.loads(each.read_frame().payload)["type"] == "authenticated"
                assert held(server) == (4, 3), "who has authenticated makes room for another"
                assert proxy.open(HOME) is not None and proxy.open(HOME) is None
                assert proxy.answer(get(HOME)).startswith("HTTP/1.1 200 "), "a request is no connection of the client"

            await asyncio.to_thread(played, server, trusting if tls else None, flood)
            await until(lambda: server.worker.acceptor.open_count == 0)
            assert held(server) == held(server, OFFICE) == (0, 0)
            assert server.worker.addresses.refusals["unauthenticated"] == 7

    run(test())


def test_a_flood_of_requests_gets_429_and_another_address_200(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"], address_requests_hz=3) as server:
            monkeypatch.setattr(server.worker.addresses, "_clock", lambda: 1000.0)

            def flood(proxy: Proxy) -> None:
                answers = [proxy.answer(get(HOME, path)) for path in ("/healthz", "/nowhere", "/trpc/x", "/healthz")]
                assert [answer.split(" ")[1] for answer in answers[:2]] == ["200", "404"]
                assert answers[3].startswith("HTTP/1.1 429 ") and "\r\nRetry-After: 1\r\n" in answers[3]
                assert proxy.open(HOME) is None
                assert proxy.answer(get(OFFICE)).startswith("HTTP/1.1 200 ") and proxy.open(OFFICE) is not None

            await asyncio.to_thread(played, server, None, flood)
            assert server.worker.addresses.refusals["requests"] == 2

    run(test())


def test_a_kept_connection_of_a_proxy_carries_many_addresses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"], address_requests_hz=1, address_unauthenticated=1) as server:
            monkeypatch.setattr(server.worker.addresses, "_clock", lambda: 1000.0)

            def story(proxy: Proxy) -> bytes:
                asked = b"".join(
                    get(address).replace(b"Connection: close\r\n", b"") for address in (HOME, HOME, OFFICE)
                )
                kept = proxy.send(asked)
                got = b""
                while got.count(b"HTTP/1.1 ") < 3 or not got.endswith(b"}"):
                    got += kept.sock.recv(4096)
                kept.send(upgrade("192.0.2.77"))
                while b"HTTP/1.1 101 " not in got:
                    got += kept.sock.recv(4096)
                assert held(server, "192.0.2.77") == (1, 1)
                return got

            got = await asyncio.to_thread(played, server, None, story)
            assert re.findall(rb"HTTP/1.1 (\d+) ", got) == [b"200", b"429", b"200", b"101"]
            await until(lambda: server.worker.acceptor.open_count == 0)
            assert held(server, "192.0.2.77") == (0, 0)

    run(test())


@SOCKETS
@pytest.mark.parametrize("ending", ["silent", "half a head", "request", "websocket", "websocket after a request"])
def test_without_a_proxy_sockets_count_by_their_address_from_accept_to_their_end(
    run: Run, ending: str, tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext, monkeypatch: Any
) -> None:
    async def test() -> None:
        async with live(tls=certificate if tls else None, address_connections=2) as server:
            acceptor = server.worker.acceptor
            arrived = acceptor._on_connection
            # replaces the loopback address of the connection by another one
            monkeypatch.setattr(acceptor._listener, "_on_connection", lambda sock, peer: arrived(sock, (HOME, peer[1])))
            plain = tls and ending == "silent"  # the server waits for its ClientHello

            def story(proxy: Proxy) -> list[RawSocket]:
                words = {"silent": b"", "half a head": b"GET / HT", "request": get(HOME).replace(b"close", b"x")}
                words |= {"websocket": upgrade(HOME), "websocket after a request": words["request"]}
                opened = []
                for _ in range(2):
                    sock = RawSocket(server.worker.port) if plain else proxy.send(words[ending])
                    if not words[ending].startswith(b"GET / HT"):
                        assert plain or ending == "silent" or sock.sock.recv(4096)
                    if ending == "websocket after a request":
                        sock.send(upgrade(HOME))
                        assert sock.sock.recv(4096).startswith(b"HTTP/1.1 101 ")
                    opened.append(sock)
                return opened

            with Proxy(server, trusting if tls else None) as proxy:
                opened = await asyncio.to_thread(story, proxy)
                await until(lambda: held(server)[0] == 2)
                assert held(server)[1] == (0 if ending == "request" else 2)
                refused = await asyncio.to_thread(_read_all, server.worker.port)
                assert refused == b"" if tls else refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in refused
                for sock in opened:
                    sock.sock.close()
                await until(lambda: held(server) == (0, 0))

    run(test())


def _read_all(port: int) -> bytes:
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, contextlib.suppress(ConnectionError):
        while part := sock.recv(4096):
            found += part
    return found


def test_a_reload_changes_the_limits_and_refusals_are_listed_and_counted(run: Run) -> None:
    async def test() -> None:
        async with live(trusted_proxies=["127.0.0.1"]) as server:
            worker = server.worker
            limits = structs.replace(worker.config.limits, address_unauthenticated=1)

            def flood(proxy: Proxy) -> None:
                assert proxy.open(HOME) is not None
                assert proxy.open(HOME) is None
                assert proxy.open(OFFICE) is not None

            worker.reload(structs.replace(worker.config, limits=limits))
            await asyncio.to_thread(played, server, None, flood)
            told: list[LimitedFound] = []
            worker.survey_handlers.handle(ListLimited(), told.append)  # type: ignore[arg-type]
            (row,) = told[0].limited
            assert (row.address, row.limit, row.refused) == (HOME, "unauthenticated", 1)
            counters = msgspec.msgpack.decode(worker.snapshot(), type=Counters)
            assert counters.totals.limited["unauthenticated"] == 1

    run(test())
