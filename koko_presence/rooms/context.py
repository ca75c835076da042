"""Holds what all rooms and users of a shard share."""

from typing import Any

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.protocol.webhook_events import Sink

from .deadlines import Deadlines
from .service_delays import Delays

# Bits of a version below the epoch: more changes than a worker can make between two views.
EPOCH_BITS = 40


class ShardContext:
    """The settings and state shared by all rooms and users of one shard. A reload replaces `limits` and `webhook_sink`;
    each view of the workers by which this worker owns its keys sets `epoch`; the bus sets `advised_ms`. Rooms, users
    and the shard append to `effects` and `touched_users`; the bus takes both."""

    __slots__ = (
        "_changes", "advised_ms", "deadlines", "delays", "effects", "epoch", "limits", "options", "replicated",
        "touched_users", "wall", "webhook_sink",
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
        self.epoch = 0
        self.advised_ms = 0  # send interval advised to clients for this worker's load [N17]
        self._changes = 0

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
