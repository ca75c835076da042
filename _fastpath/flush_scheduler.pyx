# cython: language_level=3, boundscheck=False, wraparound=False
"""The short way of a cursor on one worker: from its session's gate into its room, and from the room to the receivers.

The bus (cluster/bus.py) is the long way, for everything else and for rooms that live elsewhere. Both put the same items
into the same stream, so their order is one.
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

# A flush of all rooms of a full worker takes tens of milliseconds. It is done in parts, between which the worker reads, so
# that playback and control wait for a part only; in a part, so many sockets are written to between two looks at the clock.
cdef double PART_S = 0.004
cdef Py_ssize_t WRITES_AT_ONCE = 128


cdef double read_clock(clock) except? -1.0:
    """`clock()`, without a Python call when it is the real one."""
    return monotonic() if clock is real_clock else clock()


log = logging.getLogger("koko_presence.bus")


cdef class DeferredSender:
    """Somebody with values that wait for a budget of its own."""

    cdef double release(self, double now) except? -1.0:
        """Pass on what may go at monotonic second `now`. Returns when to come again, INFINITY for not at all."""
        return INFINITY


cdef class FlushScheduler:
    """Flushes rooms when `plan` says so: soon for a time that has come, else with `alarm`.

    `deliver(room, items, now)` takes a flush the long way, `flushed(now)` follows when all are delivered, or as many as
    are written at once, and `judge(now)` about every tenth of a second in which something is flushed; `advise(room)` when
    the plan's advice is not what the room was told. Rooms whose time has come stand in a line: those with playback or
    control first, then those with any other event, then those with cursors alone; the first planned first.
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
        """`turn` is what the sockets of this worker are written with. When all receivers are at its one edge, a flush that
        changes no receivers goes straight to its `feeds`; None ends that."""
        self._feeds = feeds
        self._turn = turn

    def pair(self, Round round not None):
        """Reading gives way to writing while rooms stand in the line."""
        self._round = round

    cpdef plan_flush(self, double now):
        """Make sure that `run` is called when the plan wants it."""
        cdef double at = self.plan.soonest if self.plan.soonest < self._waiters_at else self._waiters_at
        if at <= now or self._line:
            if not self._soon:
                self._soon = True
                self._timers.call_soon(self.run)
        elif at < self._alarm_at:
            self._alarm_at = at
            self._alarm.want(at)

    cdef wait(self, DeferredSender waiter, double at, double now):
        """`waiter.release` is to be called at monotonic second `at`, or in a flush soon after."""
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
            except Exception:  # a fault of ours in one value; it takes no others with it
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
        """Flush the rooms whose time has come, as far as this part goes; the rest when the worker has read again."""
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
                except Exception:  # a fault in one room must not silence the others
                    log.exception("a flush failed")
                    if room._late:  # their owners do not plan a flush again
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
        """Write what has been delivered. Other workers come first: should this one die between the two, its own clients
        have seen nothing that no other worker knows."""
        if self._feeds is None:
            self._flushed(now)
        if self._turn is not None:
            self._turn.write()

    cdef list line_up(self, list due):
        """All rooms whose time has come, in the order in which they are served."""
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
        """The first so many of these have been written."""
        cdef Py_ssize_t index
        cdef RoomCore room
        if self._clock is real_clock:  # any other one stands still in a turn
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
    """The way of one session's plain cursors into one room. `on_second(room, now)` hears that a second's worth of
    events has been counted [L2]."""

    def __init__(self, RoomCore room not None, MemberCore pointer not None, FlushScheduler road not None, on_second):
        self.key = room.id.encode()
        self.at = -INFINITY
        self._room = room
        self._pointer = pointer
        self._road = road
        self._on_second = on_second

    def last(self):
        """The last cursor, where the room itself does not know it."""
        return None

    def note_last(self, cursor):
        """The session's last cursor is `cursor`, which came another way; None: whatever it was, it is not to be shown."""

    cdef bint admits(self, CursorText* cursor) except -1:
        """Would it be shown, with no rule but the budgets?"""
        return self._pointer.may_show() and (cursor.has_timestamp or not self._room.needs_timestamp)

    cdef bint unsent(self) except -1:
        """Is the last one still on its way into the room's stream? Then the next takes its place."""
        return self._pointer.is_fresh()

    cdef put(self, CursorText* cursor, double now):
        """Show a cursor that is admitted, or let it wait in the room for its budgets there."""
        cdef RoomCore room = self._room
        cdef MemberCore pointer = self._pointer
        cdef State before
        if room.meter.tick(now):
            self._on_second(room, now)
        pointer.last_active_at = now
        before = pointer._state
        room.offer(pointer, cursor, now)
        if pointer._state != before:  # else it has taken the place of one that is planned
            self._road.plan.touch(room, now)
            self._road.plan_flush(now)
