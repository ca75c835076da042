"""The operator port's connections: how many there may be, and how long one may be idle."""

import asyncio
from typing import Any

import uvloop

from koko_presence.admin.idle_connections import Bounded


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class End(asyncio.Protocol):
    def __init__(self) -> None:
        self.got, self.lost = b"", asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()


def run(most: int, idle_s: float, story: Any) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        bounded = Bounded(Echo, most=most, idle_s=idle_s)
        server = await loop.create_server(bounded, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def connect() -> End:
            count = len(bounded)
            _, end = await loop.create_connection(End, "127.0.0.1", port)
            while len(bounded) == count < most:
                await asyncio.sleep(0.001)
            return end

        await asyncio.wait_for(story(bounded, connect), 60.0)
        server.close()
        bounded.close()

    uvloop.run(test())


def test_the_longest_idle_connection_is_closed_for_a_new_one() -> None:
    async def story(bounded: Bounded, connect: Any) -> None:
        first, second, third = [await connect() for _ in range(3)]
        first.transport.write(b"here")
        while first.got != b"here":
            await asyncio.sleep(0.001)
        fourth = await connect()
        await second.lost.wait()
        assert len(bounded) == 3
        for end in (first, third, fourth):
            assert not end.lost.is_set()
            end.transport.abort()

    run(3, 600.0, story)


def test_an_idle_connection_is_closed() -> None:
    async def story(bounded: Bounded, connect: Any) -> None:
        silent, lively = await connect(), await connect()
        while not silent.lost.is_set():
            assert not lively.lost.is_set()
            lively.transport.write(b"x")
            await asyncio.sleep(0.01)
        await lively.lost.wait()
        assert len(bounded) == 0

    run(10, 0.5, story)
