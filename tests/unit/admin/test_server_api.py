"""The server API around the survey requests: key, limits, errors, and how the answers of several workers are merged.
Real HTTP, no workers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from koko_presence.admin.api import Api, Bucket, Call, Route
from koko_presence.admin.live_page import add_live_page
from koko_presence.admin.metrics import CounterAggregator
from koko_presence.admin.server_api import ServerApi
from koko_presence.admin.stats import Stats, stats
from koko_presence.protocol.metric_types import Counters
from koko_presence.protocol.models import Wire
from koko_presence.protocol.survey import (
    Answers,
    AnySurveyRequest,
    BroadcastSent,
    Kicked,
    LimitedFound,
    LimitedRow,
    ListRooms,
    NotHere,
    Rechecked,
    RoomRow,
    RoomsFound,
    SendBroadcast,
    SessionRow,
    ShowRoom,
    ShowUser,
    UserFound,
    UserRow,
)
from tests.unit.admin.test_metrics import counters

KEY = "the key of these tests"
HEADERS = {"Authorization": f"Bearer {KEY}"}
Story = Callable[[TestClient[Any, Any]], Awaitable[None]]


def play(
    story: Story,
    *answers: Any,
    missing: tuple[int, ...] = (),
    asked: list[AnySurveyRequest] | None = None,
    switch: Callable[[str, bool], bool] = lambda user_id, on: True,
) -> None:
    """Run a test against an API whose workers give these answers. `switch` switches presence."""

    async def ask(request: AnySurveyRequest) -> Answers:
        if asked is not None:
            asked.append(request)
        return Answers(found=list(answers), missing=list(missing))

    async def no_stats() -> Stats:
        raise AssertionError("a fault of ours")

    async def tell() -> None:
        app = web.Application(client_max_size=64 << 10)
        ServerApi(lambda: KEY, ask, no_stats, lambda: None, lambda user_id, *, on: switch(user_id, on)).add_to(app)
        add_live_page(app)
        async with TestClient(TestServer(app)) as client:
            await story(client)

    asyncio.run(tell())


def row(room_id: str) -> RoomRow:
    return RoomRow(
        id=room_id, type="video", user_count=1, session_count=1, invisible_user_count=0, invisible_session_count=0,
        created_at="2025-01-15T10:30:00.000Z",
    )  # fmt: skip


def test_presence_is_switched_before_the_workers_are_asked_q11() -> None:
    done: list[Any] = []

    async def story(client: TestClient[Any, Any]) -> None:
        for presence in (False, True):
            answer = await client.patch("/api/users/a%2Fb", json={"presence": presence}, headers=HEADERS)
            assert (answer.status, await answer.json()) == (
                200, {"userId": "a/b", "presence": presence, "sessions": 2, "missing": [3]},
            )  # fmt: skip
        for body in ({}, {"presence": None}, {"presence": "off"}, {"presence": False, "more": 1}):
            answer = await client.patch("/api/users/ann", json=body, headers=HEADERS)
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "INVALID_BODY")

    session = SessionRow(
        session_id="s", connected=True, activity="active", invisible=False, presence_off=False, share_cursor=True,
        share_selection=True, rooms=[],
    )  # fmt: skip
    user = UserRow(user_id="a/b", status="active", status_message="", activity="active", sessions=[session, session])
    play(
        story, UserFound(user=user), NotHere(), missing=(3,), asked=done,
        switch=lambda user_id, on: done.append((user_id, on)) or True,  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert done == [("a/b", False), ShowUser(user_id="a/b"), ("a/b", True), ShowUser(user_id="a/b")]


def test_presence_is_off_for_so_many_users_and_no_more_q11() -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.patch("/api/users/ann", json={"presence": False}, headers=HEADERS)
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "TOO_MANY")

    play(story, switch=lambda user_id, on: False)


def test_pages_of_several_workers_are_one_page() -> None:
    asked: list[AnySurveyRequest] = []

    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.get("/api/rooms?limit=3&type=video&prefix=r&cursor=r0", headers=HEADERS)
        page = await answer.json()
        assert [room["id"] for room in page["rooms"]] == ["r1", "r2", "r3"]
        assert (page["nextCursor"], page["missing"]) == ("r3", [2])
        assert asked == [ListRooms(after="r0", limit=3, type="video", prefix="r")]

    # r2 is being transferred between the two, and is counted once
    play(story, RoomsFound(rooms=[row("r1"), row("r2"), row("r5")]), RoomsFound(rooms=[row("r2"), row("r3")]), missing=(2,), asked=asked)  # fmt: skip


def test_addresses_limited_by_several_workers_are_one_row_the_most_refused_first_q5() -> None:
    def limited(address: str, refused: int, second: int) -> LimitedRow:
        at = f"2025-01-15T10:30:{second:02}.000Z"
        return LimitedRow(address=address, limit="requests", refused=refused, last_at=at)

    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.get("/api/limits", headers=HEADERS)
        assert await answer.json() == {
            "limited": [
                {"address": "b", "limit": "requests", "refused": 7, "lastAt": "2025-01-15T10:30:09.000Z"},
                {"address": "a", "limit": "requests", "refused": 5, "lastAt": "2025-01-15T10:30:01.000Z"},
            ],
            "missing": [2],
        }

    here, there = [limited("a", 5, 1), limited("b", 4, 9)], [limited("b", 3, 2)]
    play(story, LimitedFound(limited=here), LimitedFound(limited=there), missing=(2,))


def test_counts_of_several_workers_are_added_up() -> None:
    async def kick(client: TestClient[Any, Any]) -> None:
        answer = await client.post("/api/kick", json={"userId": "ann"}, headers=HEADERS)
        assert await answer.json() == {"kicked": 3, "missing": []}

    async def recheck(client: TestClient[Any, Any]) -> None:
        answer = await client.post("/api/recheck", json={"roomId": "r"}, headers=HEADERS)
        assert await answer.json() == {"checked": 5, "refused": 1, "undecided": 2, "missing": [0]}

    play(kick, Kicked(sessions=1), Kicked(sessions=2))
    play(
        recheck,
        Rechecked(checked=2, refused=1, undecided=0),
        Rechecked(checked=3, refused=0, undecided=2),
        missing=(0,),
    )


@pytest.mark.parametrize(
    ("answers", "missing", "status", "what"),
    [
        ([NotHere(), NotHere()], (), 404, "No room 'r' is open just now"),
        ([NotHere()], (1,), 503, "Worker 1 does not answer just now. Try again in a second."),
        ([NotHere(), NotHere(moving=True)], (), 503, "Rooms are moving just now. Try again in a second."),
        ([NotHere(), BroadcastSent(delivered=4)], (2,), 200, ""),
    ],
)
def test_missing_workers_decide_between_not_found_and_try_again(
    answers: list[Any], missing: tuple[int, ...], status: int, what: str
) -> None:
    asked: list[AnySurveyRequest] = []

    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.post(
            "/api/rooms/r/broadcast",
            data=b'{"data": {"a": 1.50}}',
            headers=HEADERS | {"Content-Type": "application/json"},
        )
        assert answer.status == status
        text = await answer.text()
        assert what in text
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert asked == [SendBroadcast(room_id="r", data=b'{"a": 1.50}')], "as it was sent"

    play(story, *answers, missing=missing, asked=asked)


@pytest.mark.parametrize(
    ("method", "path", "status", "what"),
    [
        ("GET", "/api/rooms/", 404, "There is no /api/rooms/ here. /api/openapi.json lists what there is."),
        ("GET", "/api//rooms", 404, "There is no /api//rooms here."),
        ("GET", "/api", 404, "There is no /api here."),
        ("PUT", "/api/nothing%0A", 404, "There is no /api/nothing%0A here."),
        ("DELETE", "/api/rooms", 405, "Use GET or HEAD here, not DELETE."),
        ("POST", "/api/openapi.json", 405, "Use GET or HEAD here, not POST."),
        ("GET", "/api/kick", 405, "Use POST here, not GET."),
        ("OPTIONS", "/api/rooms/r/broadcast", 405, "Use POST here, not OPTIONS."),
    ],
)
def test_paths_and_methods_that_no_route_has_are_errors_in_json(method: str, path: str, status: int, what: str) -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.request(method, URL(path, encoded=True), headers=HEADERS)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
        assert (await answer.json())["error"]["message"].startswith(what)
        allowed = what.removeprefix("Use ").partition(" here")[0].replace(" or ", ", ")
        assert answer.headers.get("Allow") == (allowed if status == 405 else None)
        keyless = await client.request(method, URL(path, encoded=True))
        assert keyless.status == (405 if path == "/api/openapi.json" else 401), "nothing is told without the key"

    play(story)


@pytest.mark.parametrize(
    ("path", "room_id"),
    [
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("%7Ba%7D", "{a}"),
        ("a%2Bb+c", "a+b+c"),
        ("%0A", "\n"),
        ("%E2%82%AC", "€"),
        ("%2E%2E", ".."),
        ("%zz", "%zz"),
    ],
)
def test_any_room_id_can_stand_in_a_path(path: str, room_id: str) -> None:
    asked: list[AnySurveyRequest] = []

    async def story(client: TestClient[Any, Any]) -> None:
        assert (await client.head(URL(f"/api/rooms/{path}", encoded=True), headers=HEADERS)).status == 404
        assert asked == [ShowRoom(room_id=room_id)]

    play(story, NotHere(), asked=asked)


def test_a_fault_of_ours_is_an_error_in_json_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        answer = await client.get("/api/stats", headers=HEADERS)
        assert (answer.status, (await answer.json())["error"]["code"]) == (500, "INTERNAL")

    play(story)
    assert "a call of the server API failed" in caplog.text


def test_wrong_keys_are_slowed_down_and_the_right_key_is_not() -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        found = [(await client.get("/api/rooms", headers={"Authorization": f"Bearer {n}"})).status for n in range(60)]
        assert found.count(401) >= 50 and found[-1] == 429
        assert (await client.get("/api/rooms", headers=HEADERS)).status == 200
        basic = await client.get("/api/rooms", headers={"Authorization": f"Basic {KEY}"})
        assert basic.status in (401, 429)

    play(story, RoomsFound(rooms=[]))


def test_a_script_that_never_pauses_gets_retry_after() -> None:
    class Answer(Wire):
        pass

    async def handle(call: Call) -> Answer:
        return Answer()

    now = 0.0

    async def tell() -> None:
        nonlocal now
        route = Route("GET", "/api/x", "x", "x", handle, Answer, weight=100.0)
        app = web.Application()
        Api("/api", [route], lambda: KEY, {}, clock=lambda: now).add_to(app)
        async with TestClient(TestServer(app)) as client:
            statuses = [(await client.get("/api/x", headers=HEADERS)).status for _ in range(5)]
            assert statuses == [200, 200, 200, 200, 429]
            now += 0.5
            assert (await client.get("/api/x", headers=HEADERS)).status == 200
            refused = await client.get("/api/x", headers=HEADERS)
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")

    asyncio.run(tell())


def test_a_bucket_saves_up_no_more_than_its_burst() -> None:
    bucket = Bucket(10.0, 5.0, now=100.0)
    assert [bucket.take(1.0, 1000.0) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.1)]


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_never_comes_is_not_logged(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        app = web.Application()
        route = Route("POST", "/x", "x", "", handle=None, answer=None, body_type=dict)  # type: ignore[arg-type]
        Api("/api", [route._replace(path="/api/x")], lambda: KEY, {}, clock=lambda: 0.0).add_to(app)
        runner = web.AppRunner(app, access_log=None)  # aiohttp's test server cancels handlers; this server does not
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        head = f"POST /api/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        writer.write(
            head.encode() + b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n{"
        )
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n", "now it is being handled"
        if reset:
            writer.transport.abort()
        writer.close()
        await asyncio.sleep(0.01)
        await runner.cleanup()

    asyncio.run(story())
    assert caplog.text == ""


def test_the_live_page_lets_nothing_foreign_in() -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        page = await client.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        text = await page.text()
        assert "http:" not in text and "https:" not in text and "<style" not in text and " style=" not in text
        for name in ("live.js", "live.css", "icon.svg", "alarms.js", "draw.js", "readings.js"):
            file = await client.get(f"/live/{name}")
            assert file.status == 200
            again = await client.get(f"/live/{name}", headers={"If-None-Match": file.headers["ETag"]})
            assert (again.status, await again.read()) == (304, b"")
            weak = await client.get(f"/live/{name}", headers={"If-None-Match": f'"a", W/{file.headers["ETag"]}'})
            assert weak.status == 304

    play(story)


def test_stats_are_the_numbers_of_all_workers_and_of_ended_ones() -> None:
    aggregator = CounterAggregator()
    encode = msgspec.msgpack.encode
    first, second = counters(), counters()
    first.totals.joins, second.totals.joins = 7, 3
    first.connections, second.connections = 5, 6
    both = stats([("0", encode(first)), ("1", encode(second))], aggregator=aggregator)
    assert (both.connections, both.totals.joins, both.missing, both.ready) == (11, 10, [], True)
    newer: Counters = msgspec.structs.replace(second, started_s=second.started_s + 9)
    newer.totals = msgspec.structs.replace(second.totals, joins=1)
    later = stats(
        [("0", None), ("1", encode(newer))], aggregator=aggregator, restarts=1, unready="1 of 2 workers serve"
    )
    assert (later.connections, later.totals.joins, later.missing) == (6, 11, [0]), "no total ever falls"
    assert (later.ready, later.reason, later.restarts) == (False, "1 of 2 workers serve", 1)
    assert [row.up for row in later.workers] == [False, True]
    nobody = stats([("0", None)])
    assert (nobody.totals.joins, sum(nobody.totals.broadcast.buckets)) == (0, 0)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, None, 202),
        ("application/json", "{}", 202),
        ("application/x-www-form-urlencoded", "", 202),
        ("application/x-www-form-urlencoded", "now=1", 415),
        ("text/plain", "{}", 415),
        ("application/json", '{"now": true}', 400),
        ("application/json", "[]", 400),
    ],
)
def test_regression_a_drain_took_bodies_of_any_type(content_type: str | None, body: str | None, status: int) -> None:
    async def story(client: TestClient[Any, Any]) -> None:
        headers = HEADERS | ({"Content-Type": content_type} if content_type else {})
        answer = await client.post("/api/drain", headers=headers, data=body)
        assert answer.status == status
        assert status != 202 or await answer.json() == {"draining": True}

    play(story)
