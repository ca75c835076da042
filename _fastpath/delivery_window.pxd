cdef class DeliveryWindow:
    cdef readonly bint holds
    cdef readonly Py_ssize_t in_flight_bytes
    cdef readonly Py_ssize_t window_bytes
    cdef bint _is_pinged
    cdef bint _is_limited
    cdef int _trial_rounds
    cdef unsigned int _number
    cdef double _pinged_at
    cdef double _repeat_at
    cdef double _answered_at
    cdef double _probe_at
    cdef double _bytes_per_s
    cdef double _bytes_per_s_before
    cdef Py_ssize_t _covered_bytes
    cdef Py_ssize_t _uncovered_bytes

    cpdef bint on_write(self, Py_ssize_t size, double now)
    cpdef bytes payload(self)
    cpdef bint is_overdue(self, double now)
    cpdef bint take_repeat(self, double now)
    cdef _ping(self, double now)
    cdef _adapt(self, double now)
    cdef inline Py_ssize_t free_bytes(self):
        return self.window_bytes - self.in_flight_bytes
