"""So many a second, with a burst saved up: for questions that anybody can cause. Pure; any clock in seconds."""


class Budget:
    """Full at first. `hz` a second, at most `burst` at once."""

    __slots__ = ("_at", "_burst", "_hz", "_left")

    def __init__(self, hz: float, burst: float) -> None:
        self._hz, self._burst = hz, burst
        self._left, self._at = burst, float("-inf")

    def take(self, now: float) -> bool:
        """Whether there was one to take at `now`; a clock that was set back gives none and takes none away."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._hz)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
