"""A worker under full load: merged cursors, the order of service, lower advised rates, and refused joins."""

from collections.abc import Callable
from typing import Any

import pytest

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.flush_scheduler import FlushScheduler
from koko_presence._fastpath.outbox import Outbox, WriteBatch
from koko_presence._fastpath.room_core import FlushQueue, RoomCore
from koko_presence._fastpath.rounds import Round
from koko_presence._fastpath.throttle import Meter, TokenBucket
from koko_presence._fastpath.wallclock import WallClock
from tests.world import Client, World


def cursor(number: float, room: str = "video_123") -> dict[str, Any]:
    return {"type": "cursor", "roomId": room, "data": {"timestamp": number, "x": 0.5, "y": 0.5}}


def superseded() -> int:
    return counters.read().dropped["cursor"]["superseded"]


def shown(client: Client) -> list[float]:
    return [event["data"]["timestamp"] for event in client.take("cursor_moved")]


# --- merged -------------------------------------------------------------------------------------------------------


def test_several_cursors_of_one_loop_iteration_are_one_and_cost_one_token() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    for iteration in range(10):
        for number in range(5):
            ann.post(cursor(iteration * 5 + number))
        world.sleep(0.05)
        assert shown(bob) == [iteration * 5 + 4], "the newest, in the turn in which it came"


def test_a_flood_of_cursors_is_counted_and_the_last_one_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    # a message on the Python path would fail
    monkeypatch.setattr("koko_presence.server.session.Session.dispatch", None)
    before = superseded()
    for number in range(200):
        ann.post(cursor(number))
        world.sleep(0.005)
    world.sleep(0.06)
    values = shown(bob)
    assert values[-1] == 199 and len(values) <= 22 and values == sorted(values)
    assert superseded() - before == 200 - len(values)


@pytest.mark.parametrize("ends", ["leave", "privacy", "hide"])
def test_what_waits_is_dropped_with_the_room_and_with_the_right_to_be_seen(ends: str) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    for number in range(4):
        ann.post(cursor(number))
        world.sleep(0.001)
    if ends == "leave":
        ann.send(type="leave", roomId="video_123")
    elif ends == "hide":
        ann.send(type="privacy", data={"shareCursor": False})
    else:
        ann.send(type="privacy", data={"invisible": True})
    bob.take()
    world.sleep(0.3)
    assert bob.take("cursor_moved") == []


def test_a_leave_never_passes_its_own_cursor() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.post(cursor(1))
    ann.post(type="leave", roomId="video_123")
    world.settle()
    assert [event["type"] for event in bob.take()] == ["cursor_moved", "user_left"]


def test_a_snapshot_and_the_stream_behind_it_meet_while_a_cursor_is_not_encoded_yet() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    carol = world.client().auth("carol")
    ann.post(cursor(7))
    carol.join()
    joined = carol.last("joined")
    row = next(user for user in joined["room"]["users"] if user["userId"] == "ann")
    assert row["cursor"]["timestamp"] == 7 and carol.of("cursor_moved") == []
    assert joined["seq"] >= bob.last("cursor_moved")["seq"]


def test_waiting_cursors_of_several_rooms_share_the_sessions_budget_in_order() -> None:
    world = World()
    rooms = ["one", "two", "three"]
    ann = world.client().auth("ann")
    bob = world.client().auth("bob")
    for room in rooms:
        ann.join(room, "project")
        bob.join(room, "project")
    bob.take()
    for number in range(3):
        for room in rooms:
            ann.post(cursor(number, room))
            world.sleep(0.001)
    world.sleep(0.3)
    events = bob.take("cursor_moved")
    last = {event["roomId"]: event["data"]["timestamp"] for event in events}
    assert last == dict.fromkeys(rooms, 2)


@pytest.mark.parametrize("privacy", ["invisible", "shareCursor", "shareSelection"])
@pytest.mark.parametrize("kind", ["cursor", "selection"])
@pytest.mark.parametrize("gap_s", [0.0, 0.002, 0.02])
def test_what_waits_since_a_time_when_it_was_hidden_is_never_shown(privacy: str, kind: str, gap_s: float) -> None:
    """A value sent while hidden is accepted and dropped [K3, K5], even if it still waited for a budget when its sender
    became visible again."""
    hides = privacy == "invisible"
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(type="privacy", data={privacy: hides})
    world.sleep(1)
    bob.take()
    for number in range(1, 8):
        data = {"timestamp": number, "x": 0.5, "y": 0.5} if kind == "cursor" else {"startTime": number, "endTime": 10}
        ann.post({"type": kind, "roomId": "video_123", "data": data})
        world.sleep(gap_s)
    if not hides and privacy != f"share{kind.title()}":
        world.sleep(0.1)
        bob.take()
    ann.send(type="privacy", data={privacy: not hides})
    world.sleep(0.5)
    assert bob.take("cursor_moved", "selection_changed") == []
    ann.post(cursor(99))
    world.sleep(0.1)
    assert shown(bob) == [99]


def test_a_cursor_that_fails_after_it_has_waited_takes_none_of_the_other_rooms_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    rooms = ["one", "two", "three"]
    ann, bob = world.client().auth("ann"), world.client().auth("bob")
    for room in rooms:
        ann.join(room, "project")
        bob.join(room, "project")
    for number in range(3):
        for room in rooms:
            ann.post(cursor(number, room))
            world.sleep(0.001)
    member = world.shard.rooms["one"].members[ann.session_id]
    member.attached = False  # its cursor route admits no cursor, so that the Python path is taken
    with monkeypatch.context() as patch:
        patch.setattr("koko_presence.server.membership.Memberships.show_deferred", None)
        world.sleep(0.3)
    member.attached = True
    bob.take()
    for room in rooms:
        ann.post(cursor(9, room))
        world.sleep(0.1)
    assert {event["roomId"] for event in bob.take("cursor_moved")} == set(rooms)


# --- the order of service -------------------------------------------------------------------------------------------


class Wire:
    """A socket that accepts every write."""

    unsent_bytes = 0

    def send_frames(self, data: bytes) -> None: ...


class Stage:
    """A FlushScheduler whose rooms have `members` subscribers each; its clock moves by `write_s` per write."""

    def __init__(self, members: int = 1, write_s: float = 0.0) -> None:
        self.now = 100.0
        self.write_s = write_s
        self.soon: list[Callable[[], object]] = []
        self.served: list[str] = []
        self.fails = False
        self.write_batch = WriteBatch(self.soon.append)
        self.flush_queue = FlushQueue(0.005, 0.016)
        wires = [Wire() for _ in range(members)]
        for wire in wires:
            wire.send_frames = self._write  # type: ignore[method-assign]
        self.outboxes = [Outbox(wire, 1 << 16, 1 << 20, self.write_batch, lambda: None) for wire in wires]
        self.scheduler = FlushScheduler(
            self.flush_queue,
            self,
            lambda: self.now,
            self,
            self._deliver,
            lambda now: None,
            lambda now: None,
            lambda room: None,
        )
        self.scheduler.use_fast_path(None, self.write_batch)
        self.round = Round(lambda: self.now)
        self.scheduler.use_round(self.round)

    def _write(self, data: bytes) -> None:
        self.now += self.write_s

    def _deliver(self, room: RoomCore, items: list[StreamFrame], now: float) -> None:
        self.served.append(room.id)
        if self.fails:
            raise RuntimeError
        for outbox in self.outboxes:
            outbox.write(b"x")

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def schedule(self, at: float | None) -> None: ...

    def room(self, name: str, *, event: bool = False, urgent: bool = False) -> RoomCore:
        room = RoomCore(name, WallClock(), TokenBucket(100), Meter(0.0), False)
        room.out = [StreamFrame(b"x")]
        if not event:
            room.take_items(self.now - 1)  # reset the flag that setting `out` has set
            room.show_cursor(member_core(), Point(), self.now)
        room.urgent = urgent
        self.flush_queue.touch(room, self.now)
        return room

    def run(self) -> list[str]:
        """Run one part of a flush and return the rooms that were served in it."""
        self.served.clear()
        self.scheduler.schedule_flush(self.now)
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()
        return list(self.served)


class Point:
    """A cursor without a timestamp."""

    from msgspec import UNSET as timestamp

    x = y = 0.5


def member_core() -> Any:
    from koko_presence._fastpath.room_core import MemberCore

    return MemberCore("ann", "s1", TokenBucket(20), 0.0)


def test_playback_and_control_go_before_other_events_and_these_before_cursors() -> None:
    stage = Stage()
    stage.room("cursors a")
    stage.room("typing", event=True)
    stage.room("cursors b")
    stage.room("playback", event=True, urgent=True)
    assert stage.run() == ["playback", "typing", "cursors a", "cursors b"]


def test_a_flush_that_fails_is_followed_by_one_for_the_cursors_that_wait() -> None:
    stage = Stage()
    room = stage.room("r0")
    late = member_core()
    for _ in range(2):
        room.show_cursor(late, Point(), stage.now)
        room.settle()
    stage.fails = True
    assert stage.run() == ["r0"]
    stage.fails = False
    stage.now += 0.2
    assert stage.run() == ["r0"]


def test_a_long_flush_is_done_in_parts_and_what_is_urgent_overtakes() -> None:
    stage = Stage(members=200, write_s=20e-6)  # 4 ms a room
    for number in range(4):
        stage.room(f"r{number}")
    assert stage.run() == ["r0"] and stage.round.behind
    urgent = stage.room("playback", event=True, urgent=True)
    assert stage.run() == ["playback"], "it waited for one part, not for all rooms"
    assert urgent.out == []
    assert [stage.run() for _ in range(3)] == [["r1"], ["r2"], ["r3"]]
    assert not stage.round.behind and stage.run() == []


def test_a_room_in_the_queue_is_not_flushed_twice() -> None:
    stage = Stage(members=200, write_s=20e-6)
    rooms = [stage.room(f"r{number}") for number in range(3)]
    stage.run()
    rooms[2].out = [*rooms[2].out, StreamFrame(b"y")]
    stage.flush_queue.touch(rooms[2], stage.now)
    assert [stage.run() for _ in range(3)] == [["r2"], ["r1"], []], "an event has come into it: it goes first, once"


# --- advised rates ----------------------------------------------------------------------------------------------------


def test_advised_rates_fall_while_the_core_is_full_and_rise_again() -> None:
    world = World(workers=1)
    ann, bob = world.person("ann"), world.person("bob")
    world.bus._cpu_clock = lambda: (world.now, 0.0)
    for number in range(200):
        ann.post(cursor(number))
        world.sleep(0.05)
    told = [notice["sendIntervalMs"] for notice in bob.take("server_notice")]
    assert told[-1] == 200 and told == sorted(told) and len(told) <= 10, "smoothly, and not at every step"
    assert world.client().auth("carol").join().last("joined")["sendIntervalMs"] == 200
    still = world.now
    world.bus._cpu_clock = lambda: (still, 0.0)
    for number in range(100):
        ann.post(cursor(200 + number))
        world.sleep(0.05)
    assert bob.take("server_notice")[-1]["sendIntervalMs"] == 50


# --- stopped workers, refused joins -----------------------------------------------------------------------------------


def test_no_client_counts_as_silent_after_a_stop_of_its_worker() -> None:
    world = World(workers=1)
    ann, bob = world.person("ann"), world.person("bob")
    world.timers.now += 100.0  # longer than any silence allowed; received data is not read yet
    world.settle()
    assert ann.closed is None and bob.closed is None
    for client in (ann, bob):
        client.send(type="heartbeat", status="active")
    world.sleep(2.0)
    assert ann.closed is None and bob.closed is None
    assert [event["type"] for event in bob.take() if event["type"] == "status_changed"] == []


def test_joins_that_cannot_be_served_in_time_are_sent_away_for_a_while() -> None:
    world = World(workers=1)
    ann = world.person("ann")
    world.hub.waits_for = lambda now: 3.0
    waits = []
    for number in range(20):
        client = world.client().auth(f"user_{number}").join()
        error = client.last("error")
        assert error["code"] == "RATE_LIMITED" and client.closed is None
        waits.append(error["retryAfterMs"])
    assert min(waits) >= 3000 and max(waits) > 1.5 * min(waits), "they do not come back all at once"
    assert ann.join("video_2").last("joined")["roomId"] == "video_2", "who is in already is not of the crowd"
