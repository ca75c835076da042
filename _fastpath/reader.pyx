# cython: language_level=3, boundscheck=False, wraparound=False
"""What comes from a socket after the handshake, frame by frame: plain cursors to the listener at once, everything else to
picows, and the clock is looked at between two frames."""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy
from picows.picows cimport WSTransport

from koko_presence._fastpath.frames cimport small_text, walk_one
from koko_presence._fastpath.listener cimport FrameListener
from koko_presence._fastpath.rounds cimport Round

cdef enum:
    LONGEST_TEXT = 1024  # plain cursors are not longer [C17]

# one frame's text, unmasked; one thread, never used across a call that could come back here
cdef char[LONGEST_TEXT] scratch


cdef class FrameReader:
    """Sits before `protocol`, picows' own, which has had the handshake and nothing else; `listener` is what picows calls
    and `ws_transport` picows' transport."""

    def __init__(self, FrameListener listener not None, protocol, WSTransport ws_transport not None):
        self._listener = listener
        self._protocol = protocol
        self._transport = ws_transport

    cdef Py_ssize_t take(self, transport, char* data, Py_ssize_t size, Round round) except -1:
        """Handle `data`, what has come over `transport`, for at most a socket's time in `round`. Returns how many bytes
        that were: fewer than `size` when the time is over, and the caller is to come again with the rest.

        What comes after picows has refused a frame is dropped: picows would keep it."""
        cdef Py_ssize_t left = size, text, step = 0
        cdef double until = 0.0
        while left:
            if self._transport.is_close_frame_sent or transport.is_closing():
                return size
            if self._frames.owed == 0 and self._frames.head_size == 0:
                text = small_text(data, left, scratch, LONGEST_TEXT, &step)
                if text >= 0 and self._listener.take_text(scratch, text):
                    data += step
                    left -= step
                    continue
            if until == 0.0:
                until = round.now() + round.socket_s
            step = walk_one(&self._frames, data, left)
            self.give(transport, data, step)
            data += step
            left -= step
            if left and round.now() >= until:
                break
        return size - left

    cdef give(self, transport, char* data, Py_ssize_t size):
        """Some bytes to picows, all of one frame."""
        cdef Py_buffer buffer
        cdef Py_ssize_t step
        while size and not transport.is_closing():
            view = self._protocol.get_buffer(size)
            PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
            step = min(size, buffer.len)
            memcpy(buffer.buf, data, step)
            PyBuffer_Release(&buffer)
            data += step
            size -= step
            self._protocol.buffer_updated(step)
