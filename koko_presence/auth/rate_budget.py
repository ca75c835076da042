"""A token bucket for requests that any client can cause. Pure: times are arguments, of any clock, in seconds."""


class Budget:
    """A token bucket, full at first: `hz` tokens per second, at most `burst` at once."""

    __slots__ = ("_at", "_burst", "_hz", "_left")

    def __init__(self, hz: float, burst: float) -> None:
        self._hz, self._burst = hz, burst
        self._left, self._at = burst, float("-inf")

    def take(self, now: float) -> bool:
        """Take one token at `now` and return True, or return False when there is none. A clock that was set back adds
        no tokens and removes none."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._hz)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
