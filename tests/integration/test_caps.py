"""The caps are exact across workers: 1,000 attempts at once over four processes never exceed one [C6, C10, C11]."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.crowd import Connection
from bench.load import SECRET, koko_server
from koko_presence.auth.hmac_jwt import issue_token
from tests.integration.conftest import Run
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    free_for_all = {"limits_join_hz": 10_000, "limits_join_burst": 10_000, "limits_connection_hz": 10_000}
    with koko_server(port, None, server_workers=4, operator_port=0, log_level="error", **free_for_all):
        yield port


class Trier(Connection):
    """A client that counts the answers to its attempts by type."""

    def __init__(self, user: str, heard: "Counter[str]") -> None:
        self.user, self.heard = user, heard
        self.rooms: set[str] = set()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        super().__init__(self._begin, self._hear, lambda code: None)

    def _begin(self) -> None:
        self.opened.set_result(None)

    def auth(self) -> None:
        self.send({"type": "auth", "token": issue_token(SECRET, user=self.user, now_s=int(time.time()))})

    def _hear(self, message: Any) -> None:
        if message.type == "joined":
            self.rooms.add(message.room_id)
        self.heard[message.code if message.type == "error" else message.type] += 1


@asynccontextmanager
async def connected(port: int, users: list[str], heard: "Counter[str]") -> AsyncIterator[list[Trier]]:
    triers = [Trier(user, heard) for user in users]
    loop = asyncio.get_running_loop()
    for start in range(0, len(triers), 100):
        some = triers[start : start + 100]
        await asyncio.gather(*(loop.create_connection(lambda one=one: one, "127.0.0.1", port) for one in some))  # type: ignore[misc]
        await asyncio.gather(*(trier.opened for trier in some))
    yield triers
    for trier in triers:
        trier.transport.abort()
    await asyncio.sleep(0)


async def answers(heard: "Counter[str]", count: int, *names: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while sum(heard[name] for name in names) < count:
            await asyncio.sleep(0.01)


def test_c6_of_400_users_who_join_at_once_100_are_admitted(port: int, run: Run) -> None:
    async def story() -> None:
        heard: Counter[str] = Counter()
        async with connected(port, [f"many_{number}" for number in range(400)], heard) as triers:
            for trier in triers:
                trier.auth()
            await answers(heard, 400, "authenticated")
            for trier in triers:
                trier.send({"type": "join", "roomId": "video_full", "roomType": "video"})
            await answers(heard, 400, "joined", "ROOM_FULL")
            assert (heard["joined"], heard["ROOM_FULL"]) == (100, 300)

    run(story())


def test_c10_of_200_joins_from_five_tabs_at_once_10_are_admitted(port: int, run: Run) -> None:
    async def story() -> None:
        heard: Counter[str] = Counter()
        async with connected(port, ["wanderer"] * 5, heard) as tabs:
            for tab in tabs:
                tab.auth()
            await answers(heard, 5, "authenticated")
            for number in range(40):  # 50 errors would end a session [L3]
                for at, tab in enumerate(tabs):
                    tab.send({"type": "join", "roomId": f"video_{at}_{number}", "roomType": "video"})
            await answers(heard, 200, "joined", "TOO_MANY_ROOMS")
            assert len(set().union(*(tab.rooms for tab in tabs))) == heard["joined"] == 10

    run(story())


def test_c11_of_400_connections_of_one_user_at_once_5_are_admitted(port: int, run: Run) -> None:
    async def story() -> None:
        heard: Counter[str] = Counter()
        async with connected(port, ["octopus"] * 400, heard) as tabs:
            for tab in tabs:
                tab.auth()
            await answers(heard, 400, "authenticated", "TOO_MANY_SESSIONS")
            assert (heard["authenticated"], heard["TOO_MANY_SESSIONS"]) == (5, 395)

    run(story())
