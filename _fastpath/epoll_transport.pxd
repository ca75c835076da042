from koko_presence._fastpath.frame_prefilter cimport FrameReader
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.system cimport epoll_event

cdef enum:
    SLICE = 32  # sockets per query of the kernel


cdef class ReadyQueue:
    cdef int epoll
    cdef int wake_fd
    cdef bint wake_is_set
    cdef int count
    cdef int next
    cdef double polled_at  # the start of the round of the last query, in monotonic seconds
    cdef epoll_event[32] events
    cdef list backlog

    cdef open(self)
    cdef void close(self) noexcept
    cdef int update_wake(self) except -1
    cdef bint is_ready(self) noexcept
    cdef void forget(self, void* source) noexcept


cdef class Poller:
    cdef object _loop
    cdef readonly Round round
    cdef ReadyQueue _member_queue
    cdef ReadyQueue _admission_queue
    cdef bint _busy
    cdef list _soon
    cdef set _transports
    cdef list _throttled
    cdef object _throttle_timer
    cdef object _next_round  # called once, when the next round begins

    cdef run_round(self, ReadyQueue queue, double longest_s)
    cdef bint serve_events(self, ReadyQueue queue) except -1
    cdef bint serve_backlog(self, ReadyQueue queue) except -1
    cdef bint serve_kernel(self, ReadyQueue queue) except -1
    cdef double next_waits_since(self, ReadyQueue queue) except -1.0
    cdef finish_round(self)
    cdef notify_round(self)
    cdef begin_loop_iteration(self)
    cdef throttle(self, Source source)
    cdef int control(self, PolledTransport transport, int operation, unsigned int events)


cdef class Source:
    cdef Poller _poller
    cdef ReadyQueue _ready_queue
    cdef object _protocol
    cdef FrameReader _reader
    cdef bytes _held
    cdef unsigned long long _served
    cdef double _throttled_until
    cdef double _adopted_at
    cdef int _fd  # the socket, which may belong to the loop's transport; -1 once it is closed
    cdef bint _in_backlog
    cdef bint _throttled
    cdef bint _paused
    cdef bint _closing
    cdef bint _reading_over

    cdef serve(self)
    cdef handle(self, const char* data, Py_ssize_t size)
    cdef hold(self, bytes rest)
    cdef queue(self)
    cdef end_throttle(self)
    cdef handle_events(self, unsigned int events)
    cdef watch_reading(self)
    cdef bint is_wanted(self)


cdef class PolledTransport(Source):
    cdef list _unsent
    cdef Py_ssize_t _unsent_bytes
    cdef Py_ssize_t _sent_of_first
    cdef int _fd_to_close
    cdef object _write_error  # writing has failed; received data are still read
    cdef bint _unwatched  # removed from the epoll: the peer has closed and nothing is wanted

    cdef read(self, unsigned int events)
    cdef on_hang_up(self)
    cdef end_of_data(self, ssize_t got, int error)
    cdef write_more(self)
    cdef stop_writing(self, error)
    cdef unsigned int wanted(self)
    cdef watch(self)
    cdef lose(self, error)
    cdef forget(self)


cdef class LoopTransport(Source):
    cdef object _base
    cdef object _error  # of the lost connection
    cdef bint _base_is_full
    cdef bint _kernel_is_full
    cdef bint _reported_full
    cdef bint _at_eof
    cdef bint _lost  # the loop's transport has ended; data that it had read are still handled

    cdef bint is_iteration_over(self) except -1
    cdef bint _is_write_closed(self)
    cdef look_at_kernel(self)
    cdef bint is_open(self) except -1
    cdef int not_sent(self) noexcept
    cdef note_fullness(self)
    cdef stop_reading(self)
