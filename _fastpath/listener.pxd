from koko_presence._fastpath.session_limits cimport SessionRateLimiter
from koko_presence._fastpath.read_budget cimport ReadBudget


cdef class FrameListener:
    cdef public bint closing
    cdef public bint ignores_input
    cdef public list parts
    cdef public SessionRateLimiter rate_limiter
    cdef public ReadBudget read_budget

    cdef bint take_text(self, const char* text, Py_ssize_t size)
