from koko_presence._fastpath.flush_scheduler cimport CursorRoute, DeferredSender
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence._fastpath.throttle cimport TokenBucket


cdef class SessionRateLimiter(DeferredSender):
    cdef readonly double seen_at
    cdef readonly double last_activity_at
    cdef public bint open
    cdef public bint active
    cdef public bint has_pending
    cdef TokenBucket _messages
    cdef TokenBucket _cursors
    cdef Py_ssize_t _max_bytes
    cdef object _clock
    cdef object _memberships
    cdef Round _round
    cdef list _routes
    cdef list _deferred

    cdef bint pass_through(self, const char* text, Py_ssize_t size) except -1
    cdef defer(self, CursorRoute route, CursorText* cursor, double now)
