"""Controls the load of rooms and workers: the inbound budget and advised send interval of a room [L2], and the flush
window and advice of a worker [L4, N17]."""

from koko_presence._fastpath.throttle import Meter, TokenBucket
from koko_presence.protocol.limits import Limits

from .broadcast_budget import BroadcastBudget

LONGEST_INTERVAL_MS = 1000


class Load:
    """Counts a room's inbound events. `budget` saves up one second's worth; `advised_ms` grows while the budget is not
    sufficient."""

    __slots__ = ("_hz", "_shortest_ms", "advised_ms", "broadcasts", "budget", "meter")

    def __init__(self, limits: Limits, now: float) -> None:
        self._hz = limits.room_events_hz
        self.budget = TokenBucket(self._hz, max(1.0, self._hz))
        self.broadcasts = BroadcastBudget(limits.room_broadcast_bytes, now)
        self.meter = Meter(now)
        self._shortest_ms = round(1000.0 / limits.cursor_hz)
        self.advised_ms = self._shortest_ms

    def judge(self, now: float) -> bool:
        """Evaluate the counted second. Return True when the advised interval has changed."""
        load = self.meter.count / (now - self.meter.since) / self._hz
        self.meter.restart(now)
        before = self.advised_ms
        if load > 1.05:
            self.advised_ms = min(LONGEST_INTERVAL_MS, round(before * min(load, 4.0)))
        elif load < 0.5:  # well below 1, so that the advice does not oscillate
            self.advised_ms = max(self._shortest_ms, before // 2)
        return self.advised_ms != before


FILLING, EASY = 0.75, 0.5  # shares of a core; between them the window does not change, so that it cannot oscillate
FULL, RELIEVED = 0.9, 0.7  # the same for the measures in overload
LONGER, SHORTER = 1.25, 0.9  # steps that are small against the gap between the thresholds, for the same reason
# A worker that waits for a core shares it with other processes: the cores are full although this worker runs little.
# With four workers and their clients on two cores that are 80 % busy, each worker runs for 0.25 of the time and waits
# for 0.33.
WAITING_COUNTS = 2.0

OVERLOAD_WINDOW_S = 1.0 / 30.0  # one frame at 30 Hz [L4]
LONGEST_ADVICE_MS = 200  # five updates a second per member
SLOWER, FASTER = 1.05, 0.95  # factor of the advised interval per tenth of a second
# A smaller change of the advised interval is not sent to the clients; less than `FULL / RELIEVED`.
ADVICE_STEP = 1.15
ADVICE_EVERY_S = 0.5
MEMORY_S = 0.5  # averaging time of the load that lengthens the send interval of clients


class FlushWindowController:
    """Sets a worker's flush window and the send interval advised to clients from its load [L4, N17].

    While the load is low, busy rooms wait for `flush_window_ms`; as the core fills up, for up to `flush_ceiling_ms`. A
    sender's cursor comes at most every 50 ms, so a longer window merges hardly any events: it saves writes. When the
    core is full in spite of that, windows grow to `OVERLOAD_WINDOW_S` and every room waits for the end of its window
    (`full`). When that is not enough, the worker is `overloaded`, and `advised_ms` grows until the load is below
    `FULL`, or up to `LONGEST_ADVICE_MS`.
    """

    __slots__ = (
        "_advice_ms", "_advised_at", "_ceiling_s", "_load", "_longest_s", "_ran_s", "_shortest_ms", "_shortest_s",
        "_since", "_waited_s", "advised_ms", "overloaded", "window_s",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float, ran_s: float, waited_s: float = 0.0) -> None:
        self._since, self._ran_s, self._waited_s = now, ran_s, waited_s
        self.window_s = 0.0
        self.overloaded = False
        self._load = 0.0  # averaged share of the time in which the worker ran or waited for a core
        self._advice_ms = 0.0
        self._advised_at = now
        self.advised_ms = 0
        self.set_limits(limits)

    @property
    def full(self) -> bool:
        """Return whether every room, busy or quiet, waits for the end of its window."""
        return self.window_s >= self._ceiling_s > 0.0

    @property
    def load(self) -> float:
        """The share of about the last half second in which the worker ran or waited for a core."""
        return self._load

    def set_limits(self, limits: Limits) -> None:
        """Apply new limits; the window and the advice are moved within them."""
        self._ceiling_s = limits.flush_ceiling_ms / 1000.0
        self._shortest_s = min(limits.flush_window_ms / 1000.0, self._ceiling_s)
        if not self._shortest_s:  # windows are off
            self._ceiling_s = 0.0
        self._longest_s = max(self._ceiling_s, OVERLOAD_WINDOW_S) if self._ceiling_s else 0.0
        self.window_s = min(max(self.window_s, self._shortest_s), self._ceiling_s)
        self._shortest_ms = round(1000.0 / limits.cursor_hz)
        self._advice_ms = max(self._advice_ms, self._shortest_ms)
        self.advised_ms = max(self.advised_ms, self._shortest_ms)

    def judge(self, now: float, ran_s: float, waited_s: float = 0.0) -> None:
        """Update the window and the advice. By monotonic second `now` the worker has run for `ran_s` CPU seconds in
        total, and waited for a core for `waited_s`. Called about ten times a second while there is something to
        write."""
        if now <= self._since:
            return
        past_s = now - self._since
        ran, waited = (ran_s - self._ran_s) / past_s, (waited_s - self._waited_s) / past_s
        self._since, self._ran_s, self._waited_s = now, ran_s, waited_s
        runnable = min(1.0, ran + waited)
        self._load += (runnable - self._load) * min(1.0, past_s / MEMORY_S)
        self._move_window(ran + WAITING_COUNTS * waited, runnable)
        at_longest = self.window_s >= self._longest_s
        self.overloaded = at_longest and self._load > (RELIEVED if self.overloaded else FULL)
        self._advise(now, past_s)

    def _move_window(self, busy: float, runnable: float) -> None:
        if self.window_s > self._ceiling_s or (self.window_s == self._ceiling_s and runnable > FULL):
            if runnable > FULL:
                self.window_s = min(self._longest_s, self.window_s * LONGER)
            elif runnable < RELIEVED:
                self.window_s = max(self._ceiling_s, self.window_s * SHORTER)
        elif busy > FILLING:
            self.window_s = min(self._ceiling_s, self.window_s * LONGER)
        elif busy < EASY:
            self.window_s = max(self._shortest_s, self.window_s * SHORTER)

    def _advise(self, now: float, past_s: float) -> None:
        tenths = min(past_s / 0.1, 100.0)
        if self.overloaded and self._load > FULL:
            longest_ms = max(LONGEST_ADVICE_MS, self._shortest_ms)
            self._advice_ms = min(longest_ms, self._advice_ms * SLOWER ** min(tenths, 1.0))
        elif self._load < RELIEVED:
            self._advice_ms = max(self._shortest_ms, self._advice_ms * FASTER**tenths)
        wanted, advised_ms = round(self._advice_ms), self.advised_ms
        if wanted == advised_ms or now - self._advised_at < ADVICE_EVERY_S:
            return
        at_end = wanted in (self._shortest_ms, LONGEST_ADVICE_MS)
        if at_end or not advised_ms / ADVICE_STEP < wanted < advised_ms * ADVICE_STEP:
            self.advised_ms, self._advised_at = wanted, now
