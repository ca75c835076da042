"""A real worker through joins, cursors, drops, broadcasts and closes: each Prometheus sample is compared."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from koko_presence.admin.metrics import render
from koko_presence.protocol.metric_types import Counters
from tests.integration.conftest import Run
from tests.integration.test_scenarios import Person, person
from tests.live import Live, live
from tests.waiting import PATIENCE_S, until

ROOM, USERS = "video_secret_of_strangers", ("stranger_ann", "stranger_bob", "stranger_cat")

Numbers = dict[tuple[str, tuple[str, ...]], float]


def numbers(server: Live) -> Numbers:
    """Every sample by its name without the prefix and its label values."""
    text = render([("0", server.worker.snapshot())])
    assert not any(word in text for word in ("stranger", "secret", "evil")), "who and where is nobody's business"
    return {
        (sample.name.removeprefix("koko_presence_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Change:
    """Differences of the samples of a server since the object was made; other tests count in the same process."""

    def __init__(self, server: Live) -> None:
        self._server, self._before = server, numbers(server)

    def __call__(self, name: str, *labels: str) -> float:
        return numbers(self._server)[name, labels] - self._before.get((name, labels), 0.0)

    async def until(self, wanted: float, name: str, *labels: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self(name, *labels) != wanted:
                await asyncio.sleep(0.01)


async def cursor(who: Person, number: float, room: str = ROOM) -> None:
    await who.send(type="cursor", roomId=room, data={"timestamp": number, "x": 0.1, "y": 0.2})


def test_the_metrics_of_a_worker_count_each_event_exactly(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            change = Change(server)
            async with person(server, USERS[0], ROOM) as ann, person(server, USERS[1], ROOM) as bob:
                async with person(server, USERS[2], ROOM) as cat:
                    await session(ann, bob, cat)
                    assert (change("connections"), change("sessions"), change("users")) == (3, 3, 3)
                    assert (change("rooms", "video"), change("room_members_max")) == (1, 3)
                    assert (change("connections_accepted_total"), change("joins_total")) == (3, 3)
                    assert change("join_duration_seconds_count") == 3
                    assert change("join_duration_seconds_sum") > 0.0
                    assert change("auth_total", "accepted") == 3
                    assert change("messages_received_total", "cursor") == 4 + 1 + 3
                    shown = change("messages_sent_total", "cursor_moved") / 2  # to two others each
                    superseded = change("messages_dropped_total", "cursor", "superseded")
                    assert shown in (5, 6) and shown + superseded == 7, "what is read in one turn counts as one"
                    assert change("messages_sent_total", "broadcast") == 2 + 1, "to all others, and to one alone"
                    assert change("messages_sent_total", "user_joined") == 1 + 2
                    assert change("messages_sent_total", "joined") == 3
                    assert change("messages_sent_total", "ack") == 2
                    assert change("messages_sent_total", "error") == 2
                    assert change("messages_dropped_total", "cursor", "not_in_room") == 1
                    assert change("messages_dropped_total", "invalid", "unknown_type") == 1
                    assert change("flushes_total") == change("broadcast_duration_seconds_count") > 5
                    assert change("fanout_bytes_total") > 5000
                await change.until(1, "disconnects_total", "1000")
                ann.ws.transport.abort()
                await change.until(1, "disconnects_total", "1006")
                assert (change("connections"), change("sessions"), change("users")) == (1, 1, 2), "ann in her grace"
                (session_of_bob,) = server.worker.hub.sessions.values()
                session_of_bob.finish(4413)
                await change.until(1, "disconnects_total", "4413")
            assert change("disconnects_total", "other") == 0

    async def session(ann: Person, bob: Person, cat: Person) -> None:
        for number in range(4):
            await cursor(ann, number)
            await bob.get("cursor_moved")
            await asyncio.sleep(0.06)
        await cursor(bob, 1.0, "another_secret")
        await bob.get("error")
        await cat.send(type="evil")
        await cat.get("error")
        await ann.send(type="broadcast", roomId=ROOM, data={"evil": 1}, id=1)
        await ann.send(type="broadcast", roomId=ROOM, data={"evil": 2}, to=[USERS[2]], id=2)
        await ann.get("ack")
        await ann.get("ack")
        # without a pause: a cursor that waits for the budget is replaced by the next one
        for number in (1.0, 2.0, 3.0):
            await cursor(cat, number)
        while (await ann.get("cursor_moved"))["data"]["timestamp"] != 3.0:
            pass

    run(test())


def test_an_unauthenticated_client_chooses_no_label(run: Run) -> None:
    async def test() -> None:
        async with live() as server:
            change = Change(server)
            async with websockets.connect(server.url, close_timeout=0.2) as ws:
                await ws.send(json.dumps({"type": "evil", "roomId": "evil"}))
                await ws.send(json.dumps({"type": "cursor", "roomId": "evil", "data": "evil"}))
                await ws.send(b"evil")
                await ws.close(4999, "evil")
            await change.until(1, "disconnects_total", "other")
            assert change("messages_received_total", "invalid") == 2
            assert change("messages_received_total", "cursor") == 1
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(server.url, origin=websockets.Origin("https://evil.example"))
            assert (change("connections_refused_total"), change("connections_accepted_total")) == (1, 1)

    run(test())


def test_a_client_that_does_not_read_shows_in_the_gauges(run: Run) -> None:
    async def test() -> None:
        async with live(send_soft_bytes=4096, broadcast_hz=1000.0, broadcast_burst=1000) as server:
            async with person(server, "stranger_ann", "hall") as ann, person(server, "stranger_bob", "hall") as bob:
                bob.ws.transport.pause_reading()
                (outbox,) = (s.outbox for s in server.worker.hub.sessions.values() if s.user_id == "stranger_bob")
                change = Change(server)
                async with asyncio.timeout(PATIENCE_S):
                    while not outbox.slow:
                        await ann.send(type="broadcast", roomId="hall", data={"x": "y" * 7000})
                        await asyncio.sleep(0.02)
                assert change("slow_receivers") == 1 and change("send_queue_bytes") > 4096
                bob.ws.transport.resume_reading()
                await change.until(0, "send_queue_bytes")
                await ann.send(type="broadcast", roomId="hall", data={})
                await change.until(0, "slow_receivers")

    run(test())


def test_a_blocked_loop_shows_in_the_metrics(run: Run) -> None:
    def counters(server: Live) -> Counters:
        found: Any = msgspec.msgpack.decode(server.worker.snapshot(), type=Counters)
        assert isinstance(found, Counters)
        return found

    async def test() -> None:
        async with live() as server:
            before = counters(server)
            await until(lambda: counters(server).totals.lag.count > before.totals.lag.count + 2)
            # the loop may have been delayed by other load on the machine
            await until(lambda: counters(server).lag_max_s < 0.15)
            calm = counters(server)
            stand_still(0.4)
            assert counters(server).lag_max_s > 0.25, "although its timer has not rung yet"
            await asyncio.sleep(0.15)
            after = counters(server)
            assert after.lag_max_s > 0.25
            assert sum(after.totals.lag.buckets[11:]) > sum(calm.totals.lag.buckets[11:])
            assert after.cpu_s > before.cpu_s and after.resident_bytes > 10_000_000

    run(test())


def stand_still(seconds: float) -> None:
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
