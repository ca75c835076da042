from koko_presence._fastpath.fanout cimport CursorTemplate
from koko_presence._fastpath.throttle cimport Meter, TokenBucket, Trailing
from koko_presence._fastpath.wallclock cimport WallClock


cdef class Pace:
    cdef double _flushed_at
    cdef double _recent

    cpdef double flush_at(self, double now, double window_s)
    cpdef flushed(self, double now, Py_ssize_t frames)


cdef class Stream:
    cdef readonly str id
    cdef readonly bint needs_timestamp
    cdef readonly WallClock wall
    cdef readonly TokenBucket budget
    cdef readonly Meter meter
    cdef readonly Pace pace
    cdef readonly dict members
    cdef public list out
    cdef public bint urgent
    cdef public unsigned long long seq
    cdef double planned_at
    cdef double touched_at  # when the first of what waits came
    cdef double flushing_since  # the same of what is being flushed; below 0 for nothing

    cpdef list take_items(self, double now)
    cdef show(self, Pointer pointer, bint has_timestamp, bint has_point, double timestamp, double x, double y, double now)


cdef class Pointer:
    cdef readonly str user_id
    cdef readonly str session_id
    cdef readonly TokenBucket cursor_bucket
    cdef readonly Trailing pending
    cdef public bint connected
    cdef public bint attached
    cdef public bint disabled
    cdef public bint invisible
    cdef public bint share_cursor
    cdef public bint cursor_put_away
    cdef public double last_active_at
    cdef str _color
    cdef object _index
    cdef object _cursor
    cdef bint _unread
    cdef bint _has_timestamp
    cdef bint _has_point
    cdef double _timestamp
    cdef double _x
    cdef double _y
    cdef CursorTemplate _template

    cdef bint may_show(self)


cdef class FlushPlan:
    cdef list _rooms
    cdef readonly double soonest
    cdef public double window_s
    cdef public double ceiling_s

    cpdef double window_for(self, Py_ssize_t members)
    cpdef touch(self, Stream room, double now)
    cpdef urge(self, Stream room, double now)
    cpdef list take_due(self, double now)
    cdef plan(self, Stream room, double at)
