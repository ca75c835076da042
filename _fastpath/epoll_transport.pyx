# cython: language_level=3, boundscheck=False, wraparound=False
"""Reads many sockets with nested epolls inside asyncio's loop, and gives every connection its share of each round of
reading.

uvloop watches every socket by itself and keeps a kilobyte of handle and stream for each. Here the loop watches one
descriptor, an epoll. When it is ready, a round begins (rounds.pyx): received data are read and handled first, and what
that causes is written afterwards. So an iteration under load handles all messages that the kernel holds, with one write
per receiving socket.

A round takes `SLICE` sockets at a time and queries the kernel until no data are left or its time is over. Each socket
is served once in a round, with at most `socket_bytes` and `socket_s`; further data stay in the kernel or, if already
read, in the backlog. The next round serves the rest first: the remaining sockets of the slice, then the backlog with at
most half of the time, then the kernel's list, whose order epoll rotates. Connections without a room have a ready queue
and rounds of their own, the admission queue, so that a reconnect storm does not delay the connections in rooms.

A connection above its budgets (read_budget.pyx) is not read until its pause ends, so that TCP holds the sender back.

TLS connections are read and decrypted by the loop's own transports. A `LoopTransport` between such a transport and its
protocol applies the same budgets, backlog and pauses.

`Poller` writes the ready queues and rounds; each `Source` writes its own state.
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

# The interval of checks for the end of a pause; no pause is shorter (read_budget.pyx).
cdef double THROTTLE_CHECK_S = 0.02

# The time for data of the loop's own transports per loop iteration, in addition to a round.
cdef double LONGEST_LOOP_ITERATION_S = 0.002

# The part of that time for connections without a room; after it they wait for a round of the admission queue.
cdef double LOOP_ITERATION_ADMISSION_S = 0.0005

# The decrypted bytes held for a TLS connection from which it is not read any more; one further read may be added.
cdef enum:
    LOOP_HELD_BYTES = 4096

# The unsent bytes that the kernel may hold of a TLS connection; TCP_NOTSENT_LOWAT has the same value (server/acceptor).
cdef enum:
    NOT_SENT_BYTES = 4096

# the data being handled; there is one thread, and nothing is read during handling
cdef char[SHARED_BYTES] shared

# the target of decryption by the loop's transports, which fill it and report it without interruption
cdef char[SHARED_BYTES] decrypted
cdef object decrypted_view = PyMemoryView_FromMemory(decrypted, SHARED_BYTES, PyBUF_WRITE)


cdef class ReadyQueue:
    """The ready queue of one epoll: reported sockets that are not served yet, and sources whose data were read but not
    handled."""

    def __cinit__(self):
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self.backlog = []

    cdef open(self):
        """Watch the eventfd with the epoll. Errors: OSError."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.ptr = NULL
        if self.epoll < 0 or self.wake_fd < 0 or epoll_ctl(self.epoll, EPOLL_CTL_ADD, self.wake_fd, &event) < 0:
            error = errno
            self.close()
            raise OSError(error, "epoll")

    cdef void close(self) noexcept:
        self.backlog.clear()
        if self.epoll >= 0:
            close(self.epoll)
        if self.wake_fd >= 0:
            close(self.wake_fd)
        self.epoll = self.wake_fd = -1

    cdef int update_wake(self) except -1:
        """Make the epoll readable exactly while there is a backlog, which the kernel cannot detect."""
        cdef unsigned long long number = 1
        if self.wake_fd < 0 or self.wake_is_set == bool(self.backlog):
            return 0
        self.wake_is_set = not self.wake_is_set
        if self.wake_is_set:
            write(self.wake_fd, &number, sizeof(number))
        else:
            read(self.wake_fd, &number, sizeof(number))
        return 0

    cdef bint is_ready(self) noexcept:
        """Whether the epoll has an event. A reported socket that is not served yet still counts as ready in the
        kernel."""
        cdef epoll_event event
        return epoll_wait(self.epoll, &event, 1, 0) > 0

    cdef void forget(self, void* source) noexcept:
        """Remove the unserved events of a socket that is closed or moved."""
        cdef int index
        for index in range(self.next, self.count):
            if self.events[index].data.ptr == source:
                self.events[index].data.ptr = NULL


cdef double data_came_at(Source source, double now) noexcept:
    """The monotonic second at which the newest data of a connection arrived, but not before it was accepted: unread
    data have waited at least since then. 0.0 if it is not known: the kernel does not report when a connection has
    ended, and its last data may be minutes old then."""
    cdef tcp_info info
    cdef unsigned int size = sizeof(info)
    cdef int unread = 0
    if ioctl(source._fd, FIONREAD, &unread) or unread == 0:
        return 0.0
    if getsockopt(source._fd, IPPROTO_TCP, TCP_INFO, &info, &size):
        return 0.0
    return max(source._adopted_at, now - info.tcpi_last_data_recv / 1000.0)


cdef class Poller:
    """All polled sockets of one loop. Callbacks passed to `call_soon` during a round run at its end.

    `round` has the budgets and the time of the round. Errors: OSError if no epoll can be created.
    """

    def __init__(self, loop, Round round=None):
        self._loop = loop
        self.round = Round() if round is None else round
        self._soon = []
        self._transports = set()
        self._throttled = []
        self._member_queue = ReadyQueue()
        self._admission_queue = ReadyQueue()
        self._member_queue.open()
        try:
            self._admission_queue.open()
        except OSError:
            self._member_queue.close()
            raise
        loop.add_reader(self._member_queue.epoll, self._on_ready)
        loop.add_reader(self._admission_queue.epoll, self._on_admission)

    def adopt(self, int fd, protocol):
        """Take over the connected socket `fd`, which the poller closes from now on, for `protocol`, an
        asyncio.Protocol. Errors: OSError if it cannot be watched; then `fd` is closed."""
        cdef PolledTransport transport = PolledTransport.__new__(PolledTransport)
        transport._poller = self
        transport._fd = fd
        transport._ready_queue = self._admission_queue
        transport._adopted_at = self.round.now()
        transport.set_protocol(protocol)
        if self.control(transport, EPOLL_CTL_ADD, EPOLLIN) < 0:
            error = errno
            close(fd)
            raise OSError(error, "epoll_ctl")
        self._transports.add(transport)
        protocol.connection_made(transport)
        return transport

    def wrap_loop_transport(self, protocol):
        """Return the asyncio.BufferedProtocol for one of the loop's own transports, which reads for `protocol` within
        the budgets of this poller; `protocol` gets it as its transport."""
        cdef LoopTransport transport = LoopTransport.__new__(LoopTransport)
        transport._poller = self
        transport._ready_queue = self._admission_queue
        transport._adopted_at = self.round.now()
        transport.set_protocol(protocol)
        return transport

    def call_soon(self, callback):
        """Call `callback()` before the loop waits again: at the end of the current round, or in the next loop
        iteration."""
        if self._busy:
            self._soon.append(callback)
            return None
        return self._loop.call_soon(callback)

    def call_later(self, delay, callback):
        """The `call_later` of the loop."""
        return self._loop.call_later(delay, callback)

    def on_next_round(self, callback):
        """Call `callback()` once, at the beginning of the next round or of the next read by the loop's own transports;
        None cancels it."""
        self._next_round = callback

    def admission_waits_for(self, double now):
        """`Round.admission_waits_for`, or 0 if the admission queue is empty: the last connection may have joined a
        room, or closed, outside of a round, and no further round records that."""
        cdef double waited_s = self.round.admission_waits_for(now)
        if waited_s > 0.0 and not self._admission_queue.is_ready():
            self.round.note_admission(True, 0.0)
            return 0.0
        return waited_s

    cdef notify_round(self):
        callback, self._next_round = self._next_round, None
        callback()

    def close(self):
        """Abort all connections and stop watching."""
        if self._member_queue.epoll < 0:
            return
        for transport in list(self._transports):
            transport.abort()
        for queue in (self._member_queue, self._admission_queue):
            self._loop.remove_reader((<ReadyQueue>queue).epoll)
            (<ReadyQueue>queue).close()
        self._throttled.clear()
        if self._throttle_timer is not None:
            self._throttle_timer.cancel()

    def _on_ready(self):
        self.run_round(self._member_queue, self.round.longest_s)

    def _on_admission(self):
        self.run_round(self._admission_queue, self.round.longest_admission_s)

    cdef run_round(self, ReadyQueue queue, double longest_s):
        cdef bint served_all = False
        if queue.epoll < 0 or self._busy:
            return
        if self._next_round is not None:
            self.notify_round()
        self.round.begin(longest_s)
        self._busy = True
        try:
            served_all = self.serve_events(queue) and self.serve_backlog(queue) and self.serve_kernel(queue)
        finally:
            self._busy = False
            self.round.end()
            self._member_queue.update_wake()
            self._admission_queue.update_wake()
            if queue is self._admission_queue:
                # all may be served when the time is over, and no further round follows then
                served_all = served_all or not queue.is_ready()
                self.round.note_admission(served_all, 0.0 if served_all else self.next_waits_since(queue))
            self.finish_round()

    cdef double next_waits_since(self, ReadyQueue queue) except -1.0:
        """The monotonic second since when the next source of the queue waits, or a little earlier; 0.0 if unknown."""
        cdef Source source
        cdef int index
        for index in range(queue.next, queue.count):
            if queue.events[index].data.ptr != NULL:
                source = <Source><PyObject*>queue.events[index].data.ptr
                if source._ready_queue is queue:
                    return data_came_at(source, self.round.now())
        if queue.backlog:
            return data_came_at(<Source>queue.backlog[0], self.round.now())
        return queue.polled_at if queue.count < SLICE else 0.0  # all reported then are served

    cdef bint serve_events(self, ReadyQueue queue) except -1:
        """Serve the sockets that the kernel has reported. False: the time of the round is over."""
        cdef Source source
        cdef int index
        while queue.next < queue.count:
            index = queue.next
            queue.next += 1
            if queue.events[index].data.ptr == NULL:
                continue
            source = <Source><PyObject*>queue.events[index].data.ptr
            if source._served != self.round.number:
                source._served = self.round.number
                source.handle_events(queue.events[index].events)
                if self.round.now() >= self.round.until:
                    return False
        return True

    cdef bint serve_backlog(self, ReadyQueue queue) except -1:
        """Handle data of earlier rounds for at most half of the remaining time. False: the time of the round is
        over."""
        cdef Source source
        cdef list backlog = queue.backlog
        cdef Py_ssize_t done = 0
        cdef double until
        if not backlog:
            return True
        until = (self.round.now() + self.round.until) / 2
        queue.backlog = []
        while done < len(backlog):
            source = <Source>backlog[done]
            done += 1
            source._in_backlog = False
            if source._ready_queue is not queue:  # it has moved to the other queue
                source.queue()
                continue
            source._served = self.round.number
            source.serve()
            if self.round.now() >= until:
                break
        queue.backlog = backlog[done:] + queue.backlog
        return self.round.now() < self.round.until

    cdef bint serve_kernel(self, ReadyQueue queue) except -1:
        """Query the kernel and serve what it reports, until it reports no unserved socket. False: the time of the round
        is over.

        Each further query costs a system call. There is none after a first slice that is not full: then there is time
        left, and data that arrive meanwhile start the next round."""
        cdef Source source
        cdef bint first = True, fresh
        cdef int index
        while queue.epoll >= 0:
            queue.next = 0
            queue.polled_at = self.round.started_at
            queue.count = epoll_wait(queue.epoll, queue.events, SLICE, 0)
            if queue.count <= 0:
                queue.count = 0
                return True
            fresh = False
            for index in range(queue.count):
                if queue.events[index].data.ptr != NULL:  # else it is the eventfd
                    source = <Source><PyObject*>queue.events[index].data.ptr
                    if source._served != self.round.number:
                        fresh = True
                        break
            if not fresh:  # all of these were served in this round
                queue.count = 0
                return True
            first = first and queue.count < SLICE
            if not self.serve_events(queue):
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

    cdef begin_loop_iteration(self):
        """Begin the round of all reads by the loop's own transports in this loop iteration."""
        if not self.round.open:
            if self._next_round is not None:
                self.notify_round()
            self.round.begin(LONGEST_LOOP_ITERATION_S)
            self._loop.call_soon(self._end_loop_iteration)

    def _end_loop_iteration(self):
        self.round.end()

    cdef throttle(self, Source source):
        """Check the pause of `source` at intervals from now on."""
        self._throttled.append(source)
        if self._throttle_timer is None:
            self._throttle_timer = self._loop.call_later(THROTTLE_CHECK_S, self._check_throttled)

    def _check_throttled(self):
        cdef double now = self.round.now()
        cdef Source source
        cdef list throttled = self._throttled
        self._throttle_timer = None
        self._throttled = []
        for each in throttled:
            source = <Source>each
            if source._throttled and source._throttled_until > now and not source._reading_over:
                self._throttled.append(source)
            else:
                source.end_throttle()
        if self._throttled:
            self._throttle_timer = self._loop.call_later(THROTTLE_CHECK_S, self._check_throttled)
        self._member_queue.update_wake()
        self._admission_queue.update_wake()

    cdef int control(self, PolledTransport transport, int operation, unsigned int events):
        cdef epoll_event event
        event.events = events
        event.data.ptr = <void*>transport
        return epoll_ctl(transport._ready_queue.epoll, operation, transport._fd, &event)


cdef class Source:
    """The poller's view of one connection: its protocol, its unhandled data and its pauses.

    `_held` are bytes that were read but not handled; no more is read before they are. `_throttled` is set while the
    connection is above its budgets, `_paused` while its protocol has paused reading.
    """

    def __cinit__(self):
        self._fd = -1

    def set_protocol(self, protocol):
        """Pass data to `protocol` from now on: an asyncio.Protocol, or a FrameReader after the handshake."""
        self._protocol = protocol
        self._reader = <FrameReader>protocol if isinstance(protocol, FrameReader) else None

    def unread(self, bytes data not None):
        """Return bytes that were read: they are handled by the current protocol before any data still to be read."""
        if data and not self._reading_over:
            self.hold(data)
            self._ready_queue.update_wake()

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
            self._ready_queue.update_wake()
            self.watch_reading()

    def wake(self):
        """End the pause: the connection is closing, and its close frame must be read without delay."""
        if self._throttled:
            self.end_throttle()
            self._ready_queue.update_wake()

    cdef serve(self):
        """Handle the held data, which have reached the front of the backlog."""
        cdef bytes held = self._held
        if held is None or self._reading_over or self._paused or self._throttled:
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
        """Pass data to the protocol, within the connection's share of the round and its budgets; the rest is held."""
        cdef Py_ssize_t used
        if self._reader is None:
            self._protocol.data_received(PyBytes_FromStringAndSize(data, size))
            return
        used = self._reader.take(data, size, self._poller.round)
        if self._reading_over or self._reader is None:
            return
        if self._reader.throttled_until > 0.0 and not self._throttled:
            self._throttled = True
            self._throttled_until = self._reader.throttled_until
            self._poller.throttle(self)
        if used < size:
            self.hold(PyBytes_FromStringAndSize(data + used, size - used))
        elif self._throttled:
            self.watch_reading()

    cdef hold(self, bytes rest):
        """Hold data that were read until a later round."""
        self._held = rest if self._held is None else self._held + rest
        self.queue()
        self.watch_reading()

    cdef queue(self):
        """Append the source to the backlog if it holds data that may be handled."""
        if self._held is not None and not (self._in_backlog or self._throttled or self._paused):
            self._in_backlog = True
            self._ready_queue.backlog.append(self)

    cdef end_throttle(self):
        self._throttled = False
        if not self._reading_over:
            self.queue()
            self.watch_reading()

    cdef handle_events(self, unsigned int events):
        """Handle the events that the kernel has reported for the socket."""
        raise NotImplementedError

    cdef watch_reading(self):
        """Start or stop watching for data, as `is_wanted` requires."""
        raise NotImplementedError

    cdef bint is_wanted(self):
        """Whether more is to be read."""
        return not (self._reading_over or self._throttled or self._paused) and self._held is None


cdef class PolledTransport(Source):
    """The transport of one polled socket, with the part of asyncio.Transport that connections, HTTP and the outbox use.

    `pause_writing` of the protocol is called as soon as the kernel takes less than all, `resume_writing` once it has
    taken all.

    After the peer has closed, a write may fail before all of the peer's data are read. These are still read and
    handled, in order and within the budgets, and only then `connection_lost` follows; what is written meanwhile is
    dropped. For a protocol that has paused reading `connection_lost` follows at once, since it may never resume.
    """

    family = 0  # read by aiohttp before it sets TCP_NODELAY, which is set already

    def __cinit__(self):
        self._fd_to_close = -1

    # --- asyncio.Transport ------------------------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """Return the transport itself for `socket`: it has `fileno` and the integer options. Addresses are not kept."""
        return self if name == "socket" else default

    def promote(self):
        """Move the connection from the admission queue to the queue of connections in rooms; its data are read in the
        rounds of that queue from now on."""
        if self._fd >= 0 and self._ready_queue is not self._poller._member_queue:
            self._poller.control(self, EPOLL_CTL_DEL, 0)
            self._ready_queue.forget(<void*>self)
            self._ready_queue = self._poller._member_queue
            self._unwatched = False
            self._poller.control(self, EPOLL_CTL_ADD, self.wanted())

    def fileno(self):
        """The descriptor, -1 once it is given up."""
        return self._fd

    def setsockopt(self, int level, int option, int value):
        """Set an integer option. Errors: OSError."""
        if setsockopt(self._fd, level, option, &value, sizeof(value)):
            raise OSError(errno, "setsockopt")

    def getsockopt(self, int level, int option):
        """Read an integer option. Errors: OSError."""
        cdef int value = 0
        cdef unsigned int size = sizeof(value)
        if getsockopt(self._fd, level, option, &value, &size):
            raise OSError(errno, "getsockopt")
        return value

    def is_closing(self):
        return self._closing

    def get_write_buffer_size(self):
        """The bytes that the kernel has not taken."""
        return self._unsent_bytes

    def write(self, data):
        """Send `data` now as far as the kernel takes it, and the rest as soon as there is room."""
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
        """`write` of several parts."""
        self.write(b"".join(parts))

    def close(self):
        """Stop reading, send what is unsent, then close. `connection_lost(None)` follows."""
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

    # --- called by the poller ---------------------------------------------------------------------------------------

    cdef handle_events(self, unsigned int events):
        """Write or read, as the kernel has reported."""
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
            return  # otherwise an event from before the pause
        size = min(self._poller.round.socket_bytes, SHARED_BYTES)
        got = recv(self._fd, shared, size, MSG_DONTWAIT)
        if got > 0:
            self.handle(shared, got)
        else:
            self.end_of_data(got, errno)

    cdef on_hang_up(self):
        """The peer has closed while nothing is read. The kernel reports that on every query, so the socket is removed
        from the epoll until reading or writing is wanted."""
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
        """Drop what is unsent after a failed write. Data already received are read to their end, unless reading is over
        or paused."""
        self._unsent = None
        self._unsent_bytes = 0
        if self._reading_over or self._paused:
            self.lose(error)
            return
        self._write_error = error
        shutdown(self._fd, SHUT_RDWR)  # so that reading ends, whatever the error was
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
        """End the connection. `connection_lost` is called in the next loop iteration, as by asyncio's transports, and
        the descriptor is closed only afterwards: the outbox writes to it by number until it is notified."""
        if self._fd < 0:
            return
        self._closing = self._reading_over = True
        self._unsent = None
        self._unsent_bytes = 0
        self._fd_to_close = self._fd
        self.forget()
        self._poller._loop.call_soon(self._lost, self._write_error if error is None else error)

    cdef forget(self):
        self._poller.control(self, EPOLL_CTL_DEL, 0)
        self._ready_queue.forget(<void*>self)  # its events in the current slice may be unserved
        self._fd = -1
        self._held = None
        self._poller._transports.discard(self)

    def _lost(self, error):
        protocol, self._protocol = self._protocol, None
        self._reader = None  # the reader refers to the connection, which refers to this transport
        try:
            protocol.connection_lost(error)
        finally:
            close(self._fd_to_close)


cdef class LoopTransport(Source):
    """A transport for TLS, between one of the loop's own transports and its protocol. It controls reading and passes
    everything else through.

    Decrypted data that wait for a round or a pause are held, up to `LOOP_HELD_BYTES`; above that the loop's transport
    does not decrypt, and does not read the socket while encrypted data wait in it. It therefore sees the end of the
    stream, after which it drops its data, only when it holds none. Data held here when the connection is lost are still
    handled, in order and within the budgets, before `connection_lost` is called; what is written meanwhile is dropped.

    The loop's transport passes all data to the kernel, which appends them to its newest buffer, of up to 64 KiB,
    regardless of TCP_NOTSENT_LOWAT (see SEND_FLAGS). So `pause_writing` is called as soon as more than `NOT_SENT_BYTES`
    are unsent, and `resume_writing` when the kernel reports room.
    """

    # --- asyncio.BufferedProtocol, for the loop's transport -----------------------------------------------------------

    def connection_made(self, base):
        self._base = base
        base.set_read_buffer_limits(high=1)  # 0 would be reached without any data
        sock = base.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        self._protocol.connection_made(self)

    def get_buffer(self, size_hint):
        """The target buffer of the next read; `buffer_updated` follows at once."""
        return decrypted_view

    def buffer_updated(self, Py_ssize_t size):
        """Handle or hold the `size` bytes that were decrypted."""
        if self._reading_over:
            return
        self._poller.begin_loop_iteration()
        if self._throttled or self._paused or self._held is not None or self.is_iteration_over():
            self.hold(PyBytes_FromStringAndSize(decrypted, size))
            self._ready_queue.update_wake()
            return
        try:
            self.handle(decrypted, size)
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()
        self._ready_queue.update_wake()

    cdef bint is_iteration_over(self) except -1:
        """Whether the time for this connection in this loop iteration is over, so that its data wait for a round."""
        cdef Round round = self._poller.round
        cdef double now = round.now()
        if self._ready_queue is self._poller._admission_queue and now >= round.started_at + LOOP_ITERATION_ADMISSION_S:
            return True
        return now >= round.until

    def eof_received(self):
        """The peer has ended the stream; `connection_lost` follows."""
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
        """Watch for room in the kernel if it holds more unsent bytes than `NOT_SENT_BYTES`."""
        cdef epoll_event event
        if self._kernel_is_full or self.not_sent() <= NOT_SENT_BYTES or not self.is_open():
            return
        event.events = EPOLLOUT
        event.data.ptr = <void*>self
        self._kernel_is_full = epoll_ctl(self._poller._member_queue.epoll, EPOLL_CTL_ADD, self._fd, &event) == 0

    cdef bint is_open(self) except -1:
        """Whether the descriptor still belongs to this connection. The loop's transport closes it one loop iteration
        before `connection_lost`, and the number may be reused by then."""
        if self._fd < 0 or self._base is None:
            return False
        sock = self._base.get_extra_info("socket")
        return sock is not None and sock.fileno() == self._fd

    cdef int not_sent(self) noexcept:
        cdef int size = 0
        return 0 if self._fd < 0 or ioctl(self._fd, SIOCOUTQNSD, &size) else size

    cdef handle_events(self, unsigned int events):
        """The kernel has room again, or the connection has ended."""
        cdef epoll_event event
        if self._kernel_is_full and self.is_open():
            epoll_ctl(self._poller._member_queue.epoll, EPOLL_CTL_DEL, self._fd, &event)
        self._kernel_is_full = False
        try:
            self.note_fullness()
        except Exception:
            log.exception("a connection failed and is closed")
            self.abort()

    cdef note_fullness(self):
        """Call `pause_writing` or `resume_writing` of the protocol if the state has changed."""
        cdef bint is_full = self._base_is_full or self._kernel_is_full
        if is_full == self._reported_full or self._lost or self._protocol is None:
            return
        self._reported_full = is_full
        if is_full:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()

    def connection_lost(self, error):
        self._lost = True
        self._fd = -1  # closed, and thereby removed from the epoll
        self._error = error
        if self._held is None or self._reading_over or self._paused:
            # not at once: callbacks planned by data of the current round run first
            self._poller._loop.call_soon(self._end)

    def _end(self):
        """Notify the protocol of the end, after all data are handled."""
        protocol, self._protocol = self._protocol, None
        if protocol is None or self._base is None:  # notified already, or TLS failed before `connection_made`
            return
        self._reader = None  # the reader refers to the connection, which refers to this transport
        self._poller._member_queue.forget(<void*>self)
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
        """Move the connection from the admission queue to the queue of connections in rooms."""
        self._ready_queue = self._poller._member_queue

    def get_extra_info(self, name, default=None):
        return default if self._base is None else self._base.get_extra_info(name, default)

    def is_closing(self):
        """Whether this side has closed the connection. False if only the peer has: its last data are still to be
        handled."""
        return self._closing or self._base is None or not (self._at_eof or self._lost) and self._base.is_closing()

    def get_write_buffer_size(self):
        if self._is_write_closed():
            return 0
        return self._base.get_write_buffer_size() + (self.not_sent() if self._kernel_is_full else 0)

    def set_write_buffer_limits(self, high=None, low=None):
        if not self._is_write_closed():
            self._base.set_write_buffer_limits(high, low)

    def write(self, data):
        if self._is_write_closed():
            return
        self._base.write(data)
        if not self._kernel_is_full:
            self.look_at_kernel()
            if self._kernel_is_full:
                self.note_fullness()

    def writelines(self, parts):
        self.write(b"".join(parts))

    def close(self):
        """Stop reading, send what is unsent, then close."""
        self.stop_reading()
        if self._base is not None and not self._lost:
            self._base.close()

    def abort(self):
        """Close at once."""
        self.stop_reading()
        if self._base is not None and not self._lost:
            self._base.abort()

    cdef bint _is_write_closed(self):
        """Whether there is nothing to write to, before `connection_made` or after the end of the stream."""
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


