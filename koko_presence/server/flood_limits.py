"""What one connection may send, and when enough is enough [B13, E2, L3]. Pure: time is an argument."""

from typing import Literal

from koko_presence._fastpath.read_budget import Intake
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.protocol.limits import Limits

READ_FACTOR = 5.0  # frames a second that are read, in rates of a connection [L3]
UNINVITED_FRAMES = 16  # of any kind, before `auth` [A2]

# A flood is over when nothing was over the limit for this long.
_CALM_S = 1.0


def make_intake(limits: Limits) -> Intake:
    """How much of one connection is read, above which it is not read for a while [L3], and before `auth` [A2]."""
    hz = READ_FACTOR * limits.connection_hz
    per_s = float(limits.connection_bytes_hz)
    return Intake(hz, max(1.0, hz), per_s, max(2 * per_s, 2.0 * limits.max_frame_bytes), UNINVITED_FRAMES)


class Abuse:
    """A budget of messages a second over all kinds, and windows of errors. Never a ban for a fast mouse."""

    __slots__ = ("_errors", "_flood_began", "_flood_seen", "_limits", "_protocol_errors", "messages")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.messages = TokenBucket(limits.connection_hz, max(1.0, limits.connection_hz))
        self._flood_began = 0.0
        self._flood_seen = -1e9
        self._errors: list[float] = []
        self._protocol_errors: list[float] = []

    def take(self, now: float, count: int = 1) -> bool:
        """Count `count` messages, or frames; False when they are above the connection's rate."""
        for _ in range(count):
            if not self.messages.take(now):
                self.note_flood(now, now)
                return False
        return True

    def note_flood(self, now: float, until: float) -> None:
        """More comes than may, and the connection is not read before `until`: all that time counts as a flood."""
        if now - self._flood_seen > _CALM_S:
            self._flood_began = now
        self._flood_seen = max(self._flood_seen, until)

    def flooding_for(self, now: float) -> float:
        """Seconds that the rate has been exceeded without a pause."""
        return now - self._flood_began if now - self._flood_seen <= _CALM_S else 0.0

    def note_error(self, now: float) -> Literal["", "warn", "cut"]:
        """Count an error message sent to the client; `warn` at half of what is too many, `cut` at all of it."""
        count = _count_recent(self._errors, now, self._limits.error_window_s)
        if count >= self._limits.max_errors:
            return "cut"
        return "warn" if count == (self._limits.max_errors + 1) // 2 else ""

    def note_protocol_error(self, now: float) -> bool:
        """Count something that was not a message of ours at all; True when that was one too many."""
        return (
            _count_recent(self._protocol_errors, now, self._limits.error_window_s) >= self._limits.max_protocol_errors
        )


def _count_recent(times: list[float], now: float, window_s: float) -> int:
    times[:] = [time for time in times if now - time < window_s]
    times.append(now)
    return len(times)
