"""Access checks by the application, on a fake clock: the requests, how long answers are cached, and missing answers."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from koko_presence.access.policy import NO, REFUSED, UNSURE, Access, AllowAll, ClaimsAccess, Grant
from koko_presence.access.remote import MAX_QUESTIONS, MAX_QUESTIONS_PER_USER, STAYS_OPEN_S, UNSURE_TTL_S, Breaker
from koko_presence.access.trpc import TrpcAccess
from koko_presence.access.webhook import WebhookAccess
from koko_presence.auth.http_client import Answer, RequestFailed, ResponseTimeout, UnusableResponse
from koko_presence.auth.identity import Identity
from koko_presence.config.trpc_rules import Rule, parse_rule
from koko_presence.protocol.models import RoomSettings
from koko_presence.webhooks.signature import verify

SECRET = "a secret of at least 32 bytes, from your vault"
URL = "https://app.example.com/hooks/access"
NOW_S = 1_736_937_000.0
COOKIE = (("cookie", "better-auth.session_token=abc"),)


def who(user_id: str = "ann", forward: tuple[tuple[str, str], ...] = COOKIE) -> Identity:
    return Identity(user_id=user_id, name="Ann", image=None, expires_at_s=1, rooms={}, forward=forward)


class FakeHttpClient:
    """An application that answers every request with `answer`, or fails with it; `gate` delays its answers."""

    def __init__(self, answer: Any = b"", status: int = 200) -> None:
        self.answer = answer if isinstance(answer, bytes | Exception) else json.dumps(answer).encode()
        self.status = status
        self.gate: asyncio.Event | None = None
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        self.closed = False

    async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer:
        self.requests.append((url, dict(headers or {}), body))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Answer(self.status, self.answer)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.post(url, headers, b"")

    async def close(self) -> None:
        self.closed = True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += seconds


def webhook(http_client: Any) -> tuple[WebhookAccess, Clock]:
    clock = Clock()
    return WebhookAccess(
        URL, SECRET, http_client=http_client, clock=clock, wall=lambda: NOW_S, pause=clock.pause
    ), clock


def trpc(http_client: Any, *rules: str, **options: Any) -> TrpcAccess:
    parsed = [parse_rule(rule) for rule in rules or ("video_* -> video.getById(id)",)]
    clock = Clock()
    return TrpcAccess(
        "https://app.example.com/trpc/",
        parsed,
        scopes=("join", "control"),
        http_client=http_client,
        clock=clock,
        pause=clock.pause,
        **options,
    )


async def query(access: Access, user_id: str = "ann", room_id: str = "video_1", **more: Any) -> Grant:
    answer = access.check(who(user_id), room_id, more.pop("room_type", None), **more)
    return answer if isinstance(answer, Grant) else await answer


# --- the webhook


def test_a6_the_webhook_gets_a_signed_request() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True, "scopes": ["join", "control", "paint"], "ttl": 30})
        access, _ = webhook(http_client)
        grant = await query(access, room_type="video", session_id="session_1")
        assert grant == Grant(allow=True, can_control=True)
        ((url, headers, body),) = http_client.requests
        assert url == URL and headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "userId": "ann", "sessionId": "session_1", "roomId": "video_1", "roomType": "video", "action": "join",
        }  # fmt: skip
        assert verify(SECRET, body, headers["koko-signature"], NOW_S)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("answer", "counts_s"),
    [
        ({"allow": True, "ttl": 30}, 30),
        ({"allow": True}, 60),
        ({"allow": True, "ttl": 3600}, 60),  # the maximum [A6]
        ({"allow": True, "ttl": 0}, 0),
        ({"allow": True, "ttl": -5}, 0),
        ({"allow": False}, 5),
        ({"allow": False, "ttl": 60}, 5),
        ({"allow": False, "scopes": ["join"]}, 5),
    ],
)
def test_a6_an_answer_counts_for_its_ttl(answer: dict[str, Any], counts_s: float) -> None:
    async def test() -> None:
        http_client = FakeHttpClient(answer)
        access, clock = webhook(http_client)
        first = await query(access)
        assert first.allow is answer["allow"]
        if counts_s:
            clock.now += counts_s - 0.1
            assert access.check(who(), "video_1", None) == first, "at once, without a task"
        assert len(http_client.requests) == 1
        clock.now += 0.2
        await query(access)
        assert len(http_client.requests) == 2

    asyncio.run(test())


@pytest.mark.parametrize("action", ["join", "get_active"])
def test_a6_the_answer_may_differ_by_user_room_type_and_action(action: Any) -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        access, _ = webhook(http_client)
        for more in ({}, {"user_id": "bob"}, {"room_id": "video_2"}, {"room_type": "video"}):
            await query(access, action=action, **more)  # type: ignore[arg-type]
            await query(access, action=action, session_id="session_2", **more)  # type: ignore[arg-type]
        assert len(http_client.requests) == 4

    asyncio.run(test())


def test_a6_many_equal_checks_at_once_are_one_request() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        http_client.gate = asyncio.Event()
        access, _ = webhook(http_client)
        queries = [asyncio.ensure_future(query(access)) for _ in range(100)]
        await asyncio.sleep(0)
        http_client.gate.set()
        assert all(grant.allow for grant in await asyncio.gather(*queries))
        assert len(http_client.requests) == 1

    asyncio.run(test())


def test_n12_an_invalidated_answer_is_requested_anew() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        access, _ = webhook(http_client)
        pairs = [("ann", "video_1"), ("ann", "video_2"), ("bob", "video_1"), ("bob", "video_2")]

        async def queried_anew(**which: str) -> list[tuple[str, str]]:
            for user, room in pairs:
                await query(access, user, room)
            http_client.requests.clear()
            access.forget(**which)
            for user, room in pairs:
                await query(access, user, room)
            return [(json.loads(body)["userId"], json.loads(body)["roomId"]) for _, _, body in http_client.requests]

        assert await queried_anew(user_id="ann") == pairs[:2]
        assert await queried_anew(room_id="video_2") == [pairs[1], pairs[3]]
        assert await queried_anew(user_id="bob", room_id="video_1") == [pairs[2]]
        assert await queried_anew() == pairs

    asyncio.run(test())


def test_n12_an_answer_pending_at_its_invalidation_is_not_cached() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        http_client.gate = asyncio.Event()
        access, _ = webhook(http_client)
        early = asyncio.ensure_future(query(access))
        await asyncio.sleep(0)
        access.forget(user_id="ann")
        http_client.gate.set()
        assert (await early).allow
        http_client.answer = b'{"allow": false}'
        assert not (await query(access)).allow

    asyncio.run(test())


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (RequestFailed("it did not answer within 2 s"), 200),
        (b"", 200),
        (b"ok", 200),
        (b'{"allow": "true"}', 200),
        (b'{"allow": 1}', 200),
        (b'{"scopes": ["join"]}', 200),
        (b'{"allow": true, "ttl": NaN}', 200),
        (b'{"allow": true, "scopes": "join"}', 200),
        (b'{"allow": true, "roomType": "castle"}', 200),
        (b"\xff\xfe", 200),
        (b"[" * 100_000, 200),
        (b'{"allow": true}', 201),
        (b'{"allow": true}', 500),
        (b'{"allow": true}', 503),
        (b'{"allow": true}', 403),
    ],
)
def test_a6_a_missing_answer_is_a_refusal_to_retry_and_is_cached_for_a_moment_at_most(answer: Any, status: int) -> None:
    async def test() -> None:
        http_client = FakeHttpClient(answer, status)
        access, clock = webhook(http_client)
        grant = await query(access)
        assert grant == UNSURE and not grant.allow and "Try again" in grant.reason
        refusal = grant.refusal()
        assert (refusal.code, refusal.retry_after_ms) == ("FORBIDDEN", 2000)
        http_client.answer, http_client.status = b'{"allow": true}', 200
        if not isinstance(answer, RequestFailed):  # only this request is not repeated so soon
            tries = 2 if status >= 500 else 1
            assert (
                await query(access) == UNSURE
                and len(http_client.requests) == tries
                and (await query(access, "ben")).allow
            )
        clock.now += UNSURE_TTL_S
        assert (await query(access)).allow

    asyncio.run(test())


def test_a6_closed_and_unknown_rooms_are_refused_with_the_same_text() -> None:
    async def test() -> None:
        access, _ = webhook(FakeHttpClient({"allow": False, "reason": "no such video"}))
        grant = await query(access)
        assert grant == NO and grant.reason == REFUSED and grant.refusal().retry_after_ms is None

    asyncio.run(test())


# --- missing answers


def failing(breaker: Breaker, now: float, *people: str, rooms: str = "rstuv", took_s: float = 0.5) -> None:
    for user, room in zip(people, rooms, strict=False):
        breaker.failed(now, now - took_s, user, room)


def test_the_breaker_opens_after_a_while_without_answers_and_lets_one_request_through_every_two_seconds() -> None:
    breaker = Breaker()
    failing(breaker, 100.0, *"abcd")
    assert breaker.lets_pass(100.0)
    failing(breaker, 100.0, "e")
    assert not breaker.lets_pass(100.0) and not breaker.lets_pass(101.9)
    assert breaker.lets_pass(102.0) and not breaker.lets_pass(102.0)
    failing(breaker, 104.0, "a")
    assert [breaker.lets_pass(at) for at in (104.0, 104.1, 105.9, 106.1)] == [True, False, False, True]
    breaker.answered(106.1)
    assert breaker.lets_pass(106.1) and breaker.lets_pass(106.1)


@pytest.mark.parametrize(
    ("people", "rooms", "opens"),
    [("aaaaa", "rstuv", False), ("abcde", "rrrrr", False), ("ababa", "rstuv", False), ("abcaa", "rsrst", True)],
)
def test_one_user_or_one_room_opens_no_breaker_for_all(people: str, rooms: str, opens: bool) -> None:
    breaker = Breaker()
    for _ in range(20):
        failing(breaker, 100.0, *people, rooms=rooms)
    assert breaker.is_open is opens


def test_failures_of_one_moment_open_no_breaker_however_many_they_are() -> None:
    breaker = Breaker()
    for n in range(1000):
        breaker.failed(100.02, 100.0 + n / 50_000, f"user{n}", f"room{n}")
    assert not breaker.is_open
    breaker.failed(100.25, 100.2, "ann", "r")
    assert breaker.is_open, "nor has anything been answered since"


@pytest.mark.parametrize(("share", "opens"), [(0.2, False), (0.5, False), (0.7, False), (0.9, True), (1.0, True)])
def test_the_breaker_judges_by_the_share_of_what_failed(share: float, opens: bool) -> None:
    breaker = Breaker()
    for n in range(200):
        now = 100.0 + n / 50  # for 4 s
        if n * 7 % 10 < share * 10:
            breaker.failed(now, now - 0.01, f"user{n}", f"room{n}")
        else:
            breaker.answered(now)
        assert opens or not breaker.is_open
    assert opens is not breaker.lets_pass(104.0) or opens


def test_long_ago_counts_no_more() -> None:
    breaker = Breaker()
    for n in range(1000):
        breaker.answered(100.0 + n / 1000)
    failing(breaker, 102.5, *"abcde")
    assert not breaker.is_open
    failing(breaker, 103.1, *"abcde")
    assert breaker.is_open


def test_an_authoriser_that_fails_20_percent_of_the_time_in_bursts_refuses_no_client() -> None:
    """An authoriser that fails for 20 ms in every tenth of a second refuses no client. It refused 121 of 200 joins:
    five failures in a row opened the breaker for two seconds each time."""

    class Hiccups(FakeHttpClient):
        async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer:
            self.answer = RequestFailed("connection refused") if clock.now % 0.1 < 0.02 else b'{"allow": true}'
            return await super().post(url, headers, body)

    async def test() -> None:
        refused = 0
        for n in range(200):
            refused += not (await query(access, f"user{n}", f"video_{n}")).allow
            clock.now += 0.003
        assert refused == 0

    access, clock = webhook(Hiccups())
    asyncio.run(test())


@pytest.mark.parametrize("times_out", [False, True])
def test_a_request_is_sent_twice_at_most_and_within_the_time(times_out: bool) -> None:
    class Slow(FakeHttpClient):
        async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer:
            clock.now += 1.9 if times_out else 0.5
            return await super().post(url, headers, body)

    async def test() -> None:
        assert await query(access) == UNSURE
        assert len(http_client.requests) == (1 if times_out else 2), "no time was left for another try"

    http_client = Slow(RequestFailed("it could not be asked"))
    access, clock = webhook(http_client)
    asyncio.run(test())


def test_a_request_that_timed_out_is_not_repeated() -> None:
    async def test() -> None:
        assert await query(access) == UNSURE and len(http_client.requests) == 1

    http_client = FakeHttpClient(ResponseTimeout("it did not answer within 2 s"))
    access, _ = webhook(http_client)
    asyncio.run(test())


@pytest.mark.parametrize(
    "useless",
    [UnusableResponse("it answers with a redirect"), UnusableResponse("its answer is longer than 65536 bytes")],
)
def test_an_unusable_answer_counts_as_an_answer_for_the_breaker(useless: UnusableResponse) -> None:
    """An answer that cannot be used still shows that the application is alive. Five rooms with a long answer, or a
    redirect, opened the breaker for all users."""

    async def test() -> None:
        http_client = FakeHttpClient(useless)
        access = trpc(http_client)
        for n in range(50):
            assert await query(access, f"user{n % 10}", f"video_{n}") == UNSURE
        assert len(http_client.requests) == 50, "asked to the last"

    asyncio.run(test())


def test_one_user_has_only_a_few_pending_requests() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        http_client.gate = asyncio.Event()
        access, _ = webhook(http_client)
        queries = [asyncio.ensure_future(query(access, "mallory", f"video_{n}")) for n in range(100)]
        other = asyncio.ensure_future(query(access, "ann"))
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(http_client.requests) == MAX_QUESTIONS_PER_USER + 1
        http_client.gate.set()
        assert [grant.allow for grant in await asyncio.gather(*queries)].count(True) == MAX_QUESTIONS_PER_USER
        assert (await other).allow and (await query(access, "mallory", "video_99")).allow, "nothing is left over"

    asyncio.run(test())


def test_a_dead_webhook_is_called_for_a_moment_and_thousands_are_refused_at_once() -> None:
    async def test() -> None:
        http_client = FakeHttpClient(RequestFailed("it could not be asked: Connection refused"))
        access, clock = webhook(http_client)
        for n in range(3000):
            assert await query(access, f"user{n}", f"video_{n}") == UNSURE
        assert len(http_client.requests) == 2 * 6 and access.breaker_open
        assert access._upstream.results["skipped"] == 3000 - 6
        http_client.answer = b'{"allow": true}'
        clock.now += STAYS_OPEN_S
        assert (await query(access, "first")).allow and (await query(access, "second")).allow
        assert not access.breaker_open

    asyncio.run(test())


def test_only_so_many_requests_are_pending() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        http_client.gate = asyncio.Event()
        access, _ = webhook(http_client)
        queries = [asyncio.ensure_future(query(access, f"user{n}")) for n in range(MAX_QUESTIONS + 10)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(http_client.requests) == MAX_QUESTIONS
        assert [task.done() for task in queries].count(True) == 10
        http_client.gate.set()
        assert [grant.allow for grant in await asyncio.gather(*queries)].count(True) == MAX_QUESTIONS

    asyncio.run(test())


def test_strange_answers_do_not_open_the_breaker() -> None:
    """Unusable answers do not open the breaker. A client can cause such answers with odd room ids, and could so have
    locked all users out."""

    async def test() -> None:
        http_client = FakeHttpClient(b"boom", 500)
        access, _ = webhook(http_client)
        for n in range(20):
            await query(access, room_id=f"video_{n}")
        assert len(http_client.requests) == 2 * 20, "each twice, as it may have been for a moment"

    asyncio.run(test())


def test_closing_cancels_pending_requests_and_fails_their_callers() -> None:
    """Closing cancels the pending requests and answers their callers. A reload that changed [access] left pending joins
    without any answer, and the messages held behind them."""

    async def test() -> None:
        http_client = FakeHttpClient({"allow": True})
        http_client.gate = asyncio.Event()
        access, _ = webhook(http_client)
        queries = asyncio.ensure_future(query(access))
        await asyncio.sleep(0)
        given_up = asyncio.ensure_future(query(access))
        await asyncio.sleep(0)
        given_up.cancel()
        await access.close()
        assert await queries is UNSURE and http_client.closed
        with pytest.raises(asyncio.CancelledError):
            await given_up

    asyncio.run(test())


def test_the_other_access_modes_have_nothing_to_invalidate() -> None:
    for access in (ClaimsAccess(), AllowAll()):
        access.forget(user_id="ann")
        asyncio.run(access.close())
        assert isinstance(access.check(who(), "video_1", None, session_id="s", action="get_active"), Grant)


# --- the tRPC probe


def failure(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "code": -32003, "data": {"code": code, "httpStatus": 403, "path": "x"}}}


def test_a6_the_applications_api_is_called_with_the_users_credentials() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"result": {"data": {"id": "1", "title": "Reel"}}})
        assert await query(trpc(http_client)) == Grant(allow=True, can_control=True)
        ((url, headers, _),) = http_client.requests
        assert url == "https://app.example.com/trpc/video.getById?input=%7B%22id%22%3A%221%22%7D"
        assert headers == dict(COOKIE)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("rule", "room", "room_type", "procedure", "input_"),
    [
        ("video_* -> video.getById(id)", "video_42", None, "video.getById", {"id": "42"}),
        ("video_*->video.getById( id = roomId )", "video_42", None, "video.getById", {"id": "video_42"}),
        ("video -> video.getById(videoId)", "v42", "video", "video.getById", {"videoId": "v42"}),
        ("video -> video.getById(videoId)", "video_42", None, "video.getById", {"videoId": "video_42"}),
        ("project_* -> canSee(p)", "project_a/b?c=d&e#f", None, "canSee", {"p": "a/b?c=d&e#f"}),
        ("x_* -> a.b.c(id)", 'x_"},"z":{"', None, "a.b.c", {"id": '"},"z":{"'}),
        ("x_* -> a.b.c(id)", "x_../../é%2e ", None, "a.b.c", {"id": "../../é%2e "}),
    ],
)
def test_a6_rules_and_their_requests(rule: str, room: str, room_type: Any, procedure: str, input_: Any) -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"result": {"data": 1}})
        assert (await query(trpc(http_client, rule), room_id=room, room_type=room_type)).allow
        url = urlsplit(http_client.requests[0][0])
        assert (url.netloc, url.path, url.fragment) == ("app.example.com", f"/trpc/{procedure}", "")
        assert {key: [json.loads(v) for v in vs] for key, vs in parse_qs(url.query).items()} == {"input": [input_]}

    asyncio.run(test())


def test_a6_access_by_a_room_type_is_checked_again_when_a_request_names_no_type() -> None:
    class OnlyProjects(FakeHttpClient):
        async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
            found = {"result": {"data": 1}} if "/project." in url else failure("NOT_FOUND")
            self.answer, self.status = json.dumps(found).encode(), 200 if "/project." in url else 404
            return await super().get(url, headers)

    async def test() -> None:
        http_client = OnlyProjects()
        access = trpc(http_client, "video -> video.getById(id)", "project -> project.getById(id)", "x_* -> x.get(id)")
        named, again = await query(access, room_id="7", room_type="project"), await query(access, room_id="7")
        assert named.allow and named == again and again.room_type == "project"
        assert [urlsplit(url).path for url, *_ in http_client.requests[1:]] == [
            "/trpc/video.getById",
            "/trpc/project.getById",
        ]
        assert await query(access, room_id="7", room_type="video") == NO
        assert not (await query(trpc(http_client, "video -> video.getById(id)"), room_id="7")).allow

    asyncio.run(test())


@pytest.mark.parametrize(
    ("room", "room_type"), [("project_1", None), ("video_", None), ("v42", "project"), ("v42", None), ("", None)]
)
def test_a6_a_room_without_a_rule_is_closed_without_a_request(room: str, room_type: Any) -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"result": {"data": 1}})
        assert await query(trpc(http_client, "video_* -> video.getById(id)"), room_id=room, room_type=room_type) == NO
        assert http_client.requests == []

    asyncio.run(test())


def test_a6_a_user_unknown_to_the_application_causes_no_request() -> None:
    access = trpc(FakeHttpClient({"result": {"data": 1}}))
    assert access.check(who(forward=()), "video_1", None) == NO


@pytest.mark.parametrize(
    ("answer", "status", "grant"),
    [
        ({"result": {"data": {"id": 1}}}, 200, True),
        ({"result": {"data": True}}, 200, True),
        ({"result": {"data": []}}, 200, True),
        ({"result": {"data": None}}, 200, False),  # a query that finds nothing
        ({"result": {"data": False}}, 200, False),
        ({"result": {}}, 200, False),
        (failure("FORBIDDEN"), 403, False),
        (failure("NOT_FOUND"), 404, False),
        (failure("UNAUTHORIZED"), 401, False),
        (failure("NOT_FOUND", 'No procedure found on path "video.getById"'), 404, False),
        (failure("BAD_REQUEST"), 400, None),
        (failure("INTERNAL_SERVER_ERROR"), 500, None),
        (failure("TOO_MANY_REQUESTS"), 429, None),
        ({"result": {"data": 1}}, 500, None),
        ({"result": {"data": 1}, "error": {"message": "?"}}, 200, None),
        ([{"result": {"data": 1}}], 200, None),
        ({"error": "FORBIDDEN"}, 403, None),
        ({"error": {"data": {"code": ["FORBIDDEN"]}}}, 403, None),
        (b"<html>403 Forbidden</html>", 403, None),
        (b"\xff", 200, None),
        (b"", 204, None),
        (RequestFailed("it answers with a redirect (status 302), which is not followed"), 302, None),
    ],
)
def test_a6_a_result_allows_and_three_errors_deny(answer: Any, status: int, grant: bool | None) -> None:
    async def test() -> None:
        found = await query(trpc(FakeHttpClient(answer, status)))
        assert found == UNSURE if grant is None else found.allow is grant
        assert found.allow or found.reason == (UNSURE.reason if grant is None else REFUSED)

    asyncio.run(test())


def test_a6_superjson() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"result": {"data": {"json": {"id": "1"}}}})
        assert (await query(trpc(http_client, superjson=True))).allow
        query_string = parse_qs(urlsplit(http_client.requests[0][0]).query)
        assert json.loads(query_string["input"][0]) == {"json": {"id": "1"}}
        nothing = {"result": {"data": {"json": None, "meta": {"values": ["undefined"], "v": 1}}}}
        assert await query(trpc(FakeHttpClient(nothing), superjson=True)) == NO
        denied = FakeHttpClient({"error": {"json": failure("FORBIDDEN")["error"]}}, 403)
        assert await query(trpc(denied, superjson=True)) == NO

    asyncio.run(test())


def test_a6_other_credentials_of_the_same_user_are_checked_separately_and_no_repr_shows_them() -> None:
    async def test() -> None:
        http_client = FakeHttpClient({"result": {"data": 1}})
        access = trpc(http_client)
        for forward in (COOKIE, COOKIE, (("authorization", "Bearer of-less"),)):
            answer = access.check(who(forward=forward), "video_1", None)
            assert (answer if isinstance(answer, Grant) else await answer).allow
        assert len(http_client.requests) == 2
        kept = repr(access._cache._values)
        assert "of-less" not in kept and "session_token" not in kept
        access.forget(user_id="ann")
        assert len(access._cache) == 0

    asyncio.run(test())


@pytest.mark.parametrize(
    "text",
    [
        "", "video_*", "video_* -> video.getById", "video_* -> video.getById()", "video_* -> /etc/passwd(id)",
        "video_* -> video..getById(id)", "video_* -> video.getById(id=other)", "castle -> a(b)", "* -> a(b)",
        "video_* => a(b)", "a_*b -> a(b)", "video_* -> a?x=1(b)", "video_* -> https://evil.example/a(b)",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rule|names no type"):
        parse_rule(text)


def test_a_rule_as_it_is_read() -> None:
    assert parse_rule("video_* -> video.getById(id)") == Rule("video_", None, "video.getById", "id", False)
    assert parse_rule("comparison -> c(id)") == Rule("", "comparison", "c", "id", True)


def test_the_answer_may_switch_the_users_presence_off_q11() -> None:
    async def test() -> None:
        for said, shown in (({"presence": False}, False), ({"presence": True}, True), ({}, True)):
            access, _ = webhook(FakeHttpClient({"allow": True, **said}))
            assert (await query(access)).presence is shown
        access, _ = webhook(FakeHttpClient({"allow": True, "presence": "no"}))
        assert await query(access) == UNSURE

    asyncio.run(test())


# --- settings of a room [Q10]


def test_the_answer_may_have_settings_of_the_room() -> None:
    async def test() -> None:
        access, _ = webhook(FakeHttpClient({"allow": True, "settings": {"title": "Cut 3", "later": 1}}))
        assert (await query(access)).settings == RoomSettings(title="Cut 3")
        access, _ = webhook(FakeHttpClient({"allow": True}))
        assert (await query(access)).settings is None
        access, _ = webhook(FakeHttpClient({"allow": False, "settings": {"title": 1}}))
        assert await query(access) == NO, "a refusal needs none"

    asyncio.run(test())


@pytest.mark.parametrize("settings", [{"title": 1}, {"maxUsers": 0}, [], "x", {"title": "x" * 201}])
def test_unusable_settings_make_the_answer_unusable_and_are_named_in_the_log(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        access, _ = webhook(FakeHttpClient({"allow": True, "settings": settings}))
        assert await query(access) == UNSURE

    asyncio.run(test())
    assert "settings" in caplog.records[-1].why  # type: ignore[attr-defined]
