"""A connection that has carried HTTP requests may be upgraded to a WebSocket. Proxies reuse connections, and the proxy
configurations in deploy/ do as well [RFC 9110 section 7.8]."""

import asyncio
import socket
import time

import pytest

from tests.integration.conftest import Run
from tests.live import live
from tests.raw_ws import PING, PONG, TEXT, RawSocket, frame, handshake
from tests.waiting import PATIENCE_S

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
OK = b'{"status":"ok"}'


@pytest.mark.parametrize("path", ["/presence", "/trpc"])
def test_an_upgrade_is_accepted_on_a_kept_connection(run: Run, path: str) -> None:
    def story(port: int) -> None:
        for _ in range(20):
            once(port)

    def once(port: int) -> None:
        with RawSocket(port) as raw:
            for _ in range(2):
                raw.send(GET)
                assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            assert raw.upgrade(path).startswith("HTTP/1.1 101")
            raw.send(frame(PING, b"there?"))
            while (got := raw.read_frame()).opcode == TEXT:  # /trpc answers that there is no token
                pass
            assert path == "/trpc" or (got.opcode, got.payload) == (PONG, b"there?")

    async def both() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)
            async with asyncio.timeout(PATIENCE_S):
                while server.worker.acceptor.open_count:  # each connection is counted out once
                    await asyncio.sleep(0.01)
            assert server.worker.acceptor.open_count == 0 and not server.worker.acceptor.connections

    run(both())


def test_a_long_head_and_any_request_may_arrive_in_pieces_on_a_kept_connection(run: Run) -> None:
    def story(port: int) -> None:
        with RawSocket(port) as raw:
            raw.send(GET)
            assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            for piece in (GET[:2], GET[2:30], GET[30:]):
                time.sleep(0.02)
                raw.send(piece)
            assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            whole = handshake(Cookie="a=" + "b" * 4000)
            for piece in (whole[:50], whole[50:3000], whole[3000:]):
                time.sleep(0.02)
                raw.send(piece)
            assert raw.read_head().startswith("HTTP/1.1 101")

    async def one() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)

    run(one())


def test_the_origin_is_checked_on_a_kept_connection_and_other_requests_go_on(run: Run) -> None:
    def story(port: int) -> None:
        with RawSocket(port) as raw:
            raw.send(GET + GET)
            for _ in range(2):
                assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            assert raw.upgrade(Origin="https://evil.example").startswith("HTTP/1.1 403")
            raw.read_to_end()

    async def one() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)

    run(one())


WHOLE = handshake()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ", WHOLE.replace(b"\r\n", b" ", 1)), id="in the head of a GET"
        ),
        pytest.param((b"POST /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ", WHOLE), id="in the head of a POST"),
        pytest.param((GET + b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ", WHOLE), id="in a head behind a request"),
        pytest.param(
            (b"POST /trpc/presence.join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
             b"Content-Length: %d\r\n\r\n" % len(WHOLE), WHOLE), id="in a body"
        ),
        pytest.param(
            (b"POST /trpc/presence.join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
             b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(WHOLE), WHOLE, b"\r\n0\r\n\r\n"), id="in a chunk"
        ),
    ],
)  # fmt: skip
def test_a_piece_of_a_request_that_looks_like_an_upgrade_is_not_one(run: Run, pieces: tuple[bytes, ...]) -> None:
    def story(port: int) -> None:
        with RawSocket(port) as raw:
            raw.send(GET)
            assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            for piece in pieces:
                raw.send(piece)
                time.sleep(0.03)
            raw.sock.shutdown(socket.SHUT_WR)
            assert b"101" not in raw.read_to_end()

    async def one() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)

    run(one())


def test_an_upgrade_behind_requests_in_the_same_piece_is_accepted_with_the_frames_after_it(run: Run) -> None:
    body = b"{}"
    post = (
        b"POST /trpc/presence.join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )

    def story(port: int) -> None:
        with RawSocket(port) as raw:
            raw.send(GET + post + body + handshake("http://127.0.0.1/presence?x=1") + frame(PING, b"there?"))
            assert raw.read_head().startswith("HTTP/1.1 200") and raw.read(len(OK)) == OK
            head = raw.read_head()
            assert head.startswith("HTTP/1.1 401")
            raw.read(int(head.lower().split("content-length: ")[1].split("\r\n")[0]))
            assert raw.read_head().startswith("HTTP/1.1 101")
            got = raw.read_frame()
            assert (got.opcode, got.payload) == (PONG, b"there?")

    async def one() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)

    run(one())


@pytest.mark.parametrize("path", ["/presence", "/presence?a=1", "/trpc", "http://127.0.0.1/presence"])
def test_a_plain_get_of_a_websocket_path_is_answered_with_426(run: Run, path: str) -> None:
    def story(port: int) -> None:
        with RawSocket(port) as raw:
            raw.send(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode())
            head = raw.read_head().lower()
            assert head.startswith("http/1.1 426") and "\r\nupgrade: websocket" in head
            assert "\r\nconnection: upgrade" in head
            raw.read(int(head.split("content-length: ")[1].split("\r\n")[0]))
            assert raw.upgrade("/presence").startswith("HTTP/1.1 101"), "the connection goes on"

    async def one() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)

    run(one())


@pytest.mark.parametrize("path", ["/presence", "/trpc"])
def test_a_kept_connection_says_that_the_server_is_stopping(run: Run, path: str) -> None:
    """A page whose WebSocket was refused asks for the reason, on a connection that the browser has kept. (It was told
    that the server takes WebSockets, and went over to event streams.)"""

    def ask(raw: RawSocket) -> str:
        raw.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = raw.read_head()
        raw.read(int(head.lower().partition("content-length: ")[2].partition("\r\n")[0]))
        return head

    async def both() -> None:
        async with live() as server:
            with await asyncio.to_thread(RawSocket, server.worker.port) as raw:
                assert (await asyncio.to_thread(ask, raw)).startswith("HTTP/1.1 426")
                server.worker.acceptor.stop_accepting()
                head = await asyncio.to_thread(ask, raw)
            assert head.startswith("HTTP/1.1 503") and "Retry-After: 1" in head and "connection: close" in head.lower()

    run(both())
