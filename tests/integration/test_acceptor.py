"""The acceptor: one port for WebSocket and HTTP, which connections are admitted, and which counters change."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import picows
import pytest
import websockets
from aiohttp import web

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.epoll_transport import Poller
from koko_presence.server import listeners
from koko_presence.server.acceptor import Acceptor
from koko_presence.server.http.site import HttpServer
from koko_presence.server.origins import Origins
from tests.echo_server import Echo
from tests.integration.conftest import Run
from tests.raw_ws import CLOSE, TEXT, RawSocket, frame, handshake
from tests.waiting import until


async def hello(request: web.BaseRequest) -> web.Response:
    return web.Response(text=f"{request.method} {request.path} {await request.text()}")


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[tuple[Acceptor, int]]:
    poller = settings.pop("poller", None) or Poller(asyncio.get_running_loop())
    acceptor = Acceptor(make_handler=Echo, http_protocol=HttpServer(hello), poller=poller, **settings)
    await acceptor.open("127.0.0.1", 0)
    try:
        yield acceptor, next(iter(acceptor.sockets)).getsockname()[1]
    finally:
        await acceptor.close()


async def raw(port: int, *data: bytes, **options: Any) -> str:
    """Send bytes from a thread; return everything that the server sends until the connection ends."""

    def talk() -> str:
        with RawSocket(port, **options) as sock:
            for part in data:
                sock.send(part)
            return sock.read_to_end().decode("latin-1")

    return await asyncio.to_thread(talk)


async def upgrade(port: int, path: str = "/presence", **headers: str | None) -> str:
    """Return the status line of the answer to an upgrade request."""

    def talk() -> str:
        with RawSocket(port) as sock:
            return sock.upgrade(path, **headers)

    return await asyncio.to_thread(talk)


def http(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Behind(Poller):
    """A poller whose admission queue has not been empty for 3 s."""

    def admission_waits_for(self, now: float) -> float:
        return 3.0


def test_an_acceptor_whose_admission_queue_is_never_empty_still_admits_all_in_order(run: Run) -> None:
    async def test() -> None:
        poller = Behind(asyncio.get_running_loop())
        async with opened(poller=poller) as (acceptor, port):
            answers = await asyncio.gather(*(raw(port, http("GET", f"/{number}")) for number in range(20)))
            assert all(f"GET /{number} " in answer for number, answer in enumerate(answers))
            assert acceptor.waits_for(asyncio.get_running_loop().time()) == 3.0

    run(test())


def test_a_connection_that_has_waited_for_too_long_gets_503(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_waited_s", lambda sock: 20.0)
    monkeypatch.setattr(listeners, "LONG_QUEUE_S", -1.0)
    # so that the next connection in the queue is examined, too
    monkeypatch.setattr(listeners, "ACCEPTS_PER_ITERATION", 1)

    async def test() -> None:
        async with opened() as (acceptor, port):
            before = counters.read().turned_away
            # the connections are accepted after all requests have been sent, so the requests have waited as well
            with ExitStack() as clients:
                waiting = [clients.enter_context(RawSocket(port)) for _ in range(20)]
                for number, client in enumerate(waiting):
                    client.send(http("GET", f"/{number}"))
                answers = [(await asyncio.to_thread(client.read_to_end)).decode("latin-1") for client in waiting]
            refused = [answer for answer in answers if "GET" not in answer]
            assert refused and all("503" in one and "Retry-After: 5" in one and "overloaded" in one for one in refused)
            assert counters.read().turned_away - before == len(refused) and not acceptor.open_count

    run(test())


def test_regression_joins_were_refused_while_others_waited_for_a_free_descriptor(run: Run) -> None:
    async def test() -> None:
        async with opened(max_connections=1) as (acceptor, port):
            acceptor._refused_at_once = 0
            loop = asyncio.get_running_loop()
            _, first = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: acceptor.open_count == 1)
            reader, second = await asyncio.open_connection("127.0.0.1", port)
            # its grace period does not end meanwhile
            await until(lambda: acceptor.waits_for(loop.time() + 60.0) > 60.0)
            assert acceptor.work_waits_for(loop.time() + 60.0) == 0.0
            first.close()
            second.write(http("GET", "/second"))
            assert b"GET /second" in await reader.read()
            second.close()
            await until(lambda: acceptor.open_count == 0)
            assert b"GET /third" in (await raw(port, http("GET", "/third"))).encode()
            assert acceptor._listener is not None
            listener = acceptor._listener
            await until(lambda: not listener.lacks_descriptors)

    run(test())


@pytest.mark.parametrize("behind", [False, True])
def test_a_slow_client_is_not_timed_out_while_the_server_is_late(run: Run, behind: bool) -> None:
    async def test() -> None:
        async with opened(handshake_timeout_s=0.05) as (acceptor, port):
            now = asyncio.get_running_loop().time()
            if behind:
                acceptor.delays.note(now - 10.0, now)
            answers = await asyncio.gather(raw(port, b"GET / HT"), raw(port, b"GET / HT"))
            assert all("408" in answer for answer in answers)
            assert (asyncio.get_running_loop().time() >= now + 1.0) is behind

    run(test())


def test_one_port_speaks_web_socket_and_http(run: Run) -> None:
    async def test() -> None:
        async with opened() as (_, port):
            async with websockets.connect(f"ws://127.0.0.1:{port}/presence") as ws:
                await ws.send("hi")
                assert await ws.recv() == "hi"
            assert "GET /any" in await raw(port, http("GET", "/any"))
            assert "POST /any body" in await raw(port, http("POST", "/any", b"body"))
            assert "200 OK" in await raw(port, http("GET", "/x")[:20], http("GET", "/x")[20:])

    run(test())


def test_tls_on_the_same_port_for_both(run: Run, certificate: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def test() -> None:
        async with opened(ssl_context=context) as (acceptor, port):
            async with websockets.connect(f"wss://localhost:{port}/presence", ssl=trusting) as ws:
                await ws.send("x" * 10_000)
                assert await ws.recv() == "x" * 10_000

            def get() -> bytes:
                return bytes(urllib.request.urlopen(f"https://localhost:{port}/any", context=trusting).read())

            assert b"GET /any" in await asyncio.to_thread(get)
            await until(lambda: acceptor.open_count == 0)

    run(test())


def hello_of_a_client() -> bytes:
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


def ends_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(hello_of_a_client())


def resets_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(hello_of_a_client())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ends_behind_the_servers_part(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(hello_of_a_client())
        assert sock.recv(1) == b"\x16"


def says_nonsense(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"\x16\x03\x01\x00\x04abcd")
        with contextlib.suppress(OSError):
            sock.recv(1)


def does_not_trust(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize(
    "fail", [ends_at_once, resets_at_once, ends_behind_the_servers_part, says_nonsense, does_not_trust]
)
def test_regression_failed_tls_handshakes_decremented_the_number_of_connections(
    run: Run, certificate: tuple[Path, Path], trusting: ssl.SSLContext, fail: Callable[[int], None]
) -> None:
    """Each failed handshake decremented the number of connections once too often. The number fell below zero, and more
    connections than `max_connections` were admitted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def several(port: int) -> None:
        for _ in range(10):
            fail(port)

    async def test() -> None:
        async with opened(ssl_context=context) as (acceptor, port):
            await asyncio.to_thread(several, port)
            async with websockets.connect(f"wss://localhost:{port}/presence", ssl=trusting):
                assert len(acceptor.connections) == 1  # and all earlier connections have been handled
            await until(lambda: not acceptor._entering)
            for _ in range(3):  # the following callbacks run in the next loop iterations
                await asyncio.sleep(0)
            assert acceptor.open_count == 0

    run(test())


def test_tls_handshakes_under_way_count_as_connections(run: Run, certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def test() -> None:
        async with opened(ssl_context=context, max_connections=2, handshake_timeout_s=60.0) as (acceptor, port):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for reader, writer in silent:
                writer.write(hello_of_a_client())
                assert await reader.read(1) == b"\x16"  # the server has answered; the client sends nothing more
            assert acceptor.open_count == 0
            before = counters.turned_away
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(10):
                assert await reader.read() == b""
            assert counters.turned_away == before + 1
            for _, each in [*silent, (reader, writer)]:
                each.close()

    run(test())


@pytest.mark.parametrize(
    "value", ["keep-alive, Upgrade", "upgrade", "UPGRADE", "Upgrade,keep-alive", "keep-alive ,  upgrade"]
)
def test_regression_firefox_sends_keep_alive_and_upgrade(run: Run, value: str) -> None:
    async def test() -> None:
        async with opened() as (_, port):
            assert "101" in await upgrade(port, Connection=value)

    run(test())


ORIGINS = [
    ("https://app.example.com", True), ("https://APP.example.com", True), (None, True), ("http://127.0.0.1", True),
    ("https://evil.com", False), ("null", False), ("", False), ("https://app.example.com.evil.com", False),
    ("https://evilapp.example.com", False), ("https://app.example.com:8443", False), ("http://app.example.com", False),
    ("https://xn--pp-eka.example.com", False), ("http://127.0.0.1:81", False), ("http://127.0.0.1.evil.com", False),
    ("http://[", False), ("http://x@127.0.0.1", False), ("ftp://127.0.0.1", False), ("http://user@127.0.0.1:99999", False), ("https://app.example.com/", False),
]  # fmt: skip


@pytest.mark.parametrize(("origin", "welcome"), ORIGINS)
def test_a8_origins_match_exactly_or_are_refused_before_the_upgrade(
    run: Run, origin: str | None, welcome: bool
) -> None:
    async def test() -> None:
        async with opened(origins=Origins(["https://app.example.com"])) as (_, port):
            assert ("101" if welcome else "403") in await upgrade(port, Origin=origin)

    run(test())


def test_a8_two_origin_headers_are_refused(run: Run) -> None:
    async def test() -> None:
        async with opened(origins=Origins(["https://app.example.com"])) as (_, port):
            data = handshake(Origin="https://app.example.com\r\nOrigin: https://evil.com")
            assert "403" in await raw(port, data)

    run(test())


def test_a8_a_refused_origin_is_logged_and_an_allowed_one_is_not(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with opened(origins=Origins(["https://app.example.com"])) as (_, port):
            for origin in ("https://app.example.com", "https://evil.com", "https://evil.com"):
                await upgrade(port, Origin=origin)

    run(test())
    lines = [line.getMessage() for line in caplog.records if line.name == "koko_presence.origins"]
    assert len(lines) == 1 and "https://evil.com was refused" in lines[0] and "server.origins" in lines[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec_WebSocket_Version": "8"}, "426"), ({"Sec_WebSocket_Version": None}, "426"), ({"Sec_WebSocket_Key": "short"}, "400"),
     ({"Sec_WebSocket_Key": None}, "400")],
)  # fmt: skip
def test_invalid_upgrades_are_refused(run: Run, headers: dict[str, str | None], status: str) -> None:
    async def test() -> None:
        async with opened() as (acceptor, port):
            assert status in await upgrade(port, **headers)
            await until(lambda: acceptor.open_count == 0)

    run(test())


def test_a_wrong_path_is_404_and_names_the_right_one(run: Run) -> None:
    async def test() -> None:
        async with opened() as (_, port):
            answer = await raw(port, handshake("/elsewhere"))
            assert "404 Not Found" in answer and "/presence" in answer
            assert "101" in await upgrade(port, "/presence?x=1")

    run(test())


def test_a_head_without_end_is_refused(run: Run) -> None:
    async def test() -> None:
        async with opened() as (_, port):
            assert "431" in await raw(port, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 17_000)

    run(test())


def test_a_slow_head_is_cut(run: Run) -> None:
    async def test() -> None:
        async with opened(handshake_timeout_s=0.1) as (acceptor, port):
            assert "408" in await raw(port, b"GET / HT")
            await until(lambda: acceptor.open_count == 0)

    run(test())


def test_too_many_connections_get_503_and_room_is_made_again(run: Run) -> None:
    async def test() -> None:
        async with opened(max_connections=2) as (acceptor, port):
            async with (
                websockets.connect(f"ws://127.0.0.1:{port}/presence"),
                websockets.connect(f"ws://127.0.0.1:{port}/presence"),
            ):
                answer = await raw(port, handshake())
                assert "503" in answer and "\r\nRetry-After: 10\r\n" in answer
            await until(lambda: acceptor.open_count == 0)
            assert "101" in await upgrade(port)

    run(test())


def test_a_full_server_is_logged_once_and_again_after_it_had_room(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def fill(port: int) -> None:
        async with AsyncExitStack() as inside:
            for _ in range(2):
                await inside.enter_async_context(websockets.connect(f"ws://127.0.0.1:{port}/presence"))
            for _ in range(3):
                assert "503" in await raw(port, handshake())

    async def test() -> None:
        caplog.set_level("INFO", "koko_presence.acceptor")
        async with opened(max_connections=2) as (acceptor, port):
            for _ in range(2):
                await fill(port)
                await until(lambda: acceptor.open_count == 0)

    run(test())
    full = "connection limit reached: max_connections is 2"
    room = "connection limit no longer reached"
    said = [record.getMessage() for record in caplog.records if record.name == "koko_presence.acceptor"]
    assert said == [full, room, full, room]


def test_every_kind_of_end_decrements_the_number_of_connections(run: Run) -> None:
    async def test() -> None:
        async with opened() as (acceptor, port):

            def endings() -> None:
                for last in (
                    b"",
                    frame(CLOSE, b"\x03\xe8"),
                    frame(TEXT, b"\xff"),
                    frame(3),
                    frame(TEXT, b"x", fin=False),
                ):
                    with RawSocket(port) as ws:
                        ws.upgrade()
                        ws.send(last)
                for data in (b"", b"GET / ", http("GET", "/"), handshake("/no"), handshake()[:50]):
                    with RawSocket(port) as sock:
                        sock.send(data)

            await asyncio.to_thread(endings)
            await until(lambda: acceptor.open_count == 0 and not acceptor.connections)

    run(test())


def test_no_line_is_logged_per_connection(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with opened() as (_, port):
            for last in (frame(CLOSE, b"\x03\xe8"), frame(TEXT, b"\xff"), frame(3), frame(TEXT, b"x", masked=False)):
                await raw(port, handshake(), last)

    with caplog.at_level(logging.DEBUG, logger="koko_presence"):
        run(test())
    assert [record.getMessage() for record in caplog.records if record.name.startswith("koko_presence")] == []


def test_an_exception_in_a_handler_closes_1011_and_no_other_connection(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Echo):
        def on_text(self, data: bytes) -> None:
            if data == b"break":
                raise RuntimeError("on purpose")
            super().on_text(data)

    async def test() -> None:
        acceptor = Acceptor(
            make_handler=Broken, http_protocol=HttpServer(hello), poller=Poller(asyncio.get_running_loop())
        )
        await acceptor.open("127.0.0.1", 0)
        url = f"ws://127.0.0.1:{next(iter(acceptor.sockets)).getsockname()[1]}/presence"
        async with websockets.connect(url) as one, websockets.connect(url) as two:
            await one.send("break")
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await one.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
            await two.send("fine")
            assert await two.recv() == "fine"
        await acceptor.close()

    run(test())
    assert sum("on purpose" in str(record.exc_info) for record in caplog.records) == 1


def test_picows_is_the_version_whose_private_functions_are_used() -> None:
    """The picows functions that check a handshake are private and may change with any release."""
    assert picows.__version__ == "2.3.1"
