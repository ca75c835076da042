# cython: language_level=3, boundscheck=False, wraparound=False
"""The protocol of a connection after the handshake: WebSocket frames out of its bytes, plain cursors to the gate at once.

Bytes come in a buffer that all connections share, and frames are read where they stand. Only a frame that has begun and
is not whole yet is kept: at most one per connection, never more than the frame itself, and freed when it is whole. So a
quiet connection keeps no buffer, and no connection more than the longest frame and its header.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy

from koko_presence._fastpath.frames cimport *
from koko_presence._fastpath.listener cimport FrameListener

cdef enum:
    LONGEST_TEXT = 1024  # plain cursors are not longer [C17]
    SHARED_BYTES = 16384
    LEAST_KEPT = 64

# one frame's text, unmasked; one thread, never used across a call that could come back here
cdef char[LONGEST_TEXT] scratch

# what the loop's own transports read into, TLS above all; they fill it and tell of it without a break
cdef char[SHARED_BYTES] shared
cdef object shared_view = PyMemoryView_FromMemory(shared, SHARED_BYTES, PyBUF_WRITE)

cdef dict FAULTS = {
    RESERVED_BITS: (1002, "reserved bits are set"),
    BAD_OPCODE: (1002, "there is no such opcode"),
    UNMASKED: (1002, "frames of a client are masked"),
    CUT_CONTROL: (1002, "control frames are not fragmented"),
    LONG_CONTROL: (1002, "control frames have at most 125 bytes"),
    BAD_LENGTH: (1002, "the length is not in its shortest form"),
    TOO_BIG: (1009, "the frame is too big"),
}


cdef class FrameReader:
    """An asyncio.BufferedProtocol that hands the frames of one client to `listener`; payloads of more than `longest`
    bytes end the connection. Polled sockets call `take` instead. After `connection_lost` it holds nothing any more."""

    def __init__(self, FrameListener listener not None, Py_ssize_t longest):
        self._listener = listener
        self._longest = longest

    def __dealloc__(self):
        PyMem_RawFree(self._begun)

    @property
    def kept_bytes(self):
        """What is kept for a frame that is not whole yet."""
        return self._capacity

    # --- what transports call ---------------------------------------------------------------------------------------

    def get_buffer(self, size_hint):
        """Where to put what comes; `buffer_updated` has to follow at once."""
        return shared_view

    def buffer_updated(self, Py_ssize_t size):
        """So many bytes have come."""
        self.take(shared, size)

    def feed(self, bytes data not None):
        """These bytes have come."""
        self.take(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def eof_received(self):
        """The other end says nothing more; False: the transport closes itself."""
        return False

    def pause_writing(self):
        if self._listener is not None:
            self._listener.pause_writing()

    def resume_writing(self):
        if self._listener is not None:
            self._listener.resume_writing()

    def connection_lost(self, error):
        """The connection is over."""
        listener, self._listener = self._listener, None
        self.drop()
        if listener is not None:
            listener.on_lost()

    # --- frames -----------------------------------------------------------------------------------------------------

    cdef take(self, const char* data, Py_ssize_t size):
        """`data` has come; it is not kept."""
        cdef Py_ssize_t step
        while size and self._listener is not None and not self._listener.deaf:
            step = 0 if self._begun_size else self.take_frame(data, size)
            if step == 0:
                step = self.keep(data, size)
            data += step
            size -= step
        if self._listener is None or self._listener.deaf:
            self.drop()

    cdef Py_ssize_t take_frame(self, const char* data, Py_ssize_t size) except -1:
        """Handle the frame that `data` begins with. Returns its size, 0 when it is not whole."""
        cdef FrameListener listener = self._listener
        cdef Header header
        cdef bytes payload
        cdef Py_ssize_t used = 0
        cdef int at
        cdef Py_ssize_t text = small_text(data, size, scratch, LONGEST_TEXT, &used)
        if text >= 0 and listener.take_text(scratch, text):
            return used
        at = read_header(data, size, self._longest, &header)
        if at < 0:
            listener.on_bad_frame(*FAULTS[at])
            return size
        if at == 0 or size - at < header.length:
            return 0
        if header.opcode == CLOSE or not listener.closing:
            payload = PyBytes_FromStringAndSize(NULL, header.length)
            unmask(PyBytes_AS_STRING(payload), data + at, header.length, header.mask)
            listener.on_frame(header.opcode, header.fin, payload)
        return at + header.length

    cdef Py_ssize_t keep(self, const char* data, Py_ssize_t size) except -1:
        """Keep of `data` what belongs to the frame that has begun, and handle that when it is whole. Returns how much
        that was. A frame's payload is only waited for once its header is right."""
        cdef Header header
        cdef Py_ssize_t whole = known_size(self._begun, self._begun_size)
        cdef Py_ssize_t step = min(size, whole - self._begun_size)
        cdef Py_ssize_t needed = self._begun_size + step
        cdef Py_ssize_t capacity
        cdef char* begun
        if needed > self._capacity:
            capacity = max(needed, min(whole, 2 * self._capacity), LEAST_KEPT)
            begun = <char*>PyMem_RawRealloc(self._begun, capacity)
            if begun == NULL:
                raise MemoryError
            self._begun = begun
            self._capacity = capacity
        memcpy(self._begun + self._begun_size, data, step)
        self._begun_size = needed
        if needed < known_size(self._begun, needed) and read_header(self._begun, needed, self._longest, &header) >= 0:
            return step
        begun = self._begun
        self._begun = NULL
        self._begun_size = self._capacity = 0
        try:
            self.take_frame(begun, needed)
        finally:
            PyMem_RawFree(begun)
        return step

    cdef drop(self):
        PyMem_RawFree(self._begun)
        self._begun = NULL
        self._begun_size = self._capacity = 0
