"""When a room flushes [L4], and in which order rooms do."""

from math import inf

import pytest

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.room_core import BUSY_FRAMES_PER_WINDOW, FlushPacing, FlushQueue, MemberCore, RoomCore
from koko_presence._fastpath.throttle import Meter, TokenBucket
from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.models import Cursor


def stream(name: str = "r", members: int = 2) -> RoomCore:
    room = RoomCore(name, WallClock(), TokenBucket(100), Meter(0.0), False)
    room.members.update((str(number), None) for number in range(members))
    return room


def busy(room: RoomCore, now: float = 100.0) -> RoomCore:
    """Make a room busy: a hundred flushes, one each 5 ms, of ten frames each."""
    for step in range(100):
        room.out = [StreamFrame(b"x")] * 10
        room.take_items(now - 0.005 * (99 - step))
    return room


def test_a_quiet_room_writes_at_once() -> None:
    pacing = FlushPacing()
    for second in range(20):
        assert pacing.flush_at(second, 0.005) == second
        pacing.flushed(second, 1)


@pytest.mark.parametrize(("hz", "waits"), [(200, False), (550, False), (700, True), (2000, True)])
def test_a_room_is_busy_when_a_window_would_collect_several(hz: int, waits: bool) -> None:
    pacing, now = FlushPacing(), 100.0
    for _ in range(hz):
        now += 1.0 / hz
        pacing.flushed(now, 1)
    assert (pacing.flush_at(now, 0.005) > now) is waits
    assert hz * 0.005 >= BUSY_FRAMES_PER_WINDOW or not waits


def test_a_busy_room_writes_a_window_after_its_last_write_and_is_calm_again_soon() -> None:
    room = busy(stream())
    assert room.pacing.flush_at(100.001, 0.005) == pytest.approx(100.005)
    assert room.pacing.flush_at(100.3, 0.005) == 100.3


@pytest.mark.parametrize(("members", "window_ms"), [(2, 5), (62, 5), (100, 8), (150, 12), (500, 16)])
def test_the_writes_of_one_room_take_a_sixteenth_of_the_worker_at_most(members: int, window_ms: float) -> None:
    flush_queue = FlushQueue(0.005, 0.016)
    assert flush_queue.window_for(members) * 1000 == pytest.approx(window_ms, rel=0.02)


def test_windows_can_be_switched_off_and_never_exceed_the_ceiling() -> None:
    assert FlushQueue(0.0, 0.016).window_for(500) == FlushQueue(0.005, 0.0).window_for(500) == 0.0
    assert FlushQueue(0.020, 0.016).window_for(2) == FlushQueue(0.020, 0.016).window_for(500) == 0.016


def test_what_is_urgent_takes_all_that_waits_along_at_once() -> None:
    flush_queue, room = FlushQueue(0.005, 0.016), busy(stream())
    room.out = [StreamFrame(b"cursor")]
    flush_queue.touch(room, 100.001)
    assert flush_queue.soonest == pytest.approx(100.005) and flush_queue.take_due(100.001) == []
    room.out = [*room.out, StreamFrame(b"play")]
    room.urgent = True
    flush_queue.touch(room, 100.002)
    assert flush_queue.soonest == 100.002 and flush_queue.take_due(100.002) == [room]
    assert [item.frame for item in room.take_items(100.002)] == [b"cursor", b"play"]
    assert flush_queue.soonest == inf and not room.urgent and flush_queue.take_due(101.0) == []


def test_rooms_flush_in_the_order_in_which_they_were_touched_and_do_not_wait_for_each_other() -> None:
    flush_queue, rooms = FlushQueue(0.005, 0.016), [stream(name) for name in "abc"]
    busy(rooms[1])
    for room in rooms:
        room.out = [StreamFrame(b"x")]
        flush_queue.touch(room, 100.001)
        flush_queue.touch(room, 100.001)
    assert [room.id for room in flush_queue.take_due(100.001)] == ["a", "c"]
    assert [room.id for room in flush_queue.take_due(flush_queue.soonest)] == ["b"]


def test_frames_waiting_when_a_room_begins_anew_keep_their_numbers_and_the_pacing_is_that_of_a_quiet_room() -> None:
    room = busy(stream())
    budget, meter = TokenBucket(10), Meter(100.0)
    member = MemberCore("ann", "s1", TokenBucket(20), 100.0)
    member.share_cursor = member.attached = True
    member.color = "#123456"
    room.seq = 6
    room.show_cursor(member, Cursor(x=0.5, y=0.5), 100.0)
    room.begin_anew(budget, meter, True)
    assert (room.seq, room.budget, room.meter, room.needs_timestamp) == (0, budget, meter, True)
    assert room.pacing.flush_at(100.001, 0.005) == 100.001
    room.show_now(member, Cursor(timestamp=1.0), 100.0)
    assert [item.frame.rsplit(b'"seq":')[1] for item in room.take_items(100.001)] == [b"7}", b"1}"]


def test_an_empty_room_is_not_scheduled() -> None:
    flush_queue = FlushQueue(0.005, 0.016)
    flush_queue.touch(stream(), 1.0)
    assert flush_queue.soonest == inf
