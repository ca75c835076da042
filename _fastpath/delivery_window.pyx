# cython: language_level=3, boundscheck=False, wraparound=False
"""Bounds the bytes in flight to a client behind a proxy, whose buffers the server's kernel does not show.

A proxy reads whatever the server writes and buffers hundreds of kilobytes for a slow client, so the state of the
server's own socket says nothing about the client's line. A ping does: its pong arrives when the client has read all
that was written before the ping. Each ping has a number in its payload, because pongs without a ping are permitted
[RFC 6455 section 5.5.3]; one ping is in flight at a time. A ping without an answer is repeated, and after a while any
pong counts as its answer, so that a client with faulty pongs goes on, if slowly. While the bytes in flight fill the
window, cursors and selections are deferred (`holds`).

The size of the window follows the delivery rate, as in TCP's slow start. In a round that was limited by the window it is
halved if the pong was late, doubled if the last growth has made delivery faster, and set back if it has not. No base
round trip is needed, so neither a slow start of the page nor a change of the route can mislead it. Pure: times are
arguments, in seconds of one monotonic clock. Written by the `Outbox` of the connection alone.
"""

cdef Py_ssize_t LEAST_BYTES = 4096  # about the newest cursors of all members in a room of 20
cdef Py_ssize_t MOST_BYTES = 64 * 1024  # what a line that suddenly gets slow has to carry before it gets the newest
cdef double PROMPT_S = 0.1  # a pong of a round that was not limited: the line carries the double
cdef double LATE_S = 0.45  # a pong of a limited round: longer than most trips, and what is sent is too old
cdef double GROWTH = 1.4  # the ratio of delivery rates by which a doubled window has paid
cdef int TRIAL_ROUNDS = 2  # limited rounds in which a doubled window has to pay; the first began under the one before
cdef double PROBE_EVERY_S = 10.0  # how often a full line is given such a trial, to notice that it is faster now
cdef double REPEAT_S = 3.0  # a ping without an answer is repeated after so long, and then any pong is its answer
cdef double SLOWEST_BYTES_PER_S = 1000.0
cdef double LONGEST_DELIVERY_S = 30.0


cdef class DeliveryWindow:
    """`holds`: frames that a newer one may replace wait for the next pong."""

    def __init__(self):
        self.window_bytes = LEAST_BYTES

    cpdef bint on_write(self, Py_ssize_t size, double now):
        """Count `size` bytes as written at `now`. True: a ping must follow them, and counts as sent."""
        if self.in_flight_bytes == 0:
            self._answered_at = now  # the line was idle until now
        self.in_flight_bytes += size
        self._uncovered_bytes += size
        self.holds = self.in_flight_bytes >= self.window_bytes
        self._is_limited = self._is_limited or self.holds
        if self._is_pinged or 2 * self._uncovered_bytes < self.window_bytes:
            return False
        self._ping(now)
        return True

    cpdef bytes payload(self):
        """The payload of the ping in flight, or of the last one: its number, two bytes in network order."""
        return bytes((self._number >> 8, self._number & 255))

    def take_ping(self, double now):
        """Return the payload of a ping to be sent as a sign of life: that of the ping in flight if there is one."""
        if not self._is_pinged:
            self._ping(now)
        return self.payload()

    def on_pong(self, bytes payload not None, double now, bint is_judged):
        """Handle a pong; one with another payload than that of the ping in flight changes nothing for 3 s. `is_judged`:
        the time `now` is that of the pong, and not of a server that was late itself. True: a ping must be sent, and
        counts as sent."""
        if not self._is_pinged or (payload != self.payload() and not self.is_overdue(now)):
            return False
        self._is_pinged = False
        if is_judged and self._covered_bytes > 0:
            self._adapt(now)
        self.in_flight_bytes -= self._covered_bytes
        self._covered_bytes = 0
        self._answered_at = now
        self.holds = self._is_limited = self.in_flight_bytes >= self.window_bytes
        if 2 * self._uncovered_bytes < self.window_bytes:
            return False
        self._ping(now)
        return True

    cpdef bint is_overdue(self, double now):
        """Whether the ping in flight has had no answer for 3 s."""
        return self._is_pinged and now >= self._pinged_at + REPEAT_S

    cpdef bint take_repeat(self, double now):
        """Whether the ping in flight must be sent again, which then counts as done; every 3 s."""
        if not self._is_pinged or now < self._repeat_at:
            return False
        self._repeat_at = now + REPEAT_S
        return True

    def delivery_s(self):
        """How many seconds the bytes in flight may take by the last delivery rate, 30 at most."""
        return min(self.in_flight_bytes / max(self._bytes_per_s, SLOWEST_BYTES_PER_S), LONGEST_DELIVERY_S)

    cdef _ping(self, double now):
        self._is_pinged = True
        self._pinged_at = now
        self._repeat_at = now + REPEAT_S
        self._number = (self._number + 1) & 0xFFFF
        self._covered_bytes, self._uncovered_bytes = self._uncovered_bytes, 0

    cdef _adapt(self, double now):
        cdef double trip_s = max(now - self._pinged_at, 1e-6)
        if not self._is_limited:
            self._bytes_per_s = self._covered_bytes / trip_s
            if trip_s <= PROMPT_S:
                self.window_bytes = min(2 * self.window_bytes, MOST_BYTES)
            return
        self._bytes_per_s = self._covered_bytes / max(now - self._answered_at, 1e-6)
        if trip_s > LATE_S:
            self.window_bytes = max(LEAST_BYTES, min(self.window_bytes // 2, <Py_ssize_t>(LATE_S * self._bytes_per_s)))
            self._trial_rounds = 0
        elif self._bytes_per_s >= GROWTH * self._bytes_per_s_before or now >= self._probe_at:
            self.window_bytes = min(2 * self.window_bytes, MOST_BYTES)
            self._bytes_per_s_before = self._bytes_per_s
            self._trial_rounds = TRIAL_ROUNDS
            self._probe_at = now + PROBE_EVERY_S
        elif self._trial_rounds > 0:
            self._trial_rounds -= 1
            if self._trial_rounds == 0:  # the line is full
                self.window_bytes = max(LEAST_BYTES, self.window_bytes // 2)
