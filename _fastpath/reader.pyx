# cython: language_level=3, boundscheck=False, wraparound=False
"""What comes from a socket after the handshake: plain cursors to the listener at once, everything else to picows."""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from koko_presence._fastpath.frames cimport small_text, walk
from koko_presence._fastpath.listener cimport FrameListener

cdef enum:
    LONGEST_TEXT = 1024  # plain cursors are not longer [C17]

# one frame's text, unmasked; one thread, never used across a call that could come back here
cdef char[LONGEST_TEXT] scratch


cdef class FrameReader:
    """Sits before `protocol`, picows' own, which has got the bytes `first` behind the handshake already."""

    def __init__(self, FrameListener listener not None, protocol, bytes first not None):
        self._listener = listener
        self._protocol = protocol
        walk(&self._frames, first, len(first))

    cdef note(self, const char* data, Py_ssize_t size):
        """The protocol gets these bytes without us."""
        walk(&self._frames, data, size)

    cdef take(self, transport, char* data, Py_ssize_t size):
        """`data` begins a frame: as long as plain cursors come, the protocol sees nothing of them."""
        cdef Py_buffer buffer
        cdef Py_ssize_t used = 0, text, step
        while size:
            text = small_text(data, size, scratch, LONGEST_TEXT, &used)
            if text < 0 or not self._listener.take_text(scratch, text):
                break
            data += used
            size -= used
        walk(&self._frames, data, size)
        while size and not transport.is_closing():
            view = self._protocol.get_buffer(size)
            PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
            step = min(size, buffer.len)
            memcpy(buffer.buf, data, step)
            PyBuffer_Release(&buffer)
            data += step
            size -= step
            self._protocol.buffer_updated(step)
