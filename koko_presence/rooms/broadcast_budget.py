"""How many bytes a room may send out for broadcasts, whose size and number of receivers are the senders' choice [J]."""


class Outflow:
    """A second's worth may be saved up. One broadcast of any size goes while there is something left, and the debt is
    waited off: so the largest one that is allowed always gets through. Pure: `now` is monotonic seconds."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, bytes_per_s: int, now: float) -> None:
        self._rate = self._left = float(bytes_per_s)
        self._at = now

    def ready_at(self, now: float) -> float:
        """When the next may go; not after `now` if it may go at once."""
        self._fill(now)
        return now if self._left > 0.0 else now + (1.0 - self._left) / self._rate

    def spend(self, size: int, receivers: int, now: float) -> None:
        """`size` bytes have gone to each of `receivers`."""
        self._fill(now)
        self._left -= size * receivers

    def _fill(self, now: float) -> None:
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
