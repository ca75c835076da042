"""The server's side of wsLink: messages of the official client, and messages that it never sends [M6, L3]."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from koko_presence.auth.identity import VerifierUnavailable
from koko_presence.server.http import trpc_events, trpc_websocket
from koko_presence.server.reauthorization import kick
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import TEXT, frame, handshake
from tests.waiting import PATIENCE_S

ROOM = {"roomId": "video_1", "roomType": "video"}
LISTED = "https://app.example.com"


class Socket:
    """A WebSocket at /trpc."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self._last_id = 0

    async def say(self, message: Any) -> None:
        await self.ws.send_str(message if isinstance(message, str) else json.dumps(message))

    def call(self, method: str, name: str, input: Any = None, id: Any = None) -> dict[str, Any]:
        if id is None:
            self._last_id += 1
            id = self._last_id
        params = {"path": f"presence.{name}", **({} if input is None else {"input": input})}
        return {"id": id, "method": method, "params": params}

    async def told(self) -> Any:
        """The next message, or the close code as a number."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        if message.type != aiohttp.WSMsgType.TEXT:
            return self.ws.close_code
        return json.loads(message.data) if message.data[0] == "{" else message.data

    async def ask(self, method: str, name: str, input: Any = None) -> Any:
        """The answer to a call; events before it are dropped."""
        call = self.call(method, name, input)
        await self.say(call)
        return await self.answer(call["id"])

    async def answer(self, id: Any) -> Any:
        while (message := await self.told()).get("id") != id:
            pass
        return message

    async def event(self, type_: str) -> Any:
        while True:
            message = await self.told()
            data = message.get("result", {}).get("data", {})
            if data.get("type") == type_:
                return data

    async def close_code(self) -> int:
        while not isinstance(message := await self.told(), int):
            pass
        return message


@asynccontextmanager
async def open_socket(
    server: Live, user: str | None = "ann", path: str = "/trpc", **headers: str
) -> AsyncIterator[Socket]:
    """A socket whose connectionParams hold a token of `user`; without `user` no connectionParams are sent."""
    query = "" if user is None else "?connectionParams=1"
    url = server.url.replace("/presence", path + query)
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as ws:
        it = Socket(ws)
        if user is not None:
            await it.say({"method": "connectionParams", "data": {"token": server.token(user)}})
        yield it


def test_calls_before_the_answer_to_connection_params_wait(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            subscribe, join = ann.call("subscription", "onEvent"), ann.call("mutation", "join", ROOM)
            await ann.say([subscribe, join])
            assert await ann.told() == {"id": 1, "result": {"type": "started"}}
            first = await ann.told()
            assert first["result"]["data"]["type"] == "authenticated"
            messages = [await ann.told(), await ann.told()]
            joined = next(each for each in messages if each["id"] == 2)["result"]
            snapshot = next(each for each in messages if each["id"] == 1)["result"]["data"]
            assert joined["type"] == "data" and joined["data"]["sessionId"] == first["result"]["data"]["sessionId"]
            assert snapshot["type"] == "joined" and snapshot["room"] == joined["data"]["room"]

    run(story())


def test_a_socket_and_http_answer_alike_m5(run: Run) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("mutation", "setStatus", {"status": "busy"}),
        ("mutation", "updateCursor", {"roomId": "video_1", "timestamp": 1}),
        ("mutation", "requestControl", {"roomId": "video_1"}),
        ("mutation", "broadcast", {"roomId": "video_1", "data": {"a": 1}}),
        ("mutation", "grantControl", {"roomId": "video_1", "toUserId": "zoe"}),
        ("query", "getActive", {"roomId": ""}),
        ("mutation", "broadcast", {"roomId": "video_2", "data": {}}),
        ("mutation", "leave", {"roomId": "video_1"}),
    ]

    async def story() -> None:
        async with live() as server, open_socket(server, "ann") as ann, open_socket(server, "bob") as bob:
            base = server.url.replace("ws://", "http://").replace("/presence", "/trpc/presence.")
            await bob.say(bob.call("subscription", "onEvent"))
            headers = {
                "authorization": f"Bearer {server.token('bob')}",
                "x-presence-session": (await bob.event("authenticated"))["sessionId"],
            }
            for someone in (ann, bob):
                await someone.ask("mutation", "join", ROOM if someone is ann else {**ROOM, "roomId": "video_9"})
            async with aiohttp.ClientSession() as http:
                for method, name, input in calls:
                    mine = await ann.ask(method, name, input)
                    theirs = {key: "video_9" if value == "video_1" else value for key, value in input.items()}
                    if method == "query":
                        answer = await http.get(base + name, params={"input": json.dumps(theirs)}, headers=headers)
                    else:
                        answer = await http.post(base + name, json=theirs, headers=headers)
                    other = await answer.json()
                    if "error" in mine:
                        assert mine["error"] == other["error"], name
                    else:
                        data = {**mine["result"]["data"]}
                        if "controller" in data:
                            data["controller"] = "bob"
                        assert data == other["result"]["data"], name

    run(story())


def test_ping_is_answered_before_anything_is_read(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            await ann.say("PING")
            assert await ann.told() == "PONG"
            await ann.say("PONG")
            await ann.say("PING")
            assert await ann.told() == "PONG"

    run(story())


def test_an_idle_socket_is_kept_only_by_the_scripts_pong_d4(run: Run) -> None:
    async def story() -> None:
        async with live(ping_interval_s=0.05, heartbeat_interval_s=0.1) as server:
            async with open_socket(server, "ann") as ann, open_socket(server, "frozen") as frozen:
                await ann.say(ann.call("subscription", "onEvent"))
                await ann.event("authenticated")

                async def answer_pings() -> None:
                    while await ann.told() == "PING":
                        await ann.say("PONG")

                answering = asyncio.ensure_future(answer_pings())
                assert await frozen.close_code() == 4408, "aiohttp answers pings for it, but no script says a word"
                assert "ann" in {session.user_id for session in server.worker.hub.sessions.values()}
                answering.cancel()

    run(story())


def test_a_heartbeat_is_the_sockets_own_d7(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            # a presence session sends one answer in 5 s to heartbeats; a tRPC call is always answered
            for _ in range(2):
                beat = (await ann.ask("mutation", "heartbeat", {"status": "idle", "clientTime": 7}))["result"]["data"]
                assert (beat["success"], beat["echo"]) == (True, 7)
            session = next(iter(server.worker.hub.sessions.values()))
            assert session.activity.activity == "idle"
            wrong = await ann.ask("mutation", "heartbeat", {"status": "asleep"})
            assert wrong["error"]["data"]["reason"] == "INVALID_MESSAGE"

    run(story())


BAD = [
    ("nope", {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_JSON"}),
    ("[" * 30_000, {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_JSON"}),
    ({"method": "query"}, {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_MESSAGE"}),
    ({"id": None, "method": "query"}, {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_MESSAGE"}),
    ({"id": 2**60, "method": "query"}, {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_MESSAGE"}),
    (17, {"code": "BAD_REQUEST", "httpStatus": 400, "reason": "INVALID_MESSAGE"}),
]


@pytest.mark.parametrize(("message", "data"), BAD, ids=range(len(BAD)))
def test_a_message_that_is_no_call_gets_an_error_without_an_id(run: Run, message: Any, data: dict[str, Any]) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            await ann.say(message)
            told = await ann.told()
            assert told["id"] is None and told["error"]["data"] == data
            await ann.say("PING")
            assert await ann.told() == "PONG"

    run(story())


def test_an_invalid_call_gets_an_error_with_its_id(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            for method, name in (("query", "join"), ("mutation", "getActive"), ("query", "nope"), ("upsert", "join"),
                                 ("subscription", "join"), ("query", "onEvent")):  # fmt: skip
                error = (await ann.ask(method, name))["error"]
                assert error["data"]["code"] == "NOT_FOUND"
                assert error["message"] == f'No "{method}"-procedure on path "presence.{name}"'
            await ann.say({"id": "x", "method": "query"})
            assert (await ann.answer("x"))["error"]["data"]["code"] == "BAD_REQUEST"
            filter_ = await ann.ask("subscription", "onEvent", {"roomId": 5})
            assert filter_["error"]["data"]["code"] == "BAD_REQUEST"

    run(story())


def test_a_subscription_of_a_room_that_the_session_is_not_in_says_so(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            await ann.say(ann.call("subscription", "onEvent", {"roomId": "video_2"}, id="two"))
            await ann.say(ann.call("subscription", "onEvent", {"roomId": ROOM["roomId"]}, id="one"))
            await ann.ask("mutation", "join", ROOM)  # it may follow the subscription
            while "error" not in (told := await ann.answer("two")):
                pass
            assert (told["error"]["data"]["reason"], told["error"]["data"]["path"]) == (
                "NOT_IN_ROOM",
                "presence.onEvent",
            )
            await ann.say(ann.call("subscription", "onEvent", {"roomId": "video_2"}, id="two"))  # the id is free again
            assert (await ann.answer("two"))["result"] == {"type": "started"}
            await ann.ask("mutation", "startTyping", {"roomId": ROOM["roomId"]})
            await ann.say(ann.call("subscription", "onEvent", {"roomId": ROOM["roomId"]}, id="one"))
            assert "Duplicate id one" in (await until_error(ann, "one"))["message"]  # it lives

    async def until_error(it: Socket, id: str) -> dict[str, Any]:
        while "error" not in (told := await it.answer(id)):
            pass
        return dict(told["error"])

    run(story())


def test_subscriptions_stop_and_do_not_share_an_id(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            await ann.say(ann.call("subscription", "onEvent", id=4))
            assert (await ann.told())["result"] == {"type": "started"}
            await ann.say(ann.call("subscription", "onEvent", id=4))
            while "error" not in (told := await ann.told()):
                pass
            assert (told["id"], told["error"]["message"]) == (4, "Duplicate id 4")
            await ann.say({"id": 4, "method": "subscription.stop"})
            while (told := await ann.told()).get("result", {}).get("type") != "stopped":
                pass
            await ann.ask("mutation", "join", ROOM)
            await ann.say(ann.call("subscription", "onEvent", id=4))
            assert (await ann.answer(4))["result"] == {"type": "started"}
            for number in range(trpc_events.MAX_SUBSCRIPTIONS - 1):
                await ann.say(ann.call("subscription", "onEvent", id=f"s{number}"))
                assert (await ann.answer(f"s{number}"))["result"] == {"type": "started"}
            await ann.say(ann.call("subscription", "onEvent", id="more"))
            assert "error" in await ann.answer("more")

    run(story())


@pytest.mark.parametrize(
    "params", [None, {}, {"token": "nonsense"}, {"token": 5}, {"token": None}, "x", {"resumeToken": "x"}]
)
def test_an_unauthenticated_socket_gets_errors_and_is_closed_at_its_timeout_a2(run: Run, params: Any) -> None:
    """A client with wsLink reconnects at once after a close, so the socket stays open until the authentication time-out
    and its requests are answered with the reason."""

    async def story() -> None:
        async with live(auth_timeout_s=0.5) as server:
            url = server.url.replace("/presence", "/trpc?connectionParams=1")
            async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
                it = Socket(ws)
                await it.say({"method": "connectionParams", "data": params})
                told = await it.told()
                assert told["id"] is None and told["error"]["data"]["httpStatus"] in (400, 401)
                await it.say(it.call("query", "getActive", ROOM, id=7))
                refused = await it.answer(7)
                assert refused["error"]["data"]["code"] == "UNAUTHORIZED"
                assert refused["error"]["message"] == told["error"]["message"]
                assert await it.close_code() == 4401

    run(story())


def test_sixteen_requests_of_an_unauthenticated_socket_are_answered_and_no_more_are_read_a2(run: Run) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.5) as server:
            url = server.url.replace("/presence", "/trpc?connectionParams=1")
            async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
                it = Socket(ws)
                await it.say({"method": "connectionParams", "data": {"token": "nonsense"}})
                await it.told()
                for number in range(10):
                    await it.say([it.call("query", "getActive", ROOM, id=number * 10 + each) for each in range(4)])
                answers = []
                async for message in ws:
                    answers.append(json.loads(message.data))
                assert [each["id"] for each in answers] == [n * 10 + each for n in range(4) for each in range(4)]
                assert {each["error"]["data"]["code"] for each in answers} == {"UNAUTHORIZED"}
                assert ws.close_code == 4401

    run(story())


async def until_refused(it: Socket, code: str) -> dict[str, Any]:
    """The error with this code that ends the subscription 1, after which requests get the same and the socket stays open
    for a while."""
    while "error" not in (told := await it.told()) or told["id"] is None:
        pass
    assert (told["id"], told["error"]["data"]["code"]) == (1, code), told
    refused = await it.ask("query", "getActive", ROOM)
    assert refused["error"]["message"] == told["error"]["message"]
    return told["error"]


def test_a_session_too_many_is_refused_and_the_socket_held_c11(run: Run) -> None:
    async def story() -> None:
        async with live(max_sessions_per_user=1, auth_timeout_s=0.5) as server, open_socket(server) as first:
            await first.say(first.call("subscription", "onEvent"))
            await first.event("authenticated")
            async with open_socket(server) as second:
                await second.say(second.call("subscription", "onEvent"))
                assert (await until_refused(second, "TOO_MANY_REQUESTS"))["data"]["reason"] == "TOO_MANY_SESSIONS"
                assert await second.close_code() == 4429

    run(story())


def test_an_evicted_session_does_not_evict_the_next_one_at_once_c11(run: Run) -> None:
    async def story() -> None:
        settings: dict[str, Any] = {"max_sessions_per_user": 1, "evict_oldest": True, "auth_timeout_s": 0.5}
        async with live(**settings) as server, open_socket(server) as first:
            await first.say(first.call("subscription", "onEvent"))
            await first.event("authenticated")
            async with open_socket(server) as second:
                await second.say(second.call("subscription", "onEvent"))
                await second.event("authenticated")
                await until_refused(first, "TOO_MANY_REQUESTS")
                assert await first.close_code() == 4429

    run(story())


def test_two_sockets_with_one_resume_token_do_not_take_it_from_each_other_at_once(run: Run) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.5) as server, open_socket(server) as first:
            await first.say(first.call("subscription", "onEvent"))
            params = {"token": server.token("ann"), "resumeToken": (await first.event("authenticated"))["resumeToken"]}
            url = server.url.replace("/presence", "/trpc?connectionParams=1")
            async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
                second = Socket(ws)
                await second.say({"method": "connectionParams", "data": params})
                await second.say(second.call("subscription", "onEvent"))
                assert (await second.event("authenticated"))["resumed"] is True
                await until_refused(first, "CONFLICT")
                assert await first.close_code() == 4409

    run(story())


def test_a_kicked_socket_gets_the_event_and_the_reason_n12(run: Run) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.5, workers=1) as server, open_socket(server) as ann:
            await ann.say(ann.call("subscription", "onEvent"))
            await ann.event("authenticated")
            kick(next(iter(server.worker.hub.sessions.values())), "spam")
            assert (await ann.event("kicked"))["reason"] == "spam"
            await until_refused(ann, "FORBIDDEN")
            assert not server.worker.hub.sessions
            assert await ann.close_code() == 4403

    run(story())


def test_a_subscription_waits_for_the_next_socket_while_a_token_cannot_be_checked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.5, workers=1) as server:

            def verify(*_: Any) -> Any:
                raise VerifierUnavailable("the identity provider is silent", retry_after_s=1.0)

            monkeypatch.setattr(server.worker.hub.verifier, "verify", verify, raising=False)
            async with open_socket(server) as ann:
                await ann.say([ann.call("subscription", "onEvent"), ann.call("query", "getActive", ROOM)])
                refused = await ann.answer(2)
                assert (refused["error"]["data"]["httpStatus"], refused["error"]["data"]["reason"]) == (
                    503,
                    "UNAVAILABLE",
                )
                assert await ann.close_code() == 1013

    run(story())


def test_a_silent_socket_is_closed_at_its_timeout_a1(run: Run) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.05) as server:
            url = server.url.replace("/presence", "/trpc?connectionParams=1")
            async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
                assert await Socket(ws).close_code() == 4408

    run(story())


def test_a_header_and_a_cookie_of_an_allowed_page_authenticate_a8(run: Run) -> None:
    async def story() -> None:
        async with live(origins=(LISTED,), cookie="app.session", auth_timeout_s=1.0) as server:
            token = server.token("ann")
            for headers in (
                {"authorization": f"Bearer {token}"},
                {"origin": LISTED, "cookie": f"app.session={token}"},
            ):
                async with open_socket(server, None, **headers) as ann:
                    await ann.say(ann.call("subscription", "onEvent"))
                    assert (await ann.event("authenticated"))["userId"] == "ann"
            async with open_socket(server, None, cookie=f"app.session={token}") as unknown:
                assert await unknown.close_code() == 4401
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                async with open_socket(server, None, origin="https://evil.example", cookie=f"app.session={token}"):
                    pass

    run(story())


def test_a_flood_ends_with_4429_l3(run: Run) -> None:
    async def story() -> None:
        async with live(flood_s=0.2, connection_hz=20, auth_timeout_s=0.5) as server, open_socket(server) as ann:

            async def flood() -> None:
                while not ann.ws.closed:
                    await ann.say([ann.call("query", "getActive", ROOM) for _ in range(20)])
                    await asyncio.sleep(0.01)

            flooding = asyncio.ensure_future(flood())
            assert await ann.close_code() == 4429
            flooding.cancel()

    run(story())


def test_fifty_errors_end_with_4429_and_ten_of_nonsense_with_4400(run: Run) -> None:
    async def story() -> None:
        async with live(auth_timeout_s=0.5) as server:
            async with open_socket(server, "ann") as ann:
                for _ in range(60):
                    await ann.say(ann.call("query", "nope"))
                assert await ann.close_code() == 4429
            async with open_socket(server, "bob") as bob:
                for _ in range(10):
                    await bob.say("nonsense")
                assert await bob.close_code() == 4400

    run(story())


def test_calls_that_wait_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trpc_websocket, "MAX_WAITING", 5)
    hold = asyncio.Event

    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            gate = hold()

            async def slow(caller: Any, name: str, input: Any) -> Any:
                await gate.wait()
                return {"done": True}

            server.worker.hub.procedures.call = slow  # type: ignore[method-assign]
            await ann.say([ann.call("query", "getActive", ROOM) for _ in range(8)])
            refused = [await ann.told() for _ in range(3)]
            assert all(each["error"]["data"]["reason"] == "RATE_LIMITED" for each in refused)
            gate.set()
            assert [(await ann.told())["result"]["data"] for _ in range(5)] == [{"done": True}] * 5

    run(story())


def test_a_drain_requests_a_reconnect_before_the_close_n_d(run: Run) -> None:
    async def story() -> None:
        async with live() as server, open_socket(server) as ann:
            await ann.ask("mutation", "join", ROOM)
            draining = asyncio.ensure_future(server.worker.drain(0.1))
            assert await ann.told() == {"id": None, "method": "reconnect"}
            assert await ann.told() == 1012
            await draining

    run(story())


@pytest.mark.parametrize("late", [False, True])
def test_a_resumed_socket_receives_its_rooms_events_again(run: Run, late: bool) -> None:
    async def story() -> None:
        async with live() as server:
            async with open_socket(server) as ann:
                await ann.say(ann.call("subscription", "onEvent"))
                first = await ann.event("authenticated")
                await ann.ask("mutation", "join", ROOM)
                server.cut()
            url = server.url.replace("/presence", "/trpc?connectionParams=1")
            async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
                again = Socket(ws)
                params = {"token": server.token("ann"), "resumeToken": first["resumeToken"]}
                await again.say({"method": "connectionParams", "data": params})
                if late:  # the session exists and has no subscription yet
                    assert (await again.ask("query", "getActive", ROOM))["result"]["data"]["totalCount"] == 1
                await again.say(again.call("subscription", "onEvent"))
                resumed = await again.event("authenticated")
                assert (resumed["resumed"], resumed["sessionId"]) == (True, first["sessionId"])
                assert (await again.event("joined"))["room"]["userCount"] == 1

    run(story())


@pytest.mark.parametrize("over_tls", [False, True])
def test_a_socket_that_does_not_read_stays_bounded_j2(run: Run, over_tls: bool, certificate: tuple[Path, Path]) -> None:
    async def story() -> None:
        settings = {"send_soft_bytes": 20_000, "send_hard_bytes": 200_000, "broadcast_hz": 1000, "broadcast_burst": 1000,
                    "connection_hz": 1000, "room_events_hz": 5000}  # fmt: skip
        async with live(tls=certificate if over_tls else None, **settings) as server:
            deaf = await deaf_socket(server, certificate if over_tls else None)
            hub = server.worker.hub
            async with asyncio.timeout(PATIENCE_S):
                while not any("video_1" in each.subscribed_rooms for each in hub.sessions.values()):
                    await asyncio.sleep(0.01)
            session = next(iter(hub.sessions.values()))
            most = 0
            async with aiohttp.ClientSession() as http, http.ws_connect(server.url, ssl=False) as ws:
                bob = Socket(ws)
                await bob.say({"type": "auth", "token": server.token("bob")})
                await bob.say({"type": "join", **ROOM, "id": "in"})
                await bob.answer("in")
                for number in range(400):
                    await bob.say({"type": "broadcast", "roomId": "video_1", "data": {"x": "x" * 4000}, "id": number})
                    await bob.answer(number)
                    most = max(most, session.outbox.waiting_bytes())
                    if session.state == "closed":
                        break
            assert session.state == "closed" and 100_000 < most < 220_000
            deaf.close()
            with contextlib.suppress(OSError):
                await deaf.wait_closed()

    run(story())


async def deaf_socket(server: Live, certificate: tuple[Path, Path] | None) -> asyncio.StreamWriter:
    """A member of the room whose socket is never read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.worker.port))
    sock.setblocking(False)
    context = None if certificate is None else ssl.create_default_context(cafile=str(certificate[0]))
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=context, server_hostname="localhost" if context else None, limit=1024
    )
    writer.write(handshake("/trpc?connectionParams=1"))
    await reader.readuntil(b"\r\n\r\n")
    it = Socket(None)  # type: ignore[arg-type]
    params = {"method": "connectionParams", "data": {"token": server.token("deaf")}}
    for message in (params, [it.call("subscription", "onEvent"), it.call("mutation", "join", ROOM)]):
        writer.write(frame(TEXT, json.dumps(message).encode()))
    return writer


@pytest.mark.parametrize("is_proxied", [False, True])
def test_events_to_a_socket_behind_a_proxy_are_followed_by_a_ping_of_the_transport_alone(
    run: Run, is_proxied: bool
) -> None:
    """The bytes in flight are bounded as at /presence. The text PING for the client's script was sent with each of these
    pings, too."""

    async def test() -> None:
        headers = {"X-Forwarded-For": "203.0.113.9"} if is_proxied else {}
        url_of = "/trpc?connectionParams=1"
        async with live() as server, aiohttp.ClientSession() as client:
            url = server.url.replace("/presence", url_of)
            async with (
                client.ws_connect(url, headers=headers, autoping=False) as ws,
                client.ws_connect(url) as other,
            ):
                ann, bob = Socket(ws), Socket(other)
                for it, user in ((ann, "ann"), (bob, "bob")):
                    await it.say({"method": "connectionParams", "data": {"token": server.token(user)}})
                    await it.say(it.call("subscription", "onEvent"))
                    join = it.call("mutation", "join", ROOM)
                    await it.say(join)
                    await it.answer(join["id"])
                await bob.say(bob.call("mutation", "broadcast", {"roomId": "video_1", "data": {"x": "x" * 5000}}))
                got = []
                async with asyncio.timeout(PATIENCE_S):
                    while not any("xxx" in str(each.data) for each in got):
                        got.append(await ws.receive())
                    if is_proxied:
                        while got[-1].type != aiohttp.WSMsgType.PING:
                            got.append(await ws.receive())
                # one more if its own join is already half a window
                assert any(each.type == aiohttp.WSMsgType.PING for each in got) == is_proxied
                assert "PING" not in [each.data for each in got]

    run(test())
