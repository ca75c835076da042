from koko_presence._fastpath.flush_scheduler cimport CursorRoute, FlushScheduler
from koko_presence._fastpath.cursor_parser cimport CursorText


cdef class PeerBuffer:
    cdef char* _data
    cdef Py_ssize_t _size
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _batch_at
    cdef unsigned long long _batch  # its number; only cursors may follow a batch
    cdef bint _scheduled
    cdef object _schedule
    cdef readonly long long put_bytes

    cdef char* grow(self, Py_ssize_t more) except NULL
    cdef schedule(self)
    cpdef put(self, int kind, bytes body)
    cdef Py_ssize_t put_cursor(self, unsigned int handle, CursorText* cursor) except -1
    cpdef bytes take(self)


cdef class RemoteCursorRoute(CursorRoute):
    cdef readonly unsigned int handle
    cdef readonly str room_id
    cdef PeerBuffer _outgoing
    cdef public bint open
    cdef bint _has_last  # `_last` is the last cursor; otherwise `_noted` is, None without one
    cdef CursorText _last
    cdef object _noted
    cdef Py_ssize_t _record_at  # the position of the last cursor in the batch
    cdef unsigned long long _batch
