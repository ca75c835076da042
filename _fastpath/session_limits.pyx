# cython: language_level=3, boundscheck=False, wraparound=False
"""Checks, counts and routes the plain cursors of one session without a Python call.

A cursor is accepted only if every rule of the session would accept it, with no effect but the counting. In any other
case nothing is changed and the message takes the Python path, through server/session.py.

Several cursors for a room in one round count once against every rate: they may have been sent one by one while the
worker was busy. Above the session's own rate the newest cursor of each room waits in its cursor route [E2, L1]. The
limiter writes its times, buckets and deferred cursors; `Session`, `ActivityWatch` and `Memberships` write the flags.
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
from koko_presence.protocol.models import Cursor

log = logging.getLogger("koko_presence.connection")


cdef class SessionRateLimiter(DeferredSender):
    """The rate limiter of one session.

    `seen_at` is the time of the last message, `last_activity_at` of the last one that was not only a heartbeat [D4].
    Plain cursors pass while the session is `open` (past auth), `active` (no status change to active is due) and not
    `has_pending` (no cursor waits on the Python path, and the session is not invisible).
    `memberships.show_deferred(room_id, cursor, now)` gets a deferred cursor that its route does not accept any more;
    `memberships.note_flood(now)` is called for each cursor above the connection's rate and returns whether that is
    still tolerated.
    """

    def __init__(self, TokenBucket messages not None, TokenBucket cursors not None, Py_ssize_t max_bytes, clock,
                 double now, memberships, Round round not None):
        self._messages = messages
        self._cursors = cursors
        self._max_bytes = max_bytes
        self._clock = clock
        self._memberships = memberships
        self._round = round
        self._routes = []
        self._deferred = []  # routes whose newest cursor waits for the session's budget, the longest first
        self.seen_at = self.last_activity_at = now

    def note_received(self, double now):
        """Record a message of any kind."""
        self.seen_at = now

    def note_activity(self, double now):
        """Record a message other than a heartbeat."""
        self.last_activity_at = now

    def add_route(self, CursorRoute route not None, CursorRoute before=None):
        """Add the route to a room that the session has joined, in place of `before`; a deferred cursor moves to it."""
        self._routes = [route] + [each for each in self._routes if each is not before]
        if before is not None and before.has_deferred:
            route.has_deferred, route.value = True, before.value
            self._deferred[self._deferred.index(before)] = route

    def drop_route(self, CursorRoute route not None):
        """Remove a route. Returns its deferred cursor, None without one."""
        waited = self.take_back(route)
        self._routes = [each for each in self._routes if each is not route]
        return waited

    def take_back(self, CursorRoute route not None):
        """Remove and return the deferred cursor of a route; None without one."""
        if not route.has_deferred:
            return None
        route.has_deferred = False
        self._deferred.remove(route)
        return as_cursor(&route.value)

    def take_all_back(self):
        """Remove and return all deferred cursors, as (room id, cursor), the longest waiting first."""
        deferred, self._deferred = self._deferred, []
        for each in deferred:
            (<CursorRoute>each).has_deferred = False
        return [((<CursorRoute>each).key.decode(), as_cursor(&(<CursorRoute>each).value)) for each in deferred]

    def unsent(self, CursorRoute route not None):
        """Whether the last cursor of a route is still on its way into the room, so that the next one replaces it."""
        return route.unsent()

    def forget_last(self):
        """Drop all last cursors, because the session hides its cursor or has hidden it until now: no next owner gets
        them."""
        for each in self._routes:
            each.note_last(None)

    def take(self, bytes data not None):
        """True if `data` is a plain cursor and was accepted; otherwise False, and nothing was changed."""
        return self.pass_through(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef bint pass_through(self, const char* text, Py_ssize_t size) except -1:
        cdef CursorText cursor
        cdef CursorRoute route
        cdef double now
        if not self.open or not self.active or self.has_pending or size > self._max_bytes:
            return False
        if not scan_cursor(text, size, &cursor):
            return False
        for each in self._routes:
            route = <CursorRoute>each
            if PyBytes_GET_SIZE(route.key) == cursor.room_size and (
                memcmp(PyBytes_AS_STRING(route.key), cursor.room, cursor.room_size) == 0
            ):
                break
        else:
            return False
        now = self._round.started_at if self._round.open else read_clock(self._clock)
        if not route.admits(&cursor):
            return False
        if route.at != now and not self._messages.take(now) and not self._memberships.note_flood(now):
            return False
        route.at = self.seen_at = self.last_activity_at = now
        hot.cursors_received += 1
        if route.has_deferred:
            route.value = cursor
            hot.cursors_superseded += 1
        elif route.unsent() or self._cursors.take(now):
            route.put(&cursor, now)
        else:
            self.defer(route, &cursor, now)
        return True

    cdef defer(self, CursorRoute route, CursorText* cursor, double now):
        route.has_deferred, route.value = True, cursor[0]
        self._deferred.append(route)
        if len(self._deferred) == 1:
            route._scheduler.wait(self, self._cursors.ready_at(now), now)

    cdef double release(self, double now) except? -1.0:
        cdef CursorRoute route
        while self._deferred:
            if not self.open:
                for each in self._deferred:
                    (<CursorRoute>each).has_deferred = False
                self._deferred = []
                break
            if not self._cursors.take(now):
                return self._cursors.ready_at(now)
            route = <CursorRoute>self._deferred.pop(0)
            route.has_deferred = False
            try:
                if route.admits(&route.value):
                    route.put(&route.value, now)
                else:
                    self._memberships.show_deferred(route.key.decode(), as_cursor(&route.value), now)
            except Exception:  # a fault in one cursor must not affect those of other rooms
                log.exception("a deferred cursor failed")
        return INFINITY


cdef as_cursor(CursorText* cursor):
    return Cursor(
        timestamp=cursor.timestamp if cursor.has_timestamp else UNSET,
        x=cursor.x if cursor.has_point else UNSET,
        y=cursor.y if cursor.has_point else UNSET,
    )
