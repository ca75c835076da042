# cython: language_level=3, boundscheck=False, wraparound=False
"""Buffers the frames for each connection during a loop iteration and writes them at its end, with one `send` per
socket.

A socket write costs about 5 us of kernel time regardless of its size. Data go straight to the kernel; the transport is
used only while it holds data, or if the kernel takes less than all. The data held for a slow client are bounded [J2],
and so are those in the kernel (`TCP_NOTSENT_LOWAT`): as soon as the kernel does not take all, only the newest cursors
and selections are kept, and the changes of a presence object are merged. Frames stay in order; only a deferred frame of
these kinds may be replaced, or overtaken by frames of other authors. Behind a proxy the kernel shows nothing of the
client's line; a `DeliveryWindow` does. `Outbox` writes its own state.
"""

import logging

import msgspec

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from koko_presence._fastpath.counters cimport hot, kind_of
from koko_presence._fastpath.framing cimport frame_text, payload_of
from koko_presence._fastpath.system cimport (
    IPPROTO_TCP, SEND_FLAGS, TCP_INFO, TIOCOUTQ, getsockopt, ioctl, send, tcp_info,
)

log = logging.getLogger("koko_presence.outbox")

cdef tuple MERGED_KINDS = ("c", "s", "p")  # cursors, selections, changes of presence objects
_changed = msgspec.json.Decoder(dict[str, msgspec.Raw])

cdef bytes PING_HEAD = b"\x89\x02"  # final, opcode 9, a payload of two bytes [RFC 6455 section 5.5.2]


cdef class WriteBatch:
    """The outboxes with unwritten frames in this loop iteration.

    `call_soon(callback)` is called once per iteration to schedule `write`.
    """

    def __init__(self, call_soon):
        self._call_soon = call_soon
        self._dirty = []

    cdef note(self, Outbox outbox):
        self._dirty.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.write)

    cpdef hold(self):
        """Do not schedule `write`: the caller delivers and calls it itself."""
        self._scheduled = True

    cpdef write(self):
        """Write all outboxes, once per socket."""
        cdef list dirty = self._dirty
        self._scheduled = False
        if not dirty:
            return
        self._dirty = []
        for outbox in dirty:
            try:
                (<Outbox>outbox).flush()
            except Exception:  # a fault in one connection must not affect the others
                log.exception("writing to one connection failed")


cdef class Outbox:
    """The frames for one connection, in order. `compact` is set if its client has requested compact cursors.

    `wire` has `unsent_bytes` and `send_frames`. While more than `soft_bytes` are unsent, only the newest frame of each
    mark (room, and kind with author) is kept, until the socket has taken all unsent data or another event of the same
    author follows. `on_slow()` is called at `hard_bytes`. Changes of a presence object that have more than
    `object_bytes` when merged are written before the next ones are kept, so that they count for `hard_bytes`.
    """

    def __init__(
        self, wire, Py_ssize_t soft_bytes, Py_ssize_t hard_bytes, WriteBatch write_batch not None, on_slow,
        Py_ssize_t object_bytes=4096,
    ):
        self._wire = wire
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._object_bytes = object_bytes
        self._write_batch = write_batch
        self._on_slow = on_slow
        self._fd = -1

    def use_socket(self, int fd, transport):
        """Write directly to `fd` from now on; `transport` owns it and gets what the kernel does not take. Plain TCP
        only.

        `release_socket` must be called before the transport closes `fd`, since the number may then belong to another
        socket.
        """
        self._fd = fd
        self._transport = transport
        self._backed_up = True  # until the first check: the transport may still hold the answer to the handshake

    def use_window(self, DeliveryWindow window not None, clock, *, bint appends_pings):
        """Bound the bytes in flight to the client by `window` from now on; `clock()` gives monotonic seconds.
        `appends_pings`: the wire passes bytes on unchanged, so that a ping may be appended to them; else its
        `send_ping` is called."""
        self._window = window
        self._clock = clock
        self._appends_pings = appends_pings

    def use_envelopes(self, wrap, *, bint framed=True):
        """Wrap each message from now on: `wrap(message)` returns the messages for the client in its place, for /trpc.
        Frames that are appended by `write` are not wrapped. Not `framed`: the wire takes the messages as they are, as
        an event stream does."""
        self._wrap = wrap
        self._unframed = not framed

    cdef bint wraps(self):
        return self._wrap is not None

    def take_ping(self):
        """Return the payload of a ping that is sent now as a sign of life; `on_pong` must be called with its pong."""
        return b"" if self._window is None else self._window.take_ping(self._clock())

    def on_pong(self, bytes payload not None, double now, bint is_judged):
        """Handle a pong that arrived at `now`: what was written before its ping has been read. `is_judged`: the server
        itself was not late."""
        if self._window is None:
            return
        if self._window.on_pong(payload, now, is_judged):
            self._wire.send_ping(self._window.payload())
        self.release()

    def delivery_s(self):
        """How many seconds the bytes in flight may take; 0 without a window."""
        return 0.0 if self._window is None else self._window.delivery_s()

    def is_backed_up(self):
        """Whether the kernel does not take all, so that frames are deferred, or a pong is overdue."""
        if self._window is None:
            return self.slow
        return self.unsent() > self._soft_bytes or self._window.is_overdue(self._clock())

    def release_socket(self):
        """Stop writing to the descriptor, because the connection is closing; the wire drops later frames."""
        self._fd = -1
        self._transport = None

    def end(self, wire):
        """Drop all frames of a closed connection and replace the wire by `wire`, which drops what it gets, so that
        outbox and connection do not refer to each other."""
        self.release_socket()
        self.discard()
        self._wire = wire
        self._on_slow = self._wrap = None
        self._window = None

    cpdef write(self, bytes frames):
        """Append frames to the write at the end of this iteration. Deferred cursors and selections stay deferred: an
        answer must not wait for them."""
        if self._first is None:
            self._first = frames  # one write per iteration is the common case and needs no list
            self._write_batch.note(self)
            return
        if self._more is None:
            self._more = []
        self._more.append(frames)

    cpdef send(self, bytes message):
        """Append one message: as a frame, or wrapped by `use_envelopes`."""
        if self._wrap is None:
            self.write(frame_text(message))
        else:
            for envelope in self._wrap(message):
                self.write(envelope if self._unframed else frame_text(envelope))

    cpdef write_frame(self, bytes frame):
        """Append one message that is a frame already."""
        if self._wrap is None:
            self.write(frame)
        else:
            self.send(payload_of(frame))

    cpdef write_frames(self, tuple frames, bytes joined):
        """Append messages that are frames already. `joined` has them all, so that many outboxes share its bytes."""
        if self._wrap is None:
            self.write(joined)
        else:
            for frame in frames:
                self.send(payload_of(frame))

    cdef merge(self, mark, bytes frame):
        if self._merged is None:
            self._merged = {}
        if self._window is not None and self._window.take_repeat(self._clock()):
            self._wire.send_ping(self._window.payload())
        # removed first, so that the newest of all is sent last and no order is reversed
        earlier = self._merged.pop(mark, None)
        if earlier is not None:
            if (<str>mark[1])[0] == u"p":
                frame = self.merge_changes(mark, earlier, frame)
            elif (<str>mark[1])[0] == u"c":
                hot.cursors_merged += 1
            else:
                hot.selections_merged += 1
        self._merged[mark] = frame

    cdef bytes merge_changes(self, mark, bytes earlier, bytes later):
        """Return the frame to keep of two frames of `presence_changed` of one session: both merged, or the later one,
        once the author's deferred frames are written, when that is too large. A patch names each key that was removed,
        so it grows without bound while keys come and go [P2]."""
        cdef bytes merged = merged_changes(earlier, later)
        if PyBytes_GET_SIZE(merged) <= self._object_bytes:
            hot.presence_merged += 1
            return merged
        self._merged[mark] = earlier
        self.catch_up_with(<str>mark[0], (<str>mark[1])[1:])
        return later

    cdef catch_up(self):
        """Write the deferred frames, the oldest first and as many as the window has room for."""
        cdef dict merged = self._merged
        cdef Py_ssize_t written = 0, free_bytes = 0
        cdef bytes frame
        if self._window is not None:
            free_bytes = max(self._window.free_bytes(), 1)
        self._merged = None
        for mark, frame in merged.items():
            if self._window is not None and free_bytes <= 0:
                self._merged = dict(list(merged.items())[written:])
                self.slow = True
                return
            hot.sent[kind_of(frame)] += 1
            self.write_frame(frame)
            written += 1
            free_bytes -= PyBytes_GET_SIZE(frame)

    cdef catch_up_with(self, str room_id, str session_id):
        """Write the deferred frames of one author."""
        cdef bytes frame
        if self._merged is None:
            return
        for kind in MERGED_KINDS:
            frame = self._merged.pop((room_id, kind + session_id), None)
            if frame is not None:
                hot.sent[kind_of(frame)] += 1
                self.write_frame(frame)

    def forget(self, room_id):
        """Drop the deferred frames of a room that the client has left, or of which it gets a new snapshot."""
        if self._merged is not None:
            self._merged = {mark: frame for mark, frame in self._merged.items() if mark[0] != room_id} or None

    def discard(self):
        """Drop all unwritten frames, because the client is expelled."""
        self._first = self._more = self._merged = None

    def taken_bytes(self):
        """The bytes acknowledged by the peer of all that was written here; distinguishes a slow client from a stuck
        one. Without a descriptor (TLS, `/trpc`) the bytes that the kernel has taken, in steps of about 4 KiB."""
        cdef int in_kernel = 0
        if self._fd < 0 or ioctl(self._fd, TIOCOUTQ, &in_kernel):
            in_kernel = 0
        return self._written - self.unsent() - in_kernel

    def note_added(self, Py_ssize_t size):
        """Record bytes that the wire has written by itself, besides the frames: they count for `taken_bytes`, as they
        do for its unsent bytes."""
        self._written += size

    def round_trip_s(self):
        """The round trip in seconds that the kernel has measured, from the handshake on; behind a proxy it is the way
        to that. 0.0 without a descriptor (TLS, `/trpc`)."""
        cdef tcp_info info
        cdef unsigned int size = sizeof(info)
        if self._fd < 0 or getsockopt(self._fd, IPPROTO_TCP, TCP_INFO, &info, &size):
            return 0.0
        return info.tcpi_rtt / 1e6

    def waiting_bytes(self):
        """The bytes held for this socket: for the end of the iteration, deferred, and in the transport."""
        cdef Py_ssize_t size = self.unsent()
        if self._first is not None:
            size += PyBytes_GET_SIZE(self._first)
        for frames in (self._more or (), self._merged.values() if self._merged is not None else ()):
            for frame in frames:
                size += PyBytes_GET_SIZE(frame)
        return size

    def on_full(self):
        """The kernel does not take all: defer frames that newer ones may replace."""
        self.slow = self.is_held() or self.unsent() > self._soft_bytes

    def on_drained(self):
        """The kernel has taken all: write the newest of the deferred frames."""
        self.release()

    cdef release(self):
        """Write the newest of the deferred frames, unless the kernel or the window still defers them."""
        self.slow = self.is_held() or self.unsent() > self._soft_bytes
        if not self.slow and self._merged is not None:
            self.catch_up()

    cdef bint is_held(self):
        return self._window is not None and self._window.holds

    cdef Py_ssize_t unsent(self) except -1:
        """The bytes that the kernel has not taken; queries the transport only while it may hold some."""
        cdef Py_ssize_t size
        if self._fd < 0:
            return self._wire.unsent_bytes
        if not self._backed_up:
            return 0
        size = self._transport.get_write_buffer_size()
        self._backed_up = size > 0
        return size

    cpdef flush(self):
        """Write all frames of this iteration with one call."""
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
        # deferred frames go first: until then no newer one may overtake them
        self.slow = unsent > self._soft_bytes or (self._merged is not None and len(self._merged) > 0)
        if self._window is not None:
            pings = self._window.on_write(PyBytes_GET_SIZE(data), self._clock())
            self.slow = self.slow or self._window.holds
            if pings and self._appends_pings:
                data = data + PING_HEAD + self._window.payload()
                pings = False
        self._written += PyBytes_GET_SIZE(data)
        if unsent > self._hard_bytes:
            self._on_slow()
            return
        hot.fanout_bytes += PyBytes_GET_SIZE(data)
        if self._fd < 0:
            self._wire.send_frames(data)
            if pings:
                self._wire.send_ping(self._window.payload())
            return
        if unsent == 0:
            size = PyBytes_GET_SIZE(data)
            sent = send(self._fd, PyBytes_AS_STRING(data), size, SEND_FLAGS)
            if sent == size:
                return
            if sent > 0:
                data = data[sent:]
            # any error other than a full buffer also occurs in the transport, which ends the connection
        self._backed_up = True
        self._transport.write(data)


cdef bytes merged_changes(bytes earlier, bytes later):
    """Return the later of two frames of `presence_changed` of one session with the changed keys of both [P2]."""
    cdef dict event = _changed.decode(payload_of(later))
    event["data"] = _changed.decode(_changed.decode(payload_of(earlier))["data"]) | _changed.decode(event["data"])
    return frame_text(msgspec.json.encode(event))
