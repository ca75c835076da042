# cython: language_level=3, boundscheck=False, wraparound=False
"""Many sockets read with one epoll of their own, inside asyncio's loop: less per message, much less per connection.

uvloop tells its loop of every socket by itself and keeps a kilobyte of handle and stream for each. Here the loop watches
one descriptor, an epoll; when it is ready, a round begins (rounds.pyx): what has come is read and handled, and only then
is written what that caused. So a turn under load has as many messages in it as the kernel has, and one write per receiver.

A round takes `SLICE` sockets at a time and asks the kernel for more until nothing is left or its time is over. A socket is
served once in a round, with at most `socket_bytes` and `socket_s`; what it has sent beyond that waits in the kernel or, when
it has been read already, in the backlog. What was not served comes first in the next round: the rest of the slice, then
the backlog, which may have half of the time, then the kernel's list, whose order epoll rotates. Sockets that are only
about to come in have a line and rounds of their own (the lobby), or a crowd that comes back at once would hold up those
who are there.
"""

import logging

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.string cimport memcpy

from koko_presence._fastpath.reader cimport FrameReader
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.system cimport *

log = logging.getLogger("koko_presence.polling")

cdef enum:
    SHARED_BYTES = 16384

# what is being handled; one thread, and nothing is read while something is handled
cdef char[SHARED_BYTES] shared


cdef class Line:
    """The sockets of one epoll: those of which the kernel has told and that are still to be served, and those that hold
    data which were read but not handled."""

    def __cinit__(self):
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self.backlog = []

    cdef open(self):
        """Errors: OSError."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.ptr = NULL
        if self.epoll < 0 or self.bell < 0 or epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.bell, &event) < 0:
            error = errno
            self.close()
            raise OSError(error, "epoll")

    cdef void close(self) noexcept:
        self.backlog.clear()
        if self.epoll >= 0:
            close(self.epoll)
        if self.bell >= 0:
            close(self.bell)
        self.epoll = self.bell = -1

    cdef void ring(self) noexcept:
        """Make the epoll ready as long as there is a backlog, of which the kernel knows nothing."""
        cdef unsigned long long number = 1
        if self.bell < 0 or self.rung == bool(self.backlog):
            return
        self.rung = not self.rung
        if self.rung:
            write(self.bell, &number, sizeof(number))
        else:
            read(self.bell, &number, sizeof(number))

    cdef void forget(self, void* source) noexcept:
        """The socket is gone: whatever the kernel has told of it is not to be looked at."""
        cdef int index
        for index in range(self.next, self.count):
            if self.events[index].data.ptr == source:
                self.events[index].data.ptr = NULL


cdef class Poller:
    """All polled sockets of one loop. `call_soon` called while it handles what has come is done at the end of that.

    `round` has the budgets and the time of the round. Errors: OSError when there is no epoll to be had.
    """

    def __init__(self, loop, Round round=None):
        self._loop = loop
        self.round = Round() if round is None else round
        self._soon = []
        self._transports = set()
        self._inside = Line()
        self._lobby = Line()
        self._inside.open()
        try:
            self._lobby.open()
        except OSError:
            self._inside.close()
            raise
        loop.add_reader(self._inside.epoll, self._on_ready)
        loop.add_reader(self._lobby.epoll, self._on_lobby)

    def adopt(self, int fd, protocol, peer, own):
        """Take over the connected socket `fd` (ours from now on) and give it to `protocol`, an asyncio.Protocol or
        BufferedProtocol. `peer` and `own` are its addresses. Errors: OSError when it cannot be watched."""
        cdef PolledTransport transport = PolledTransport.__new__(PolledTransport)
        transport._poller = self
        transport._fd = fd
        transport._line = self._lobby
        transport.set_protocol(protocol)
        transport._peer = peer
        transport._own = own
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
        if self._inside.epoll < 0:
            return
        for transport in list(self._transports):
            transport.abort()
        for line in (self._inside, self._lobby):
            self._loop.remove_reader((<Line>line).epoll)
            (<Line>line).close()

    def _on_ready(self):
        self.run_round(self._inside, self.round.longest_s)

    def _on_lobby(self):
        self.run_round(self._lobby, self.round.longest_lobby_s)

    cdef run_round(self, Line line, double longest_s):
        if line.epoll < 0 or self._busy:
            return
        self.round.begin(longest_s)
        self._busy = True
        try:
            if self.serve_told(line) and self.serve_backlog(line):
                self.serve_kernel(line)
        finally:
            self._busy = False
            self.round.end()
            self._inside.ring()
            self._lobby.ring()
            self.finish_round()

    cdef bint serve_told(self, Line line) except -1:
        """Serve the sockets of which the kernel has told. False: the round's time is over."""
        cdef PolledTransport transport
        cdef int index
        while line.next < line.count:
            index = line.next
            line.next += 1
            if line.events[index].data.ptr == NULL:
                continue
            transport = <PolledTransport><PyObject*>line.events[index].data.ptr
            if transport._served != self.round.number:
                transport._served = self.round.number
                transport.handle_events(line.events[index].events)
                if self.round.now() >= self.round.until:
                    return False
        return True

    cdef bint serve_backlog(self, Line line) except -1:
        """Handle what was read in an earlier round, for half of the time that is left. False: the time is over."""
        cdef PolledTransport transport
        cdef list backlog = line.backlog
        cdef Py_ssize_t done = 0
        cdef double until
        if not backlog:
            return True
        until = (self.round.now() + self.round.until) / 2
        line.backlog = []
        while done < len(backlog):
            transport = <PolledTransport>backlog[done]
            done += 1
            transport._in_backlog = False
            if transport._line is not line:  # it has come in meanwhile
                transport.hold(transport._held)
            else:
                transport._served = self.round.number
                transport.serve()
            if self.round.now() >= until:
                break
        line.backlog = backlog[done:] + line.backlog
        return self.round.now() < self.round.until

    cdef bint serve_kernel(self, Line line) except -1:
        """Ask the kernel and serve what it tells of, until it has nothing new. False: the round's time is over.

        Another look costs a system call, so after a first slice that is not full there is none: then there is time
        enough, and what comes meanwhile makes the next round."""
        cdef PolledTransport transport
        cdef bint first = True, fresh
        cdef int index
        while line.epoll >= 0:
            line.next = 0
            line.count = epoll_wait(line.epoll, line.events, SLICE, 0)
            if line.count <= 0:
                line.count = 0
                return True
            fresh = False
            for index in range(line.count):
                if line.events[index].data.ptr != NULL:  # else it is the bell
                    transport = <PolledTransport><PyObject*>line.events[index].data.ptr
                    if transport._served != self.round.number:
                        fresh = True
                        break
            if not fresh:  # all of these have had their part; the list has come round
                line.count = 0
                return True
            first = first and line.count < SLICE
            if not self.serve_told(line):
                return False
            if first:
                return True
        return True

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
        return epoll_ctl(transport._line.epoll, operation, transport._fd, &event)


cdef class PolledTransport:
    """The part of asyncio.Transport that picows and the outbox use, for one polled socket.

    The protocol hears `pause_writing` as soon as the kernel takes less than all, `resume_writing` when it has all.
    """

    def __cinit__(self):
        self._fd = self._doomed_fd = -1

    # --- asyncio.Transport ------------------------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """`peername`, `sockname`, and `socket`: something with its `fileno` and its whole-number options."""
        if name == "peername":
            return self._peer
        if name == "sockname":
            return self._own
        return self if name == "socket" else default

    def set_protocol(self, protocol):
        """What comes from now on is for `protocol`."""
        self._protocol = protocol
        self._buffered = hasattr(protocol, "get_buffer")

    def begin_frames(self, FrameReader reader not None, bytes first not None):
        """The handshake is over: from now on WebSocket frames come, and `reader` looks at them before the protocol.
        `first` is what has been read of them already."""
        self._reader = reader
        if first and not self._reading_over:
            self.hold(first)

    def promote(self):
        """Out of the lobby: what comes from now on is read before anything of those who are still in it."""
        if self._fd >= 0 and self._line is not self._poller._inside:
            self._poller.control(self, EPOLL_CTL_DEL, 0)
            self._line.forget(<void*>self)
            self._line = self._poller._inside
            self._poller.control(self, EPOLL_CTL_ADD, self.wanted())

    def detach(self):
        """Let go of the socket, unharmed and unwatched, and return its descriptor, which is the caller's. The protocol
        hears nothing more. Nothing may be waiting to be sent."""
        cdef int fd = self._fd
        self._closing = self._reading_over = True
        self._protocol = None
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

    cdef handle_events(self, unsigned int events):
        """The kernel has told of the socket."""
        try:
            if events & EPOLLOUT:
                self.write_more()
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self.read()
        except Exception:
            log.exception("a connection failed; it is cut")
            self.abort()

    cdef serve(self):
        """The socket's turn has come to have handled what was read before."""
        cdef bytes held = self._held
        self._held = None
        if held is None or self._reading_over:
            return
        try:
            memcpy(shared, PyBytes_AS_STRING(held), PyBytes_GET_SIZE(held))
            self.handle(shared, PyBytes_GET_SIZE(held))
        except Exception:
            log.exception("a connection failed; it is cut")
            self.abort()

    cdef read(self):
        cdef ssize_t got
        cdef Py_ssize_t size
        if self._reading_over:
            self.lose(None)  # told although only writing is watched: the other end is gone
            return
        if self._held is not None:  # first what came before
            return
        size = min(self._poller.round.socket_bytes, SHARED_BYTES)
        got = recv(self._fd, shared, size, MSG_DONTWAIT)
        if got > 0:
            self.handle(shared, got)
        else:
            self.end_of_data(got, errno)

    cdef handle(self, char* data, Py_ssize_t size):
        """Give the protocol what has come, as far as the socket's part of the round allows; the rest is held."""
        cdef Py_ssize_t used
        if self._reader is not None:
            used = self._reader.take(self, data, size, self._poller.round)
            if used < size and not self._reading_over:
                self.hold(PyBytes_FromStringAndSize(data + used, size - used))
        elif self._buffered:
            self.handle_buffered(data, size)
        else:
            self._protocol.data_received(PyBytes_FromStringAndSize(data, size))

    cdef handle_buffered(self, char* data, Py_ssize_t size):
        cdef Py_buffer buffer
        cdef Py_ssize_t step
        while size and not self._reading_over:
            view = self._protocol.get_buffer(size)
            PyObject_GetBuffer(view, &buffer, PyBUF_WRITABLE)
            step = min(size, buffer.len)
            memcpy(buffer.buf, data, step)
            PyBuffer_Release(&buffer)
            data += step
            size -= step
            self._protocol.buffer_updated(step)

    cdef hold(self, bytes rest):
        """Keep what was read for the next round."""
        self._held = rest
        if rest is not None and not self._in_backlog:
            self._in_backlog = True
            self._line.backlog.append(self)

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
        self._line.forget(<void*>self)  # its events of this slice may still be to come
        self._fd = -1
        self._held = None
        self._poller._transports.discard(self)

    def _lost(self, error):
        protocol, self._protocol = self._protocol, None
        try:
            protocol.connection_lost(error)
        finally:
            close(self._doomed_fd)


cdef inline bint try_again(int error):
    return error == EAGAIN or error == EINTR or error == ENOBUFS


