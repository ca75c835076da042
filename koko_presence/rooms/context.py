"""What every room and user of a shard shares."""

from typing import Any

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.protocol.webhook_events import Sink

from .deadlines import Deadlines
from .service_delays import Delays

EPOCH_BITS = 40  # of a version, below the epoch: more changes than a worker can make between two views


class ShardContext:
    """Written once, when the shard is made; limits and `happenings` again on reload, `epoch` with every view of the
    workers by which this one owns what it has."""

    __slots__ = (
        "_changes", "advised_ms", "deadlines", "delays", "effects", "epoch", "happenings", "kept", "limits",
        "options", "touched_users", "wall",
    )  # fmt: skip

    def __init__(self, limits: Limits, options: RoomOptions, wall: WallClock, deadlines: Deadlines) -> None:
        self.limits = limits
        self.options = options
        self.wall = wall
        self.deadlines = deadlines
        self.delays = Delays()  # of all workers of the service
        self.effects: list[Any] = []
        self.happenings: Sink | None = None  # for the application's back end; None: it does not want to know [M10]
        self.kept = False  # do other workers keep records of what is here?
        self.touched_users: set[str] = set()  # whose record is not what it was
        self.epoch = 0
        self.advised_ms = 0  # how often clients may send as far as this worker's load goes [N17]
        self._changes = 0

    def more_grace(self, grace_until: float, now: float) -> float:
        """To be asked when a grace that ends at monotonic second `grace_until` is over: until when the place is held
        all the same, because those who come back had to wait for the service; 0.0 when it is free."""
        grace_s = self.limits.grace_s
        ends_at = self.delays.ends(grace_until - grace_s, grace_s)
        return ends_at if ends_at > max(now, grace_until + 0.001) else 0.0

    def next_version(self, before: int = 0) -> int:
        """The version of the next word on anything that is owned here, or the revision of a record after `before`. The
        epoch comes first: what an owner says that slept through a change of owners, and does not know yet, is older
        than all that the next one has said [N-b]. Then all changes of a worker are counted, so that a room or a user
        that begins anew does not begin below its predecessor."""
        self._changes += 1
        return max(before + 1, (self.epoch << EPOCH_BITS) + self._changes)
