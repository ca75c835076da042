cdef class ReadBudget:
    cdef readonly bint preauth_lifted
    cdef readonly long long frames
    cdef readonly double resume_at
    cdef int _preauth_frames
    cdef double _frame_s
    cdef double _frames_slack_s
    cdef double _frames_full_at
    cdef double _byte_s
    cdef double _bytes_slack_s
    cdef double _bytes_full_at

    cpdef bint frame(self, double now)
    cpdef bint bytes_read(self, Py_ssize_t size, double now)
    cdef bint allows(self, double ready_at, double now) noexcept
    cpdef bint exceeds_preauth_limit(self)
