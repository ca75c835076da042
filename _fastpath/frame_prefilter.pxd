from koko_presence._fastpath.listener cimport FrameListener
from koko_presence._fastpath.rounds cimport Round


cdef class FrameReader:
    cdef readonly double throttled_until
    cdef FrameListener _listener
    cdef Py_ssize_t _longest
    cdef char* _begun
    cdef Py_ssize_t _begun_size
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _after_close_bytes
    cdef bytes _ping
    cdef bytes _pong
    cdef int _pings
    cdef int _pongs
    cdef bint _whole  # the last step handled a whole frame
    cdef bint _slow  # which was not a plain cursor

    cdef Py_ssize_t take(self, const char* data, Py_ssize_t size, Round round) except -1
    cdef Py_ssize_t take_frame(self, const char* data, Py_ssize_t size) except -1
    cdef Py_ssize_t buffer_partial(self, const char* data, Py_ssize_t size) except -1
    cdef report_control_frames(self)
    cdef drop(self)
