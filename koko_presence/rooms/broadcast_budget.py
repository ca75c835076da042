"""Limits the bytes that a room sends for broadcasts, whose size and recipients are chosen by the senders [J]."""


class BroadcastBudget:
    """A byte budget that saves up at most one second's worth. A broadcast of any size is allowed while the budget is
    above zero, and may drive it below zero; the next one waits until the debt is refilled. So the largest allowed
    broadcast always gets through. Pure: `now` is in monotonic seconds."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, bytes_per_s: int, now: float) -> None:
        self._rate = self._left = float(bytes_per_s)
        self._at = now

    def ready_at(self, now: float) -> float:
        """Return the monotonic second at which the next broadcast is allowed; `now` when it is allowed at once."""
        self._fill(now)
        return now if self._left > 0.0 else now + (1.0 - self._left) / self._rate

    def spend(self, size: int, recipients: int, now: float) -> None:
        """Charge `size` bytes for each of `recipients` subscribers."""
        self._fill(now)
        self._left -= size * recipients

    def _fill(self, now: float) -> None:
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
