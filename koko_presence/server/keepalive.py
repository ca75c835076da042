"""Detects lost peers by pings on an idle transport [D4], and stuck peers by the progress of a full socket [N1].

A peer that acknowledges bytes is alive: its pong may wait behind data that is not delivered yet. `LinkWatch` is written
by its session. Pure: time is an argument.
"""

from koko_presence.protocol.limits import Limits

LOOK_S = 1.0  # between checks of a full socket


class LinkWatch:
    """The liveness of one connection's transport. Times are monotonic seconds."""

    __slots__ = (
        "_delivery_s", "_last_ping_at", "_limits", "_pinged_at", "_progress_at", "_taken_bytes", "round_trip_s",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._last_ping_at = now
        self._pinged_at: float | None = None
        self._delivery_s = 0.0  # how long the data before the ping may take
        self._taken_bytes: int | None = None  # total bytes acknowledged by the peer, while the socket is full
        self._progress_at = now
        self.round_trip_s = 0.0  # of the last answered ping; 0.0: none was answered

    def on_pong(self, now: float) -> None:
        """Record a pong: the transport is alive."""
        if self._pinged_at is not None:
            self.round_trip_s = max(0.0, now - self._pinged_at)
        self._pinged_at = None

    def is_lost(self, now: float) -> bool:
        """True when a ping has no pong within the timeout, and the peer has acknowledged no bytes since. `note_taken`
        has to be called before, as it records the progress."""
        return self._pinged_at is not None and now >= self._answer_due_at(self._pinged_at)

    def take_ping(self, now: float, delivery_s: float = 0.0) -> bool:
        """Returns True when a ping is due, and records it as sent; the data before it may take `delivery_s` seconds to
        the peer."""
        if self._pinged_at is not None or now < self._last_ping_at + self._limits.ping_interval_s:
            return False
        self._pinged_at = self._last_ping_at = now
        self._delivery_s = delivery_s
        return True

    def on_full(self, taken_bytes: int, now: float) -> None:
        """Record that the socket is full; the peer has acknowledged `taken_bytes` in total."""
        self._taken_bytes, self._progress_at = taken_bytes, now

    def on_drained(self, now: float) -> None:
        """Record that the kernel has taken all data."""
        self._taken_bytes, self._progress_at = None, now

    def note_taken(self, taken_bytes: int, now: float) -> None:
        """Record that the peer has acknowledged `taken_bytes` so far; without effect while the socket is not full."""
        if self._taken_bytes is not None and taken_bytes > self._taken_bytes:
            self._taken_bytes, self._progress_at = taken_bytes, now

    def is_stuck(self, now: float) -> bool:
        """True when the socket is full and the peer has acknowledged no bytes for `send_stuck_s`."""
        return self._taken_bytes is not None and now >= self._progress_at + self._limits.send_stuck_s

    def next_at(self, now: float) -> float:
        """The monotonic second of the next check or ping."""
        if self._pinged_at is not None:
            ping_at = self._answer_due_at(self._pinged_at)
        else:
            ping_at = self._last_ping_at + self._limits.ping_interval_s
        if self._taken_bytes is None:
            return ping_at
        return min(ping_at, now + LOOK_S, self._progress_at + self._limits.send_stuck_s)

    def _answer_due_at(self, pinged_at: float) -> float:
        return max(pinged_at, self._progress_at) + self._delivery_s + self._limits.ping_timeout_s
