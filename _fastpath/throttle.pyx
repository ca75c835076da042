# cython: language_level=3, boundscheck=False, wraparound=False
"""Token buckets that cost one comparison, and the coalescing of values that wait for tokens.

A bucket is one number, the time at which it is full again (the "theoretical arrival time" of GCRA, the generic cell
rate algorithm of the ATM Forum). With burst 1 and 20 Hz, takes at least 50 ms apart succeed: never more than 21 in any
one-second window, counting both ends [E1, L1]. Times are monotonic seconds passed by the caller.
"""

# Two clock readings 50 ms apart may differ in the last bits; without this a value released exactly when its token is
# due would be refused.
cdef double ROUNDING_S = 1e-6


cdef class TokenBucket:
    """`hz` tokens per second, at most `burst` saved. Not thread-safe; written by one owner."""

    def __init__(self, double hz, double burst=1.0):
        if hz <= 0.0 or burst < 1.0:
            raise ValueError("hz must be above 0 and burst at least 1")
        self.interval_s = 1.0 / hz
        self.slack_s = (burst - 1.0) * self.interval_s + ROUNDING_S
        self.full_at = 0.0

    cpdef bint take(self, double now):
        """Take one token at monotonic second `now`; False, without a change, if there is none."""
        # the same comparison as in ready_at: `full_at - now > slack` rounds differently at times, and would refuse a
        # due value for ever
        if self.full_at - self.slack_s > now:
            return False
        self.full_at = (self.full_at if self.full_at > now else now) + self.interval_s
        return True

    cpdef double ready_at(self, double now):
        """The monotonic second at which the next take succeeds; `now` if it would succeed at once."""
        cdef double at = self.full_at - self.slack_s
        return at if at > now else now


cdef double GO_AT = 0.0, WAITS_AT = -1.0
GO, WAITS = GO_AT, WAITS_AT

# when a shared budget is exhausted, all its waiting senders would otherwise retry at the same time, for one token
cdef double SHARED_BUDGET_WAIT_S = 0.02


cdef class Coalescer:
    """The deferred values of one sender: at most one per key, the newest [E1, L1]. It has no timer: `offer` returns
    when to try again, and its owner schedules that.
    """

    cpdef double offer(self, key, value, TokenBucket own, TokenBucket shared, double now):
        """Offer a value. Returns GO: the tokens are taken, use `value` now. WAITS: it has replaced the deferred value
        of its key. Otherwise it is the first deferred one, and the result is the monotonic second at which to `take`
        and offer it again."""
        cdef double at
        if self._values is not None and key in self._values:
            self._values[key] = value
            return WAITS_AT
        at = own.ready_at(now)
        if at <= now and (shared is None or shared.take(now)):
            own.take(now)
            return GO_AT
        if shared is not None and shared.ready_at(now) > now:
            at = max(at, now + SHARED_BUDGET_WAIT_S)
        if self._values is None:
            self._values = {}
        self._values[key] = value
        return at

    def hold(self, key, value):
        """Defer `value` under `key`, replacing an earlier one."""
        if self._values is None:
            self._values = {}
        self._values[key] = value

    def take(self, key):
        """Remove and return the deferred value of `key`. Errors: KeyError without one."""
        if self._values is None:
            raise KeyError(key)
        value = self._values.pop(key)
        if not self._values:
            self._values = None
        return value

    def drop(self, key):
        """Drop the deferred value of `key`, if any."""
        if self._values is not None and key in self._values:
            self.take(key)

    def clear(self):
        """Drop all deferred values."""
        self._values = None

    def __contains__(self, key):
        return self._values is not None and key in self._values

    def __iter__(self):
        return iter(() if self._values is None else list(self._values))

    def __len__(self):
        return 0 if self._values is None else len(self._values)


cdef class Meter:
    """Counts events in periods of at least a second."""

    def __init__(self, double now):
        self.since = now

    cpdef bint tick(self, double now):
        """Count one event; True once the period lasts a second or more, until `restart`."""
        self.count += 1
        return now - self.since >= 1.0

    def restart(self, double now):
        """Begin the next period at `now`."""
        self.since = now
        self.count = 0
