"""When things happen: turns for what may only be sent so often, the wait before a reconnect, the server's clock.

No clock is read and nothing sleeps in here: `clock` tells monotonic seconds, `timers` is the loop or a test's own.
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
    """The newest value of one kind in one room. `render` makes the message at the monotonic second at which it is sent;
    None while there is nothing to say."""

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
    """Sends each slot's newest value at most once per its `interval_s`, and one value of any slot per `gap_s`; the last
    value always goes out [E1]. The gap is there because the server's budget is the session's, over all rooms [E2]."""

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
        """Send the slot's value now or when its turn comes."""
        slot.unsent = True
        self._waiting[slot] = None
        if not self._held:
            self._pump()

    def drop(self, slot: Slot) -> None:
        """The slot's value needs no turn any more."""
        self._waiting.pop(slot, None)

    def hold(self) -> None:
        """Nothing may be written: the connection is full."""
        self._held = True

    def go_on(self) -> None:
        """The connection takes bytes again."""
        self._held = False
        self._pump()

    def clear(self) -> None:
        """The connection is gone; slots keep `unsent` for whoever offers them again."""
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
    """What a close code asks for [L7]; a code that is not in the table counts as a lost connection."""
    return CLOSES[close_code].come_back if close_code in CLOSES else ReconnectPolicy.RESUME


class Backoff:
    """How long to wait before the next attempt: full jitter, so that a thousand clients do not come back at once."""

    def __init__(self, min_s: float, max_s: float, random: Callable[[], float]) -> None:
        self._min_s, self._max_s, self._random = min_s, max_s, random
        self._attempts = 0

    def next_s(self, how: ReconnectPolicy, retry_after_s: float | None = None) -> float:
        """Seconds to wait. RESUME and NEW_TOKEN start at once and slow down; LATER starts slowly, or when the server
        said."""
        ceiling_s = min(self._max_s, self._min_s * 2.0 ** min(self._attempts, 32))
        self._attempts += 1
        if how is not ReconnectPolicy.LATER:
            return self._random() * ceiling_s
        if retry_after_s is not None:
            return retry_after_s + self._random() * ceiling_s
        return self._max_s * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """A connection has held; the next loss starts from the beginning."""
        self._attempts = 0


class ServerClock:
    """The server's clock seen from here, by the exchange of D7: the sample with the shortest way is the truest."""

    SAMPLES = 8

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=self.SAMPLES)

    @property
    def known(self) -> bool:
        return bool(self._samples)

    def note(self, sent_s: float, received_s: float, server_ms: float) -> None:
        """A question sent and answered at these monotonic seconds; the answer says `server_ms`."""
        if received_s >= sent_s:
            self._samples.append((received_s - sent_s, server_ms - (sent_s + received_s) * 500.0))

    def now_ms(self, now_s: float) -> float:
        """Server milliseconds at monotonic second `now_s`. Errors: LookupError while there is no sample."""
        if not self._samples:
            raise LookupError("the server's time is not known before the first connection")
        return min(self._samples)[1] + now_s * 1000.0
