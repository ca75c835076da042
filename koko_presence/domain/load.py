"""How much rooms take in and give out: budget and advised interval [L2], and the window of their flushes [L4]."""

from koko_presence._fastpath.throttle import Meter, TokenBucket
from koko_presence.limits import Limits

from .outflow import Outflow

LONGEST_INTERVAL_MS = 1000


class Load:
    """Counts inbound events. `budget` has one second's worth saved up; `advised_ms` grows while it is not enough."""

    __slots__ = ("_hz", "_shortest_ms", "advised_ms", "broadcasts", "budget", "meter")

    def __init__(self, limits: Limits, now: float) -> None:
        self._hz = limits.room_events_hz
        self.budget = TokenBucket(self._hz, max(1.0, self._hz))
        self.broadcasts = Outflow(limits.room_broadcast_bytes, now)
        self.meter = Meter(now)
        self._shortest_ms = round(1000.0 / limits.cursor_hz)
        self.advised_ms = self._shortest_ms

    def judge(self, now: float) -> bool:
        """A second's worth of events has been counted; True when the advised interval has just changed."""
        load = self.meter.count / (now - self.meter.since) / self._hz
        self.meter.restart(now)
        before = self.advised_ms
        if load > 1.05:
            self.advised_ms = min(LONGEST_INTERVAL_MS, round(before * min(load, 4.0)))
        elif load < 0.5:  # far below, so that the advice does not swing between two values
            self.advised_ms = max(self._shortest_ms, before // 2)
        return self.advised_ms != before


FILLING, EASY = 0.75, 0.5  # shares of a core; between them the window stays, so that it cannot swing
LONGER, SHORTER = 1.25, 0.9  # small against the gap between the two, for the same reason


class Governor:
    """The window of busy rooms: `shortest_ms` while the worker has time, up to `longest_ms` while its loop fills up.

    Each sender's cursor comes at most every 50 ms, so a longer window hardly merges anything; what it saves is writes.
    """

    __slots__ = ("_cpu_s", "_longest_s", "_shortest_s", "_since", "window_s")

    def __init__(self, limits: Limits, now: float, cpu_s: float) -> None:
        self._since, self._cpu_s = now, cpu_s
        self.window_s = 0.0
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """New bounds; the window moves inside them."""
        self._longest_s = limits.flush_ceiling_ms / 1000.0
        self._shortest_s = min(limits.flush_window_ms / 1000.0, self._longest_s)
        if not self._shortest_s:  # switched off
            self._longest_s = 0.0
        self.window_s = min(max(self.window_s, self._shortest_s), self._longest_s)

    def judge(self, now: float, cpu_s: float) -> float:
        """The window in seconds from monotonic second `now` on, when the worker has used `cpu_s` of CPU in all. Asked
        about ten times a second while there is something to write."""
        if now <= self._since:
            return self.window_s
        busy = (cpu_s - self._cpu_s) / (now - self._since)
        self._since, self._cpu_s = now, cpu_s
        if busy > FILLING:
            self.window_s = min(self._longest_s, self.window_s * LONGER)
        elif busy < EASY:
            self.window_s = max(self._shortest_s, self.window_s * SHORTER)
        return self.window_s
