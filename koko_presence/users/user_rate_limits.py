"""Limits how often each user may make a call over HTTP, where no connection keeps the count.

Memory is bounded by time: two generations of buckets are kept, and a user without a call for a whole generation has a
full budget again. Written by its owner only.
"""

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol.errors import PresenceError


class Budgets:
    """A token bucket for each user with a recent call."""

    __slots__ = ("_earlier", "_next_at", "_now")

    def __init__(self) -> None:
        self._now: dict[str, TokenBucket] = {}
        self._earlier: dict[str, TokenBucket] = {}
        self._next_at = 0.0

    def __len__(self) -> int:
        return len(self._now.keys() | self._earlier.keys())

    def take(self, user_id: str, hz: float, burst: float, now: float) -> None:
        """Take one token; a new bucket gets the rate `hz` and the size `burst`. Errors: RATE_LIMITED."""
        if now >= self._next_at:
            self._now, self._earlier = {}, self._now
            self._next_at = now + burst / hz
        bucket = self._now.get(user_id) or self._earlier.get(user_id) or TokenBucket(hz, burst)
        self._now[user_id] = bucket
        if not bucket.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=bucket.ready_at(now) - now)
