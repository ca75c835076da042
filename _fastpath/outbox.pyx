# cython: language_level=3, boundscheck=False, wraparound=False
"""What waits to be written to one socket: recorded while a loop turn runs, written once at its end.

A socket write costs about 5 us of kernel time whatever its size, so everything for a receiver goes out in one, and
straight into the kernel: the transport is asked only when it still holds something, or when the kernel takes less than
all. What we hold for a receiver that does not read is bounded [J2], and so is what the kernel holds (`TCP_NOTSENT_LOWAT`): as soon
as the kernel does not take everything, only the newest cursors and selections are kept. Behind a proxy the kernel says
nothing of the client's line, and a `DeliveryWindow` does.
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from koko_presence._fastpath.counters cimport hot, kind_of
from koko_presence._fastpath.system cimport SEND_FLAGS, TIOCOUTQ, ioctl, send

log = logging.getLogger("koko_presence.outbox")

cdef bytes PING_FRAME = b"\x89\x00"  # final, opcode 9, no payload [RFC 6455 section 5.5.2]


cdef class WriteBatch:
    """The outboxes that have something to write at the end of this turn of the loop.

    `call_soon(callback)` is asked, once per turn, to call `write`.
    """

    def __init__(self, call_soon):
        self._call_soon = call_soon
        self._dirty = []

    cdef note(self, Outbox outbox):
        self._dirty.append(outbox)
        if not self._planned:
            self._planned = True
            self._call_soon(self.write)

    cpdef hold(self):
        """Somebody has begun to deliver and will call `write` itself."""
        self._planned = True

    cpdef write(self):
        """Write everything, once per socket."""
        cdef list dirty = self._dirty
        self._planned = False
        if not dirty:
            return
        self._dirty = []
        for outbox in dirty:
            try:
                (<Outbox>outbox).flush()
            except Exception:  # a fault at one receiver must not keep the others waiting
                log.exception("writing to one connection failed")


cdef class Outbox:
    """Ready frames for one connection, in order. `compact` says that its client asked for compact cursors.

    `wire` has `unsent_bytes` and `send_frames`. While more than `soft_bytes` wait that the kernel has not taken, only
    the newest frame of each mark (room, and what it says of whom) is kept, until the socket has taken all that waits or an
    event of the same author comes. `on_slow()` is called at `hard_bytes`.
    """

    def __init__(self, wire, Py_ssize_t soft_bytes, Py_ssize_t hard_bytes, WriteBatch turn not None, on_slow):
        self._wire = wire
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._turn = turn
        self._on_slow = on_slow
        self._fd = -1

    def use_socket(self, int fd, transport):
        """Write to `fd` itself from now on; `transport` owns it and takes what the kernel does not. Plain TCP only.

        `release_socket` must be called before the transport closes `fd`: its number may be somebody else's after that.
        """
        self._fd = fd
        self._transport = transport
        self._backed_up = True  # until the first look: the transport may still hold the answer to the handshake

    def use_window(self, DeliveryWindow window not None, clock):
        """Bound by `window` what is under way to the client from now on; `clock()` gives monotonic seconds."""
        self._window = window
        self._clock = clock

    def ping(self):
        """Send a ping, unless one is under way already; its pong is told to `on_pong`."""
        if self._window is None or self._window.take_ping(self._clock()):
            self._wire.send_ping(b"")

    def on_pong(self):
        """The client has answered a ping: it has read all that was written before."""
        if self._window is not None:
            self._window.on_pong(self._clock())
            self.release()

    def release_socket(self):
        """The connection is closing: whatever comes from now on is dropped by the wire."""
        self._fd = -1
        self._transport = None

    def end(self, wire):
        """The connection is gone: what waits is dropped. `wire`, which drops whatever it gets, takes the place of the real
        one, so that outbox and connection do not keep each other."""
        self.release_socket()
        self.discard()
        self._wire = wire
        self._on_slow = None
        self._window = None

    cpdef write(self, bytes frames):
        """Add ready frames to what goes out at the end of this turn. Cursors and selections that are held back stay so: an
        answer must not wait for them."""
        if self._first is None:
            self._first = frames  # one write a turn is the rule, and needs no list
            self._turn.note(self)
            return
        if self._more is None:
            self._more = []
        self._more.append(frames)

    cdef merge(self, mark, bytes frame):
        if self._merged is None:
            self._merged = {}
        # taken out first: the newest of all goes out last, so that no order is turned round
        if self._merged.pop(mark, None) is not None:
            if (<str>mark[1])[0] == u"c":
                hot.cursors_merged += 1
            else:
                hot.selections_merged += 1
        self._merged[mark] = frame

    cdef catch_up(self):
        cdef dict merged = self._merged
        self._merged = None
        for frame in merged.values():
            hot.sent[kind_of(frame)] += 1
            self.write(frame)

    cdef catch_up_with(self, mark):
        cdef bytes frame
        if self._merged is not None and mark in self._merged:
            frame = self._merged.pop(mark)
            hot.sent[kind_of(frame)] += 1
            self.write(frame)

    def forget(self, room_id):
        """The client is out of a room, or gets all of it anew: nothing of it that was held back is wanted any more."""
        if self._merged is not None:
            self._merged = {mark: frame for mark, frame in self._merged.items() if mark[0] != room_id} or None

    def discard(self):
        """The client is thrown out: nothing that was not written yet is for it."""
        self._first = self._more = self._merged = None

    def taken_bytes(self):
        """What the other end has acknowledged of all that was ever written here, to tell a slow reader from a stuck one.
        Where there is no descriptor (TLS, `/trpc`) it is what the kernel has taken, which comes in lumps of about 4 KiB."""
        cdef int in_kernel = 0
        if self._fd < 0 or ioctl(self._fd, TIOCOUTQ, &in_kernel):
            in_kernel = 0
        return self._written - self.unsent() - in_kernel

    def waiting_bytes(self):
        """All that waits for this socket: here, for the end of the turn or for the socket, and in the transport."""
        cdef Py_ssize_t size = self.unsent()
        if self._first is not None:
            size += PyBytes_GET_SIZE(self._first)
        for frames in (self._more or (), self._merged.values() if self._merged is not None else ()):
            for frame in frames:
                size += PyBytes_GET_SIZE(frame)
        return size

    def on_full(self):
        """The kernel does not take all: hold back what a newer one may replace."""
        self.slow = self.is_held() or self.unsent() > self._soft_bytes

    def on_drained(self):
        """The kernel has taken all: send the newest of what was held back."""
        self.release()

    cdef release(self):
        """Send the newest of what was held back, unless the kernel or the window still wants it held."""
        self.slow = self.is_held() or self.unsent() > self._soft_bytes
        if not self.slow and self._merged is not None:
            self.catch_up()

    cdef bint is_held(self):
        return self._window is not None and self._window.holds

    cdef Py_ssize_t unsent(self) except -1:
        """Bytes that the kernel has not taken; asks the transport only while it may hold some."""
        cdef Py_ssize_t size
        if self._fd < 0:
            return self._wire.unsent_bytes
        if not self._backed_up:
            return 0
        size = self._transport.get_write_buffer_size()
        self._backed_up = size > 0
        return size

    cpdef flush(self):
        """Write everything that waits in one go."""
        cdef bytes data = self._first
        cdef Py_ssize_t size, unsent
        cdef ssize_t sent
        cdef bint pings = False
        if data is None:
            return
        self._first = None
        if self._more is not None:
            self._more.insert(0, data)
            data = b"".join(self._more)
            self._more = None
        unsent = self.unsent()
        # what is held back goes first: until then nothing newer may pass it
        self.slow = unsent > self._soft_bytes or (self._merged is not None and len(self._merged) > 0)
        if self._window is not None:
            pings = self._window.on_write(PyBytes_GET_SIZE(data), self._clock())
            self.slow = self.slow or self._window.holds
            if pings and self._fd >= 0:
                data = data + PING_FRAME
        self._written += PyBytes_GET_SIZE(data)
        if unsent > self._hard_bytes:
            self._on_slow()
            return
        hot.fanout_bytes += PyBytes_GET_SIZE(data)
        if self._fd < 0:
            self._wire.send_frames(data)
            if pings:
                self._wire.send_ping(b"")
            return
        if unsent == 0:
            size = PyBytes_GET_SIZE(data)
            sent = send(self._fd, PyBytes_AS_STRING(data), size, SEND_FLAGS)
            if sent == size:
                return
            if sent > 0:
                data = data[sent:]
            # any other error than a full buffer: the transport meets it too, and ends the connection
        self._backed_up = True
        self._transport.write(data)
