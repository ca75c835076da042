from picows.picows cimport WSTransport

from koko_presence._fastpath.frames cimport Frames
from koko_presence._fastpath.listener cimport FrameListener
from koko_presence._fastpath.rounds cimport Round


cdef class FrameReader:
    cdef Frames _frames
    cdef FrameListener _listener
    cdef WSTransport _transport
    cdef object _protocol

    cdef Py_ssize_t take(self, transport, char* data, Py_ssize_t size, Round round) except -1
    cdef give(self, transport, char* data, Py_ssize_t size)
