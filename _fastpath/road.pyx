# cython: language_level=3, boundscheck=False, wraparound=False
"""The short way of a cursor on one worker: from its session's gate into its room, and from the room to the receivers.

The bus (cluster/bus.py) is the long way, for everything else and for rooms that live elsewhere. Both put the same items
into the same stream, so their order is one.
"""

import logging
from time import monotonic as real_clock

from libc.math cimport INFINITY

from koko_presence._fastpath.counters cimport hot, observe
from koko_presence._fastpath.fanout cimport Feed, Item
from koko_presence._fastpath.outbox cimport Turn
from koko_presence._fastpath.scan cimport CursorText
from koko_presence._fastpath.stream cimport FlushPlan, Pointer, Stream
from koko_presence._fastpath.system cimport monotonic

cdef double SAMPLE_S = 0.1


cdef double read_clock(clock) except? -1.0:
    """`clock()`, without a Python call when it is the real one."""
    return monotonic() if clock is real_clock else clock()


log = logging.getLogger("koko_presence.bus")


cdef class LocalRoad:
    """Flushes rooms when `plan` says so: soon for a time that has come, else with `alarm`.

    `deliver(room, items, now)` takes a flush the long way, `flushed(now)` follows when all are delivered, and `judge(now)`
    about every tenth of a second in which something is flushed.
    """

    def __init__(self, FlushPlan plan not None, timers, clock, alarm, deliver, flushed, judge):
        self.plan = plan
        self._timers = timers
        self._clock = clock
        self._alarm = alarm
        self._deliver = deliver
        self._flushed = flushed
        self._judge = judge
        self._judge_at = -INFINITY
        self._alarm_at = INFINITY

    def shorten(self, dict feeds, Turn turn):
        """All receivers are at one edge, whose feeds are `feeds`: a flush that changes no receivers goes straight there
        and is written with `turn`. None ends that."""
        self._feeds = feeds
        self._turn = turn

    cpdef plan_flush(self, double now):
        """Make sure that `run` is called when the plan wants it."""
        cdef double at = self.plan.soonest
        if at <= now:
            if not self._soon:
                self._soon = True
                self._timers.call_soon(self.run)
        elif at < self._alarm_at:
            self._alarm_at = at
            self._alarm.want(at)

    def run(self):
        """Flush the rooms whose time has come."""
        cdef double now = read_clock(self._clock)
        cdef Stream room
        cdef list due = self.plan.take_due(now)
        self._soon = False
        self._alarm_at = INFINITY
        if self._turn is not None:
            self._turn.hold()
        try:
            for room in due:
                try:
                    self.deliver(room, room.take_items(now), now)
                except Exception:  # a fault in one room must not silence the others
                    log.exception("a flush failed")
        finally:
            if self._turn is not None:
                self._turn.write()
            else:
                self._flushed(now)
            self.count(due, now)
            if now >= self._judge_at:
                self._judge_at = now + SAMPLE_S
                self._judge(now)
            self.plan_flush(now)

    cdef count(self, list due, double now):
        """All of these have been written; `now` is when that began."""
        if self._clock is real_clock:  # any other one stands still in a turn
            now = monotonic()
        for room in due:
            if (<Stream>room).flushing_since >= 0.0:
                hot.flushes += 1
                observe(&hot.broadcast, now - (<Stream>room).flushing_since)

    cdef deliver(self, Stream room, list items, double now):
        cdef Item item
        if self._feeds is not None:
            for item in items:
                if item.attach or item.detach or item.refusal:
                    break
            else:
                feed = self._feeds.get(room.id)
                if feed is not None:
                    (<Feed>feed).fan_out(items, room.wall.iso(now) if (<Feed>feed).any_compact else "")
                return
        self._deliver(room, items, now)


cdef class Lane:
    """The way of one session's plain cursors into one room. `on_second(room, now)` hears that a second's worth of
    events has been counted [L2]."""

    def __init__(self, Stream room not None, Pointer pointer not None, LocalRoad road not None, on_second):
        self.key = room.id.encode()
        self._room = room
        self._pointer = pointer
        self._road = road
        self._on_second = on_second

    def last(self):
        """The last cursor, where the room itself does not know it."""
        return None

    cdef bint put(self, CursorText* cursor, double now) except -1:
        """Show the cursor; False, and nothing done, when some rule has a word to say."""
        cdef Stream room = self._room
        cdef Pointer pointer = self._pointer
        if not pointer.may_show() or (room.needs_timestamp and not cursor.has_timestamp):
            return False
        if pointer.cursor_bucket.ready_at(now) > now or not room.budget.take(now):
            return False
        pointer.cursor_bucket.take(now)
        if room.meter.tick(now):
            self._on_second(room, now)
        pointer.last_active_at = now
        pointer.cursor_put_away = False
        pointer._unread = True
        pointer._has_timestamp = cursor.has_timestamp
        pointer._has_point = cursor.has_point
        pointer._timestamp = cursor.timestamp
        pointer._x = cursor.x
        pointer._y = cursor.y
        room.show(
            pointer, cursor.has_timestamp, cursor.has_point, cursor.timestamp, cursor.x, cursor.y, now
        )
        self._road.plan.touch(room, now)
        self._road.plan_flush(now)
        return True
