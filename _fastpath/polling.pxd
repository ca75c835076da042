from koko_presence._fastpath.reader cimport FrameReader
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.system cimport epoll_event

cdef enum:
    SLICE = 32  # sockets that are asked for at once


cdef class Line:
    cdef int epoll
    cdef int bell
    cdef bint rung
    cdef int count
    cdef int next
    cdef epoll_event[32] events
    cdef list backlog

    cdef open(self)
    cdef void close(self) noexcept
    cdef void ring(self) noexcept
    cdef void forget(self, void* source) noexcept


cdef class Poller:
    cdef object _loop
    cdef readonly Round round
    cdef Line _inside
    cdef Line _lobby
    cdef bint _busy
    cdef list _soon
    cdef set _transports

    cdef run_round(self, Line line, double longest_s)
    cdef bint serve_told(self, Line line) except -1
    cdef bint serve_backlog(self, Line line) except -1
    cdef bint serve_kernel(self, Line line) except -1
    cdef finish_round(self)
    cdef int control(self, PolledTransport transport, int operation, unsigned int events)


cdef class PolledTransport:
    cdef Poller _poller
    cdef object _protocol
    cdef object _peer
    cdef object _own
    cdef list _unsent
    cdef Py_ssize_t _unsent_bytes
    cdef int _fd
    cdef int _doomed_fd
    cdef Line _line
    cdef bint _closing
    cdef bint _reading_over
    cdef bint _buffered
    cdef bint _in_backlog
    cdef bytes _held
    cdef unsigned long long _served
    cdef FrameReader _reader

    cdef handle_events(self, unsigned int events)
    cdef serve(self)
    cdef read(self)
    cdef handle(self, char* data, Py_ssize_t size)
    cdef handle_buffered(self, char* data, Py_ssize_t size)
    cdef hold(self, bytes rest)
    cdef end_of_data(self, ssize_t got, int error)
    cdef write_more(self)
    cdef unsigned int wanted(self)
    cdef watch(self)
    cdef lose(self, error)
    cdef forget(self)
