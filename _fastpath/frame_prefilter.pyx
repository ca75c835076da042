# cython: language_level=3, boundscheck=False, wraparound=False
"""The protocol of a connection after the handshake: splits its bytes into WebSocket frames and passes plain cursors
directly to the rate limiter, in the order of arrival.

Frames are read in place from the transport's buffer. Only an incomplete frame is copied: at most one per connection, no
larger than the frame, and freed once it is complete. So an idle connection has no buffer, and no connection more than
the longest frame and its header. `FrameReader` writes this state.

After each frame the limits are checked: of this round (rounds.pyx) and of the connection (read_budget.pyx). Pings and
pongs count like any other frame, but only the last of each kind per read is reported: a pong may answer the most recent
ping only [RFC 6455 section 5.5.3]. While the connection closes, only a close frame is looked for, within
MOST_AFTER_CLOSE_BYTES.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.string cimport memcpy

from koko_presence._fastpath.frame_boundaries cimport *
from koko_presence._fastpath.read_budget cimport ReadBudget
from koko_presence._fastpath.listener cimport FrameListener
from koko_presence._fastpath.rounds cimport Round

cdef enum:
    LONGEST_TEXT = 1024  # the longest plain cursor [C17]
    MIN_CAPACITY = 64
    # after a close frame was sent; more than both kernels hold of one connection, so that a regular answer is found
    MOST_AFTER_CLOSE_BYTES = 262144

# the text of one frame, unmasked; one thread, and not used across a call that could re-enter
cdef char[LONGEST_TEXT] scratch

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
    """Passes the frames of one client to `listener`; a payload of more than `longest` bytes ends the connection.
    Transports call `take`. After `connection_lost` it holds no reference and no buffer.

    `throttled_until` is set by `take`: if above 0, the monotonic second before which nothing is to be read.
    """

    def __init__(self, FrameListener listener not None, Py_ssize_t longest):
        self._listener = listener
        self._longest = longest

    def __dealloc__(self):
        PyMem_RawFree(self._begun)

    @property
    def buffered_bytes(self):
        """The bytes allocated for an incomplete frame."""
        return self._capacity

    # --- called by transports ---------------------------------------------------------------------------------------

    def feed(self, bytes data not None):
        """Handle bytes outside of any round, for tests. Errors: RuntimeError if the connection's own budgets are
        exceeded."""
        cdef const char* text = PyBytes_AS_STRING(data)
        if self.take(text, PyBytes_GET_SIZE(data), Round(lambda: 0.0)) != PyBytes_GET_SIZE(data):
            raise RuntimeError("above the budgets")

    def eof_received(self):
        """The peer has ended the stream. Returns False: the transport closes itself."""
        return False

    def pause_writing(self):
        if self._listener is not None:
            self._listener.pause_writing()

    def resume_writing(self):
        if self._listener is not None:
            self._listener.resume_writing()

    def connection_lost(self, error):
        """Drop the state and call `on_lost` of the listener."""
        listener, self._listener = self._listener, None
        self.drop()
        if listener is not None:
            listener.on_lost()

    # --- frames -----------------------------------------------------------------------------------------------------

    cdef Py_ssize_t take(self, const char* data, Py_ssize_t size, Round round) except -1:
        """Handle `data`, received in `round` and not kept afterwards. Returns the number of bytes handled: fewer than
        `size` if the connection has used its share; the caller passes the rest again, after `throttled_until`."""
        cdef Py_ssize_t left = size, step
        cdef double received_at = round.started_at if round.open else round.now()
        cdef double until = 0.0
        cdef FrameListener listener = self._listener
        cdef ReadBudget read_budget = None if listener is None else listener.read_budget
        cdef bint within = True
        self.throttled_until = 0.0
        while left and self._listener is not None and not listener.ignores_input:
            self._whole = self._slow = False
            step = 0 if self._begun_size else self.take_frame(data, left)
            if step == 0:
                step = self.buffer_partial(data, left)
            data += step
            left -= step
            if listener.closing:
                self._after_close_bytes += step
                if self._after_close_bytes > MOST_AFTER_CLOSE_BYTES:
                    listener.on_flood_after_close()
            elif self._whole and read_budget is not None:
                within = read_budget.frame(received_at)
                if not read_budget.preauth_lifted and read_budget.exceeds_preauth_limit():
                    listener.on_preauth_limit()
                if not within:
                    break
            if self._slow:  # cursors are limited by the bytes per read
                if until == 0.0:
                    until = round.now() + round.socket_s
                    if round.open and round.until < until:
                        until = round.until
                elif left and round.now() >= until:
                    break
        if self._listener is None or listener.ignores_input:
            self.drop()
            return size
        if self._pings or self._pongs:
            self.report_control_frames()
        if read_budget is not None and not listener.closing:
            if not read_budget.bytes_read(size - left, received_at) or not within:
                self.throttled_until = read_budget.resume_at
                listener.on_throttled(self.throttled_until)
                if listener.closing:
                    self.throttled_until = 0.0
        return size - left

    cdef report_control_frames(self):
        cdef int pings = self._pings, pongs = self._pongs
        cdef bytes ping = self._ping, pong = self._pong
        self._pings = self._pongs = 0
        self._ping = self._pong = None
        if pongs and self._listener is not None and not self._listener.closing:
            self._listener.on_pongs(pong, pongs)
        if pings and self._listener is not None and not self._listener.closing:
            self._listener.on_pings(ping, pings)

    cdef Py_ssize_t take_frame(self, const char* data, Py_ssize_t size) except -1:
        """Handle the frame at the start of `data`. Returns its size, 0 if it is incomplete."""
        cdef FrameListener listener = self._listener
        cdef Header header
        cdef bytes payload
        cdef Py_ssize_t used = 0
        cdef int at
        cdef Py_ssize_t text = -1
        if not listener.closing:
            text = small_text(data, size, scratch, LONGEST_TEXT, &used)
        if text >= 0 and listener.take_text(scratch, text):
            self._whole = True
            return used
        at = read_header(data, size, self._longest, &header)
        if at < 0:
            listener.on_bad_frame(*FAULTS[at])
            return size
        if at == 0 or size - at < header.length:
            return 0
        self._whole = True
        if header.opcode == CLOSE or not listener.closing:
            self._slow = True
            payload = PyBytes_FromStringAndSize(NULL, header.length)
            unmask(PyBytes_AS_STRING(payload), data + at, header.length, header.mask)
            if listener.read_budget is not None:
                if header.opcode == PING:
                    self._ping = payload
                    self._pings += 1
                    return at + header.length
                if header.opcode == PONG:
                    self._pong = payload
                    self._pongs += 1
                    return at + header.length
                if header.opcode == CLOSE:
                    self.report_control_frames()
            listener.on_frame(header.opcode, header.fin, payload)
        return at + header.length

    cdef Py_ssize_t buffer_partial(self, const char* data, Py_ssize_t size) except -1:
        """Append to the incomplete frame the bytes of `data` that belong to it, and handle it once it is complete.
        Returns their number. The payload is only awaited after a valid header."""
        cdef Header header
        cdef Py_ssize_t whole = known_size(self._begun, self._begun_size)
        cdef Py_ssize_t step = min(size, whole - self._begun_size)
        cdef Py_ssize_t needed = self._begun_size + step
        cdef Py_ssize_t capacity
        cdef char* begun
        if needed > self._capacity:
            capacity = max(needed, min(whole, 2 * self._capacity), MIN_CAPACITY)
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
