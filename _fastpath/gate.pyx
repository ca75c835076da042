# cython: language_level=3, boundscheck=False, wraparound=False
"""Where a session's plain cursors turn off the long road: seen, counted and passed on without one Python call.

A gate lets a message through only when every rule of the session would say yes without a side effect but the counting
of it. At the least doubt it does nothing at all and the message goes the long way, through edge/session.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

from koko_presence._fastpath.counters cimport hot
from koko_presence._fastpath.road cimport Lane, read_clock
from koko_presence._fastpath.scan cimport CursorText, scan_cursor
from koko_presence._fastpath.throttle cimport TokenBucket


cdef class Gate:
    """One session's gate. `seen_at` is the time of its last message, `stirred_at` of the last that was not only a
    heartbeat [D4]; plain cursors pass while the session says that it is `open` (past auth), `awake` (nobody needs to
    be told that it is active) and not `crowded` (no value waits for the session's own budget).
    """

    def __init__(self, TokenBucket messages not None, TokenBucket cursors not None, Py_ssize_t max_bytes, clock,
                 double now):
        self._messages = messages
        self._cursors = cursors
        self._max_bytes = max_bytes
        self._clock = clock
        self._lanes = []
        self.seen_at = self.stirred_at = now

    def note_life(self, double now):
        """A message of any kind came."""
        self.seen_at = now

    def note_stir(self, double now):
        """Something other than a heartbeat came."""
        self.stirred_at = now

    def add_lane(self, Lane lane not None):
        """The session is in a room and hears it."""
        self._lanes = [lane] + [each for each in self._lanes if (<Lane>each).key != lane.key]

    def drop_lane(self, str room_id not None):
        """The session has left a room."""
        key = room_id.encode()
        self._lanes = [each for each in self._lanes if (<Lane>each).key != key]

    def last_cursor(self, str room_id not None):
        """The last cursor that went to another worker's room by its lane; None when there was none."""
        key = room_id.encode()
        for each in self._lanes:
            if (<Lane>each).key == key:
                return (<Lane>each).last()
        return None

    def take(self, bytes data not None):
        """True when `data` was a plain cursor and is on its way; False, and nothing done, for all else."""
        return self.pass_through(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef bint pass_through(self, const char* text, Py_ssize_t size) except -1:
        cdef CursorText cursor
        cdef Lane lane
        cdef double now
        if not self.open or not self.awake or self.crowded or size > self._max_bytes:
            return False
        if not scan_cursor(text, size, &cursor):
            return False
        for each in self._lanes:
            lane = <Lane>each
            if PyBytes_GET_SIZE(lane.key) == cursor.room_size and (
                memcmp(PyBytes_AS_STRING(lane.key), cursor.room, cursor.room_size) == 0
            ):
                break
        else:
            return False
        now = read_clock(self._clock)
        if self._messages.ready_at(now) > now or self._cursors.ready_at(now) > now or not lane.put(&cursor, now):
            return False
        self._messages.take(now)
        self._cursors.take(now)
        self.seen_at = self.stirred_at = now
        hot.cursors_received += 1
        return True
