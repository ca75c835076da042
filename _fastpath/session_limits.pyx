# cython: language_level=3, boundscheck=False, wraparound=False
"""Where a session's plain cursors turn off the long road: seen, counted and passed on without one Python call.

A gate takes a cursor only when every rule of the session would say yes without a side effect but the counting of it. At
the least doubt it does nothing at all and the message goes the long way, through server/session.py.

Several cursors of one turn count once, against every rate: they may have come one by one, and it was the worker that was
late. Above the session's own rate the newest cursor of each room waits in its lane [E2, L1].
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.string cimport memcmp

from msgspec import UNSET

from koko_presence._fastpath.counters cimport hot
from koko_presence._fastpath.flush_scheduler cimport CursorRoute, DeferredSender, read_clock
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.cursor_parser cimport CursorText, scan_cursor
from koko_presence._fastpath.throttle cimport TokenBucket
from koko_presence.protocol.messages import Cursor

log = logging.getLogger("koko_presence.connection")


cdef class SessionRateLimiter(DeferredSender):
    """One session's gate. `seen_at` is the time of its last message, `stirred_at` of the last that was not only a
    heartbeat [D4]; plain cursors pass while the session says that it is `open` (past auth), `awake` (nobody needs to
    be told that it is active) and not `crowded` (no cursor waits on the long way for the session's own budget).
    `rooms.show_late(room_id, cursor, now)` takes one that has waited here and is not for its lane any more;
    `rooms.note_flood(now)` hears of each above the connection's rate, and says whether that may go on.
    """

    def __init__(self, TokenBucket messages not None, TokenBucket cursors not None, Py_ssize_t max_bytes, clock,
                 double now, rooms, Round round not None):
        self._messages = messages
        self._cursors = cursors
        self._max_bytes = max_bytes
        self._clock = clock
        self._rooms = rooms
        self._round = round
        self._lanes = []
        self._late = []  # lanes whose newest cursor waits for the session's budget, the longest first
        self.seen_at = self.stirred_at = now

    def note_life(self, double now):
        """A message of any kind came."""
        self.seen_at = now

    def note_stir(self, double now):
        """Something other than a heartbeat came."""
        self.stirred_at = now

    def add_lane(self, CursorRoute lane not None):
        """The session is in a room and hears it."""
        cdef CursorRoute before = self.find(lane.key.decode())
        self._lanes = [lane] + [each for each in self._lanes if (<CursorRoute>each).key != lane.key]
        if before is not None and before.holds:
            lane.holds, lane.value = True, before.value
            self._late[self._late.index(before)] = lane

    def drop_lane(self, str room_id not None):
        """The session has left a room, or the way there is lost. Gives back the cursor that waited for it, if any."""
        waited = self.take_back(room_id)
        key = room_id.encode()
        self._lanes = [each for each in self._lanes if (<CursorRoute>each).key != key]
        return waited

    def take_back(self, str room_id not None):
        """The cursor that waits here for a room, which is its caller's now; None when there is none."""
        cdef CursorRoute lane = self.find(room_id)
        if lane is None or not lane.holds:
            return None
        lane.holds = False
        self._late.remove(lane)
        return as_cursor(&lane.value)

    def take_all_back(self):
        """All cursors that wait here, as (room id, cursor), the longest first; they are the caller's now."""
        late, self._late = self._late, []
        for each in late:
            (<CursorRoute>each).holds = False
        return [((<CursorRoute>each).key.decode(), as_cursor(&(<CursorRoute>each).value)) for each in late]

    def unsent(self, str room_id not None):
        """Is the session's last cursor still on its way into the room? Then the next takes its place."""
        cdef CursorRoute lane = self.find(room_id)
        return lane is not None and lane.unsent()

    def last_cursor(self, str room_id not None):
        """The last cursor for another worker's room; None when none is known, and one without a point or a second of the
        video for one that was put away."""
        cdef CursorRoute lane = self.find(room_id)
        return None if lane is None else lane.last()

    def note_last(self, str room_id not None, cursor):
        """The session's last cursor in a room went the long way; None for one that the room's next owner is not told."""
        cdef CursorRoute lane = self.find(room_id)
        if lane is not None:
            lane.note_last(cursor)

    def forget_last(self):
        """No room's next owner is told of what was shown so far: the session hides it, or has hidden it until now."""
        for each in self._lanes:
            each.note_last(None)

    def take(self, bytes data not None):
        """True when `data` was a plain cursor and is on its way; False, and nothing done, for all else."""
        return self.pass_through(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef CursorRoute find(self, str room_id):
        cdef bytes key = room_id.encode()
        for each in self._lanes:
            if (<CursorRoute>each).key == key:
                return <CursorRoute>each
        return None

    cdef bint pass_through(self, const char* text, Py_ssize_t size) except -1:
        cdef CursorText cursor
        cdef CursorRoute lane
        cdef double now
        if not self.open or not self.awake or self.crowded or size > self._max_bytes:
            return False
        if not scan_cursor(text, size, &cursor):
            return False
        for each in self._lanes:
            lane = <CursorRoute>each
            if PyBytes_GET_SIZE(lane.key) == cursor.room_size and (
                memcmp(PyBytes_AS_STRING(lane.key), cursor.room, cursor.room_size) == 0
            ):
                break
        else:
            return False
        now = self._round.started_at if self._round.open else read_clock(self._clock)
        if not lane.admits(&cursor):
            return False
        if lane.at != now and not self._messages.take(now) and not self._rooms.note_flood(now):
            return False
        lane.at = self.seen_at = self.stirred_at = now
        hot.cursors_received += 1
        if lane.holds:
            lane.value = cursor
            hot.cursors_superseded += 1
        elif lane.unsent() or self._cursors.take(now):
            lane.put(&cursor, now)
        else:
            self.hold(lane, &cursor, now)
        return True

    cdef hold(self, CursorRoute lane, CursorText* cursor, double now):
        lane.holds, lane.value = True, cursor[0]
        self._late.append(lane)
        if len(self._late) == 1:
            lane._road.wait(self, self._cursors.ready_at(now), now)

    cdef double release(self, double now) except? -1.0:
        cdef CursorRoute lane
        while self._late:
            if not self.open:
                for each in self._late:
                    (<CursorRoute>each).holds = False
                self._late = []
                break
            if not self._cursors.take(now):
                return self._cursors.ready_at(now)
            lane = <CursorRoute>self._late.pop(0)
            lane.holds = False
            try:
                if lane.admits(&lane.value):
                    lane.put(&lane.value, now)
                else:
                    self._rooms.show_late(lane.key.decode(), as_cursor(&lane.value), now)
            except Exception:  # a fault of ours in one cursor; those of the other rooms still wait
                log.exception("a deferred cursor failed")
        return INFINITY


cdef as_cursor(CursorText* cursor):
    return Cursor(
        timestamp=cursor.timestamp if cursor.has_timestamp else UNSET,
        x=cursor.x if cursor.has_point else UNSET,
        y=cursor.y if cursor.has_point else UNSET,
    )
