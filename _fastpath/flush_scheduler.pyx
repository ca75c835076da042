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
    """Flushes rooms when `flush_queue` requires it: by `call_soon` for a time that has passed, otherwise by `alarm`.

    `deliver(room, items, now)` delivers a flush through the bus; `flushed(now)` follows when all, or as many as are
    written at once, are delivered. `judge(now)` is called about every tenth of a second in which a room is flushed,
    `advise(room)` if the send interval of `flush_queue` differs from the one the room has applied. Due rooms are
    flushed in this order: those with playback or control, those with any other event, those with cursors only; within
    each group those scheduled first.
    """

    def __init__(self, FlushQueue flush_queue not None, timers, clock, alarm, deliver, flushed, judge, advise):
        self.flush_queue = flush_queue
        self._timers = timers
        self._clock = clock
        self._alarm = alarm
        self._deliver = deliver
        self._flushed = flushed
        self._judge = judge
        self._advise = advise
        self._judge_at = -INFINITY
        self._alarm_at = INFINITY
        self._backlog = []
        self._senders = []
        self._senders_at = INFINITY

    def use_fast_path(self, dict subscriptions, WriteBatch write_batch):
        """Enable direct delivery: while all subscribers are at the one edge of this worker, a flush that does not
        change the subscribers goes straight to the subscriptions in `subscriptions`; None disables it. `write_batch` is
        the write batch of this worker."""
        self._subscriptions = subscriptions
        self._write_batch = write_batch

    def use_round(self, Round round not None):
        """Shorten the reading of `round` while due rooms wait."""
        self._round = round

    cpdef schedule_flush(self, double now):
        """Ensure that `run` is called at the next scheduled time."""
        cdef double at = self.flush_queue.soonest if self.flush_queue.soonest < self._senders_at else self._senders_at
        if at <= now or self._backlog:
            if not self._soon:
                self._soon = True
                self._timers.call_soon(self.run)
        elif at < self._alarm_at:
            self._alarm_at = at
            self._alarm.schedule(at)

    cdef wait(self, DeferredSender sender, double at, double now):
        """Call `sender.release` at monotonic second `at`, or in a flush soon after."""
        if not sender.listed:
            sender.listed = True
            self._senders.append(sender)
        if at < self._senders_at:
            self._senders_at = at
            self.schedule_flush(now)

    cdef release(self, double now):
        cdef list senders = self._senders
        cdef DeferredSender sender
        cdef double at, soonest = INFINITY
        self._senders, self._senders_at = [], INFINITY
        for each in senders:
            sender = <DeferredSender>each
            sender.listed = False
            try:
                at = sender.release(now)
            except Exception:  # a fault in one value must not affect the others
                log.exception("a deferred value failed")
                continue
            if at != INFINITY and not sender.listed:
                sender.listed = True
                self._senders.append(sender)
            if at < soonest:
                soonest = at
        if soonest < self._senders_at:
            self._senders_at = soonest

    def run(self):
        """Flush the due rooms, for PART_S at most; the rest follows after the next round of reading."""
        cdef double now = read_clock(self._clock), until = now + PART_S
        cdef RoomCore room
        cdef list rooms
        cdef Py_ssize_t done = 0
        self._soon = False
        self._alarm_at = INFINITY
        if self._senders_at <= now:
            self.release(now)
        rooms = self.order(self.flush_queue.take_due(now))
        if self._write_batch is not None:
            self._write_batch.hold()
        try:
            for room in rooms:
                done += 1
                self.flush_queue.begun(room)
                try:
                    if room.advised_ms != self.flush_queue.advised_ms:
                        self._advise(room)
                    self.deliver(room, room.take_items(now), now)
                    if room._deferred:
                        self.flush_queue.touch(room, now)
                except Exception:  # a fault in one room must not affect the others
                    log.exception("a flush failed")
                    if room._deferred:  # deferred cursors do not schedule a flush themselves
                        self.flush_queue.touch(room, now + SAMPLE_S)
                if self._write_batch is not None and self._write_batch.waiting() >= WRITES_AT_ONCE:
                    self.write(now)
                    now = read_clock(self._clock)
                    if now >= until:
                        break
                    self._write_batch.hold()
        finally:
            self.write(now)
            self.count(rooms, done, now)
            if done < len(rooms):
                self._backlog = rooms[done:]
            if self._round is not None:
                self._round.behind = done < len(rooms)
            if now >= self._judge_at:
                self._judge_at = now + SAMPLE_S
                self._judge(now)
            self.schedule_flush(now)

    cdef write(self, double now):
        """Write what has been delivered. Messages to other workers go first: if this worker dies in between, its
        clients have seen nothing that other workers lack."""
        if self._subscriptions is None:
            self._flushed(now)
        if self._write_batch is not None:
            self._write_batch.write()

    cdef list order(self, list due):
        """All due rooms in the order in which they are flushed."""
        cdef RoomCore room
        cdef list rooms = self._backlog, events, cursors
        if rooms:
            rooms.extend(due)
            self._backlog = []
        else:
            rooms = due
        if len(rooms) < 2:
            return rooms
        due, events, cursors = [], [], []
        for room in rooms:
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
        if self._subscriptions is not None:
            for item in items:
                if item.attach or item.detach or item.refusal:
                    break
            else:
                subscription = self._subscriptions.get(room.id) if items else None
                if subscription is not None:
                    (<RoomSubscription>subscription).fan_out(
                        items, room.wall.iso(now) if (<RoomSubscription>subscription).any_compact else ""
                    )
                return
        self._deliver(room, items, now)


cdef class CursorRoute:
    """Routes the plain cursors of one session into one room. `on_second(room, now)` is called when a second of events
    has been counted [L2]."""

    def __init__(
        self, RoomCore room not None, MemberCore member not None, FlushScheduler scheduler not None, on_second
    ):
        self.key = room.id.encode()
        self.at = -INFINITY
        self._room = room
        self._member = member
        self._scheduler = scheduler
        self._on_second = on_second

    def last(self):
        """The session's last cursor, for routes to rooms that do not store it; None here."""
        return None

    def note_last(self, cursor):
        """Record a last cursor that took another path; None if the last one must not be shown. Does nothing here."""

    cdef bint admits(self, CursorText* cursor) except -1:
        """Whether the room would accept the cursor with no check left but the budgets."""
        return self._member.may_show() and (cursor.has_timestamp or not self._room.needs_timestamp)

    cdef bint unsent(self) except -1:
        """Whether the previous cursor is not encoded yet, so that the next one replaces it."""
        return self._member.is_fresh()

    cdef put(self, CursorText* cursor, double now):
        """Pass an admitted cursor to the room, which shows it or defers it until its budgets allow it."""
        cdef RoomCore room = self._room
        cdef MemberCore member = self._member
        cdef State before
        if room.meter.tick(now):
            self._on_second(room, now)
        member.last_active_at = now
        before = member._state
        room.offer(member, cursor, now)
        if member._state != before:  # otherwise it has replaced a cursor that is scheduled
            self._scheduler.flush_queue.touch(room, now)
            self._scheduler.schedule_flush(now)
