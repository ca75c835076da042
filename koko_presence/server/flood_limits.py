"""Limits what one connection may send: the message rate, floods and errors [B13, E2, L3]. Pure: time is an argument.

`Abuse` counts; the session decides what follows, and `ReadBudget` (_fastpath/read_budget) limits what is read at all.
"""

from typing import Literal

from koko_presence._fastpath.read_budget import ReadBudget
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol.limits import Limits

READ_FACTOR = 5.0  # frames read per second, as a multiple of the connection's message rate [L3]
PREAUTH_FRAMES = 16  # frames of any kind before `auth` [A2]

# A flood ends when nothing has exceeded the rate for this long.
_CALM_S = 1.0


def make_read_budget(limits: Limits) -> ReadBudget:
    """The read budget of one connection: frames and bytes per second, above which reading pauses [L3], and frames
    before `auth` [A2]."""
    hz = READ_FACTOR * limits.connection_hz
    per_s = float(limits.connection_bytes_hz)
    return ReadBudget(hz, max(1.0, hz), per_s, max(2 * per_s, 2.0 * limits.max_frame_bytes), PREAUTH_FRAMES)


class Abuse:
    """Counts one connection's messages of all kinds against its rate, and its errors in a sliding window. Exceeding the
    rate is abuse only when it lasts (`flooding_for`): a fast mouse alone never ends a connection. Written by its
    session."""

    __slots__ = ("_errors", "_flood_began", "_flood_seen", "_limits", "_protocol_errors", "messages")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.messages = TokenBucket(limits.connection_hz, max(1.0, limits.connection_hz))
        self._flood_began = 0.0
        self._flood_seen = -1e9
        self._errors: list[float] = []
        self._protocol_errors: list[float] = []

    def take(self, now: float, count: int = 1) -> bool:
        """Count `count` messages or frames at monotonic second `now`. Returns False when they exceed the connection's
        rate."""
        for _ in range(count):
            if not self.messages.take(now):
                self.note_flood(now, now)
                return False
        return True

    def note_flood(self, now: float, until: float) -> None:
        """Record that the rate is exceeded at `now`; the time until `until`, before which the connection is not read,
        counts as part of the flood."""
        if now - self._flood_seen > _CALM_S:
            self._flood_began = now
        self._flood_seen = max(self._flood_seen, until)

    def flooding_for(self, now: float) -> float:
        """Seconds since the present flood began; 0.0 when there is none."""
        return now - self._flood_began if now - self._flood_seen <= _CALM_S else 0.0

    def note_error(self, now: float) -> Literal["", "warn", "cut"]:
        """Count an error message sent to the client. Returns `warn` at half of `max_errors` in the error window, `cut`
        from `max_errors` on, else an empty string."""
        count = _count_recent(self._errors, now, self._limits.error_window_s)
        if count >= self._limits.max_errors:
            return "cut"
        return "warn" if count == (self._limits.max_errors + 1) // 2 else ""

    def note_protocol_error(self, now: float) -> bool:
        """Count input that is no message of the protocol. Returns True at `max_protocol_errors` in the error window."""
        return (
            _count_recent(self._protocol_errors, now, self._limits.error_window_s) >= self._limits.max_protocol_errors
        )


def _count_recent(times: list[float], now: float, window_s: float) -> int:
    times[:] = [time for time in times if now - time < window_s]
    times.append(now)
    return len(times)
