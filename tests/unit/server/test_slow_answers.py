"""Verifiers and access checks that make a request: messages sent meanwhile are held, failures fail closed."""

import asyncio
from typing import Any

from koko_presence.access.policy import Grant
from koko_presence.auth.hmac_jwt import Identity, TokenRefused
from koko_presence.auth.identity import MayQuery, unlimited
from tests.world import UNIX_START_S, World


class SlowVerifier:
    async def _answer(self, token: str) -> Identity:
        await asyncio.sleep(0)
        if token == "bad":
            raise TokenRefused("it is bad")
        return Identity(user_id=token, name=token, image=None, expires_at_s=int(UNIX_START_S) + 3600, rooms={})

    is_remote = False

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Any:
        return self._answer(token)


class SlowAccess:
    async def _answer(self, room_id: str) -> Grant:
        await asyncio.sleep(0)
        if room_id == "video_broken":
            raise RuntimeError("the back end is down")
        return Grant(allow=room_id != "video_closed", reason="no")

    def check(self, identity: Identity, room_id: str, room_type: Any, **_: str) -> Any:
        return self._answer(room_id)


def test_what_is_sent_while_a_check_is_under_way_is_held_in_order() -> None:
    async def test() -> None:
        world = World(access=SlowAccess())
        world.hub.verifier = SlowVerifier()
        client = world.client()
        client.post(type="auth", token="ann")
        client.post(type="join", roomId="video_1", roomType="video")
        client.post(type="cursor", roomId="video_1", data={"timestamp": 1}, id=1)
        client.post(type="leave", roomId="video_1", id=2)
        assert client.take() == []
        for _ in range(10):
            await asyncio.sleep(0)
            world.settle()
        assert [m["type"] for m in client.take()] == ["authenticated", "joined", "left"]

    asyncio.run(test())


def test_refusals_and_failures_let_go_of_what_was_held() -> None:
    async def test() -> None:
        world = World(access=SlowAccess())
        client = world.client().auth("ann")
        for room in ("video_closed", "video_broken"):
            client.post(type="join", roomId=room, roomType="video", id=1)
            client.post(type="typing", roomId=room, data={"isTyping": True}, id=2)
            client.take()
            for _ in range(10):
                await asyncio.sleep(0)
                world.settle()
            assert [(m["code"], m["id"]) for m in client.take()] == [("FORBIDDEN", 1), ("NOT_IN_ROOM", 2)]

    asyncio.run(test())


def test_a_slow_refusal_closes_4401_and_a_closed_socket_leaves_no_ghost() -> None:
    async def test() -> None:
        world = World()
        world.hub.verifier = SlowVerifier()
        client, gone = world.client(), world.client()
        client.post(type="auth", token="bad")
        gone.post(type="auth", token="ann")
        gone.hang_up(1006)
        for _ in range(10):
            await asyncio.sleep(0)
            world.settle()
        assert client.closed == 4401
        assert not world.shard.users and not world.hub.sessions

    asyncio.run(test())
