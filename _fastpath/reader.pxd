from koko_presence._fastpath.frames cimport Frames
from koko_presence._fastpath.listener cimport FrameListener


cdef class FrameReader:
    cdef Frames _frames
    cdef FrameListener _listener
    cdef object _protocol

    cdef inline bint at_boundary(self):
        return self._frames.owed == 0 and self._frames.head_size == 0

    cdef note(self, const char* data, Py_ssize_t size)
    cdef take(self, transport, char* data, Py_ssize_t size)
