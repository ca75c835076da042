"""tRPC over HTTP on the real server: verbs, origins, cookies, bodies and batches, on one worker and on four
[M6, M9]."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from koko_presence.config import logs
from koko_presence.config.schema import Log
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import MESSAGES
from koko_presence.server.http import trpc_http
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import RawSocket

ROOM = {"roomId": "video_1", "roomType": "video"}
ACTIVE, JOIN = "/trpc/presence.getActive", "/trpc/presence.join"
LISTED = "https://app.example.com"


class Reply(NamedTuple):
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Caller:
    """A user that sends each call to the next worker."""

    def __init__(self, server: Live, http: aiohttp.ClientSession, user: str) -> None:
        self.server, self._http = server, http
        self.headers = {"authorization": f"Bearer {server.token(user)}"}

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        headers = {**self.headers, **options.pop("headers", {})}
        url = self.server.url.replace("ws://", "http://").replace("/presence", path)
        async with self._http.request(
            method, url, headers={name: value for name, value in headers.items() if value is not None}, **options
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def get(self, path: str, input: Any = None, **options: Any) -> Reply:
        params = {**options.pop("params", {}), **({} if input is None else {"input": json.dumps(input)})}
        return await self.ask("GET", path, params=params, **options)

    async def post(self, path: str, input: Any = None, **options: Any) -> Reply:
        return await self.ask("POST", path, json=input, **options)


@asynccontextmanager
async def calling(user: str = "ann", **options: Any) -> AsyncIterator[Caller]:
    async with live(**options) as server, aiohttp.ClientSession() as http:
        yield Caller(server, http, user)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_call_at_one_worker_is_visible_at_every_worker_m9(run: Run, workers: int) -> None:
    async def story() -> None:
        async with calling(workers=workers) as ann:
            joined = await ann.post(JOIN, ROOM)
            assert joined.status == 200 and joined.json["result"]["data"]["room"]["userCount"] == 1
            for _ in range(workers):
                active = await ann.get(ACTIVE, ROOM)
                assert active.status == 200 and active.json["result"]["data"]["totalCount"] == 1
            assert (await ann.post("/trpc/presence.leave", {"roomId": "video_1"})).json["result"]["data"]["left"] == 1
            assert (await ann.get(ACTIVE, ROOM)).json["result"]["data"]["totalCount"] == 0

    run(story())


def test_verbs_and_types_of_content(run: Run) -> None:
    async def story() -> None:
        async with calling() as ann:
            wrong = await ann.get(JOIN, ROOM)
            assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
            assert (await ann.post(ACTIVE, ROOM)).status == 200
            form = await ann.ask("POST", JOIN, data={"roomId": "video_1"})
            assert form.status == 415 and form.json["error"]["data"]["code"] == "UNSUPPORTED_MEDIA_TYPE"
            assert (await ann.ask("HEAD", ACTIVE)).status == 204
            assert (await ann.ask("PUT", JOIN, json={})).status == 405
            lost = await ann.get("/trpc/presence.nope")
            assert lost.json["error"]["message"] == 'No procedure found on path "presence.nope"'
            assert (await ann.get("/trpc/")).status == 404

    run(story())


def test_a_batch_is_answered_in_order_and_each_call_once(run: Run) -> None:
    async def story() -> None:
        async with calling() as ann:
            await ann.post(JOIN, ROOM)
            paths = "/trpc/presence.setStatus,presence.broadcast,presence.nope?batch=1"
            batch = {"0": {"status": "busy"}, "1": {"roomId": "video_2", "data": {}}}
            reply = await ann.post(paths, batch)
            assert reply.status == 207
            assert reply.json[0]["result"]["data"] == {"success": True, "status": "busy", "statusMessage": ""}
            assert reply.json[1]["error"]["data"]["reason"] == "NOT_IN_ROOM"
            assert reply.json[2]["error"]["data"]["code"] == "NOT_FOUND"
            many = ",".join(["presence.getActive"] * 21)
            assert (await ann.get(f"/trpc/{many}?batch=1")).json["error"]["data"]["code"] == "BAD_REQUEST"

    run(story())


EVERY_PROCEDURE = [  # in an order in which one user may call them
    ("join", ROOM),
    ("getActive", ROOM),
    ("heartbeat", {"clientTime": 5}),
    ("updateCursor", {"roomId": "video_1", "timestamp": 1.5, "x": 0.5, "y": 0.5}),
    ("updateSelection", {"roomId": "video_1", "startTime": 1, "endTime": 2}),
    ("setStatus", {"status": "reviewing"}),
    ("startTyping", {"roomId": "video_1", "context": "comment"}),
    ("stopTyping", {"roomId": "video_1"}),
    ("requestControl", {"roomId": "video_1"}),
    ("syncPlayback", {"roomId": "video_1", "isPlaying": True, "currentTime": 1, "playbackRate": 1}),
    ("syncPlayback", {"roomId": "video_1", "action": "disable"}),
    ("cancelControl", {"roomId": "video_1"}),
    ("broadcast", {"roomId": "video_1", "data": {"type": "reaction"}}),
    ("setPrivacy", {"shareCursor": False}),
    ("releaseControl", {"roomId": "video_1"}),
    ("leave", {"roomId": "video_1"}),
]


def test_every_procedure_returns_its_declared_type(run: Run) -> None:
    declared = {each.name: each.returns for message in MESSAGES.values() for each in message.procedures}

    async def story() -> None:
        async with calling() as ann, aiohttp.ClientSession() as http, http.ws_connect(ann.server.url) as ws:
            await ws.send_json({"type": "auth", "token": ann.server.token("ann")})
            session = {"x-presence-session": (await ws.receive_json())["sessionId"]}
            # held over HTTP, so that a heartbeat over HTTP applies to it
            await ann.post(JOIN, {**ROOM, "roomId": "video_2"})
            for name, input in EVERY_PROCEDURE:
                ask = ann.get if name == "getActive" else ann.post
                reply = await ask(f"/trpc/presence.{name}", input, headers={} if name == "heartbeat" else session)
                assert reply.status == 200, (name, reply.text)
                data = reply.json["result"]["data"]
                fields = msgspec.structs.fields(declared[name])
                assert data.keys() <= {field.encode_name for field in fields}, name
                assert {field.encode_name for field in fields if field.required} <= data.keys(), name

    run(story())


def test_a_caller_without_a_token_gets_no_error_about_the_input(run: Run) -> None:
    async def story() -> None:
        async with calling() as ann:
            for headers in ({"authorization": None}, {"authorization": "Bearer x"}, {"authorization": "Basic eA=="}):
                reply = await ann.ask("POST", JOIN, data=b"{", headers={**headers, "content-type": "application/json"})
                assert reply.status == 401
                assert reply.json["error"]["data"]["reason"] == "UNAUTHENTICATED"
            bad = await ann.ask("POST", JOIN, data=b"{", headers={"content-type": "application/json"})
            assert bad.status == 400

    run(story())


def test_a_body_has_64_kib_however_it_comes(run: Run) -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        yield b'{"roomId":"video_1","x":"'
        for _ in range(size // 1000):
            yield b"x" * 1000
        yield b'"}'

    async def story() -> None:
        async with calling() as ann:
            json_type = {"content-type": "application/json"}
            for body in (b"x" * 65_537, b" " * 1_000_000):
                reply = await ann.ask("POST", JOIN, data=body, headers=json_type)
                assert reply.status == 413 and reply.json["error"]["data"]["reason"] == "TOO_LARGE"
            assert (await ann.ask("POST", JOIN, data=pieces(70_000), headers=json_type)).status == 413
            assert (await ann.ask("POST", JOIN, data=pieces(60_000), headers=json_type)).status == 200

    run(story())


ODD = [  # requests that no client of this project sends, and the status of the answer
    (b"GET /trpc/presence.%ff HTTP/1.1\r\n\r\n", 404),
    (b"GET /%ff HTTP/1.1\r\n\r\n", 404),
    (b"GET /trpc/presence.getActive?input=%22%ff%22 HTTP/1.1\r\nTOKEN\r\n\r\n", 400),
    (b"GET /trpc/presence.getActive HTTP/1.1\r\nAuthorization: Bearer \xff\r\n\r\n", 401),
    (b"GET /trpc/presence.getActive?input=%7B%22roomId%22:%22r%22%7D HTTP/1.1\r\nX-Presence-Session: \xff\r\nTOKEN\r\n\r\n", 200),
    (b"GET /trpc/presence.getActive HTTP/1.1\r\nOrigin: http://x\r\nOrigin: http://x\r\n\r\n", 403),
    (b"POST /trpc/presence.join HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 2\r\n\r\n{}", 415),
    (b"POST /trpc/presence.join HTTP/1.1\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
     b"Content-Length: 2\r\n\r\n{}", 415),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "status"), ODD, ids=range(len(ODD)))
def test_malformed_requests_are_answered_and_not_logged(
    run: Run, request_: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with calling() as ann:
            token = b"Authorization: " + ann.headers["authorization"].encode()
            data = request_.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nHost: x\r\n").replace(b"TOKEN", token)
            with RawSocket(ann.server.worker.port) as raw:
                raw.send(data)
                answer = await asyncio.to_thread(raw.read_head)
            assert answer.startswith(f"HTTP/1.1 {status}")
            assert "content-type: application/json" in answer.lower()

    run(story())
    assert caplog.text == ""


def test_a_long_cookie_header_is_read_and_a_head_that_cannot_be_read_leaves_nothing_in_the_log(run: Run) -> None:
    stream = io.StringIO()

    async def story() -> None:
        async with calling() as ann:
            logs.configure(Log(), [], stream=stream)
            assert (await ann.get(ACTIVE, ROOM, headers={"cookie": "a=" + "b" * 9000})).status == 200
            with RawSocket(ann.server.worker.port) as raw:
                raw.send(b"GET /trpc/x HTTP/1.1\r\nHost: x\r\nCookie: session=hunter2\x00\r\n\r\n")
                assert (await asyncio.to_thread(raw.read_head)).split()[1] == "400"

    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    try:
        run(story())
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = before
        logging.captureWarnings(False)
    assert "aiohttp" not in stream.getvalue() and "hunter2" not in stream.getvalue()


def test_a_body_that_never_arrives_ends_in_a_time_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trpc_http, "BODY_TIMEOUT_S", 0.05)

    async def story() -> None:
        async with calling() as ann:
            head = "POST /trpc/presence.join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            with RawSocket(ann.server.worker.port) as raw:
                raw.send(head.encode())
                answer = await asyncio.to_thread(raw.read_head)
            assert answer.startswith("HTTP/1.1 408")

    run(story())


@pytest.mark.parametrize("batch", [False, True])
def test_an_internal_error_is_logged_and_not_shown_to_the_caller(
    run: Run, batch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(caller: Any, name: str, input: Any) -> Any:
        if name == "leave":
            raise PresenceError("NOT_IN_ROOM")
        raise RuntimeError("the secret inside")

    async def story() -> None:
        async with calling() as ann:
            ann.server.worker.hub.procedures.call = fails  # type: ignore[method-assign]
            path = "/trpc/presence.join,presence.leave?batch=1" if batch else JOIN
            reply = await ann.post(path, {})
            assert reply.status == (207 if batch else 500)
            error = (reply.json[0] if batch else reply.json)["error"]
            assert error["code"] == -32603 and error["data"]["code"] == "INTERNAL_SERVER_ERROR"
            assert "secret" not in reply.text and "RuntimeError" not in reply.text

    run(story())
    assert "the secret inside" in caplog.text


# --- pages of other origins [A8] ----------------------------------------------------------------------------------

ORIGINS = [  # what a browser sends, and whether its page may call a server at 127.0.0.1 that lists one origin
    (LISTED, True),
    ("https://APP.example.com", True),
    ("http://app.example.com", False),
    ("https://app.example.com:8443", False),
    ("https://app.example.com.evil.example", False),
    ("https://evil.example", False),
    ("https://sub.app.example.com", False),
    ("https://app.example.com/", False),
    ("https://user@app.example.com", False),
    ("null", False),
    ("", False),
    ("file://", False),
]


@pytest.mark.parametrize(("origin", "welcome"), ORIGINS)
def test_cors_with_credentials_only_for_the_listed_pages(run: Run, origin: str, welcome: bool) -> None:
    async def story() -> None:
        async with calling(origins=(LISTED,)) as ann:
            page = {"origin": origin}
            asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
            before = await ann.ask("OPTIONS", JOIN, headers={**page, **asked, "authorization": None})
            good = await ann.get(ACTIVE, ROOM, headers=page)
            bad = await ann.get("/trpc/presence.nope", headers=page)
            nobody = await ann.get(ACTIVE, ROOM, headers={**page, "authorization": None})
            for reply in (before, good, bad, nobody):
                allowed = reply.headers.get("access-control-allow-origin")
                assert allowed == (origin if welcome else None)
                assert (reply.headers.get("access-control-allow-credentials") == "true") == welcome
                assert "Origin" in reply.headers["vary"]
            statuses = [reply.status for reply in (before, good, bad, nobody)]
            assert statuses == ([204, 200, 404, 401] if welcome else [403, 403, 403, 403])
            if welcome:
                assert before.headers["access-control-max-age"] == "7200"
                assert before.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
                needed = {"content-type", "authorization", "trpc-accept", "x-presence-session"}
                assert needed <= set(before.headers["access-control-allow-headers"].split(", "))

    run(story())


def test_the_servers_own_page_needs_no_list(run: Run) -> None:
    async def story() -> None:
        async with calling() as ann:
            own = ann.server.url.replace("ws://", "http://").replace("/presence", "")
            assert (await ann.get(ACTIVE, ROOM, headers={"origin": own})).headers["access-control-allow-origin"] == own

    run(story())


def test_a_cookie_counts_where_the_page_is_known(run: Run) -> None:
    async def story() -> None:
        async with calling(origins=(LISTED,), cookie="app.session") as ann:
            cookie = {"authorization": None, "cookie": f"other=1; app.session={ann.server.token('ann')}"}
            for headers, status in (
                ({"origin": LISTED}, 200),
                ({}, 200),  # a server that renders a page and forwards the cookie
                ({"sec-fetch-site": "same-origin"}, 200),  # browsers send no Origin with a GET of the same origin
                ({"sec-fetch-site": "cross-site"}, 401),
                ({"sec-fetch-site": "same-site"}, 401),
                ({"origin": "https://evil.example"}, 403),
            ):
                assert (await ann.get(ACTIVE, ROOM, headers={**cookie, **headers})).status == status
            joined = await ann.post(JOIN, ROOM, headers={**cookie, "origin": LISTED})
            assert joined.json["result"]["data"]["room"]["users"][0]["userId"] == "ann"

    run(story())


def test_a_call_acts_for_the_session_of_the_header_m1(run: Run) -> None:
    async def story() -> None:
        async with calling() as ann, aiohttp.ClientSession() as http:
            async with http.ws_connect(ann.server.url) as ws:
                await ws.send_json({"type": "auth", "token": ann.server.token("ann")})
                session_id = (await ws.receive_json())["sessionId"]
                joined = await ann.post(JOIN, ROOM, headers={"x-presence-session": session_id})
                assert joined.json["result"]["data"]["sessionId"] == session_id
                told = await ws.receive_json()
                assert (told["type"], told["roomId"]) == ("joined", "video_1")
                other = await ann.post(JOIN, ROOM, headers={"x-presence-session": "somebody-elses"})
                assert "error" in other.json

    run(story())
