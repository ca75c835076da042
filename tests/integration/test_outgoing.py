"""Requests to the application over real HTTP: the webhook of room events, and the access checks by webhook and tRPC.

The application of these tests redirects, hangs, answers with 5 MB, fails and recovers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from koko_presence.access.policy import NO, UNSURE, Access, Grant
from koko_presence.access.trpc import TrpcAccess
from koko_presence.access.webhook import WebhookAccess
from koko_presence.auth.http_client import HttpClient
from koko_presence.auth.identity import Identity
from koko_presence.config.integrations import Webhooks as Options
from koko_presence.config.trpc_rules import parse_rule
from koko_presence.protocol.webhook_events import RoomCounts, RoomCreated, RoomEmptied
from koko_presence.webhooks.sender import Webhooks
from koko_presence.webhooks.signature import verify
from tests.waiting import PATIENCE_S, until

from .conftest import Run

SECRET = "a secret of at least 32 bytes, from your vault"
EMPTY = RoomCounts(users=0, sessions=0, visible_users=0, visible_sessions=0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Application:
    """The application's back end. Each entry of `how` answers one request; `last` answers all later ones."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Mapping[str, str], bytes]] = []
        self.how: list[Handler] = []
        self.last: Handler = answer({"allow": True, "ttl": 60})
        self.trapped = 0  # requests to the target of a redirect
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/trap":
            self.trapped += 1
            return web.json_response({"allow": True, "result": {"data": 1}})
        self.got.append((request.raw_path, request.headers, await request.read()))
        return await (self.how.pop(0) if self.how else self.last)(request)


@asynccontextmanager
async def application() -> AsyncIterator[Application]:
    app = Application()
    runner = web.ServerRunner(web.Server(app.handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        app.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield app
    finally:
        await runner.cleanup()


def answer(body: Any, status: int = 200) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handle


def redirect(status: int) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        location = str(request.url.with_path("/trap").with_query(None))
        return web.Response(status=status, headers={"Location": location})

    return handle


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def trickle(request: web.Request) -> web.StreamResponse:
    """An answer that sends data all the time and never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def flood(request: web.Request) -> web.StreamResponse:
    """5 MB that would allow access."""
    return web.Response(
        body=b'{"allow": true, "result": {"data": 1}, "x": "' + b"x" * 5_000_000 + b'"}',
        content_type="application/json",
    )


def who(user: str = "ann") -> Identity:
    forward = (("cookie", "better-auth.session_token=abc"),)
    return Identity(user_id=user, name="Ann", image=None, expires_at_s=1, rooms={}, forward=forward)


def webhook_access(app: Application, timeout_s: float = 2.0) -> Access:
    return WebhookAccess(f"{app.url}/access?x=1", SECRET, http_client=HttpClient(timeout_s=timeout_s))


def trpc_access(app: Application, timeout_s: float = 2.0) -> Access:
    rules = [parse_rule("video_* -> video.getById(id)")]
    return TrpcAccess(f"{app.url}/trpc", rules, scopes=("join", "control"), http_client=HttpClient(timeout_s=timeout_s))


async def query(access: Access, room_id: str = "video_1", user: str = "ann") -> Grant:
    found = access.check(who(user), room_id, "video", session_id="session_1")
    return found if isinstance(found, Grant) else await found


def test_a6_the_webhook_gets_a_signed_request(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            access = webhook_access(app)
            app.how = [answer({"allow": True, "scopes": ["join", "broadcast"], "ttl": 10}), answer({"allow": False})]
            assert await query(access) == Grant(allow=True, can_broadcast=True)
            assert await query(access) == Grant(allow=True, can_broadcast=True)
            assert await query(access, "video_2") == NO
            assert [path for path, _, _ in app.got] == ["/access?x=1"] * 2
            for _, headers, body in app.got:
                assert verify(SECRET, body, headers["koko-signature"], time.time())
            await access.close()

    run(test())


def test_a6_the_trpc_api_is_called_with_the_users_cookie(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            access = trpc_access(app)
            app.how = [
                answer({"result": {"data": {"id": "1"}}}),
                answer({"error": {"message": "no", "code": -32003, "data": {"code": "FORBIDDEN"}}}, 403),
            ]
            assert (await query(access)).can_control
            assert await query(access, "video_a/../b&x=1 #é%2f+") == NO
            asked = [path.partition("?") for path, _, _ in app.got]
            assert {path for path, _, _ in asked} == {"/trpc/video.getById"}
            inputs = [parse_qs(query) for _, _, query in asked]
            assert inputs == [{"input": ['{"id":"1"}']}, {"input": ['{"id":"a/../b&x=1 #é%2f+"}']}]
            assert {headers["Cookie"] for _, headers, _ in app.got} == {"better-auth.session_token=abc"}
            await access.close()

    run(test())


@pytest.mark.parametrize("make", [webhook_access, trpc_access])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_loopback_is_not_followed(run: Run, make: Any, status: int) -> None:
    async def test() -> None:
        async with application() as app:
            access = make(app)
            app.last = redirect(status)
            assert await query(access) == UNSURE
            assert len(app.got) == 1 and app.trapped == 0
            await access.close()

    run(test())


@pytest.mark.parametrize("make", [webhook_access, trpc_access])
@pytest.mark.parametrize("how", [hang, trickle])
def test_an_application_that_hangs_delays_a_check_by_its_time_limit_at_most(run: Run, make: Any, how: Handler) -> None:
    async def test() -> None:
        async with application() as app:
            access = make(app, timeout_s=0.3)
            app.last = how
            grants = await asyncio.gather(*(query(access, f"video_{n}", user=f"user{n}") for n in range(500)))
            assert set(grants) == {UNSURE}
            assert len(app.got) < 100, "waiting for a connection is in the time as well, so few of 500 have one of 32"
            assert {await query(access, f"video_later{n}", user=f"next{n}") for n in range(100)} == {UNSURE}
            later = [target for target, _, body in app.got if "later" in target or b"later" in body]
            assert len(later) <= 1, "they are refused at once"
            await access.close()

    run(test())


@pytest.mark.parametrize("make", [webhook_access, trpc_access])
def test_an_answer_of_5_mb_is_refused(run: Run, make: Any) -> None:
    async def test() -> None:
        async with application() as app:
            access = make(app)
            app.last = flood
            assert await query(access) == UNSURE
            await access.close()

    run(test())


# --- events of rooms


def events(count: int) -> list[Any]:
    kinds = (RoomCreated, RoomEmptied)
    return [
        kinds[n % 2](id=f"evt_{n}", timestamp="2025-01-15T10:30:00.000Z", room_id="r", room_type="video", room=EMPTY)
        for n in range(count)
    ]


def sender(
    app: Application, timeout_s: float = 2.0, chance: float = 0.02, **changes: Any
) -> tuple[Webhooks, HttpClient]:
    http_client = HttpClient(timeout_s=timeout_s, connections=1)
    options = Options(url=f"{app.url}/hooks", secret=SECRET, **({"batch_s": 0.02} | changes))
    return Webhooks(options, http_client, chance=lambda: chance), http_client


def ids(app: Application) -> list[list[str]]:
    return [[event["id"] for event in json.loads(body)["events"]] for _, _, body in app.got]


def test_m10_events_arrive_in_batches_signed_and_in_order(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, batch_events=40)
            for event in events(100):
                webhooks.append(event)
            assert app.got == [], "nothing is sent while owners are at work"
            await until(lambda: webhooks.counts["delivered"] == 100)
            assert [len(batch) for batch in ids(app)] == [40, 40, 20]
            assert [each for batch in ids(app) for each in batch] == [f"evt_{n}" for n in range(100)]
            for _, headers, body in app.got:
                assert headers["Content-Type"] == "application/json"
                assert verify(SECRET, body, headers["koko-signature"], time.time())
            assert len({json.loads(body)["id"] for _, _, body in app.got}) == 3
            webhooks.stop()
            await http_client.close()

    run(test())


def test_m10_a_failed_batch_is_sent_again_unchanged_and_later_events_wait(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, timeout_s=1.0, batch_events=3)
            app.how = [answer({}, 500), redirect(307), hang, flood, answer({}, 429)]
            for event in events(5):
                webhooks.append(event)
            await until(lambda: webhooks.counts["delivered"] == 5)
            assert ids(app) == [["evt_0", "evt_1", "evt_2"]] * 6 + [["evt_3", "evt_4"]]
            assert len({body for _, _, body in app.got}) == 2, "the same bytes again"
            assert app.trapped == 0
            assert webhooks.counts == {"delivered": 5, "given_up": 0, "dropped": 0} and webhooks.waiting == 0
            webhooks.stop()
            await http_client.close()

    run(test())


def test_m10_after_the_last_try_the_next_batch_is_sent(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, batch_events=1, tries=3)
            app.how = [answer({}, 500)] * 3
            for event in events(2):
                webhooks.append(event)
            await until(lambda: webhooks.waiting == 0)
            assert webhooks.counts == {"delivered": 1, "given_up": 1, "dropped": 0}
            assert ids(app) == [["evt_0"]] * 3 + [["evt_1"]]
            webhooks.stop()
            await http_client.close()

    run(test())


def test_m10_an_address_without_a_server_costs_bounded_memory_and_is_counted(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, queue_events=50, batch_events=10)
            app.last = answer({}, 503)
            for event in events(500):
                webhooks.append(event)
            assert webhooks.waiting == 50 and webhooks.counts["dropped"] == 450
            await until(lambda: len(app.got) >= 2)
            webhooks.stop()
            assert webhooks.counts["dropped"] == 500 and webhooks.waiting == 0
            webhooks.append(events(1)[0])
            assert webhooks.waiting == 0, "stopped is stopped"
            await http_client.close()

    run(test())


def test_m10_only_the_events_that_are_wanted(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, events=("room_emptied",))
            for event in events(4):
                webhooks.append(event)
            await until(lambda: webhooks.counts["delivered"] == 2)
            assert ids(app) == [["evt_1", "evt_3"]]
            webhooks.reload(Options(url=f"{app.url}/new", secret=SECRET + "2", batch_s=0.0))
            webhooks.append(events(1)[0])
            await until(lambda: webhooks.counts["delivered"] == 3)
            path, headers, body = app.got[-1]
            assert path == "/new" and verify(SECRET + "2", body, headers["koko-signature"], time.time())
            webhooks.stop()
            await http_client.close()

    run(test())


def test_m10_dropped_events_are_logged_and_counted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """11,280 events were dropped without a log line."""

    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, batch_s=3600.0, queue_events=10)
            webhooks.log_drops(50.0)
            for event in events(40):
                webhooks.append(event)
            webhooks.log_drops(100.0)
            webhooks.append(events(1)[0])
            webhooks.log_drops(101.0)  # too soon for the next line
            webhooks.log_drops(110.0)
            webhooks.stop()
            assert webhooks.counts["dropped"] == 41
            await http_client.close()

    run(test())
    assert [record.getMessage() for record in caplog.records] == [
        "30 webhook events dropped: at most 10 may wait",
        "1 webhook events dropped: at most 10 may wait",
        "webhook events dropped at shutdown",
    ]


def test_m10_when_memory_is_short_waiting_events_beyond_a_batch_are_dropped(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, batch_s=3600.0, batch_events=10)
            for event in events(40):
                webhooks.append(event)
            assert (webhooks.shed(), webhooks.waiting, webhooks.counts["dropped"]) == (30, 10, 30)
            webhooks.append(events(1)[0])
            assert webhooks.waiting == 11
            webhooks.stop()
            await http_client.close()

    run(test())


def test_m10_at_a_drain_waiting_events_are_delivered_without_collecting_more(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            webhooks, http_client = sender(app, timeout_s=PATIENCE_S, batch_s=3600.0, batch_events=10)
            app.how = [answer({}, 500)]
            for event in events(25):
                webhooks.append(event)
            await webhooks.finish(PATIENCE_S)
            assert webhooks.counts["delivered"] == 25
            webhooks.stop()
            await http_client.close()

    run(test())


@pytest.mark.parametrize("how", [hang, answer({}, 500)])
def test_m10_a_drain_does_not_wait_for_an_application_that_does_not_answer(run: Run, how: Handler) -> None:
    async def test() -> None:
        async with application() as app:
            # without the drain's limit the sender would not end
            webhooks, http_client = sender(app, timeout_s=3600.0, batch_s=3600.0, chance=1.0)
            app.last = how
            webhooks.append(events(1)[0])
            await webhooks.finish(0.4)
            webhooks.stop()
            await http_client.close()
            assert webhooks.counts["dropped"] == 1

    run(test())
