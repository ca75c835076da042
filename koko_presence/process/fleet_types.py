"""The types of the fleet: its actions for the supervisor, and its state of each worker and rolling reload. `Fleet`
alone writes `Member` and `RollingReload`.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

from .control_channel import Message
from .heartbeat_lateness import Lateness
from .liveness import Watch


class Spawn(Struct, frozen=True):
    """Start worker `id` for `slot`."""

    id: int
    slot: int


class SendMessage(Struct, frozen=True):
    """Send `message` to worker `id`."""

    id: int
    message: Message


class Kill(Struct, frozen=True):
    """Send SIGKILL to worker `id`."""

    id: int


class StopListening(Struct, frozen=True):
    """Close the supervisor's own descriptors of the listening sockets. Once the workers have closed theirs as well, new
    connections are refused and clients connect to another host."""


class Exit(Struct, frozen=True):
    """End the service with exit code `code`; `line` is for the operator, empty without an error."""

    code: int
    line: str


Action = Spawn | SendMessage | Kill | StopListening | Exit


class Phase(Enum):
    BOOT = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"


class Member:
    """One worker process from its start until it is reaped."""

    def __init__(self, id: int, slot: int, now: float) -> None:
        self.id, self.slot = id, slot
        self.started_at = self.last_received_at = now
        self.ready_at: float | None = None
        self.standby = False  # not in any view, ready or not, before all successors of its batch are ready
        self.deferred = False  # ready, but not in any view before the others serve the newest one
        self.entered = 0  # the first view that contained it
        self.served = 0  # the last view it reported `Serving` for
        self.retiring = False  # its slot has a newer owner; it is only an edge
        self.drained_by: float | None = None  # when its drain counts as done; set when `Drain` is sent
        self.drained = False
        self.gone_by: float | None = None  # when it is killed; set when `Stop` is sent
        self.lost = False
        self.accepts: frozenset[int] = frozenset()  # the slots whose sockets it accepts from, as last sent to it
        self.lateness = Lateness()
        self.watch = Watch()
        self.unreached: dict[int, tuple[float, float]] = {}  # by reporting worker: since when, and its last report

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def present(self) -> bool:
        """Whether it belongs to the view."""
        return self.ready and not (self.standby or self.deferred or self.lost) and self.gone_by is None

    @property
    def covers(self) -> bool:
        """Whether its slot needs no other worker."""
        return not self.lost and self.gone_by is None and not self.retiring

    @property
    def leaving(self) -> bool:
        """Whether it was sent `Drain`."""
        return self.drained or self.drained_by is not None

    @property
    def serving(self) -> bool:
        return self.present and 0 < self.entered <= self.served


class Replacement(NamedTuple):
    """One slot of a batch: worker `new` replaces `old`, which is 0 if the slot had no worker."""

    slot: int
    old: int
    new: int


class RollingReload:
    """A rolling reload, batch by batch. All successors of a batch are started and become ready; slot by slot they take
    over what the old workers own; then they alone accept connections; only then the old workers close their clients. So
    a client that is closed never reconnects to a worker that is yet to be replaced."""

    def __init__(self, slots: Iterable[int], first_id: int, batch: int, *, all_workers: bool = True) -> None:
        """`batch` is the number of successors that may run beside all other workers, limited by memory. `all_workers`
        is true for a requested reload, false for the replacement of one worker whose heartbeats are late."""
        self.slots = deque(slots)
        self.first_id = first_id  # workers from this id on are of the new generation
        self.batch = max(1, batch)
        self.all_workers = all_workers
        self.replacements: list[Replacement] = []  # of this batch
        self.draining = False  # the old workers of this batch were sent `Drain`
