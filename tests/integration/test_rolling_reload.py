"""A rolling reload as clients see it: each connection ends once, and no member is seen to leave."""

import asyncio
import json
import math
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from koko_presence.config.schema import Access, Auth, Config, Server
from koko_presence.process.worker import Worker
from koko_presence.protocol.metric_types import Counters
from koko_presence.protocol.webhook_events import RoomCounts, RoomCreated
from tests.integration.conftest import Run
from tests.integration.people import Crowd, crowd
from tests.integration.test_supervisor import API_KEY, SECRET, Service, service
from tests.raw_ws import TEXT, frame
from tests.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def with_server_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_API_KEY", API_KEY)


def connections(it: Service) -> dict[int, int]:
    """Open connections of each worker, by slot."""
    return {row["slot"]: row["connections"] for row in json.loads(it.ask("/api/stats")[1])["workers"]}


def assert_nothing_was_seen(people: Crowd) -> None:
    """All members are shown as before, and were shown without an interruption [D2]."""
    for kind in ("user_left", "user_joined", "status_changed"):
        assert people.heard(kind) == []
    for person in people.people:
        others = [user for rows in person.room.people.values() for user in rows]
        assert all(other.connected and other.status == "active" for other in others), others


async def reload_with(it: Service, count: int, workers: int) -> None:
    async with crowd(it.port, SECRET, count) as people:
        it.signal(signal.SIGUSR2)
        await asyncio.to_thread(it.wait, "every worker was replaced")
        await until(lambda: people.all_here)
        await asyncio.sleep(0.2)
        assert people.cuts == {1: count}, "connections ended by how many people had that many"
        told = await asyncio.to_thread(it.ask, "/metrics")
        assert f'koko_presence_disconnects_total{{code="1012"}} {count}\n' in told[1]
        assert_nothing_was_seen(people)
        colors = {(person.room.id, person.color) for person in people.people}
        assert len(colors) == count and all(person.room.color == person.color for person in people.people)
        open_at = connections(it)
        # the kernel distributes connections by a hash: of few clients one worker may well get more than 1.5 times its
        # share
        share = count / workers
        most = 1.5 * share if count >= 500 else share + 5.0 * math.sqrt(share)
        assert sum(open_at.values()) == count and max(open_at.values()) <= most


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.long)])
def test_a_rolling_reload_ends_each_connection_once(run: Run, workers: int) -> None:
    """A client that left the first worker reconnected to one that was still to be replaced: 40 clients of two workers
    had 54 closes."""
    with service(workers=workers) as it:
        it.up()
        run(reload_with(it, 40, workers))


@pytest.mark.long
def test_events_that_wait_for_the_webhook_go_to_the_successor() -> None:
    """160 events were lost with the replaced workers, and not counted as dropped."""
    bodies: list[bytes] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    serving = threading.Thread(target=hook.serve_forever)
    serving.start()
    url = f"http://127.0.0.1:{hook.server_port}/hooks"
    try:
        with service(workers=2, server=f"[webhooks]\nurl = '{url}'\nsecret = \"{SECRET}\"\nbatch_s = 60.0") as it:
            ws = it.connect()
            ws.send(frame(TEXT, b'{"type":"join","roomId":"video_1","roomType":"video"}'))
            assert b"joined" in ws.read_frame().payload
            it.signal(signal.SIGUSR2)
            it.wait("every worker was replaced")
            assert bodies == [], "they are still collected"
            it.signal(signal.SIGTERM)
            assert it.process.wait(PATIENCE_S) == 0
            ws.sock.close()
        told = [event["type"] for body in bodies for event in json.loads(body)["events"]]
        assert told[:2] == ["room_created", "user_entered"] and told.count("user_entered") == 1
    finally:
        hook.shutdown()
        serving.join()
        hook.server_close()


def test_events_handed_to_a_worker_without_a_webhook_are_counted(run: Run) -> None:
    async def test() -> dict[str, int]:
        worker = Worker(Config(server=Server(port=0), auth=Auth(secret=SECRET), access=Access(mode="allow_all")))
        counts = RoomCounts(users=1, sessions=1, visible_users=1, visible_sessions=1)
        left = [
            RoomCreated(id=f"e{n}", timestamp="", room_id="video_1", room_type="video", room=counts) for n in range(3)
        ]
        worker.take_over_webhooks(msgspec.msgpack.encode(left))
        counters = msgspec.msgpack.decode(worker.snapshot(), type=Counters)
        await worker.stop()
        return counters.totals.webhooks

    assert run(test()) == {"delivered": 0, "given_up": 0, "dropped": 3}


@pytest.mark.long
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_no_member_sees_a_rolling_reload_with_500_clients(run: Run, workers: int) -> None:
    with service(workers=workers) as it:
        it.up()
        run(reload_with(it, 500, workers))
