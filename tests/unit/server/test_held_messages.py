"""Held messages are bounded in bytes, over all places in which a connection's messages wait, and none of them is
lost."""

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from koko_presence._fastpath.framing import frame_text
from koko_presence.access.policy import Grant
from koko_presence.auth.hmac_jwt import Identity, TokenRefused
from koko_presence.server import held_messages
from koko_presence.server.address_limits import FREE
from koko_presence.server.held_messages import HeldBytes, HeldQueue
from koko_presence.server.http.trpc_websocket import TrpcSocket
from tests.unit.fastpath.reference import frames_in
from tests.world import UNIX_START_S, World, begin_join, refuse_join

KIB = 1024


# --- the budget ---------------------------------------------------------------------------------------------------


def test_all_places_share_one_budget_of_bytes() -> None:
    budget, message = HeldBytes(), b"x" * 8 * KIB
    places = [HeldQueue(budget) for _ in range(10)]
    assert [place.add(message) for place in places[:9]] == [True] * 7 + [False] * 2
    assert budget.size == 7 * (8 * KIB + held_messages.OVERHEAD_BYTES)
    assert places[0].take() == [message]
    assert budget.reserve(12 * KIB) and not budget.reserve(8 * KIB), "calls in execution count, too"
    budget.release(12 * KIB)
    assert places[8].add(message) and not places[9].add(message)
    assert sum(len(place.take()) for place in places) == 7
    assert budget.size == 0 and places[1].take() == []


def test_what_waits_is_bounded_in_messages_per_place_and_in_bytes_however_short_they_are() -> None:
    budget = HeldBytes()
    first = HeldQueue(budget)
    assert sum(first.add(b"{}") for _ in range(100)) == held_messages.MAX_MESSAGES
    for _ in range(100):
        queue = HeldQueue(budget)
        for _ in range(held_messages.MAX_MESSAGES):
            queue.add(b"")
    assert budget.size <= held_messages.MAX_BYTES


def test_an_unauthenticated_client_has_a_few_small_messages_held() -> None:
    waiting = HeldQueue(HeldBytes())
    assert not waiting.add(b"x" * 16 * KIB, known=False)
    assert [waiting.add(b"x", known=False) for _ in range(17)] == [True] * 16 + [False]
    assert waiting.add(b"x"), "once it is known there is room for more"


def test_l3_of_messages_with_one_key_the_newest_waits_behind_all_that_came_before_it() -> None:
    budget = HeldBytes()
    waiting, another = HeldQueue(budget), HeldQueue(budget)
    for number in range(200):
        assert waiting.add(b"cursor %d" % number, key="cursor")
        if number < 3:
            assert waiting.add(b"other %d" % number)
    assert another.add(b"cursor", key="cursor") and waiting.has("cursor")
    assert waiting.take_first() == b"other 0" and waiting.first() == b"other 1"
    assert waiting.take() == [b"other 1", b"other 2", b"cursor 199"] and not waiting.has("cursor")
    assert another.take() == [b"cursor"]
    assert budget.size == 0


def test_messages_with_a_key_are_bounded_and_one_that_does_not_fit_takes_no_place() -> None:
    budget = HeldBytes()
    waiting = HeldQueue(budget)
    assert sum(waiting.add(b"{}") for _ in range(100)) == held_messages.MAX_MESSAGES
    added = sum(waiting.add(b"{}", key=f"cursor {number}") for number in range(100))
    assert added == held_messages.MAX_MESSAGES, "others that wait do not shut them out"
    assert not waiting.add(b"x" * held_messages.MAX_BYTES, key="cursor 1") and waiting.has("cursor 1")
    assert budget.size <= held_messages.MAX_BYTES


def test_a_call_above_the_budget_is_allowed_if_it_is_the_only_one() -> None:
    waiting = HeldBytes()
    assert waiting.reserve(held_messages.MAX_BYTES) and not waiting.reserve(0)
    waiting.release(held_messages.MAX_BYTES)
    assert waiting.size == 0


# --- sessions and sockets -----------------------------------------------------------------------------------------


class Introspection:
    """A verifier whose answer arrives when `told` is set."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def _answer(self, token: str) -> Identity:
        await self.told.wait()
        if token == "bad":
            raise TokenRefused("it is bad")
        return Identity(user_id=token, name=token, image=None, expires_at_s=int(UNIX_START_S) + 3600, rooms={})

    is_remote = False

    def verify(self, token: str, now_s: float, may_query: Any = None) -> Any:
        return self._answer(token)


class AccessLater:
    """An access check whose answer arrives when `told` is set."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def _answer(self) -> Grant:
        await self.told.wait()
        return Grant(allow=True)

    def check(self, identity: Identity, room_id: str, room_type: Any, **_: str) -> Any:
        return self._answer()


class Wire:
    """A connection at /trpc, and the messages written to it."""

    is_proxied = False

    def __init__(self, world: World) -> None:
        self.cookie = None
        self.address_use = FREE
        self.headers: dict[str, str] = {}
        self.target = "/trpc?connectionParams=1"
        self.unsent_bytes = 0
        self.written: list[bytes] = []
        self.closed: int | None = None
        self.world = world
        self.socket = TrpcSocket(world.hub, self)  # type: ignore[arg-type]
        self.socket.on_open(self)  # type: ignore[arg-type]

    def say(self, message: Any) -> None:
        self.socket.on_text(message if isinstance(message, bytes) else msgspec.json.encode(message))
        self.world.settle()

    def told(self) -> list[Any]:
        texts, self.written = [text for each in self.written for text in frames_in(each)], []
        return [json.loads(text) for text in texts]

    def send_frames(self, data: bytes) -> None:
        self.written.append(data)

    def send_text(self, data: bytes) -> None:
        self.written.append(frame_text(data))

    def close(self, code: int, reason: str = "") -> None:
        self.closed = code
        self.socket.on_close(code, False)

    def allow_long_messages(self) -> None: ...
    def promote(self) -> None: ...
    def lift_preauth_limit(self) -> None: ...
    def restore_preauth_limit(self) -> None: ...
    def stop_reading(self) -> None: ...
    def send_ping(self, data: bytes) -> None: ...
    def keep_alive(self, data: bytes) -> None: ...


def params(token: str) -> Any:
    return {"method": "connectionParams", "data": {"token": token}}


def call(id: Any, name: str, input: Any, method: str = "mutation") -> dict[str, Any]:
    return {"id": id, "method": method, "params": {"path": f"presence.{name}", "input": input}}


async def settle(world: World) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
        world.settle()


def test_64_calls_of_64_kib_of_an_unauthenticated_client_take_no_memory() -> None:
    """They took 97 MiB, decoded, during an introspection request. `[]` is 2 bytes as JSON and 56 as an object."""
    filling = b"[" + b",".join([b"[]"] * 21_000) + b"]"

    def large(id: int) -> bytes:
        return b'{"id":%d,"method":"mutation","params":{"path":"presence.setStatus","input":{"x":%b}}}' % (id, filling)

    async def story() -> tuple[int, list[Any]]:
        world = World(max_errors=1000)
        world.hub.verifier = Introspection()
        wire = Wire(world)
        wire.say(params("ann"))
        wire.say(large(0))
        told = wire.told()
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(1, 64):
                wire.say(large(number))
                told += wire.told()
            gc.collect()
            return tracemalloc.get_traced_memory()[0], told
        finally:
            tracemalloc.stop()
            wire.close(1006)

    kept, told = asyncio.run(story())
    assert [each["id"] for each in told] == list(range(64)), "each is told"
    assert {each["error"]["data"]["reason"] for each in told} == {"RATE_LIMITED"}
    assert kept < 256 * KIB


def test_small_calls_before_the_answer_wait_undecoded_and_are_taken_in_order() -> None:
    async def story() -> None:
        world = World()
        verifier = world.hub.verifier = Introspection()
        wire = Wire(world)
        wire.say(params("ann"))
        wire.say([call(1, "onEvent", {}, "subscription"), call(2, "join", {"roomId": "video_1", "roomType": "video"})])
        wire.say(b"no JSON")
        wire.say(call(3, "leave", {"roomId": "video_1"}))
        assert wire.told() == []
        assert len(wire.socket._held) == 3
        verifier.told.set()
        await settle(world)
        told = wire.told()
        assert told[0] == {"id": 1, "result": {"type": "started"}}
        assert told[1]["result"]["data"]["type"] == "authenticated"
        assert [each["id"] for each in told if each["id"] != 1] == [None, 2, 3], "the first is no JSON"
        assert wire.socket._session.held.size == 0
        wire.close(1006)

    asyncio.run(story())


def test_calls_before_a_refusal_get_its_reason_a2() -> None:
    async def story() -> None:
        world = World()
        verifier = world.hub.verifier = Introspection()
        wire = Wire(world)
        wire.say(params("bad"))
        for number in range(20):
            wire.say(call(number, "getActive", {"roomId": "video_1"}, "query"))
        busy = [each["id"] for each in wire.told()]
        assert busy == [16, 17, 18, 19]
        verifier.told.set()
        await settle(world)
        told = [each for each in wire.told() if each["id"] is not None]
        assert [each["id"] for each in told] == list(range(16))
        assert {each["error"]["data"]["code"] for each in told} == {"UNAUTHORIZED"}
        wire.close(1006)

    asyncio.run(story())


def test_calls_with_a_pending_access_check_share_the_budget() -> None:
    async def story() -> None:
        access = AccessLater()
        world = World(access=access, join_burst=100, max_errors=1000)
        wire = Wire(world)
        wire.say(params("ann"))
        await settle(world)
        for number in range(64):
            wire.say(call(number, "join", {"roomId": "video_1", "roomType": "video", "more": "x" * 8 * KIB}))
        await settle(world)
        refused = [each for each in wire.told() if each["id"] is not None]
        assert [each["id"] for each in refused] == list(range(7, 64))
        assert {each["error"]["data"]["reason"] for each in refused} == {"RATE_LIMITED"}
        assert 0 < wire.socket._session.held.size <= held_messages.MAX_BYTES
        access.told.set()
        await settle(world)
        assert sorted(each["id"] for each in wire.told()) == list(range(7))
        assert wire.socket._session.held.size == 0
        wire.close(1006)

    asyncio.run(story())


@pytest.mark.parametrize(("size", "fits"), [(900, 16), (15 * KIB, 1)])
def test_messages_behind_auth_are_few_and_small_until_the_token_is_known(size: int, fits: int) -> None:
    async def story() -> None:
        world = World()
        verifier = world.hub.verifier = Introspection()
        client = world.client()
        client.post(type="auth", token="ann")
        for number in range(20):
            client.post(type="heartbeat", id=number, padding="x" * size)
        world.settle()
        assert [(m["code"], m["id"]) for m in client.take()] == [("RATE_LIMITED", n) for n in range(fits, 20)]
        assert client.session.held.size <= held_messages.UNKNOWN_MAX_BYTES
        verifier.told.set()
        await settle(world)
        assert [m["type"] for m in client.take()] == ["authenticated", "pong"]
        assert client.session.held.size == 0

    asyncio.run(story())


def test_messages_for_rooms_that_are_being_joined_share_the_budget() -> None:
    async def story() -> None:
        access = AccessLater()
        world = World(access=access, max_errors=1000, connection_hz=1000)
        client = world.client().auth("ann")
        client.take()
        rooms = [f"video_{number}" for number in range(5)]
        for room in rooms:
            client.post(type="join", roomId=room, roomType="video")
        for number in range(100):
            typing = {"isTyping": number % 2 == 0}
            client.post(type="typing", roomId=rooms[number % 5], data=typing, id=number, padding="x" * 3000)
        world.settle()
        refused = client.take()
        assert {m["code"] for m in refused} == {"RATE_LIMITED"} and 75 <= len(refused) <= 85
        assert client.session.held.size <= held_messages.MAX_BYTES
        access.told.set()
        await settle(world)
        told = client.take()
        assert len([m for m in told if m["type"] == "joined"]) == 5
        assert len(refused) + len([m for m in told if "id" in m]) == 100, "each is answered"
        assert client.session.held.size == 0

    asyncio.run(story())


def test_what_waits_for_a_room_that_is_taken_away_waits_no_longer() -> None:
    async def story() -> None:
        world = World(access=AccessLater())
        client = world.client().auth("ann")
        client.post(type="join", roomId="video_1", roomType="video")
        client.post(type="typing", roomId="video_1", data={"isTyping": True})
        assert client.session.held.size
        client.session.memberships.expel("video_1", "no", world.now)
        assert client.session.held.size == 0

    asyncio.run(story())


def test_a_heartbeat_at_trpc_waits_behind_a_change_of_privacy_as_the_message_that_it_is() -> None:
    """A heartbeat of a tRPC connection is held as its message. It was held as an empty text: the answer to the join
    then raised, and no later message was held any more."""

    async def story() -> None:
        world = World()
        wire = Wire(world)
        wire.say(params("ann"))
        await settle(world)
        session = wire.socket._session
        begin_join(session, "den")
        session.on_text(b'{"type":"privacy","data":{"invisible":true}}')
        wire.say(call(1, "heartbeat", {"status": "idle", "clientTime": 5}))
        await settle(world)
        assert [each["id"] for each in wire.told()] == [1] and session.activity.activity == "active"
        refuse_join(session, "den", world.now)
        await settle(world)
        assert session.privacy.invisible is True and session.activity.activity == "idle"
        assert session.memberships.behind_joins is None and session.held.size == 0

    asyncio.run(story())


@pytest.mark.parametrize("message", [{"type": "privacy", "data": {"invisible": False}}, {"type": "leave"}])
def test_an_exception_in_a_held_message_keeps_the_order_of_the_next_ones(message: dict[str, Any]) -> None:
    world = World()
    ann = world.client().auth("ann", privacy={"invisible": True})
    memberships = ann.session.memberships
    begin_join(ann.session, "den")
    ann.post(message | ({"roomId": "den"} if message["type"] == "leave" else {}))
    assert ann.session.held.size

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(ann.session), "dispatch", fail)
        with pytest.raises(ZeroDivisionError):
            refuse_join(ann.session, "den", world.now)
    world.settle()
    ann.take()
    begin_join(ann.session, "hall")
    ann.send(type="privacy", data={"invisible": not ann.session.privacy.invisible}, id=1)
    assert memberships.behind_joins is not None and not ann.take()
