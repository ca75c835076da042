# cython: language_level=3, boundscheck=False, wraparound=False
"""The current round of reading: its start, its time limit, and the share of each socket.

A worker reads in rounds: received data are handled first, then everything that follows from them is written. A round is
limited in time, and the share of each socket in bytes and time, so that no sender delays the others. Rates and timeouts
are judged by `received_at`, the start of the round: data that wait for a busy worker are not late, and two messages
read one after the other may have arrived together.
"""

from time import monotonic as real_clock

from koko_presence._fastpath.system cimport monotonic


cdef class Round:
    """The limits and the time of the round. Written by the poller of the same loop only, except for the limits.

    `longest_s` is the time of a round for sockets in rooms, `longest_admission_s` for sockets in the admission queue;
    `socket_bytes` and `socket_s` limit one socket per round. `started_at` is the monotonic second of the start, `open`
    is set during a round, `number` counts rounds. `clock` returns monotonic seconds; tests pass their own. While the
    worker is `behind` with writing, a round lasts `longest_behind_s` at most: data that are read faster than they are
    written are only replaced by newer ones.
    """

    def __init__(self, clock=real_clock):
        self._clock = clock
        self.longest_s = 0.006
        self.longest_admission_s = 0.001
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

    cdef void note_admission(self, bint served_all, double since) noexcept:
        """Record the end of a round of the admission queue: with all sockets served, or by its time limit. In the
        latter case the next one has waited since monotonic second `since`; 0.0 if unknown."""
        if served_all:
            self._admission_waits_since = 0.0
        elif since > 0.0:
            self._admission_waits_since = since
        elif self._admission_waits_since == 0.0:
            self._admission_waits_since = self.started_at

    cpdef double admission_waits_for(self, double now):
        """The seconds that the next socket of the admission queue has waited. If unknown, the seconds since when the
        queue has not been served completely, which no socket of it has exceeded."""
        return now - self._admission_waits_since if self._admission_waits_since else 0.0

    cpdef double received_at(self, double now):
        """Return when data handled at monotonic second `now` could have been read: the start of the current round,
        `now` outside of rounds."""
        return self.started_at if self.open else now
