"""A connection that has carried HTTP may become a WebSocket: proxies keep connections, and ours do by their own
configuration in deploy/ [RFC 9110 section 7.8]."""

import asyncio
import time

import pytest

from tests.integration.conftest import Run
from tests.live import live
from tests.raw_ws import PING, PONG, TEXT, RawSocket, frame, handshake
from tests.waiting import PATIENCE_S

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
OK = b'{"status":"ok"}'


@pytest.mark.parametrize("path", ["/presence", "/trpc"])
def test_an_upgrade_is_welcome_on_a_connection_that_was_kept(run: Run, path: str) -> None:
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
            while (got := raw.read_frame()).opcode == TEXT:  # /trpc says that there is no token
                pass
            assert path == "/trpc" or (got.opcode, got.payload) == (PONG, b"there?")

    async def both() -> None:
        async with live() as server:
            await asyncio.to_thread(story, server.worker.port)
            async with asyncio.timeout(PATIENCE_S):
                while server.worker.door.open_count:  # counted out once
                    await asyncio.sleep(0.01)
            assert server.worker.door.open_count == 0 and not server.worker.door.connections

    run(both())


def test_a_long_head_comes_in_pieces_there_and_so_may_any_request(run: Run) -> None:
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


def test_the_origin_is_looked_at_there_too_and_other_requests_go_on(run: Run) -> None:
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
