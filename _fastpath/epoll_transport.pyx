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

A connection above its budgets (read_budget.pyx) rests: the kernel is not asked for it, and TCP tells the sender to wait.

Connections over TLS are read and decrypted by the loop's own transports. A LoopTransport stands between such a one and its
protocol and gives them the same budgets, backlog and rests.
"""

import logging

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.string cimport memcpy

from koko_presence._fastpath.frame_prefilter cimport FrameReader
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.system cimport *

log = logging.getLogger("koko_presence.polling")

cdef enum:
    SHARED_BYTES = 16384

# How often connections that rest are looked at; their rests are not shorter (read_budget.pyx).
cdef double REST_LOOK_S = 0.02

# A turn of the loop in which its own transports read may take so long for what came over them. It comes beside a round.
cdef double LONGEST_LOOP_TURN_S = 0.002

# The part of it that connections have which are only about to come in: after that they wait for a round of theirs.
cdef double LOOP_TURN_LOBBY_S = 0.0005

# Decrypted bytes that may wait before a connection over TLS is not read any more; one more read may come to them.
cdef enum:
    LOOP_HELD_BYTES = 4096

# What the kernel may have of one connection over TLS that it has not sent; TCP_NOTSENT_LOWAT says the same (server/acceptor).
cdef enum:
    NOT_SENT_BYTES = 4096

# what is being handled; one thread, and nothing is read while something is handled
cdef char[SHARED_BYTES] shared

# what the loop's own transports decrypt into: they fill it and tell of it without a break
cdef char[SHARED_BYTES] decrypted
cdef object decrypted_view = PyMemoryView_FromMemory(decrypted, SHARED_BYTES, PyBUF_WRITE)


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

    cdef int ring(self) except -1:
        """Make the epoll ready as long as there is a backlog, of which the kernel knows nothing."""
        cdef unsigned long long number = 1
        if self.bell < 0 or self.rung == bool(self.backlog):
            return 0
        self.rung = not self.rung
        if self.rung:
            write(self.bell, &number, sizeof(number))
        else:
            read(self.bell, &number, sizeof(number))
        return 0

    cdef bint is_ready(self) noexcept:
        """Is there anything to serve, as the kernel sees it? What has been told of and waits is still ready there."""
        cdef epoll_event event
        return epoll_wait(self.epoll, &event, 1, 0) > 0

    cdef void forget(self, void* source) noexcept:
        """The socket is gone: whatever the kernel has told of it is not to be looked at."""
        cdef int index
        for index in range(self.next, self.count):
            if self.events[index].data.ptr == source:
                self.events[index].data.ptr = NULL


cdef double data_came_at(Source source, double now) noexcept:
    """The monotonic second at which the newest data of a connection came, but not before it was accepted: while these are
    not read, it has waited for so long, and for longer if it goes on sending. 0.0 where the kernel does not say it."""
    cdef tcp_info info
    cdef unsigned int size = sizeof(info)
    if getsockopt(source._fd, IPPROTO_TCP, TCP_INFO, &info, &size):
        return 0.0
    return max(source._adopted_at, now - info.tcpi_last_data_recv / 1000.0)


cdef class Poller:
    """All polled sockets of one loop. `call_soon` called while it handles what has come is done at the end of that.

    `round` has the budgets and the time of the round. Errors: OSError when there is no epoll to be had.
    """

    def __init__(self, loop, Round round=None):
        self._loop = loop
        self.round = Round() if round is None else round
        self._soon = []
        self._transports = set()
        self._resting = []
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

    def adopt(self, int fd, protocol):
        """Take over the connected socket `fd` (ours from now on) and give it to `protocol`, an asyncio.Protocol. Errors:
        OSError when it cannot be watched."""
        cdef PolledTransport transport = PolledTransport.__new__(PolledTransport)
        transport._poller = self
        transport._fd = fd
        transport._line = self._lobby
        transport._adopted_at = self.round.now()
        transport.set_protocol(protocol)
        if self.control(transport, EPOLL_CTL_ADD, EPOLLIN) < 0:
            error = errno
            close(fd)
            raise OSError(error, "epoll_ctl")
        self._transports.add(transport)
        protocol.connection_made(transport)
        return transport

    def lend(self, protocol):
        """The asyncio.BufferedProtocol for one of the loop's own transports, behind which `protocol` is read within this
        poller's budgets: `protocol` gets it as its transport."""
        cdef LoopTransport transport = LoopTransport.__new__(LoopTransport)
        transport._poller = self
        transport._line = self._lobby
        transport._adopted_at = self.round.now()
        transport.set_protocol(protocol)
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

    def on_next_round(self, callback):
        """Call `callback()` once, when the next round begins, or the loop's own transports read; None: do not."""
        self._next_round = callback

    def lobby_waits_for(self, double now):
        """`Round.lobby_waits_for`, unless there is nobody left: the last of them may have come in, or gone, outside of a
        round of theirs, and no other round follows that would find them all served."""
        cdef double waited_s = self.round.lobby_waits_for(now)
        if waited_s > 0.0 and not self._lobby.is_ready():
            self.round.note_lobby(True, 0.0)
            return 0.0
        return waited_s

    cdef tell_round(self):
        callback, self._next_round = self._next_round, None
        callback()

    def close(self):
        """Cut what is still open and stop watching."""
        if self._inside.epoll < 0:
            return
        for transport in list(self._transports):
            transport.abort()
        for line in (self._inside, self._lobby):
            self._loop.remove_reader((<Line>line).epoll)
            (<Line>line).close()
        self._resting.clear()
        if self._rest_timer is not None:
            self._rest_timer.cancel()

    def _on_ready(self):
        self.run_round(self._inside, self.round.longest_s)

    def _on_lobby(self):
        self.run_round(self._lobby, self.round.longest_lobby_s)

    cdef run_round(self, Line line, double longest_s):
        cdef bint served_all = False
        if line.epoll < 0 or self._busy:
            return
        if self._next_round is not None:
            self.tell_round()
        self.round.begin(longest_s)
        self._busy = True
        try:
            served_all = self.serve_told(line) and self.serve_backlog(line) and self.serve_kernel(line)
        finally:
            self._busy = False
            self.round.end()
            self._inside.ring()
            self._lobby.ring()
            if line is self._lobby:  # when its time is over all may have been served, and no other round follows
                served_all = served_all or not line.is_ready()
                self.round.note_lobby(served_all, 0.0 if served_all else self.next_waits_since(line))
            self.finish_round()

    cdef double next_waits_since(self, Line line) except -1.0:
        """The monotonic second since when the next of a line has waited to be served, or a little earlier; 0.0 where nothing
        says so."""
        cdef Source source
        cdef int index
        for index in range(line.next, line.count):
            if line.events[index].data.ptr != NULL:
                source = <Source><PyObject*>line.events[index].data.ptr
                if source._line is line:
                    return data_came_at(source, self.round.now())
        if line.backlog:
            return data_came_at(<Source>line.backlog[0], self.round.now())
        return line.asked_at if line.count < SLICE else 0.0  # when it told of all, and all are served, others came later

    cdef bint serve_told(self, Line line) except -1:
        """Serve the sockets of which the kernel has told. False: the round's time is over."""
        cdef Source source
        cdef int index
        while line.next < line.count:
            index = line.next
            line.next += 1
            if line.events[index].data.ptr == NULL:
                continue
            source = <Source><PyObject*>line.events[index].data.ptr
            if source._served != self.round.number:
                source._served = self.round.number
                source.handle_events(line.events[index].events)
                if self.round.now() >= self.round.until:
                    return False
        return True

    cdef bint serve_backlog(self, Line line) except -1:
        """Handle what was read in an earlier round, for half of the time that is left. False: the time is over."""
        cdef Source source
        cdef list backlog = line.backlog
        cdef Py_ssize_t done = 0
        cdef double until
        if not backlog:
            return True
        until = (self.round.now() + self.round.until) / 2
        line.backlog = []
        while done < len(backlog):
            source = <Source>backlog[done]
            done += 1
            source._in_backlog = False
            if source._line is not line:  # it has come in meanwhile
                source.queue()
                continue
            source._served = self.round.number
            source.serve()
            if self.round.now() >= until:
                break
        line.backlog = backlog[done:] + line.backlog
        return self.round.now() < self.round.until

    cdef bint serve_kernel(self, Line line) except -1:
        """Ask the kernel and serve what it tells of, until it has nothing new. False: the round's time is over.

        Another look costs a system call, so after a first slice that is not full there is none: then there is time
        enough, and what comes meanwhile makes the next round."""
        cdef Source source
        cdef bint first = True, fresh
        cdef int index
        while line.epoll >= 0:
            line.next = 0
            line.asked_at = self.round.started_at
            line.count = epoll_wait(line.epoll, line.events, SLICE, 0)
            if line.count <= 0:
                line.count = 0
                return True
            fresh = False
            for index in range(line.count):
                if line.events[index].data.ptr != NULL:  # else it is the bell
                    source = <Source><PyObject*>line.events[index].data.ptr
                    if source._served != self.round.number:
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

    cdef begin_loop_turn(self):
        """One of the loop's own transports has read: all that they read in this turn of the loop is one round."""
        if not self.round.open:
            if self._next_round is not None:
                self.tell_round()
            self.round.begin(LONGEST_LOOP_TURN_S)
            self._loop.call_soon(self._end_loop_turn)

    def _end_loop_turn(self):
        self.round.end()

    cdef rest(self, Source source):
        """`source` is not read before its time; looked at from now on."""
        self._resting.append(source)
        if self._rest_timer is None:
            self._rest_timer = self._loop.call_later(REST_LOOK_S, self._look_at_resting)

    def _look_at_resting(self):
        cdef double now = self.round.now()
        cdef Source source
        cdef list resting = self._resting
        self._rest_timer = None
        self._resting = []
        for each in resting:
            source = <Source>each
            if source._resting and source._rests_until > now and not source._reading_over:
                self._resting.append(source)
            else:
                source.end_rest()
        if self._resting:
            self._rest_timer = self._loop.call_later(REST_LOOK_S, self._look_at_resting)
        self._inside.ring()
        self._lobby.ring()

    cdef int control(self, PolledTransport transport, int operation, unsigned int events):
        cdef epoll_event event
        event.events = events
        event.data.ptr = <void*>transport
        return epoll_ctl(transport._line.epoll, operation, transport._fd, &event)


cdef class Source:
    """A connection as its poller sees it: whose data are handled, and which of them wait.

    `_held` are bytes that were read but not handled; until they are, nothing more is read. `_resting` says that the
    connection is above its budgets, `_paused` that its protocol wants nothing more.
    """

    def __cinit__(self):
        self._fd = -1

    def set_protocol(self, protocol):
        """What comes from now on is for `protocol`: an asyncio.Protocol, or a FrameReader after the handshake."""
        self._protocol = protocol
        self._reader = <FrameReader>protocol if isinstance(protocol, FrameReader) else None

    def unread(self, bytes data not None):
        """These bytes, which were read, are for the present protocol, before all that is still to be read."""
        if data and not self._reading_over:
            self.hold(data)
            self._line.ring()

    def pause_reading(self):
        """Read nothing until `resume_reading`."""
        if not self._paused:
            self._paused = True
            self.watch_reading()

    def resume_reading(self):
        """Read again, unless the connection is above its budgets."""
        if self._paused:
            self._paused = False
            self.queue()
            self._line.ring()
            self.watch_reading()

    def wake(self):
        """The budgets do not matter any more: the connection is closing, and only a close frame is awaited."""
        if self._resting:
            self.end_rest()
            self._line.ring()

    cdef serve(self):
        """The turn has come to have handled what was read before."""
        cdef bytes held = self._held
        if held is None or self._reading_over or self._paused or self._resting:
            return
        self._held = None
        try:
            self.handle(PyBytes_AS_STRING(held), PyBytes_GET_SIZE(held))
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()
        if self._held is None:
            self.watch_reading()

    cdef handle(self, const char* data, Py_ssize_t size):
        """Give the protocol what has come, as far as the connection's part of the round and its budgets allow; the rest
        is held."""
        cdef Py_ssize_t used
        if self._reader is None:
            self._protocol.data_received(PyBytes_FromStringAndSize(data, size))
            return
        used = self._reader.take(data, size, self._poller.round)
        if self._reading_over or self._reader is None:
            return
        if self._reader.rest_until > 0.0 and not self._resting:
            self._resting = True
            self._rests_until = self._reader.rest_until
            self._poller.rest(self)
        if used < size:
            self.hold(PyBytes_FromStringAndSize(data + used, size - used))
        elif self._resting:
            self.watch_reading()

    cdef hold(self, bytes rest):
        """Keep what was read for the next round."""
        self._held = rest if self._held is None else self._held + rest
        self.queue()
        self.watch_reading()

    cdef queue(self):
        """Take a place in the backlog, if something is held that may be handled."""
        if self._held is not None and not (self._in_backlog or self._resting or self._paused):
            self._in_backlog = True
            self._line.backlog.append(self)

    cdef end_rest(self):
        self._resting = False
        if not self._reading_over:
            self.queue()
            self.watch_reading()

    cdef handle_events(self, unsigned int events):
        """The kernel has told of the socket."""
        raise NotImplementedError

    cdef watch_reading(self):
        """Have the kernel tell of what comes, or not, as it is wanted now."""
        raise NotImplementedError

    cdef bint is_wanted(self):
        """Is more to be read?"""
        return not (self._reading_over or self._resting or self._paused) and self._held is None


cdef class PolledTransport(Source):
    """The part of asyncio.Transport that connections, HTTP and the outbox use, for one polled socket.

    The protocol hears `pause_writing` as soon as the kernel takes less than all, `resume_writing` when it has all.

    When the other end is gone, the first write that fails may come before all that it had sent is read. That is still
    read and handled, in order and within the budgets, and only then is the connection lost; what is written meanwhile is
    dropped. A protocol that has paused reading may never read on, so its connection is lost at once.
    """

    family = 0  # aiohttp wants TCP_NODELAY, and asks first; it has been set

    def __cinit__(self):
        self._doomed_fd = -1

    # --- asyncio.Transport ------------------------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """`socket`: something with its `fileno` and its whole-number options. Addresses are not kept."""
        return self if name == "socket" else default

    def promote(self):
        """Out of the lobby: what comes from now on is read before anything of those who are still in it."""
        if self._fd >= 0 and self._line is not self._poller._inside:
            self._poller.control(self, EPOLL_CTL_DEL, 0)
            self._line.forget(<void*>self)
            self._line = self._poller._inside
            self._unwatched = False
            self._poller.control(self, EPOLL_CTL_ADD, self.wanted())

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
        if self._closing or not size or self._write_error is not None:
            return
        if self._unsent_bytes == 0:
            sent = send(self._fd, PyBytes_AS_STRING(ready), size, SEND_FLAGS)
            if sent == size:
                return
            if sent < 0:
                if not try_again(errno):
                    self.stop_writing(OSError(errno, "send"))
                    return
                sent = 0
            self._unsent = [ready]
            self._sent_of_first = sent
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
                self.read(events)
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()

    cdef read(self, unsigned int events):
        cdef ssize_t got
        cdef Py_ssize_t size
        if not self.is_wanted():
            if events & (EPOLLERR | EPOLLHUP):
                self.on_hang_up()
            return  # else told of before that was so
        size = min(self._poller.round.socket_bytes, SHARED_BYTES)
        got = recv(self._fd, shared, size, MSG_DONTWAIT)
        if got > 0:
            self.handle(shared, got)
        else:
            self.end_of_data(got, errno)

    cdef on_hang_up(self):
        """The other end is gone while nothing is read. The kernel tells of that whether it is wanted or not, and would
        again and again: so it is not asked any more until something is wanted."""
        if self._reading_over:
            self.lose(None)
        elif not self._unwatched:
            self._unwatched = True
            self._poller.control(self, EPOLL_CTL_DEL, 0)

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
        if len(self._unsent) > 1:
            data = <bytes>self._unsent[0]
            self._unsent[0] = data[self._sent_of_first:]
            self._unsent = [b"".join(self._unsent)]
            self._sent_of_first = 0
        data = <bytes>self._unsent[0]
        sent = send(
            self._fd, PyBytes_AS_STRING(data) + self._sent_of_first, PyBytes_GET_SIZE(data) - self._sent_of_first,
            SEND_FLAGS,
        )
        if sent < 0:
            if not try_again(errno):
                self.stop_writing(OSError(errno, "send"))
            return
        self._unsent_bytes -= sent
        self._sent_of_first += sent
        if self._unsent_bytes:
            return
        self._unsent = None
        if self._closing:
            self.lose(None)
            return
        self.watch()
        self._protocol.resume_writing()

    cdef stop_writing(self, error):
        """Nothing can be written any more. What has come is read to its end, if anybody is to read it."""
        self._unsent = None
        self._unsent_bytes = 0
        if self._reading_over or self._paused:
            self.lose(error)
            return
        self._write_error = error
        shutdown(self._fd, SHUT_RDWR)  # so that there is an end, whatever the error was
        self.watch()

    cdef unsigned int wanted(self):
        return (EPOLLIN if self.is_wanted() else 0) | (EPOLLOUT if self._unsent_bytes else 0)

    cdef watch_reading(self):
        if self._fd < 0:
            return
        if self._paused and self._write_error is not None:
            self.lose(self._write_error)
        else:
            self.watch()

    cdef watch(self):
        cdef unsigned int wanted = self.wanted()
        if not self._unwatched:
            self._poller.control(self, EPOLL_CTL_MOD, wanted)
        elif wanted:
            self._unwatched = False
            self._poller.control(self, EPOLL_CTL_ADD, wanted)

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
        self._poller._loop.call_soon(self._lost, self._write_error if error is None else error)

    cdef forget(self):
        self._poller.control(self, EPOLL_CTL_DEL, 0)
        self._line.forget(<void*>self)  # its events of this slice may still be to come
        self._fd = -1
        self._held = None
        self._poller._transports.discard(self)

    def _lost(self, error):
        protocol, self._protocol = self._protocol, None
        self._reader = None  # it holds the connection, which holds this transport
        try:
            protocol.connection_lost(error)
        finally:
            close(self._doomed_fd)


cdef class LoopTransport(Source):
    """A transport that stands before one of the loop's own, and that one's protocol: TLS is below. Whatever is not about
    reading is the other's affair.

    What waits for a round or rests is kept decrypted, up to `LOOP_HELD_BYTES`; above that the loop's transport does not
    decrypt, and does not read the socket while anything encrypted waits in it. So it finds the end of the stream, after
    which it drops what it has, only when it has nothing. What is held here when the connection is lost is still handled,
    in order and within the budgets, before the protocol is told; what is written meanwhile is dropped.

    The loop's transport gives all it has to the kernel, which adds it to its newest buffer, of up to 64 KiB, whatever
    TCP_NOTSENT_LOWAT says (see SEND_FLAGS). So the protocol hears `pause_writing` here as soon as more than
    `NOT_SENT_BYTES` have not been sent, and `resume_writing` when the kernel says that there is room.
    """

    # --- asyncio.BufferedProtocol, for the loop's transport -----------------------------------------------------------

    def connection_made(self, base):
        self._base = base
        base.set_read_buffer_limits(high=1)  # 0 would be reached with nothing there
        sock = base.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        self._protocol.connection_made(self)

    def get_buffer(self, size_hint):
        """Where to put what comes; `buffer_updated` follows at once."""
        return decrypted_view

    def buffer_updated(self, Py_ssize_t size):
        """So many bytes have come."""
        if self._reading_over:
            return
        self._poller.begin_loop_turn()
        if self._resting or self._paused or self._held is not None or self.is_turn_over():
            self.hold(PyBytes_FromStringAndSize(decrypted, size))
            self._line.ring()
            return
        try:
            self.handle(decrypted, size)
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()
        self._line.ring()

    cdef bint is_turn_over(self) except -1:
        """Has this connection to wait for a round of its line?"""
        cdef Round round = self._poller.round
        cdef double now = round.now()
        if self._line is self._poller._lobby and now >= round.started_at + LOOP_TURN_LOBBY_S:
            return True
        return now >= round.until

    def eof_received(self):
        """The other end says nothing more; `connection_lost` follows."""
        self._at_eof = True
        return False

    def pause_writing(self):
        self._base_is_full = True
        self.note_fullness()

    def resume_writing(self):
        self._base_is_full = False
        self.look_at_kernel()
        self.note_fullness()

    cdef look_at_kernel(self):
        """Has the kernel more that it has not sent than it should? Then it is to say when there is room."""
        cdef epoll_event event
        if self._kernel_is_full or self.not_sent() <= NOT_SENT_BYTES or not self.is_open():
            return
        event.events = EPOLLOUT
        event.data.ptr = <void*>self
        self._kernel_is_full = epoll_ctl(self._poller._inside.epoll, EPOLL_CTL_ADD, self._fd, &event) == 0

    cdef bint is_open(self) except -1:
        """Is the descriptor still this connection's? The loop's transport closes it a turn before it says so, and the
        number may be another one's by then."""
        if self._fd < 0 or self._base is None:
            return False
        sock = self._base.get_extra_info("socket")
        return sock is not None and sock.fileno() == self._fd

    cdef int not_sent(self) noexcept:
        cdef int size = 0
        return 0 if self._fd < 0 or ioctl(self._fd, SIOCOUTQNSD, &size) else size

    cdef handle_events(self, unsigned int events):
        """The kernel has room again, or the connection is at its end."""
        cdef epoll_event event
        if self._kernel_is_full and self.is_open():
            epoll_ctl(self._poller._inside.epoll, EPOLL_CTL_DEL, self._fd, &event)
        self._kernel_is_full = False
        try:
            self.note_fullness()
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()

    cdef note_fullness(self):
        """Tell the protocol when it has changed whether anything waits."""
        cdef bint is_full = self._base_is_full or self._kernel_is_full
        if is_full == self._told_full or self._lost or self._protocol is None:
            return
        self._told_full = is_full
        if is_full:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()

    def connection_lost(self, error):
        self._lost = True
        self._fd = -1  # it is closed, and with that out of the epoll
        self._error = error
        if self._held is None or self._reading_over or self._paused:
            # not at once: what follows from data that a round has handled since this was planned goes before
            self._poller._loop.call_soon(self._end)

    def _end(self):
        """All that came has been handled: tell the protocol of the end."""
        protocol, self._protocol = self._protocol, None
        if protocol is None or self._base is None:  # it has been told, or TLS has failed and it was never told of any
            return
        self._reader = None  # it holds the connection, which holds this transport
        self._poller._inside.forget(<void*>self)
        self._reading_over = self._closing = True
        self._held = None
        error, self._error = self._error, None
        try:
            if self._at_eof:
                protocol.eof_received()
            protocol.connection_lost(error)
        finally:
            self._base = None

    # --- asyncio.Transport, for the protocol --------------------------------------------------------------------------

    def promote(self):
        """Out of the lobby: what is held is handled before anything of those who are still in it."""
        self._line = self._poller._inside

    def get_extra_info(self, name, default=None):
        return default if self._base is None else self._base.get_extra_info(name, default)

    def is_closing(self):
        """Has this end closed it? Not because the other one has: its last words are still to be handled."""
        return self._closing or self._base is None or not (self._at_eof or self._lost) and self._base.is_closing()

    def get_write_buffer_size(self):
        if self._is_mute():
            return 0
        return self._base.get_write_buffer_size() + (self.not_sent() if self._kernel_is_full else 0)

    def set_write_buffer_limits(self, high=None, low=None):
        if not self._is_mute():
            self._base.set_write_buffer_limits(high, low)

    def write(self, data):
        if self._is_mute():
            return
        self._base.write(data)
        if not self._kernel_is_full:
            self.look_at_kernel()
            if self._kernel_is_full:
                self.note_fullness()

    def writelines(self, parts):
        self.write(b"".join(parts))

    def close(self):
        """Send what waits, then close; nothing is read any more."""
        self.stop_reading()
        if self._base is not None and not self._lost:
            self._base.close()

    def abort(self):
        """Close at once."""
        self.stop_reading()
        if self._base is not None and not self._lost:
            self._base.abort()

    cdef bint _is_mute(self):
        """Is there nothing to write to, not yet or not any more?"""
        return self._at_eof or self._lost or self._base is None

    cdef stop_reading(self):
        self._reading_over = self._closing = True
        self._held = None
        if self._lost:
            self._poller._loop.call_soon(self._end)

    cdef bint is_wanted(self):
        return not (self._reading_over or self._paused) and (
            self._held is None or PyBytes_GET_SIZE(self._held) < LOOP_HELD_BYTES
        )

    cdef watch_reading(self):
        if self._lost:
            if self._held is None or self._paused:
                self._poller._loop.call_soon(self._end)
        elif self._base is None or self._closing:
            return
        elif self.is_wanted():
            self._base.resume_reading()
        else:
            self._base.pause_reading()


cdef inline bint try_again(int error):
    return error == EAGAIN or error == EINTR or error == ENOBUFS


