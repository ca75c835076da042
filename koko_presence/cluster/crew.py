"""What the fleet deals in: its orders to the supervisor, and what it knows of each worker."""

from collections import deque
from enum import Enum

from msgspec import Struct

from .control import Message


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


class Exit(Struct, frozen=True):
    """The service is over; `line` is for people, empty when all is well."""

    code: int
    line: str


Action = Spawn | Tell | Kill | Exit


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
        self.ready = False
        self.entered = 0  # the first view it was in
        self.served = 0  # the last view it said to serve in
        self.retiring = False  # its slot has a newer owner; it is only an edge
        self.drained_by: float | None = None  # since it was told to drain
        self.drained = False
        self.gone_by: float | None = None  # since it was told to stop; after that it is killed
        self.lost = False

    @property
    def present(self) -> bool:
        """Belongs into a view."""
        return self.ready and not self.lost and self.gone_by is None

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


class Roll:
    """A rolling reload: slot by slot, a successor takes over and the old worker drains."""

    def __init__(self, slots: range, first_id: int) -> None:
        self.slots = deque(slots)
        self.first_id = first_id  # workers from here on are new already
        self.old = self.new = 0
