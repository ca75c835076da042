# cython: language_level=3, boundscheck=False, wraparound=False
"""The present round of reading: when it began, and how much of it there is for all and for each socket.

A worker reads in rounds: what the kernel has is taken in, then all that follows from it is written at once. A round is
bounded in time, and each socket's part of it in bytes and time, so that no sender decides how long the others wait.
Whatever is judged by its time (rates, silences) is judged by `heard_at`: data that wait for a worker that is busy are
not late, and two messages that were read one after the other may have come at the same time.
"""

from time import monotonic as real_clock

from koko_presence._fastpath.system cimport monotonic


cdef class Round:
    """Budgets and the time of the round. Written by the poller of the same loop alone, but for the budgets.

    `longest_s` is a round's time for the sockets in rooms, `longest_lobby_s` for those that are only about to come in,
    `socket_bytes` and `socket_s` are what one socket may have of a round. `started_at` is the monotonic second at which
    the round began, `open` says whether it goes on, `number` counts rounds. `clock` gives monotonic seconds; tests give
    their own. While the worker is `behind` with writing, a round may have `longest_behind_s` only: what is read faster than
    it is written is replaced by newer values, and has cost its reading.
    """

    def __init__(self, clock=real_clock):
        self._clock = clock
        self.longest_s = 0.006
        self.longest_lobby_s = 0.001
        self.longest_behind_s = 0.003
        self.socket_s = 0.001
        self.socket_bytes = 16384

    cdef double now(self) except? -1.0:
        return monotonic() if self._clock is real_clock else self._clock()

    cdef int begin(self, double longest_s) except -1:
        self.started_at = self.now()
        if self.behind and longest_s > self.longest_behind_s:
            longest_s = self.longest_behind_s
        self.until = self.started_at + longest_s
        self.number += 1
        self.open = True
        return 0

    cdef void end(self) noexcept:
        self.open = False

    cdef void note_lobby(self, bint served_all, double since) noexcept:
        """A round of those who are about to come in ends: with all of them served, or because its time is over. Then the
        next of them has waited since monotonic second `since`; 0.0 when that is not known."""
        if served_all:
            self._lobby_waits_since = 0.0
        elif since > 0.0:
            self._lobby_waits_since = since
        elif self._lobby_waits_since == 0.0:
            self._lobby_waits_since = self.started_at

    cpdef double lobby_waits_for(self, double now):
        """For how many seconds the next of those who are about to come in has waited; where that is not known, for how long
        they have been more than could be served: nobody of them waits for longer than that."""
        return now - self._lobby_waits_since if self._lobby_waits_since else 0.0

    cpdef double heard_at(self, double now):
        """When what is handled at monotonic second `now` could have been read: the beginning of the round in which it
        is read, `now` itself outside of rounds."""
        return self.started_at if self.open else now
