"""How much a room takes in and gives out: its budget, the interval it advises [L2], the pace of its flushes [L4]."""

from math import exp

from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.limits import Limits

LONGEST_INTERVAL_MS = 1000


class Load:
    """Counts inbound events. `budget` has one second's worth saved up; `advised_ms` grows while it is not enough."""

    __slots__ = ("_count", "_hz", "_shortest_ms", "_since", "advised_ms", "budget")

    def __init__(self, limits: Limits, now: float) -> None:
        self._hz = limits.room_events_hz
        self.budget = TokenBucket(self._hz, max(1.0, self._hz))
        self._since = now
        self._count = 0
        self._shortest_ms = round(1000.0 / limits.cursor_hz)
        self.advised_ms = self._shortest_ms

    def note(self, now: float) -> bool:
        """Count one event at monotonic second `now`; True when the advised interval has just changed."""
        self._count += 1
        elapsed = now - self._since
        if elapsed < 1.0:
            return False
        load = self._count / elapsed / self._hz
        self._since, self._count = now, 0
        before = self.advised_ms
        if load > 1.05:
            self.advised_ms = min(LONGEST_INTERVAL_MS, round(before * min(load, 4.0)))
        elif load < 0.5:  # far below, so that the advice does not swing between two values
            self.advised_ms = max(self._shortest_ms, before // 2)
        return self.advised_ms != before


# A window that collects a single frame costs more than none, so a room waits only when it would collect several.
BUSY_FRAMES_PER_WINDOW = 3.0
_MEMORY_S = 0.1


class Pace:
    """When a room writes: at once while it is quiet, at the end of a window after its last write while it is busy."""

    __slots__ = ("_flushed_at", "_recent")

    def __init__(self) -> None:
        self._flushed_at = -1e9
        self._recent = 0.0  # frames in about the last tenth of a second

    def flush_at(self, now: float, window_s: float) -> float:
        """The monotonic second at which what is ready at `now` should be written."""
        if self._recent * window_s / _MEMORY_S < BUSY_FRAMES_PER_WINDOW:
            return now
        return max(now, self._flushed_at + window_s)

    def flushed(self, now: float, frames: int) -> None:
        """Note that `frames` frames went out."""
        self._recent = self._recent * exp((self._flushed_at - now) / _MEMORY_S) + frames
        self._flushed_at = now
