from picows.picows cimport WSFrame, WSListener, WSTransport

from koko_presence._fastpath.gate cimport Gate


cdef class FrameListener(WSListener):
    cdef public bint closing
    cdef public list parts
    cdef public Gate gate

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame)
    cdef bint take_text(self, const char* text, Py_ssize_t size)
