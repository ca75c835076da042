from koko_presence._fastpath.road cimport Lane
from koko_presence._fastpath.scan cimport CursorText


cdef class Letters:
    cdef char* _data
    cdef Py_ssize_t _size
    cdef Py_ssize_t _room
    cdef Py_ssize_t _batch_at
    cdef bint _planned
    cdef object _plan
    cdef readonly long long put_bytes

    cdef char* grow(self, Py_ssize_t more) except NULL
    cdef plan(self)
    cpdef put(self, int kind, bytes body)
    cdef put_cursor(self, unsigned int handle, CursorText* cursor)
    cpdef bytes take(self)


cdef class RemoteLane(Lane):
    cdef readonly unsigned int handle
    cdef readonly str room_id
    cdef Letters _letters
    cdef public bint open
    cdef bint _moved
    cdef CursorText _last
