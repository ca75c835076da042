"""Is the other end still there, and does it read? Pings for an idle transport [D4], and a watch over a socket that is
full [N1]. Who takes bytes is there: a pong may wait behind what has not been read yet. Pure: time is an argument.
"""

from koko_presence.protocol.limits import Limits

LOOK_S = 1.0


class LinkWatch:
    """One connection's transport, as far as it can be told from here."""

    __slots__ = ("_last_ping_at", "_limits", "_pinged_at", "_progress_at", "_taken_bytes")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._last_ping_at = now
        self._pinged_at: float | None = None
        self._taken_bytes: int | None = None  # what the other end had taken in all, while the socket is full
        self._progress_at = now

    def on_pong(self) -> None:
        """The transport is alive."""
        self._pinged_at = None

    def is_lost(self, now: float) -> bool:
        """A ping has been out for too long, and nothing was taken since. Ask `is_stuck` first: it notes what was."""
        return self._pinged_at is not None and now >= self._answer_due_at(self._pinged_at)

    def take_ping(self, now: float) -> bool:
        """True when a ping is due, which then counts as sent."""
        if self._pinged_at is not None or now < self._last_ping_at + self._limits.ping_interval_s:
            return False
        self._pinged_at = self._last_ping_at = now
        return True

    def on_full(self, taken_bytes: int, now: float) -> None:
        """The kernel takes no more; the other end has taken `taken_bytes` so far."""
        self._taken_bytes, self._progress_at = taken_bytes, now

    def on_drained(self, now: float) -> None:
        """The kernel has taken all."""
        self._taken_bytes, self._progress_at = None, now

    def is_stuck(self, taken_bytes: int, now: float) -> bool:
        """Has the other end taken nothing of what waits for too long?"""
        if self._taken_bytes is None:
            return False
        if taken_bytes > self._taken_bytes:
            self._taken_bytes, self._progress_at = taken_bytes, now
        return now >= self._progress_at + self._limits.send_stuck_s

    def next_at(self, now: float) -> float:
        """When to look again."""
        if self._pinged_at is not None:
            ping_at = self._answer_due_at(self._pinged_at)
        else:
            ping_at = self._last_ping_at + self._limits.ping_interval_s
        if self._taken_bytes is None:
            return ping_at
        return min(ping_at, now + LOOK_S, self._progress_at + self._limits.send_stuck_s)

    def _answer_due_at(self, pinged_at: float) -> float:
        return max(pinged_at, self._progress_at) + self._limits.ping_timeout_s
