"""A whole server beside an application that decides about access and receives webhook events: on one worker and on
four."""

import asyncio
import json
import time
from typing import Any

import msgspec
import pytest

from koko_presence.access import remote
from koko_presence.access.remote import REQUEST_TIMEOUT_S
from koko_presence.config.integrations import AccessTrpc, AccessWebhook, Webhooks
from koko_presence.config.schema import Access
from koko_presence.webhooks.signature import verify
from tests.live import Live, live
from tests.waiting import until

from .conftest import Run
from .test_outgoing import SECRET, Application, answer, application, hang
from .test_scenarios import person

ROOM = "video_123"


@pytest.fixture(autouse=True, params=[1, 4], ids=lambda count: f"{count} workers")
def _workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Live, "default_workers", request.param)


def told(app: Application) -> list[dict[str, Any]]:
    for _, headers, body in app.got:
        assert verify(SECRET, body, headers["koko-signature"], time.time())
    return [event for _, _, body in app.got for event in json.loads(body)["events"]]


def test_m10_each_event_is_delivered_once_whichever_worker_the_clients_use(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            hooks = Webhooks(url=f"{app.url}/hooks", secret=SECRET, batch_s=0.0)
            async with (
                live(webhooks=hooks) as server,
                person(server, "ann") as ann,
                person(server, "bob") as bob,
                person(server, "ann") as second,
            ):
                for each in (bob, ann, second):
                    await each.send(type="cursor", roomId=ROOM, data={"timestamp": 1})
                    await each.send(type="leave", roomId=ROOM)
                    await each.get("left")
                await until(lambda: [event["type"] for event in told(app)][-1:] == ["room_emptied"])
                events = told(app)
                assert [event["type"] for event in events] == [
                    "room_created", *["user_entered"] * 3, *["user_left"] * 3, "room_emptied",
                ]  # fmt: skip
                assert [event["room"]["users"] for event in events] == [1, 1, 2, 2, 1, 1, 0, 0]
                assert [event["room"]["sessions"] for event in events] == [1, 1, 2, 3, 2, 1, 0, 0]
                assert len({event["id"] for event in events}) == 8
                await until(lambda: _counted(server) == 8)

    run(test())


def _counted(server: Live) -> int:
    counters = [msgspec.msgpack.decode(worker.snapshot()) for worker in server.workers]
    assert all(each["webhook_queue"] == 0 or each["totals"]["webhooks"] for each in counters)
    return sum(each["totals"]["webhooks"]["delivered"] for each in counters)


def test_m10_at_a_drain_waiting_events_are_delivered(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            hooks = Webhooks(url=f"{app.url}/hooks", secret=SECRET, batch_s=60.0)
            async with live(webhooks=hooks) as server, person(server, "ann"):
                assert app.got == []
                await asyncio.gather(*(worker.drain(0.1) for worker in server.workers))
                assert [event["type"] for event in told(app)] == ["room_created", "user_entered"]

    run(test())


def test_m10_webhooks_are_switched_on_and_off_by_a_reload(run: Run) -> None:
    async def test() -> None:
        async with application() as app, live() as server, person(server, "ann"):
            off = server.worker.config
            hooks = Webhooks(url=f"{app.url}/hooks", secret=SECRET, batch_s=0.0)
            for worker in server.workers:
                worker.reload(msgspec.structs.replace(off, webhooks=hooks))
            async with person(server, "bob"):
                await until(lambda: [event["userId"] for event in told(app)] == ["bob"])
                for worker in server.workers:
                    worker.reload(off)
                assert all(worker.shard.context.webhook_sink is None for worker in server.workers)

    run(test())


def webhook(app: Application) -> Access:
    return Access(mode="webhook", webhook=AccessWebhook(url=f"{app.url}/access", secret=SECRET))


def test_a6_the_application_decides_by_webhook(run: Run) -> None:
    async def test() -> None:
        async with application() as app, live(access=webhook(app)) as server, person(server, "ann", None) as ann:
            app.how = [answer({"allow": True, "scopes": ["join"], "ttl": 60}), answer({"allow": False})]
            assert (await ann.join())["type"] == "joined"
            await ann.send(type="control_request", roomId=ROOM)
            assert (await ann.get("error"))["code"] == "FORBIDDEN", "without the scope"
            refused = await ann.join("video_closed")
            assert (refused["code"], refused["message"][:28]) == ("FORBIDDEN", "This room is not open to you")
            await ann.send(type="get_active", roomId="video_other", roomType="video")
            await ann.get("active")
            questions = [json.loads(body) for _, _, body in app.got]
            assert [q["action"] for q in questions] == ["join", "join", "get_active"]
            assert {q["sessionId"] for q in questions} == {ann.session["sessionId"]}

    run(test())


def test_a6_when_the_application_does_not_answer_joins_are_refused_and_members_remain(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "UNSURE_TTL_S", 0.0)  # the next check is sent at once

    async def test() -> None:
        async with application() as app, live(access=webhook(app)) as server, person(server, "ann", None) as ann:
            app.how = [answer({"allow": True, "scopes": ["join"], "ttl": 0})]
            assert (await ann.join())["type"] == "joined"
            app.last = answer({}, 500)
            await ann.auth(server.token("ann"))  # a fresh token: all rooms are checked again [A4]
            await ann.send(type="cursor", roomId=ROOM, data={"timestamp": 1}, id=7)
            refused = await ann.join("video_2")
            assert (refused["code"], refused["retryAfterMs"]) == ("FORBIDDEN", 2000)
            assert "Try again" in refused["message"]
            app.last = answer({"allow": False})
            await ann.auth(server.token("ann"))
            assert (await ann.get("kicked"))["roomId"] == ROOM

    run(test())


def test_a6_a_webhook_that_hangs_delays_a_join_by_two_seconds_at_most(run: Run) -> None:
    async def test() -> None:
        async with application() as app, live(access=webhook(app)) as server, person(server, "ann", None) as ann:
            app.last = hang
            assert REQUEST_TIMEOUT_S == 2.0
            assert (await ann.join())["code"] == "FORBIDDEN"
            await ann.send(type="heartbeat", status="active")
            assert (await ann.get("pong", "error"))["type"] == "pong"

    run(test())


def test_a6_the_applications_own_api_decides(run: Run) -> None:
    async def test() -> None:
        async with application() as app:
            rules = ("video_* -> video.getById(id)",)
            access = Access(mode="trpc", trpc=AccessTrpc(url=f"{app.url}/trpc", rules=rules))
            async with live(access=access) as server, person(server, "ann", None) as ann:
                token = server.token("ann")
                await ann.auth(token)
                denied = {"error": {"message": "no", "code": -32004, "data": {"code": "NOT_FOUND", "httpStatus": 404}}}
                app.how = [answer({"result": {"data": {"id": "123"}}}), answer(denied, 404)]
                assert (await ann.join())["type"] == "joined"
                assert (await ann.join("video_2"))["code"] == "FORBIDDEN"
                assert (await ann.join("project_2", "project"))["code"] == "FORBIDDEN", "no rule, so nobody is asked"
                assert len(app.got) == 2
                assert app.got[0][1]["authorization"] == f"Bearer {token}"

    run(test())


def test_a6_a_reload_takes_a_new_webhook_and_drops_the_answers_of_the_old_one(run: Run) -> None:
    async def test() -> None:
        async with application() as app, application() as new, live(access=webhook(app)) as server:
            async with person(server, "ann", None) as ann:
                assert (await ann.join())["type"] == "joined"
                for worker in server.workers:
                    worker.reload(msgspec.structs.replace(worker.config, access=webhook(new)))
                new.last = answer({"allow": False})
                await ann.send(type="leave", roomId=ROOM)
                await ann.get("left")
                assert (await ann.join())["type"] == "error"
                assert (len(app.got), len(new.got)) == (1, 1)

    run(test())


def test_a6_a_join_whose_access_check_is_pending_when_a_reload_changes_access_is_answered(run: Run) -> None:
    """The join got no answer at all, and neither did the messages after it."""

    async def test() -> None:
        async with application() as app, application() as new, live(access=webhook(app)) as server:
            async with person(server, "ann", None) as ann:
                app.last = hang
                await ann.send(type="join", roomId=ROOM, roomType="video")
                await ann.send(type="privacy", data={"invisible": False}, id=7)
                await until(lambda: len(app.got) == 1)
                for worker in server.workers:
                    worker.reload(msgspec.structs.replace(worker.config, access=webhook(new)))
                assert (await ann.get("error"))["retryAfterMs"] == 2000
                assert (await ann.join())["type"] == "joined"

    run(test())
