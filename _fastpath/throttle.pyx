# cython: language_level=3, boundscheck=False, wraparound=False
"""Token buckets that cost one comparison.

A bucket is kept as one number, the time at which it will be full again (the "theoretical arrival time" of GCRA, the
ATM Forum's generic cell rate algorithm). With burst 1 and 20 Hz takes at least 50 ms apart succeed: never more than 21
in any one-second window, counting both ends [E1, L1]. Times are monotonic seconds given by the caller.
"""

# Two clocks readings that should be 50 ms apart may differ by rounding in the last bits; without this a value released
# exactly when its token is due would be refused.
cdef double ROUNDING_S = 1e-6


cdef class TokenBucket:
    """`hz` tokens a second, at most `burst` saved up. Not thread-safe; one owner writes it."""

    def __init__(self, double hz, double burst=1.0):
        if hz <= 0.0 or burst < 1.0:
            raise ValueError("hz must be above 0 and burst at least 1")
        self.interval_s = 1.0 / hz
        self.slack_s = (burst - 1.0) * self.interval_s + ROUNDING_S
        self.full_at = 0.0

    cpdef bint take(self, double now):
        """Take one token at monotonic second `now`; False, and nothing taken, when there is none."""
        # the very comparison of ready_at: written as `full_at - now > slack` it rounds the other way now and then, and a
        # value whose time has come is refused for ever
        if self.full_at - self.slack_s > now:
            return False
        self.full_at = (self.full_at if self.full_at > now else now) + self.interval_s
        return True

    cpdef double ready_at(self, double now):
        """The monotonic second at which the next take will succeed; `now` when it would succeed at once."""
        cdef double at = self.full_at - self.slack_s
        return at if at > now else now
