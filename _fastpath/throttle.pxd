cdef double SHARED_BUDGET_WAIT_S


cdef class TokenBucket:
    cdef readonly double interval_s
    cdef readonly double slack_s
    cdef double full_at

    cpdef bint take(self, double now)
    cpdef double ready_at(self, double now)


cdef class Coalescer:
    cdef dict _values

    cdef inline bint empty(self):
        return self._values is None

    cdef inline bint holds(self, key):
        return self._values is not None and key in self._values

    cpdef double offer(self, key, value, TokenBucket own, TokenBucket shared, double now)


cdef class Meter:
    cdef readonly double since
    cdef readonly long long count

    cpdef bint tick(self, double now)
