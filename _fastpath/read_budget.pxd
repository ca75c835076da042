cdef class Intake:
    cdef readonly bint invited
    cdef readonly long long frames
    cdef readonly double resume_at
    cdef int _uninvited_frames
    cdef double _frame_s
    cdef double _frames_slack_s
    cdef double _frames_full_at
    cdef double _byte_s
    cdef double _bytes_slack_s
    cdef double _bytes_full_at

    cpdef bint frame(self, double now)
    cpdef bint bytes_read(self, Py_ssize_t size, double now)
    cdef bint allows(self, double ready_at, double now) noexcept
    cpdef bint is_uninvited(self)
