cdef class Outbox:
    cdef object _wire
    cdef object _on_dirty
    cdef object _on_slow
    cdef object _transport_write
    cdef object _transport_unsent
    cdef list _frames
    cdef dict _merged
    cdef Py_ssize_t _soft_bytes
    cdef Py_ssize_t _hard_bytes
    cdef bint _slow
    cdef int _fd

    cpdef write(self, bytes frames)
    cpdef flush(self)
    cdef merge(self, str mark, bytes frame)
    cdef catch_up(self)
