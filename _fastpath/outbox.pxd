from koko_presence._fastpath.delivery_window cimport DeliveryWindow


cdef class WriteBatch:
    cdef list _dirty
    cdef object _call_soon
    cdef bint _scheduled

    cdef note(self, Outbox outbox)
    cdef inline Py_ssize_t waiting(self):
        return len(self._dirty)

    cpdef hold(self)
    cpdef write(self)


cdef class Outbox:
    cdef public bint compact
    cdef object _wire
    cdef object _on_slow
    cdef object _wrap
    cdef object _transport
    cdef object _clock
    cdef bint _appends_pings
    cdef bint _unframed
    cdef DeliveryWindow _window
    cdef WriteBatch _write_batch
    cdef bytes _first
    cdef list _more
    cdef dict _merged
    cdef Py_ssize_t _soft_bytes
    cdef Py_ssize_t _hard_bytes
    cdef Py_ssize_t _object_bytes
    cdef readonly bint slow
    cdef bint _backed_up
    cdef int _fd
    cdef long long _written

    cpdef write(self, bytes frames)
    cpdef send(self, bytes message)
    cpdef write_frame(self, bytes frame)
    cpdef write_frames(self, tuple frames, bytes joined)
    cdef bint wraps(self)
    cpdef flush(self)
    cdef merge(self, mark, bytes frame)
    cdef bytes merge_changes(self, mark, bytes earlier, bytes later)
    cdef catch_up_with(self, str room_id, str session_id)
    cdef catch_up(self)
    cdef release(self)
    cdef bint is_held(self)
    cdef Py_ssize_t unsent(self) except -1
