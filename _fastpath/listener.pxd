from koko_presence._fastpath.session_limits cimport SessionRateLimiter
from koko_presence._fastpath.read_budget cimport Intake


cdef class FrameListener:
    cdef public bint closing
    cdef public bint deaf
    cdef public list parts
    cdef public SessionRateLimiter gate
    cdef public Intake intake

    cdef bint take_text(self, const char* text, Py_ssize_t size)
