# cython: language_level=3, boundscheck=False, wraparound=False
"""What waits to be written to one socket: recorded while a loop turn runs, written once at its end.

A socket write costs about 5 us of kernel time whatever its size, so everything for a receiver goes out in one, and
straight into the kernel: the transport is asked only when it still holds something, or when the kernel takes less than
all. What we hold for a receiver that does not read is bounded [J2].
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL


cdef class Outbox:
    """Ready frames for one connection, in order.

    `wire` has `unsent_bytes` and `send_frames`; `on_dirty(outbox)` is called when the first frame comes. While more than
    `soft_bytes` wait that the kernel has not taken, only the newest frame of each mark is kept, until the socket drains
    or something comes that may not be skipped. `on_slow()` is called at `hard_bytes`.
    """

    def __init__(self, wire, Py_ssize_t soft_bytes, Py_ssize_t hard_bytes, on_dirty, on_slow):
        self._wire = wire
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._merged = {}
        self._slow = False
        self._on_dirty = on_dirty
        self._on_slow = on_slow
        self._frames = []
        self._fd = -1
        self._transport_write = None
        self._transport_unsent = None

    def use_socket(self, int fd, transport):
        """Write to `fd` itself from now on; `transport` owns it and takes what the kernel does not. Plain TCP only.

        `release_socket` must be called before the transport closes `fd`: its number may be somebody else's after that.
        """
        self._fd = fd
        self._transport_write = transport.write
        self._transport_unsent = transport.get_write_buffer_size

    def release_socket(self):
        """The connection is closing: whatever comes from now on is dropped by the wire."""
        self._fd = -1
        self._transport_write = self._transport_unsent = None

    cpdef write(self, bytes frames):
        """Add ready frames to what goes out at the end of this turn."""
        if not self._frames:
            self._on_dirty(self)
        if self._merged:
            self.catch_up()
        self._frames.append(frames)

    cdef merge(self, str mark, bytes frame):
        # taken out first: the newest of all goes out last, so that no order is turned round
        self._merged.pop(mark, None)
        self._merged[mark] = frame

    cdef catch_up(self):
        self._frames.extend(self._merged.values())
        self._merged.clear()

    def on_drained(self):
        """The kernel takes bytes again: send the newest of what was held back."""
        self._slow = False
        if self._merged:
            if not self._frames:
                self._on_dirty(self)
            self.catch_up()

    cpdef flush(self):
        """Write everything that waits in one go."""
        cdef list frames = self._frames
        cdef bytes data
        cdef Py_ssize_t size, unsent
        cdef ssize_t sent
        if not frames:
            return
        data = <bytes>frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        unsent = self._transport_unsent() if self._fd >= 0 else self._wire.unsent_bytes
        self._slow = unsent > self._soft_bytes
        if self._fd < 0:
            if unsent > self._hard_bytes:
                self._on_slow()
            else:
                self._wire.send_frames(data)
            return
        if unsent == 0:
            size = PyBytes_GET_SIZE(data)
            sent = send(self._fd, PyBytes_AS_STRING(data), size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return
            if sent > 0:
                data = data[sent:]
            # any other error than a full buffer: the transport meets it too, and ends the connection
        elif unsent > self._hard_bytes:
            self._on_slow()
            return
        self._transport_write(data)


def fan_out(list frames, list skips, list onlys, list marks, dict outboxes):
    """One flush of a room to its receivers: everything, but not one's own frames, and what is for one alone.

    `skips` and `onlys` hold a session id, or "", for each frame, `marks` what a newer frame replaces, or "" for what
    may not be skipped; `outboxes` the receivers by session id.
    """
    cdef Py_ssize_t index, count = len(frames)
    cdef set special = set(skips)
    cdef list own, public = []
    cdef bytes everything
    cdef Outbox outbox
    special.update(onlys)
    for index in range(count):
        if not <str>onlys[index]:
            public.append(frames[index])
    everything = <bytes>public[0] if len(public) == 1 else b"".join(public)
    for session_id, box in outboxes.items():
        outbox = <Outbox>box
        if outbox._slow:
            for index in range(count):
                only = <str>onlys[index]
                if <str>skips[index] != session_id and (not only or only == session_id):
                    if <str>marks[index]:
                        outbox.merge(<str>marks[index], <bytes>frames[index])
                    else:
                        outbox.write(<bytes>frames[index])
            continue
        if session_id not in special:
            if PyBytes_GET_SIZE(everything):
                outbox.write(everything)
            continue
        own = []
        for index in range(count):
            only = <str>onlys[index]
            if <str>skips[index] != session_id and (not only or only == session_id):
                own.append(frames[index])
        if own:
            outbox.write(<bytes>own[0] if len(own) == 1 else b"".join(own))
