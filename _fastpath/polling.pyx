# cython: language_level=3, boundscheck=False, wraparound=False
"""Many sockets read with one epoll of their own, inside asyncio's loop: less per message, much less per connection.

uvloop tells its loop of every socket by itself and keeps a kilobyte of handle and stream for each. Here the loop watches
one descriptor, an epoll; when it is ready, everything that has come is read and handled in one go, and only then is
written what that caused. So a turn under load has as many messages in it as the kernel has, and one write per receiver.
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno

from koko_presence._fastpath.reader cimport FrameReader
from koko_presence._fastpath.system cimport *

log = logging.getLogger("koko_presence.polling")

cdef enum:
    EVENTS = 1024
    SHARED_BYTES = 16384
    READS_IN_A_ROW = 16  # then the others have their turn; what is left is told again

# A round handles what has come for this long before it writes what that caused; the kernel tells of the rest again,
# behind whoever has come meanwhile. Those who are only about to come in wait in a line of their own and get less, or a
# crowd that comes back at once would hold up everybody who is there.
cdef double LONGEST_ROUND_S = 0.008
cdef double LONGEST_LOBBY_ROUND_S = 0.002


cdef class Poller:
    """All polled sockets of one loop. `call_soon` called while it handles what has come is done at the end of that.

    Errors: OSError when there is no epoll to be had.
    """

    cdef object _loop
    cdef int _epoll
    cdef int _lobby
    cdef bint _busy
    cdef list _soon
    cdef set _transports
    cdef list _closed
    cdef epoll_event[EVENTS] _events
    cdef char[SHARED_BYTES] _shared

    def __init__(self, loop):
        self._loop = loop
        self._soon = []
        self._closed = []
        self._transports = set()
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        self._lobby = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0 or self._lobby < 0:
            raise OSError(errno, "epoll_create1")
        loop.add_reader(self._epoll, self._on_ready)
        loop.add_reader(self._lobby, self._on_lobby)

    def adopt(self, int fd, protocol):
        """Take over the connected socket `fd` (ours from now on) and give it to `protocol`, an asyncio.Protocol. Errors:
        OSError when it cannot be watched."""
        cdef PolledTransport transport = PolledTransport.__new__(PolledTransport)
        transport._poller = self
        transport._fd = fd
        transport._epoll = self._lobby
        transport.set_protocol(protocol)
        if self.control(transport, EPOLL_CTL_ADD, EPOLLIN) < 0:
            error = errno
            close(fd)
            raise OSError(error, "epoll_ctl")
        self._transports.add(transport)
        protocol.connection_made(transport)
        return transport

    def call_soon(self, callback):
        """Call `callback()` before the loop waits again."""
        if self._busy:
            self._soon.append(callback)
            return None
        return self._loop.call_soon(callback)

    def call_later(self, delay, callback):
        """The loop's own."""
        return self._loop.call_later(delay, callback)

    def close(self):
        """Cut what is still open and stop watching."""
        if self._epoll < 0:
            return
        for transport in list(self._transports):
            transport.abort()
        for epoll in (self._epoll, self._lobby):
            self._loop.remove_reader(epoll)
            close(epoll)
        self._epoll = self._lobby = -1

    def _on_ready(self):
        self.round(self._epoll, LONGEST_ROUND_S)

    def _on_lobby(self):
        self.round(self._lobby, LONGEST_LOBBY_ROUND_S)

    cdef round(self, int epoll, double longest_s):
        cdef int count, index
        cdef PolledTransport transport
        cdef unsigned int events
        cdef double until = monotonic() + longest_s
        count = epoll_wait(epoll, self._events, EVENTS, 0)
        self._busy = True
        try:
            for index in range(count):
                # alive even if it was closed a moment ago: `_closed` holds it until the end of this round
                transport = <PolledTransport><PyObject*>self._events[index].data.ptr
                events = self._events[index].events
                try:
                    if events & EPOLLOUT:
                        transport.write_more()
                    if events & (EPOLLIN | EPOLLERR | EPOLLHUP):
                        transport.read()
                except Exception:
                    log.exception("a connection failed; it is cut")
                    transport.abort()
                if index & 3 == 3 and monotonic() > until:
                    break
        finally:
            self._busy = False
            self._closed.clear()
            self.finish_round()

    cdef finish_round(self):
        cdef list soon
        if not self._soon:
            return
        soon, self._soon = self._soon, []
        for callback in soon:
            try:
                callback()
            except Exception:
                log.exception("a callback failed")

    cdef int control(self, PolledTransport transport, int operation, unsigned int events):
        cdef epoll_event event
        event.events = events
        event.data.ptr = <void*>transport
        return epoll_ctl(transport._epoll, operation, transport._fd, &event)


cdef class PolledTransport:
    """The part of asyncio.Transport that connections and the outbox use, for one polled socket.

    The protocol hears `pause_writing` as soon as the kernel takes less than all, `resume_writing` when it has all.
    """

    cdef Poller _poller
    cdef object _protocol
    cdef list _unsent
    cdef Py_ssize_t _unsent_bytes
    cdef int _fd
    cdef int _doomed_fd
    cdef int _epoll
    cdef bint _closing
    cdef bint _reading_over
    cdef FrameReader _reader

    def __cinit__(self):
        self._fd = self._doomed_fd = -1

    # --- asyncio.Transport ------------------------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """`socket`: something with its `fileno` and its whole-number options. Addresses are not kept."""
        return self if name == "socket" else default

    def set_protocol(self, protocol):
        """What comes from now on is for `protocol`: an asyncio.Protocol, or a FrameReader after the handshake."""
        self._protocol = protocol
        self._reader = <FrameReader>protocol if isinstance(protocol, FrameReader) else None

    def promote(self):
        """Out of the lobby: what comes from now on is read before anything of those who are still in it."""
        if self._fd >= 0 and self._epoll != self._poller._epoll:
            self._poller.control(self, EPOLL_CTL_DEL, 0)
            self._epoll = self._poller._epoll
            self._poller.control(self, EPOLL_CTL_ADD, self.wanted())

    def detach(self):
        """Let go of the socket, unharmed and unwatched, and return its descriptor, which is the caller's. The protocol
        hears nothing more. Nothing may be waiting to be sent."""
        cdef int fd = self._fd
        self._closing = self._reading_over = True
        self._protocol = self._reader = None
        self.forget()
        return fd

    def fileno(self):
        """The descriptor, -1 when it is closed."""
        return self._fd

    def setsockopt(self, int level, int option, int value):
        """Errors: OSError."""
        if setsockopt(self._fd, level, option, &value, sizeof(value)):
            raise OSError(errno, "setsockopt")

    def getsockopt(self, int level, int option):
        """Errors: OSError."""
        cdef int value = 0
        cdef unsigned int size = sizeof(value)
        if getsockopt(self._fd, level, option, &value, &size):
            raise OSError(errno, "getsockopt")
        return value

    def is_closing(self):
        return self._closing

    def get_write_buffer_size(self):
        """Bytes that the kernel has not taken."""
        return self._unsent_bytes

    def write(self, data):
        """Send `data` now as far as the kernel takes it, and the rest as soon as it does."""
        cdef bytes ready = data if type(data) is bytes else bytes(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(ready)
        cdef ssize_t sent
        if self._closing or not size:
            return
        if self._unsent_bytes == 0:
            sent = send(self._fd, PyBytes_AS_STRING(ready), size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return
            if sent < 0:
                if not try_again(errno):
                    self.lose(OSError(errno, "send"))
                    return
                sent = 0
            if sent:
                ready = ready[sent:]
            self._unsent = [ready]
            self._unsent_bytes = size - sent
            self.watch()
            self._protocol.pause_writing()
            return
        self._unsent.append(ready)
        self._unsent_bytes += size

    def writelines(self, parts):
        """The same for several pieces."""
        self.write(b"".join(parts))

    def close(self):
        """Send what waits, then close; nothing is read any more. `connection_lost(None)` follows."""
        if self._closing:
            return
        self._closing = self._reading_over = True
        if self._unsent_bytes:
            self.watch()
        else:
            self.lose(None)

    def abort(self):
        """Close at once. `connection_lost(None)` follows."""
        self._closing = True
        self.lose(None)

    # --- what the poller calls --------------------------------------------------------------------------------------

    cdef read(self):
        cdef ssize_t got
        cdef int turn
        if self._reading_over:
            self.lose(None)  # told although only writing is watched: the other end is gone
            return
        for turn in range(READS_IN_A_ROW):
            if self._reading_over:  # closed by what it has just said
                return
            got = recv(self._fd, self._poller._shared, SHARED_BYTES, MSG_DONTWAIT)
            if got <= 0:
                self.end_of_data(got, errno)
                return
            if self._reader is None:
                self._protocol.data_received(self._poller._shared[:got])
                return
            self._reader.take(self._poller._shared, got)
            if got < SHARED_BYTES:
                return

    cdef end_of_data(self, ssize_t got, int error):
        if got == 0:
            self._protocol.eof_received()
            self.close()
        elif not try_again(error):
            self.lose(OSError(error, "recv"))

    cdef write_more(self):
        cdef bytes data
        cdef ssize_t sent
        if self._fd < 0 or not self._unsent_bytes:
            return
        data = <bytes>self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        sent = send(self._fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if not try_again(errno):
                self.lose(OSError(errno, "send"))
            return
        self._unsent_bytes -= sent
        if self._unsent_bytes:
            self._unsent = [data[sent:]]
            return
        self._unsent = None
        if self._closing:
            self.lose(None)
            return
        self.watch()
        self._protocol.resume_writing()

    cdef unsigned int wanted(self):
        return (0 if self._reading_over else EPOLLIN) | (EPOLLOUT if self._unsent_bytes else 0)

    cdef watch(self):
        self._poller.control(self, EPOLL_CTL_MOD, self.wanted())

    cdef lose(self, error):
        """The connection is over. The protocol is told in the loop's next turn, as asyncio's transports do, and only
        then is the descriptor closed: whoever may write to it by its number (the outbox) lets go of it when told."""
        if self._fd < 0:
            return
        self._closing = self._reading_over = True
        self._unsent = None
        self._unsent_bytes = 0
        self._doomed_fd = self._fd
        self.forget()
        self._poller._loop.call_soon(self._lost, error)

    cdef forget(self):
        self._poller.control(self, EPOLL_CTL_DEL, 0)
        self._fd = -1
        self._poller._transports.discard(self)
        self._poller._closed.append(self)  # its events of this round may still be to come

    def _lost(self, error):
        protocol, self._protocol = self._protocol, None
        self._reader = None  # it holds the connection, which holds this transport
        self._poller._closed.clear()
        try:
            protocol.connection_lost(error)
        finally:
            close(self._doomed_fd)


cdef inline bint try_again(int error):
    return error == EAGAIN or error == EINTR or error == ENOBUFS


