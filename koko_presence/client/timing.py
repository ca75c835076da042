"""Timing of the client: rate limits of coalesced values, the back-off before a reconnect, and the server's clock.

No function reads a clock or sleeps: `clock` returns monotonic seconds, `timers` is the event loop or a test's
replacement. Each class is the only writer of its state.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from koko_presence.protocol.errors import CLOSES, ReconnectPolicy


class Handle(Protocol):
    def cancel(self) -> None: ...


class Timers(Protocol):
    """The part of an event loop that is used here."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Handle: ...


class Slot:
    """The newest value of one kind in one room. `render` makes the message for the monotonic second at which it is
    sent, or returns None when there is nothing to send; it is None before the first value."""

    __slots__ = ("interval_s", "pacer", "render", "sent_at", "unsent")

    def __init__(self, pacer: "Pacer", interval_s: float) -> None:
        self.pacer = pacer
        self.interval_s = interval_s
        self.sent_at = -math.inf
        self.render: Callable[[float], Any] | None = None
        self.unsent = False

    @property
    def ready_at(self) -> float:
        return self.sent_at + self.interval_s


class Pacer:
    """Sends the newest value of each slot at most once per its `interval_s`, and one value of any slot per `gap_s`
    seconds. The last value is always sent [E1]. The gap exists because the server's rate budget covers all rooms of the
    session [E2]."""

    def __init__(self, clock: Callable[[], float], timers: Timers, send: Callable[[Any], None], gap_s: float) -> None:
        self.gap_s = gap_s
        self._clock = clock
        self._timers = timers
        self._send = send
        self._waiting: dict[Slot, None] = {}
        self._free_at = -math.inf
        self._timer: Handle | None = None
        self._timer_at = 0.0
        self._held = False

    def offer(self, slot: Slot) -> None:
        """Send the slot's value now, or as soon as the intervals permit."""
        slot.unsent = True
        self._waiting[slot] = None
        if not self._held:
            self._pump()

    def drop(self, slot: Slot) -> None:
        """Do not send the slot's value."""
        self._waiting.pop(slot, None)

    def hold(self) -> None:
        """Send nothing for now: the socket's buffer is full."""
        self._held = True

    def go_on(self) -> None:
        """The socket's buffer accepts bytes again."""
        self._held = False
        self._pump()

    def clear(self) -> None:
        """The connection is lost: remove all slots. Their `unsent` stays set, so that they are offered again later."""
        self._waiting.clear()
        self._held = False
        self._stop_timer()

    def _pump(self) -> None:
        now = self._clock()
        for slot in list(self._waiting):
            if now < self._free_at:
                break
            if slot.ready_at <= now:
                del self._waiting[slot]
                self._emit(slot, now)
        if self._waiting:
            self._wake_at(max(self._free_at, min(slot.ready_at for slot in self._waiting)), now)

    def _emit(self, slot: Slot, now: float) -> None:
        message = None if slot.render is None else slot.render(now)
        slot.unsent = False
        if message is not None:
            slot.sent_at = now
            self._free_at = now + self.gap_s
            self._send(message)

    def _wake_at(self, at: float, now: float) -> None:
        if self._timer is not None and self._timer_at <= at:
            return
        self._stop_timer()
        self._timer_at = at
        self._timer = self._timers.call_later(at - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._held:
            self._pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def come_back(close_code: int) -> ReconnectPolicy:
    """Return the reconnect policy of a close code [L7]; an unknown code counts as a lost connection."""
    return CLOSES[close_code].come_back if close_code in CLOSES else ReconnectPolicy.RESUME


class Backoff:
    """Computes the wait before the next attempt, exponential with full jitter, which spreads the clients of a reconnect
    storm."""

    def __init__(self, min_s: float, max_s: float, random: Callable[[], float]) -> None:
        self._min_s, self._max_s, self._random = min_s, max_s, random
        self._attempts = 0

    def next_s(self, how: ReconnectPolicy, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait. `RESUME` and `NEW_TOKEN` begin with short waits that grow with each attempt;
        `LATER` waits for `retry_after_s` and more when the server has sent it, otherwise half of the maximum and
        more."""
        ceiling_s = min(self._max_s, self._min_s * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        if how is not ReconnectPolicy.LATER:
            return self._random() * ceiling_s
        if retry_after_s is not None:
            return retry_after_s + self._random() * ceiling_s
        return self._max_s * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """A connection was stable: the next wait is short again."""
        self._attempts = 0


class ServerClock:
    """Estimates the server's clock by the exchange of D7, from the sample with the shortest round trip of the last
    `SAMPLES`."""

    SAMPLES = 8

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=self.SAMPLES)

    @property
    def known(self) -> bool:
        return bool(self._samples)

    def note(self, sent_s: float, received_s: float, server_ms: float) -> None:
        """Add a sample: a request sent and answered at these monotonic seconds, with the server's time `server_ms`."""
        if received_s >= sent_s:
            self._samples.append((received_s - sent_s, server_ms - (sent_s + received_s) * 500.0))

    def now_ms(self, now_s: float) -> float:
        """Return the server's time in ms at monotonic second `now_s`. Errors: LookupError without a sample."""
        if not self._samples:
            raise LookupError("the server's time is not known before the first connection")
        return min(self._samples)[1] + now_s * 1000.0
