from koko_presence._fastpath.outbox cimport Outbox


cdef class StreamFrame:
    cdef readonly bytes frame
    cdef readonly str skip
    cdef readonly str only
    cdef readonly str merge
    cdef readonly bytes compact
    cdef readonly bint attach
    cdef readonly bint detach
    cdef readonly bint refusal
    cdef unsigned char kind  # of counters.pyx; 0 until it is determined
    cdef bytes _single


cdef class RoomFlush:
    cdef readonly str room_id
    cdef readonly list items
    cdef readonly str timestamp


cdef class CursorTemplate:
    cdef bytes _head
    cdef bytes _tail
    cdef bytes _row
    cdef str _skip
    cdef str _merge

    cdef bytes row(
        self, const char* timestamp, Py_ssize_t timestamp_size, const char* x, Py_ssize_t x_size, const char* y,
        Py_ssize_t y_size,
    )
    cdef StreamFrame item(
        self, bint has_timestamp, bint has_point, double timestamp, double x, double y, const char* iso,
        unsigned long long seq,
    )


cdef class RoomSubscription:
    cdef readonly str room_id
    cdef readonly dict outboxes
    cdef readonly dict wrapping
    cdef public bint any_compact
    cdef bytes _head

    cpdef fan_out(self, list items, str timestamp)
    cdef fan_out_one(self, StreamFrame item, str timestamp)
    cdef bytes single(self, StreamFrame item, str timestamp)
    cdef bytes plain_for(self, list items, str session_id)
    cdef bytes compact_for(self, list items, str session_id, str timestamp)
    cdef bytes cursors(self, list rows, str timestamp)
    cdef to_wrapping(self, list items, str timestamp)
    cdef one_by_one(self, Outbox outbox, list items, str session_id, str timestamp)
