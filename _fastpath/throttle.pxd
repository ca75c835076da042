cdef class TokenBucket:
    cdef readonly double interval_s
    cdef readonly double slack_s
    cdef double full_at

    cpdef bint take(self, double now)
    cpdef double ready_at(self, double now)
