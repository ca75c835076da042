"""The server's side of httpSubscriptionLink: event streams as presence sessions [M6c]."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from koko_presence.server.http import sse
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.waiting import PATIENCE_S, until

ROOM = {"roomId": "video_1", "roomType": "video"}
LISTED = "https://app.example.com"
WORKERS = pytest.mark.parametrize("workers", [1, 4])


class Event(NamedTuple):
    """One server-sent event; `name` is "message" for a value."""

    name: str
    data: str
    id: str | None


class Stream:
    """An EventSource that shows every field of what it gets."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.raw = b""
        self._unread = b""

    async def next(self) -> Event | None:
        """The next event, a `retry` included; None at the end of the stream."""
        while True:
            while b"\n\n" not in self._unread:
                async with asyncio.timeout(PATIENCE_S):
                    data = await self.response.content.readany()
                if not data:
                    return None
                self.raw += data
                self._unread += data
            block, _, self._unread = self._unread.partition(b"\n\n")
            self._unread = self._unread.lstrip(b"\n")
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
            if "retry" in fields:
                return Event("retry", fields["retry"], None)
            return Event(fields.get("event", "message"), fields["data"], fields.get("id"))

    async def event(self, type_: str) -> Any:
        """The next value of this type."""
        while True:
            found = await self.next()
            assert found is not None, f"the stream ended before {type_}"
            assert found.name != "serialized-error", found.data
            if found.name == "message" and (value := json.loads(found.data))["type"] == type_:
                return value

    async def error(self) -> Any:
        """The error that ends the stream."""
        while True:
            found = await self.next()
            assert found is not None, "the stream ended without an error"
            if found.name == "serialized-error":
                return json.loads(found.data)

    async def rest(self) -> list[Event]:
        """All events up to the end of the stream."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


class Browser:
    """Calls and streams of one user over HTTP."""

    def __init__(self, server: Live, http: aiohttp.ClientSession, user: str) -> None:
        self.headers = {"authorization": f"Bearer {server.token(user)}"}
        self._server, self._http = server, http

    @property
    def base(self) -> str:
        """The address before a procedure's name: with several workers another one's at each access."""
        return self._server.url.replace("ws", "http", 1).replace("/presence", "/trpc/presence.")

    @asynccontextmanager
    async def stream(
        self, input: Any = None, query: dict[str, str] | None = None, **headers: str
    ) -> AsyncIterator[Stream]:
        params = {**(query or {}), **({} if input is None else {"input": json.dumps(input)})}
        given = {"accept": "text/event-stream", **self.headers, **headers}
        async with self._http.get(self.base + "onEvent", params=params, headers=given) as response:
            assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
            yield Stream(response)

    async def call(self, name: str, input: Any = None, session: str = "") -> Any:
        headers = {**self.headers, **({"x-presence-session": session} if session else {})}
        async with self._http.post(self.base + name, json=input or {}, headers=headers) as response:
            answer = await response.json()
        return answer["result"]["data"] if "result" in answer else answer["error"]


def head_of(browser: Browser) -> bytes:
    """A request for a stream, as it is on the wire."""
    lines = ["GET /trpc/presence.onEvent HTTP/1.1", "host: x", f"authorization: {browser.headers['authorization']}"]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def people(*users: str, **options: Any) -> AsyncIterator[tuple[Live, list[Browser]]]:
    async with live(**options) as server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield server, [Browser(server, http, user) for user in users]


def test_the_bytes_are_those_of_trpcs_server(run: Run) -> None:
    """`tests/trpc/test_sse_bytes.py` compares the encoder with @trpc/server itself."""

    async def story() -> None:
        async with people("ann", ping_interval_s=25.0, ping_timeout_s=10.0) as (_, [ann]):
            async with ann.stream() as stream:
                authenticated = await stream.event("authenticated")
                assert (await stream.next()) == Event("restore-id", "", authenticated["resumeToken"])
                headers = {name.lower(): value for name, value in stream.response.headers.items()}
                assert headers["cache-control"] == "no-cache, no-transform" and headers["x-accel-buffering"] == "no"
                assert "content-length" not in headers
                text = json.dumps(authenticated, separators=(",", ":")).encode()
                token = authenticated["resumeToken"]  # a short one, as long as no other server is asked about tokens
                assert stream.raw.rstrip() == (
                    b'event: connected\ndata: {"reconnectAfterInactivityMs":35000}\n\n\n'
                    b"retry: 500\n\n"
                    b"data: %b\nid: \n\n\n"
                    b"event: restore-id\ndata: \nid: %b" % (text, token.encode())
                )

    run(story())


def _hubs(server: Live) -> list[Any]:
    return [worker.hub for worker in server.workers]


@WORKERS
def test_calls_name_the_streams_session_and_it_gets_the_events(run: Run, workers: int) -> None:
    async def story() -> None:
        async with people("ann", "bob", workers=workers) as (_, [ann, bob]):
            async with ann.stream() as anns, bob.stream() as bobs:
                mine = (await anns.event("authenticated"))["sessionId"]
                others = (await bobs.event("authenticated"))["sessionId"]
                joined = await ann.call("join", ROOM, mine)
                assert joined["sessionId"] == mine and "leaseSeconds" not in joined
                assert (await anns.event("joined"))["room"] == joined["room"]
                await bob.call("join", ROOM, others)
                assert (await anns.event("user_joined"))["userId"] == "bob"
                await bob.call("updateCursor", {**ROOM, "timestamp": 4.5, "x": 0.5, "y": 0.5}, others)
                assert (await anns.event("cursor_moved"))["data"]["timestamp"] == 4.5
                granted = await ann.call("requestControl", ROOM, mine)  # a session held over HTTP may not
                assert granted["granted"] is True
                assert (await bobs.event("control_granted"))["data"]["toUserId"] == "ann"
                left = await bob.call("leave", {"roomId": ROOM["roomId"]}, others)
                assert left == {"success": True, "left": 1}
                assert (await anns.event("user_left"))["data"]["reason"] == "left"

    run(story())


@WORKERS
@pytest.mark.parametrize("header", ["last-event-id", "x-presence-resume"])
def test_a_lost_stream_is_resumed_within_its_grace(run: Run, header: str, workers: int) -> None:
    async def story() -> None:
        async with people("ann", "bob", grace_s=20.0, workers=workers) as (_, [ann, bob]):
            async with bob.stream() as bobs:
                await bob.call("join", ROOM, (await bobs.event("authenticated"))["sessionId"])
                async with ann.stream() as anns:
                    first = await anns.event("authenticated")
                    await ann.call("join", ROOM, first["sessionId"])
                    await anns.event("joined")
                    restored = await anns.next()
                    assert restored is not None and restored.name == "restore-id" and restored.id
                    anns.response.close()
                away = await bobs.event("status_changed")
                assert (away["userId"], away["data"]["connected"]) == ("ann", False)
                async with ann.stream(**{header: restored.id}) as again:
                    back = await again.event("authenticated")
                    assert (back["sessionId"], back["resumed"], back["rooms"]) == (
                        first["sessionId"],
                        True,
                        [ROOM["roomId"]],
                    )
                    assert {user["userId"] for user in (await again.event("joined"))["room"]["users"]} == {"ann", "bob"}
                    assert (await bobs.event("status_changed"))["data"]["connected"] is True
                    assert (b"restore-id" in again.raw) is (header == "last-event-id")

    run(story())


def test_a_newer_stream_of_the_session_ends_the_one_before(run: Run) -> None:
    async def story() -> None:
        async with people("ann") as (_, [ann]), ann.stream() as first:
            token = (await first.event("authenticated"))["resumeToken"]
            async with ann.stream(**{"x-presence-resume": token}) as second:
                assert (await second.event("authenticated"))["resumed"] is True
                assert (await first.error())["data"]["code"] == "CONFLICT"
                assert await first.rest() == [Event("retry", "30000", None)]

    run(story())


def test_a_streams_place_is_gone_after_its_grace(run: Run) -> None:
    async def story() -> None:
        async with people("ann", "bob", grace_s=0.05) as (_, [ann, bob]), bob.stream() as bobs:
            await bob.call("join", ROOM, (await bobs.event("authenticated"))["sessionId"])
            async with ann.stream() as anns:
                await ann.call("join", ROOM, (await anns.event("authenticated"))["sessionId"])
                await bobs.event("user_joined")
                anns.response.close()
            assert (await bobs.event("user_left"))["data"]["reason"] == "disconnected"

    run(story())


@pytest.mark.parametrize(
    "query",
    [
        {"token": "x"},
        {"access_token": "x"},
        {"connectionParams": '{"token":"x"}'},
        {"connectionParams": '{"resumeToken":"x"}'},
    ],
)
def test_a_token_in_the_address_is_refused_in_words_a8(run: Run, query: dict[str, str]) -> None:
    async def story() -> None:
        async with people("ann") as (server, [ann]), ann.stream(query=query) as stream:
            error = await stream.error()
            assert (error["code"], error["data"]["code"], error["data"]["path"]) == (
                -32001,
                "UNAUTHORIZED",
                "presence.onEvent",
            )
            assert "address" in error["message"] and "Authorization" in error["message"]
            assert await stream.rest() == [Event("retry", "30000", None)]
            assert all(not hub.connections for hub in _hubs(server))

    run(story())


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"authorization": "Bearer nonsense"}, "The token was refused"),
        ({"authorization": "Basic eDp5"}, "not `Bearer` and a token"),
        ({"authorization": ""}, "not `Bearer` and a token"),
    ],
)
def test_a_refused_token_is_a_final_error_with_its_reason(run: Run, headers: dict[str, str], words: str) -> None:
    async def story() -> None:
        async with people("ann") as (server, [ann]), ann.stream(**headers) as stream:
            error = await stream.error()
            assert error["data"]["reason"] == "UNAUTHENTICATED" and words in error["message"]
            assert await stream.rest() == [Event("retry", "30000", None)]
            await until(lambda: all(not hub.connections for hub in _hubs(server)))

    run(story())


def test_a_cookie_of_an_allowed_page_authenticates_a8(run: Run) -> None:
    async def story() -> None:
        async with people("ann", origins=(LISTED,), cookie="app.session") as (server, [ann]):
            cookie = f"app.session={server.token('ann')}"
            ann.headers = {"cookie": cookie}
            for headers in ({"origin": LISTED}, {"sec-fetch-site": "same-origin"}):
                async with ann.stream(**headers) as stream:
                    assert (await stream.event("authenticated"))["userId"] == "ann"
            async with ann.stream(origin=LISTED) as stream:
                allowed = stream.response.headers
                assert allowed["access-control-allow-origin"] == LISTED
                assert allowed["access-control-allow-credentials"] == "true" and "Origin" in allowed["vary"]
            async with ann.stream(**{"sec-fetch-site": "cross-site"}) as stream:
                assert (await stream.error())["data"]["code"] == "UNAUTHORIZED"
            ann.headers = {}
            async with ann.stream(origin=LISTED) as stream:
                assert "no cookie app.session" in (await stream.error())["message"]

    run(story())


@WORKERS
def test_a_heartbeat_with_a_later_cookie_renews_the_streams_a7(run: Run, workers: int) -> None:
    async def story() -> None:
        async with people("ann", origins=(LISTED,), cookie="app.session", workers=workers) as (server, [ann]):
            ann.headers = {"cookie": f"app.session={server.token('ann', ttl_s=600)}", "origin": LISTED}
            async with ann.stream() as stream:
                mine = (await stream.event("authenticated"))["sessionId"]
                session = next(hub.sessions[mine] for hub in _hubs(server) if mine in hub.sessions)
                before_s = session.identity.expires_at_s
                ann.headers["cookie"] = f"app.session={server.token('ann', ttl_s=3600)}"
                assert (await ann.call("heartbeat", {}, mine))["success"] is True
                assert (await stream.event("authenticated"))["sessionId"] == mine
                assert session.identity.expires_at_s > before_s + 2000

    run(story())


@WORKERS
def test_an_origin_that_is_not_ascii_is_refused_before_a_session_begins(run: Run, workers: int) -> None:
    async def story() -> None:
        async with people("ann", workers=workers) as (server, [ann]):
            head = head_of(ann).replace(
                b"host: x\r\n", "host: \u2603.example\r\norigin: http://\u2603.example\r\n".encode()
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
            writer.write(head)
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
            assert all(not hub.connections for hub in _hubs(server))
            writer.close()

    run(story())


@WORKERS
def test_a_join_that_names_no_session_is_the_streams(run: Run, workers: int) -> None:
    async def story() -> None:
        async with people("ann", "bob", workers=workers) as (_, [ann, bob]), bob.stream() as bobs:
            await bob.call("join", ROOM, (await bobs.event("authenticated"))["sessionId"])
            async with ann.stream({"roomId": ROOM["roomId"]}) as anns:
                mine = (await anns.event("authenticated"))["sessionId"]
                joined = await ann.call("join", ROOM)
                assert joined["sessionId"] == mine and "leaseSeconds" not in joined
                await anns.event("joined")
                await bob.call("broadcast", {"roomId": ROOM["roomId"], "data": {"n": 1}})
                assert (await anns.event("broadcast"))["data"] == {"n": 1}
                held = await ann.call("join", {**ROOM, "clientKey": "phone"})  # another client's
                assert held["sessionId"] != mine and held["leaseSeconds"] > 0

    run(story())


@WORKERS
def test_a_stream_takes_over_what_its_caller_holds_over_http_m2(run: Run, workers: int) -> None:
    async def story() -> None:
        async with people("ann", "bob", workers=workers) as (_, [ann, bob]), bob.stream() as bobs:
            await bob.call("join", ROOM, (await bobs.event("authenticated"))["sessionId"])
            lease = (await ann.call("join", ROOM))["sessionId"]
            phone = (await ann.call("join", {**ROOM, "clientKey": "phone"}))["sessionId"]
            async with ann.stream({"roomId": ROOM["roomId"]}) as anns:
                mine = (await anns.event("authenticated"))["sessionId"]
                assert {user["sessionId"] for user in (await anns.event("joined"))["room"]["users"]} >= {mine, phone}
                while (left := await bobs.event("user_left"))["sessionId"] != lease:
                    pass
                assert left["data"]["sessionCount"] == 2  # there was no moment without her
                await bob.call("broadcast", {"roomId": ROOM["roomId"], "data": {"n": 1}})
                assert (await anns.event("broadcast"))["data"] == {"n": 1}

    run(story())


def test_what_a_caller_hides_over_http_is_not_taken_over_k1(run: Run) -> None:
    async def story() -> None:
        async with people("ann") as (_, [ann]):
            lease = (await ann.call("join", {**ROOM, "privacy": {"invisible": True}}))["sessionId"]
            async with ann.stream({"roomId": ROOM["roomId"]}) as anns:
                assert (await anns.error())["data"]["reason"] == "NOT_IN_ROOM"
            active = await ann.call("leave", {"roomId": ROOM["roomId"], "sessionId": lease})
            assert active["left"] == 1

    run(story())


def test_a_stream_of_a_room_that_its_session_is_not_in_says_so(run: Run) -> None:
    async def story() -> None:
        async with people("ann", "bob") as (server, [ann, _]), ann.stream({"roomId": ROOM["roomId"]}) as stream:
            await stream.event("authenticated")
            error = await stream.error()
            assert (error["data"]["code"], error["data"]["reason"]) == ("PRECONDITION_FAILED", "NOT_IN_ROOM")
            assert await stream.rest() == [Event("retry", "30000", None)]
            await until(lambda: all(not hub.sessions for hub in _hubs(server)))

    run(story())


def test_a_batch_and_an_invalid_input_are_refused(run: Run) -> None:
    async def story() -> None:
        async with people("ann") as (_, [ann]):
            async with ann.stream(query={"batch": "1"}) as stream:
                assert (await stream.error())["message"] == "Cannot batch subscription calls"
            for text in ("{", '{"roomId":5}', '{"roomId":""}'):
                async with ann.stream(query={"input": text}) as stream:
                    assert (await stream.error())["data"]["code"] == "BAD_REQUEST"

    run(story())


def test_superjson_wraps_values_and_errors(run: Run) -> None:
    async def story() -> None:
        async with people("ann") as (_, [ann]):
            async with ann.stream({"json": None, "meta": {"values": ["undefined"], "v": 1}}) as stream:
                while (event := await stream.next()) is not None and event.name != "message":
                    pass
                assert event is not None and json.loads(event.data)["json"]["type"] == "authenticated"
            async with ann.stream({"json": {"roomId": 5}}) as stream:
                assert (await stream.error())["json"]["data"]["code"] == "BAD_REQUEST"

    run(story())


def test_a_stream_counts_among_the_sessions_of_its_user_c11(run: Run) -> None:
    async def story() -> None:
        async with people("ann", max_sessions_per_user=1) as (_, [ann]), ann.stream() as first:
            await first.event("authenticated")
            async with ann.stream() as second:
                assert (await second.error())["data"]["reason"] == "TOO_MANY_SESSIONS"

    run(story())


def test_memory_that_is_short_refuses_streams(run: Run) -> None:
    async def story() -> None:
        async with people("ann", workers=1) as (server, [ann]):
            server.worker.hub.refuses_new_clients = True
            async with ann.stream() as stream:
                assert (await stream.error())["data"]["httpStatus"] == 503
                assert await stream.rest() == [Event("retry", "10000", None)]

    run(story())


def test_a_drain_ends_streams_without_an_error_and_they_come_back(run: Run) -> None:
    async def story() -> None:
        async with people("ann", workers=1) as (server, [ann]), ann.stream() as stream:
            token = (await stream.event("authenticated"))["resumeToken"]
            session = next(iter(server.worker.hub.sessions.values()))
            session.finish(1012, migrates=True)
            (end,) = [each for each in await stream.rest() if each.name != "restore-id"]
            assert end.name == "retry" and 500 <= int(end.data) <= 1000
            async with ann.stream(**{"x-presence-resume": token}) as again:
                assert (await again.event("authenticated"))["resumed"] is True

    run(story())


def test_a_kicked_stream_gets_the_event_and_a_final_error(run: Run) -> None:
    from koko_presence.server.reauthorization import kick

    async def story() -> None:
        async with people("ann", workers=1) as (server, [ann]), ann.stream() as stream:
            await stream.event("authenticated")
            kick(next(iter(server.worker.hub.sessions.values())), "spam")
            assert (await stream.event("kicked"))["reason"] == "spam"
            assert (await stream.error())["data"]["code"] == "FORBIDDEN"

    run(story())


def test_a_ping_that_is_acknowledged_holds_the_session_d4(run: Run) -> None:
    """The session would end after 0.3 s without a sign of life."""

    async def story() -> None:
        async with people("ann", workers=1, ping_interval_s=0.05, heartbeat_interval_s=0.1) as (server, [ann]):
            async with ann.stream() as stream:
                await stream.event("authenticated")
                pings = 0
                while pings < 15:
                    event = await stream.next()
                    assert event is not None
                    pings += event == Event("ping", "", None)
                assert len(server.worker.hub.sessions) == 1

    run(story())


def test_a_client_that_does_not_read_is_bounded_and_ended_n1(run: Run) -> None:
    async def story() -> None:
        async with people("ann", "bob", workers=1, send_stuck_s=0.3, broadcast_hz=1000.0) as (server, [ann, bob]):
            async with bob.stream() as bobs:
                bobs_session = (await bobs.event("authenticated"))["sessionId"]
                port = int(server.url.split(":")[2].split("/")[0])
                with socket.socket() as slow:
                    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    slow.connect(("127.0.0.1", port))
                    slow.sendall(head_of(ann))
                    hub = server.worker.hub
                    await until(lambda: len(hub.sessions) == 2)
                    mine = next(each for each in hub.sessions.values() if each.user_id == "ann")
                    await ann.call("join", ROOM, mine.session_id)
                    await bob.call("join", ROOM, bobs_session)

                    most = 0
                    async with asyncio.timeout(PATIENCE_S):
                        while mine.state == "open":
                            for _ in range(10):
                                await bob.call("broadcast", {**ROOM, "data": {"text": "x" * 6000}}, bobs_session)
                            most = max(most, mine.outbox.waiting_bytes())
                            await asyncio.sleep(0.05)
                    assert most < 2 * hub.limits.send_hard_bytes
                    await until(lambda: mine.outbox.waiting_bytes() == 0)  # nothing is kept for it

    run(story())


def test_what_follows_the_request_on_its_connection_ends_the_stream(run: Run) -> None:
    async def story() -> None:
        async with people("ann", workers=1) as (server, [ann]):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
            writer.write(head_of(ann))
            await reader.readuntil(b"authenticated")
            acceptor = server.worker.acceptor
            assert (acceptor.open_count, acceptor.stream_count) == (1, 1)
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: acceptor.open_count == 0)
            assert acceptor.stream_count == 0
            writer.close()

    run(story())


def test_a_stream_over_tls(run: Run, certificate: tuple[Path, Path]) -> None:
    async def story() -> None:
        async with people("ann", tls=certificate) as (server, [ann]):
            context = ssl.create_default_context(cafile=str(certificate[0]))
            context.check_hostname = False
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
                ann = Browser(server, http, "ann")
                async with ann.stream() as stream:
                    mine = (await stream.event("authenticated"))["sessionId"]
                    await ann.call("join", ROOM, mine)
                    await stream.event("joined")

    run(story())


def test_a_preflight_allows_the_headers_of_a_stream(run: Run) -> None:
    async def story() -> None:
        async with people("ann", origins=(LISTED,)) as (_, [ann]), aiohttp.ClientSession() as http:
            async with http.options(ann.base + "onEvent", headers={"origin": LISTED}) as response:
                allowed = response.headers["access-control-allow-headers"].split(", ")
                assert {"authorization", "last-event-id", "x-presence-session", "x-presence-resume"} <= {*allowed}

    run(story())


def test_white_space_of_a_clients_json_does_not_break_an_event() -> None:
    assert sse.value(b'{"a":\r\n1}', clears_id=False) == b'data: {"a":  1}\n\n\n'
