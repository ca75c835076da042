"""What the fleet deals in: its orders to the supervisor, and what it knows of each worker."""

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


class Tell(Struct, frozen=True):
    """Send a message to a worker."""

    id: int
    message: Message


class Kill(Struct, frozen=True):
    """SIGKILL."""

    id: int


class StopListening(Struct, frozen=True):
    """Close the supervisor's own descriptors of the listening sockets: once the workers have closed theirs too, who
    comes is refused and goes elsewhere."""


class Exit(Struct, frozen=True):
    """The service is over; `line` is for people, empty when all is well."""

    code: int
    line: str


Action = Spawn | Tell | Kill | StopListening | Exit


class Phase(Enum):
    BOOT = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"


class Member:
    """One worker process from its start until it is reaped."""

    def __init__(self, id: int, slot: int, now: float) -> None:
        self.id, self.slot = id, slot
        self.started_at = self.heard_at = now
        self.ready_at: float | None = None
        self.standby = False  # ready or not, it is in no view before all successors of its batch are ready
        self.entered = 0  # the first view it was in
        self.served = 0  # the last view it said to serve in
        self.retiring = False  # its slot has a newer owner; it is only an edge
        self.drained_by: float | None = None  # since it was told to drain
        self.drained = False
        self.gone_by: float | None = None  # since it was told to stop; after that it is killed
        self.lost = False
        self.accepts: frozenset[int] = frozenset()  # the slots from whose sockets it was told to accept
        self.lateness = Lateness()
        self.watch = Watch()
        self.unreached: dict[int, tuple[float, float]] = {}  # by workers that cannot reach it: since when, last said

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def present(self) -> bool:
        """Belongs into a view."""
        return self.ready and not (self.standby or self.lost) and self.gone_by is None

    @property
    def covers(self) -> bool:
        """Its slot needs no other worker."""
        return not self.lost and self.gone_by is None and not self.retiring

    @property
    def leaving(self) -> bool:
        """Was told to drain."""
        return self.drained or self.drained_by is not None

    @property
    def serving(self) -> bool:
        return self.present and 0 < self.entered <= self.served


class Turn(NamedTuple):
    """One slot of a batch: worker `new` takes the place of `old`, 0 when there was none."""

    slot: int
    old: int
    new: int


class RollingReload:
    """A rolling reload, batch by batch. All successors of a batch are started and get ready; slot by slot they take
    over what the old workers own; then they alone accept connections; and only then the old ones send their clients
    away. So nobody who is sent away comes back to a worker that is still to be replaced."""

    def __init__(self, slots: Iterable[int], first_id: int, batch: int, *, everyone: bool = True) -> None:
        """`batch`: how many successors may run beside all others, as memory allows. `everyone`: a reload that was asked
        for, and not the replacement of one worker that is slow."""
        self.slots = deque(slots)
        self.first_id = first_id  # workers from here on are new already
        self.batch = max(1, batch)
        self.everyone = everyone
        self.turns: list[Turn] = []  # of this batch
        self.draining = False  # the old ones of this batch were told to drain
