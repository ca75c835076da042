"""Is somebody there? What a session's messages and silences say [D4, D8, D11, D14]. Pure: time is an argument.

A client says active or idle in its heartbeats. The server adds: idle after 120 s in which nothing but heartbeats that
do not say active came, away after 10 more minutes, gone after 90 s without any message at all.
"""

from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import Activity


class ActivityWatch:
    """The activity of one session. Methods that may change it return the new value, or None when nothing changed."""

    __slots__ = ("_gate", "_idle_since", "_limits", "activity")

    def __init__(self, limits: Limits, now: float, gate: SessionRateLimiter) -> None:
        """`gate` keeps the two times, because the short way of cursors moves them too."""
        self._limits = limits
        self._gate = gate
        self._gate.awake = True
        self._idle_since = now
        self.activity: Activity = "active"

    def note_life(self, now: float) -> None:
        """A message of any kind came."""
        self._gate.note_life(now)

    def note_stir(self, now: float) -> None:
        """Something other than a heartbeat came."""
        self._gate.note_stir(now)

    def interact(self, now: float) -> Activity | None:
        """Somebody did something [D12]."""
        self._gate.note_stir(now)
        return self._become("active", now)

    def claim(self, activity: Activity, now: float) -> Activity | None:
        """A heartbeat's own word."""
        if activity == "active":
            self._gate.note_stir(now)
        elif self.activity == "away" and activity == "idle":
            return None  # still idle, only longer
        return self._become(activity, now)

    def lapse(self, now: float) -> Activity | None:
        """Has enough time passed to be idle, or away?"""
        if self.activity == "active" and now >= self._gate.stirred_at + self._limits.idle_after_s:
            return self._become("idle", now)
        if self.activity == "idle" and now >= self._idle_since + self._limits.away_after_s:
            return self._become("away", now)
        return None

    def restore(self, activity: Activity, now: float) -> None:
        """A resumed session goes on as it was [D14]."""
        self._become(activity, now)

    @property
    def silent_at(self) -> float:
        """When the session counts as gone if nothing comes."""
        return self._gate.seen_at + self._limits.silence_s

    def next_at(self) -> float:
        """When to look again."""
        if self.activity == "active":
            return min(self.silent_at, self._gate.stirred_at + self._limits.idle_after_s)
        if self.activity == "idle":
            return min(self.silent_at, self._idle_since + self._limits.away_after_s)
        return self.silent_at

    def _become(self, activity: Activity, now: float) -> Activity | None:
        if activity == self.activity:
            return None
        if activity == "idle":
            self._idle_since = now
        self.activity = activity
        self._gate.awake = activity == "active"
        return activity
