cdef class DeliveryWindow:
    cdef readonly bint holds
    cdef bint _careful
    cdef bint _pinged
    cdef int _prompt_rounds
    cdef double _pinged_at
    cdef double _next_ping_at
    cdef double _interval_s
    cdef double _shortest_s
    cdef Py_ssize_t _covered_bytes
    cdef Py_ssize_t _uncovered_bytes

    cpdef bint on_write(self, Py_ssize_t size, double now)
    cpdef bint take_ping(self, double now)
    cpdef on_pong(self, double now)
    cdef _ping(self, double now)
    cdef _be_careful(self)
