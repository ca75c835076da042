"""Holds what all rooms and users of a shard share."""

from collections.abc import Iterable
from typing import Any

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.protocol.webhook_events import Sink

from .deadlines import Deadlines
from .service_delays import Delays

# Bits of a version below the epoch: more changes than a worker can make between two views.
EPOCH_BITS = 40


class ShardContext:
    """The settings and state shared by all rooms and users of one shard, written by its own methods only. `effects` are
    commands for other owners and pairs of an edge and a message for it, in order."""

    __slots__ = (
        "_changes", "advised_ms", "deadlines", "delays", "effects", "epoch", "limits", "options", "presence_off",
        "replicated", "touched_users", "wall", "webhook_sink",
    )  # fmt: skip

    def __init__(self, limits: Limits, options: RoomOptions, wall: WallClock, deadlines: Deadlines) -> None:
        self.limits = limits
        self.options = options
        self.wall = wall
        self.deadlines = deadlines
        self.delays = Delays()  # of all workers of the service
        self.effects: list[Any] = []
        self.webhook_sink: Sink | None = None  # collects webhook events; None: webhooks are off [M10]
        self.replicated = False  # whether other workers hold replicas of this shard's rooms and users
        self.touched_users: set[str] = set()  # users whose replica is out of date
        # Users whose presence the back end has switched off [Q11]; the same at all workers, also without any session
        self.presence_off: set[str] = set()
        self.epoch = 0
        self.advised_ms = 0  # send interval advised to clients for this worker's load [N17]
        self._changes = 0

    # --- settings -------------------------------------------------------------------------------------------------

    def set_limits(self, limits: Limits) -> None:
        """Apply the limits of a reload; they hold for what begins from now on."""
        self.limits = limits

    def switch_presence(self, user_id: str, *, on: bool) -> None:
        """Record that the back end has switched a user's presence on or off [Q11]."""
        (self.presence_off.discard if on else self.presence_off.add)(user_id)

    def set_webhook_sink(self, sink: Sink | None) -> None:
        """Send webhook events to `sink`; None switches them off."""
        self.webhook_sink = sink

    def start_replication(self) -> None:
        """Note that other workers hold replicas from now on, so that changes are recorded for them."""
        self.replicated = True

    def begin_epoch(self, epoch: int) -> None:
        """Own keys by the view with this epoch; later versions are above all of earlier epochs."""
        self.epoch = epoch

    def set_advised_ms(self, interval_ms: int) -> None:
        """Set the send interval advised to clients for this worker's load, in milliseconds [N17]."""
        self.advised_ms = interval_ms

    # --- effects and changes --------------------------------------------------------------------------------------

    def add_effect(self, effect: Any) -> None:
        """Append an effect."""
        self.effects.append(effect)

    def take_effects(self) -> list[Any]:
        """Return the effects since the last call, in order."""
        effects, self.effects = self.effects, []
        return effects

    def touch_user(self, user_id: str) -> None:
        """Record that the replica of a user is out of date."""
        self.touched_users.add(user_id)

    def touch_users(self, user_ids: Iterable[str]) -> None:
        """Record that the replicas of these users are out of date."""
        self.touched_users.update(user_ids)

    def take_touched_users(self) -> set[str]:
        """Return the users whose replicas are out of date, and count them as replicated."""
        touched, self.touched_users = self.touched_users, set()
        return touched

    # --- times and versions ---------------------------------------------------------------------------------------

    def more_grace(self, grace_until: float, now: float) -> float:
        """Return until which monotonic second a place is held after its grace period, which ends at monotonic second
        `grace_until`; 0.0 when it is free. The extension is the time for which returning clients had to wait for the
        service. Called when the grace period is over."""
        grace_s = self.limits.grace_s
        ends_at = self.delays.ends(grace_until - grace_s, grace_s)
        return ends_at if ends_at > max(now, grace_until + 0.001) else 0.0

    def next_version(self, before: int = 0) -> int:
        """Return the version of the next change to anything owned here, or the revision of a record, which is above
        `before`. The view's epoch is in the high bits, so all versions of an owner that has missed a change of owners
        are lower than those of the next owner [N-b]. Below it is one count of all changes of this worker, so a room or
        user that is created anew does not start below its predecessor."""
        self._changes += 1
        return max(before + 1, (self.epoch << EPOCH_BITS) + self._changes)
