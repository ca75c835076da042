from koko_presence._fastpath.fanout cimport CursorTemplate
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence._fastpath.throttle cimport Meter, TokenBucket, Coalescer
from koko_presence._fastpath.wallclock cimport WallClock


cdef enum State:
    IDLE
    FRESH  # its tokens are taken and it is not encoded yet: a newer one replaces it
    DEFERRED  # its newest cursor waits for a token

cdef struct CursorValue:
    bint has_timestamp
    bint has_point
    double timestamp
    double x
    double y


cdef class FlushPacing:
    cdef double _flushed_at
    cdef double _recent

    cpdef double flush_at(self, double now, double window_s)
    cdef double after(self, double now, double window_s)
    cpdef flushed(self, double now, Py_ssize_t frames)


cdef class RoomCore:
    cdef readonly str id
    cdef readonly bint needs_timestamp
    cdef readonly WallClock wall
    cdef readonly TokenBucket budget
    cdef readonly Meter meter
    cdef readonly FlushPacing pacing
    cdef readonly dict members
    cdef public bint urgent
    cdef public int advised_ms  # the send interval of the worker that the room has applied
    cdef bint eventful  # the stream contains something other than cursors
    cdef list _out
    cdef unsigned long long _seq
    cdef MemberCore _first  # the members with a FRESH cursor, in the order of arrival
    cdef MemberCore _last
    cdef list _deferred  # the members with a deferred cursor, in the order in which they began to wait
    cdef double scheduled_at
    cdef double touched_at  # when the first of the pending frames arrived
    cdef double flushing_since  # `touched_at` of the frames being flushed; below 0 for none

    cdef encode_all(self)
    cpdef list take_items(self, double now)
    cdef offer(self, MemberCore member, CursorText* cursor, double now)
    cdef release(self, double now)
    cdef admit(self, MemberCore member, double now)
    cdef double deferred_until(self, double now)
    cdef encode(self, MemberCore member)


cdef class MemberCore:
    cdef readonly str user_id
    cdef readonly str session_id
    cdef readonly TokenBucket cursor_bucket
    cdef readonly Coalescer pending
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
    cdef CursorValue _shown
    cdef CursorValue _newest  # the deferred cursor, while `_state` is DEFERRED
    cdef State _state
    cdef double _came_at  # when the FRESH cursor arrived
    cdef MemberCore _after
    cdef CursorTemplate _template

    cdef bint may_show(self)
    cdef bint is_fresh(self)


cdef class FlushQueue:
    cdef list _rooms
    cdef readonly double soonest
    cdef public double window_s
    cdef public double ceiling_s
    cdef public bint full
    cdef public int advised_ms

    cpdef double window_for(self, Py_ssize_t members)
    cpdef touch(self, RoomCore room, double now)
    cpdef schedule_now(self, RoomCore room, double now)
    cpdef list take_due(self, double now)
    cdef begun(self, RoomCore room)
    cdef double paced_at(self, RoomCore room, double at)
    cdef schedule(self, RoomCore room, double at)
