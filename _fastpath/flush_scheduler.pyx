# cython: language_level=3, boundscheck=False, wraparound=False
"""Flushes rooms at their scheduled times and routes plain cursors from a session's rate limiter into a room of this
worker.

The bus (cluster/bus.py) carries everything else, and cursors for rooms of other workers. Both append to the same stream
of the room, so there is one order. `FlushScheduler` writes its queue of due rooms; `FlushQueue` (room_core.pyx) holds
the schedule.
"""

import logging
from time import monotonic as real_clock

from libc.math cimport INFINITY

from koko_presence._fastpath.counters cimport hot, observe
from koko_presence._fastpath.fanout cimport RoomSubscription, StreamFrame
from koko_presence._fastpath.outbox cimport WriteBatch
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence._fastpath.room_core cimport FlushQueue, MemberCore, State, RoomCore
from koko_presence._fastpath.system cimport monotonic

cdef double SAMPLE_S = 0.1

# A flush of all rooms of a full worker takes tens of milliseconds. It is done in parts, between which the worker reads,
# so that playback and control wait for one part at most. The clock is read after this many socket writes of a part.
cdef double PART_S = 0.004
cdef Py_ssize_t WRITES_AT_ONCE = 128


cdef double read_clock(clock) except? -1.0:
    """`clock()`, without a Python call for the real clock."""
    return monotonic() if clock is real_clock else clock()


log = logging.getLogger("koko_presence.bus")


cdef class DeferredSender:
    """An object with values that wait for a budget of its own."""

    cdef double release(self, double now) except? -1.0:
        """Send the values whose tokens are available at monotonic second `now`. Returns when to call again, INFINITY
        for never."""
        return INFINITY


cdef class FlushScheduler:
    """Flushes rooms when `plan` requires it: by `call_soon` for a time that has passed, otherwise by `alarm`.

    `deliver(room, items, now)` delivers a flush through the bus; `flushed(now)` follows when all, or as many as are
    written at once, are delivered. `judge(now)` is called about every tenth of a second in which a room is flushed,
    `advise(room)` if the send interval of the plan differs from the one the room has announced. Due rooms are flushed
    in this order: those with playback or control, those with any other event, those with cursors only; within each
    group those scheduled first.
    """

    def __init__(self, FlushQueue plan not None, timers, clock, alarm, deliver, flushed, judge, advise):
        self.plan = plan
        self._timers = timers
        self._clock = clock
        self._alarm = alarm
        self._deliver = deliver
        self._flushed = flushed
        self._judge = judge
        self._advise = advise
        self._judge_at = -INFINITY
        self._alarm_at = INFINITY
        self._line = []
        self._waiters = []
        self._waiters_at = INFINITY

    def shorten(self, dict feeds, WriteBatch turn):
        """Enable direct delivery: while all subscribers are at the one edge of this worker, a flush that does not
        change the subscribers goes straight to the subscriptions in `feeds`; None disables it. `turn` is the write
        batch of this worker."""
        self._feeds = feeds
        self._turn = turn

    def pair(self, Round round not None):
        """Shorten the reading of `round` while due rooms wait."""
        self._round = round

    cpdef plan_flush(self, double now):
        """Ensure that `run` is called at the next scheduled time."""
        cdef double at = self.plan.soonest if self.plan.soonest < self._waiters_at else self._waiters_at
        if at <= now or self._line:
            if not self._soon:
                self._soon = True
                self._timers.call_soon(self.run)
        elif at < self._alarm_at:
            self._alarm_at = at
            self._alarm.schedule(at)

    cdef wait(self, DeferredSender waiter, double at, double now):
        """Call `waiter.release` at monotonic second `at`, or in a flush soon after."""
        if not waiter.listed:
            waiter.listed = True
            self._waiters.append(waiter)
        if at < self._waiters_at:
            self._waiters_at = at
            self.plan_flush(now)

    cdef release(self, double now):
        cdef list waiters = self._waiters
        cdef DeferredSender waiter
        cdef double at, soonest = INFINITY
        self._waiters, self._waiters_at = [], INFINITY
        for each in waiters:
            waiter = <DeferredSender>each
            waiter.listed = False
            try:
                at = waiter.release(now)
            except Exception:  # a fault in one value must not affect the others
                log.exception("a deferred value failed")
                continue
            if at != INFINITY and not waiter.listed:
                waiter.listed = True
                self._waiters.append(waiter)
            if at < soonest:
                soonest = at
        if soonest < self._waiters_at:
            self._waiters_at = soonest

    def run(self):
        """Flush the due rooms, for PART_S at most; the rest follows after the next round of reading."""
        cdef double now = read_clock(self._clock), until = now + PART_S
        cdef RoomCore room
        cdef list line
        cdef Py_ssize_t done = 0
        self._soon = False
        self._alarm_at = INFINITY
        if self._waiters_at <= now:
            self.release(now)
        line = self.line_up(self.plan.take_due(now))
        if self._turn is not None:
            self._turn.hold()
        try:
            for room in line:
                done += 1
                self.plan.begun(room)
                try:
                    if room.advised_ms != self.plan.advised_ms:
                        self._advise(room)
                    self.deliver(room, room.take_items(now), now)
                    if room._late:
                        self.plan.touch(room, now)
                except Exception:  # a fault in one room must not affect the others
                    log.exception("a flush failed")
                    if room._late:  # deferred cursors do not schedule a flush themselves
                        self.plan.touch(room, now + SAMPLE_S)
                if self._turn is not None and self._turn.waiting() >= WRITES_AT_ONCE:
                    self.write(now)
                    now = read_clock(self._clock)
                    if now >= until:
                        break
                    self._turn.hold()
        finally:
            self.write(now)
            self.count(line, done, now)
            if done < len(line):
                self._line = line[done:]
            if self._round is not None:
                self._round.behind = done < len(line)
            if now >= self._judge_at:
                self._judge_at = now + SAMPLE_S
                self._judge(now)
            self.plan_flush(now)

    cdef write(self, double now):
        """Write what has been delivered. Messages to other workers go first: if this worker dies in between, its
        clients have seen nothing that other workers lack."""
        if self._feeds is None:
            self._flushed(now)
        if self._turn is not None:
            self._turn.write()

    cdef list line_up(self, list due):
        """All due rooms in the order in which they are flushed."""
        cdef RoomCore room
        cdef list line = self._line, events, cursors
        if line:
            line.extend(due)
            self._line = []
        else:
            line = due
        if len(line) < 2:
            return line
        due, events, cursors = [], [], []
        for room in line:
            if room.urgent:
                due.append(room)
            elif room.eventful:
                events.append(room)
            else:
                cursors.append(room)
        due.extend(events)
        due.extend(cursors)
        return due

    cdef count(self, list served, Py_ssize_t size, double now):
        """Count the first `size` of these rooms as flushed."""
        cdef Py_ssize_t index
        cdef RoomCore room
        if self._clock is real_clock:  # a test clock does not advance within an iteration
            now = monotonic()
        for index in range(size):
            room = <RoomCore>served[index]
            if room.flushing_since >= 0.0:
                hot.flushes += 1
                observe(&hot.broadcast, now - room.flushing_since)

    cdef deliver(self, RoomCore room, list items, double now):
        cdef StreamFrame item
        if self._feeds is not None:
            for item in items:
                if item.attach or item.detach or item.refusal:
                    break
            else:
                feed = self._feeds.get(room.id) if items else None
                if feed is not None:
                    (<RoomSubscription>feed).fan_out(items, room.wall.iso(now) if (<RoomSubscription>feed).any_compact else "")
                return
        self._deliver(room, items, now)


cdef class CursorRoute:
    """Routes the plain cursors of one session into one room. `on_second(room, now)` is called when a second of events
    has been counted [L2]."""

    def __init__(self, RoomCore room not None, MemberCore pointer not None, FlushScheduler road not None, on_second):
        self.key = room.id.encode()
        self.at = -INFINITY
        self._room = room
        self._pointer = pointer
        self._road = road
        self._on_second = on_second

    def last(self):
        """The session's last cursor, for routes to rooms that do not store it; None here."""
        return None

    def note_last(self, cursor):
        """Record a last cursor that took another path; None if the last one must not be shown. Does nothing here."""

    cdef bint admits(self, CursorText* cursor) except -1:
        """Whether the room would accept the cursor with no check left but the budgets."""
        return self._pointer.may_show() and (cursor.has_timestamp or not self._room.needs_timestamp)

    cdef bint unsent(self) except -1:
        """Whether the previous cursor is not encoded yet, so that the next one replaces it."""
        return self._pointer.is_fresh()

    cdef put(self, CursorText* cursor, double now):
        """Pass an admitted cursor to the room, which shows it or defers it until its budgets allow it."""
        cdef RoomCore room = self._room
        cdef MemberCore pointer = self._pointer
        cdef State before
        if room.meter.tick(now):
            self._on_second(room, now)
        pointer.last_active_at = now
        before = pointer._state
        room.offer(pointer, cursor, now)
        if pointer._state != before:  # otherwise it has replaced a cursor that is scheduled
            self._road.plan.touch(room, now)
            self._road.plan_flush(now)
