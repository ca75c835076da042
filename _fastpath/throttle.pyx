# cython: language_level=3, boundscheck=False, wraparound=False
"""Token buckets that cost one comparison, and the newest value that waits for a token.

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


cdef double GO_AT = 0.0, WAITS_AT = -1.0
GO, WAITS = GO_AT, WAITS_AT

# a shared budget that is short would send everybody who waits at the same moment, for one token
cdef double CROWDED_WAIT_S = 0.02


cdef class Coalescer:
    """One sender's values that wait for their budgets: at most one per key, the newest [E1, L1].

    It has no timer: `offer` says when to come again, and the owner's one heap of deadlines does.
    """

    cpdef double offer(self, key, value, TokenBucket own, TokenBucket shared, double now):
        """GO: the tokens are taken, use `value` now. WAITS: it has replaced the one that waited. Else it waits alone,
        and the answer is the monotonic second at which to `take` it and offer it again."""
        cdef double at
        if self._values is not None and key in self._values:
            self._values[key] = value
            return WAITS_AT
        at = own.ready_at(now)
        if at <= now and (shared is None or shared.take(now)):
            own.take(now)
            return GO_AT
        if shared is not None and shared.ready_at(now) > now:
            at = max(at, now + CROWDED_WAIT_S)
        if self._values is None:
            self._values = {}
        self._values[key] = value
        return at

    def hold(self, key, value):
        """`value` waits under `key`, behind those that wait already."""
        if self._values is None:
            self._values = {}
        self._values[key] = value

    def take(self, key):
        """Take out the value that waits under `key`. Errors: KeyError when there is none."""
        if self._values is None:
            raise KeyError(key)
        value = self._values.pop(key)
        if not self._values:
            self._values = None
        return value

    def drop(self, key):
        """Forget the value that waits under `key`, if any."""
        if self._values is not None and key in self._values:
            self.take(key)

    def clear(self):
        """Forget all."""
        self._values = None

    def __contains__(self, key):
        return self._values is not None and key in self._values

    def __iter__(self):
        return iter(() if self._values is None else list(self._values))

    def __len__(self):
        return 0 if self._values is None else len(self._values)


cdef class Meter:
    """Counts events, a second at a time."""

    def __init__(self, double now):
        self.since = now

    cpdef bint tick(self, double now):
        """Count one; True when a second or more has been counted, until `restart`."""
        self.count += 1
        return now - self.since >= 1.0

    def restart(self, double now):
        """Begin the next second at `now`."""
        self.since = now
        self.count = 0
