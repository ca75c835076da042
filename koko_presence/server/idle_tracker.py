"""Derives a session's activity from its messages and silences [D4, D8, D11, D14]. Pure: time is an argument.

Heartbeats carry active or idle. The server adds: idle after 120 s with nothing but heartbeats that do not carry active,
away after another 10 minutes, and the end of the session after 90 s without any message. `ActivityWatch` is written by
its session; the two times are fields of the `SessionRateLimiter`, as the compiled cursor path writes them as well.
"""

from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.models import Activity


class ActivityWatch:
    """The activity of one session. Methods that may change it return the new value, or None when it did not change.
    Times are monotonic seconds."""

    __slots__ = ("_idle_since", "_limits", "_rate_limiter", "acted_at", "activity", "changed_at", "sends_heartbeats")

    def __init__(self, limits: Limits, now: float, rate_limiter: SessionRateLimiter) -> None:
        """`rate_limiter` stores the times of the last message and of the last activity."""
        self._limits = limits
        self._rate_limiter = rate_limiter
        self._rate_limiter.active = True
        self._idle_since = 0.0  # 0.0: it has not been idle
        self.activity: Activity = "active"
        self.changed_at = now  # since when it is this
        # the last interaction or heartbeat `active`; cursors of the compiled path, of an active session, are left out
        self.acted_at = now
        self.sends_heartbeats = False  # over HTTP, for an event stream

    def note_received(self, now: float) -> None:
        """Record a message of any kind."""
        self._rate_limiter.note_received(now)

    def note_heartbeat(self, now: float) -> None:
        """Record a heartbeat over HTTP: from now on the client's heartbeats show that it runs [M6c]."""
        self.sends_heartbeats = True
        self._rate_limiter.note_received(now)

    def note_transport(self, now: float) -> None:
        """Record a sign of life of the transport, as a message of a client that sends no heartbeats."""
        if not self.sends_heartbeats:
            self._rate_limiter.note_received(now)

    def note_activity(self, now: float) -> None:
        """Record a message other than a heartbeat, as activity."""
        self._rate_limiter.note_activity(now)

    def interact(self, now: float) -> Activity | None:
        """Record an interaction: the session becomes active [D12]."""
        self._rate_limiter.note_activity(now)
        self.acted_at = now
        return self._become("active", now)

    def declare(self, activity: Activity, now: float) -> Activity | None:
        """Apply the activity that a heartbeat or a status carries; idle does not change away."""
        if activity == "active":
            self._rate_limiter.note_activity(now)
            self.acted_at = now
        elif self.activity == "away" and activity == "idle":
            return None  # still idle, only longer
        return self._become(activity, now)

    def acted_after(self, idle_at: float) -> bool:
        """Return whether the session has acted since the user was set to idle at `idle_at`. In the session that did
        this, an act that was read together with it counts, too: the session was idle at that moment, and is not now."""
        return self.acted_at > idle_at or (self.activity == "active" and self._idle_since == idle_at)

    def lapse(self, now: float) -> Activity | None:
        """Become idle after `idle_after_s` without activity, then away after another `away_after_s`."""
        if self.activity == "active" and now >= self._rate_limiter.last_activity_at + self._limits.idle_after_s:
            return self._become("idle", now)
        if self.activity == "idle" and now >= self._idle_since + self._limits.away_after_s:
            return self._become("away", now)
        return None

    def restore(self, activity: Activity, now: float) -> None:
        """Set the activity of a resumed session [D14]."""
        self._become(activity, now)

    @property
    def silent_at(self) -> float:
        """The monotonic second at which the session ends unless a message arrives."""
        return self._rate_limiter.seen_at + self._limits.silence_s

    def next_at(self) -> float:
        """The monotonic second at which the activity changes or the session ends next unless a message arrives."""
        if self.activity == "active":
            return min(self.silent_at, self._rate_limiter.last_activity_at + self._limits.idle_after_s)
        if self.activity == "idle":
            return min(self.silent_at, self._idle_since + self._limits.away_after_s)
        return self.silent_at

    def _become(self, activity: Activity, now: float) -> Activity | None:
        if activity == self.activity:
            return None
        if activity == "idle":
            self._idle_since = now
        self.activity, self.changed_at = activity, now
        self._rate_limiter.active = activity == "active"
        return activity
