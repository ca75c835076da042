# cython: language_level=3, boundscheck=False, wraparound=False
"""A bound on what is under way to a client behind a proxy, whose buffers the server's kernel does not show.

A proxy reads whatever the server writes and keeps hundreds of kilobytes for a client that reads slowly, so the state of
the server's own socket says nothing of the client's line. A ping does: its pong comes when the client has read all that
was written before the ping, and only one ping is under way at a time, so that a pong needs no number. How long the pong
takes beyond the shortest time so far is how old the data are that the client reads.

Two states, as in TCP's congestion control (RFC 5681): a careful one, in which a ping follows each `ROUND_BYTES` and
cursors and selections wait for its pong (`holds`), and a free one with a ping now and then, which ends when a pong is
late. Pure: times are arguments, in seconds of one monotonic clock. Written by the `Outbox` of the connection alone.
"""

cdef Py_ssize_t ROUND_BYTES = 4096  # about one cursor of each member of a room of 20
cdef Py_ssize_t FREE_BYTES = 128 * 1024  # the free state pings after so many at the latest
cdef double LATE_S = 0.3  # a pong that takes longer ends the free state
cdef double PROMPT_S = 0.1  # pongs that take no longer begin it: the line carries 40 kB/s and more ...
cdef int PROMPT_ROUNDS = 4  # ... when they are those of so many rounds in a row: buffers and shapers let a few kB pass at once
cdef double FIRST_INTERVAL_S = 0.25  # from ping to ping in the free state; doubled with each pong that is not late ...
cdef double LONGEST_INTERVAL_S = 1.0  # ... up to this, so that a fast client costs one pong a second
cdef double LONGEST_TRIP_S = 0.7  # no line without a queue takes longer, to a satellite and back
cdef double UNKNOWN = -1.0


cdef class DeliveryWindow:
    """`holds`: values that a newer one may replace wait until the pong comes."""

    def __init__(self, double now):
        self._careful = True
        self._shortest_s = UNKNOWN
        self._interval_s = FIRST_INTERVAL_S
        self._next_ping_at = now

    cpdef bint on_write(self, Py_ssize_t size, double now):
        """`size` bytes are written at `now`. True: a ping must follow them, and counts as sent."""
        self._uncovered_bytes += size
        if self._pinged:
            if not self._careful and now - self._pinged_at > self._shortest_s + LATE_S:
                self._be_careful()
            self.holds = self._careful
            return False
        if self._careful:
            if self._uncovered_bytes < ROUND_BYTES and self._shortest_s != UNKNOWN:
                return False
        elif self._uncovered_bytes < FREE_BYTES and (self._uncovered_bytes < ROUND_BYTES or now < self._next_ping_at):
            return False
        self._ping(now)
        return True

    cpdef bint take_ping(self, double now):
        """A ping is wanted whatever was written, as a sign of life. False: one is under way already."""
        if self._pinged:
            return False
        self._ping(now)
        return True

    cpdef on_pong(self, double now):
        """A pong came. One that nothing was sent for changes nothing."""
        cdef double took_s, late_s
        if not self._pinged:
            return
        took_s = now - self._pinged_at
        self._pinged = self.holds = False
        if self._shortest_s == UNKNOWN:  # the first ping stands behind a few bytes, and measures the line without a queue
            self._shortest_s = min(took_s, LONGEST_TRIP_S)
            return
        self._shortest_s = min(self._shortest_s, took_s)
        late_s = took_s - self._shortest_s
        if self._careful:
            if late_s > PROMPT_S:
                self._prompt_rounds = 0
            elif self._covered_bytes >= ROUND_BYTES:
                self._prompt_rounds += 1
                self._careful = self._prompt_rounds < PROMPT_ROUNDS
        elif late_s > LATE_S:
            self._be_careful()
        else:
            self._interval_s = min(2.0 * self._interval_s, LONGEST_INTERVAL_S)

    cdef _ping(self, double now):
        self._pinged = True
        self._pinged_at = now
        self._next_ping_at = now + self._interval_s
        self._covered_bytes, self._uncovered_bytes = self._uncovered_bytes, 0
        self.holds = self._careful

    cdef _be_careful(self):
        self._careful = True
        self._prompt_rounds = 0
        self._interval_s = FIRST_INTERVAL_S
