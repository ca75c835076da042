from koko_presence._fastpath.listener cimport FrameListener


cdef class FrameReader:
    cdef FrameListener _listener
    cdef Py_ssize_t _longest
    cdef char* _begun
    cdef Py_ssize_t _begun_size
    cdef Py_ssize_t _capacity

    cdef take(self, const char* data, Py_ssize_t size)
    cdef Py_ssize_t take_frame(self, const char* data, Py_ssize_t size) except -1
    cdef Py_ssize_t keep(self, const char* data, Py_ssize_t size) except -1
    cdef drop(self)
