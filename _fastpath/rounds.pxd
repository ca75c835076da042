cdef class Round:
    cdef readonly double started_at
    cdef readonly double until
    cdef readonly bint open
    cdef readonly unsigned long long number
    cdef public double longest_s
    cdef public double longest_lobby_s
    cdef public double socket_s
    cdef public Py_ssize_t socket_bytes
    cdef object _clock

    cdef double now(self) except? -1.0
    cdef int begin(self, double longest_s) except -1
    cdef void end(self) noexcept
    cpdef double heard_at(self, double now)
