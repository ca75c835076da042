cdef class Round:
    cdef readonly double started_at
    cdef readonly double until
    cdef readonly bint open
    cdef readonly unsigned long long number
    cdef public double longest_s
    cdef public double longest_admission_s
    cdef public double longest_behind_s
    cdef public bint behind
    cdef public double socket_s
    cdef public Py_ssize_t socket_bytes
    cdef object _clock

    cdef double now(self) except? -1.0
    cdef double _admission_waits_since
    cdef void note_admission(self, bint served_all, double since) noexcept
    cpdef double admission_waits_for(self, double now)
    cdef int begin(self, double longest_s) except -1
    cdef void end(self) noexcept
    cpdef double received_at(self, double now)
