"""Holds the state of a room without its rules. Written by `Room`, the functions of lifetime.py, presence_state.py and
playback_sync.py, the owner package and the bus; read by the rest of this package."""

from koko_presence._fastpath.room_core import RoomCore
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import RoomType

from .context import ShardContext
from .control import Control
from .load_control import Load
from .member import Person
from .playback import Playback

SYNCED_TYPES = frozenset(("video", "comparison"))  # playback is synchronised unless switched off [C16]


def unnamed_type() -> PresenceError:
    """Return the error for a join without a type to a room that has none yet [C2]."""
    return PresenceError("INVALID_MESSAGE", "The first to join a room names its roomType.")


class RoomState(RoomCore):
    """One room on its owner. `Room` adds the rules; lifetime.py begins and ends it."""

    __slots__ = (
        "announced_ms", "changed", "context", "control", "created_at", "edges", "edges_to_notify", "flushed_seq",
        "gone", "load", "moved", "people", "playback", "playback_waits", "replica_holders", "restored_revision",
        "revision", "shown", "sync_enabled", "type",
    )  # fmt: skip

    def __init__(self, room_id: str, room_type: RoomType, context: ShardContext, now: float) -> None:
        load = Load(context.limits, now)
        super().__init__(room_id, context.wall, load.budget, load.meter, room_type in SYNCED_TYPES)
        self.load = load
        self.type = room_type
        self.context = context
        self.created_at = now
        self.shown = False  # whether the room exists for users other than its invisible members
        self.people: dict[str, Person] = {}
        self.gone: dict[str, Person] = {}  # users that have just left, kept for their budgets
        self.playback: Playback | None = None
        self.playback_waits: tuple[str, str, str] | None = None  # user, session, action whose broadcast waits [H11]
        self.sync_enabled = True  # until the room is shown, each user's own room type decides
        self.control = Control()
        self.edges_to_notify: set[int] = set()  # edges that still have to receive the last events of this room
        self.changed: set[str] = set()  # sessions whose replica is out of date; "" for the room itself
        self.replica_holders: set[int] = set()  # workers that hold a replica of the room
        self.edges: list[int] = []  # with members that receive the room's events; written by the bus
        self.revision = 0  # of the replicas
        self.restored_revision = 0  # of the record it was restored from; 0: the room was created here
        self.flushed_seq = 0  # `seq` of the last flush
        self.moved = False  # another worker owns it by now
        self.announced_ms = self.send_interval_ms  # last sent to the members
        self.advised_ms = context.advised_ms

    @property
    def send_interval_ms(self) -> int:
        """The send interval advised to clients in this room: by the room's budget [L2] and the worker's load [N17]."""
        return max(self.load.advised_ms, self.context.advised_ms)

    def type_for(self, person: Person | None) -> RoomType | None:
        """Return the room's type as a user sees it; None when the room does not exist for that user. `person` is the
        user in the room, None for a user that is not in it."""
        if self.shown:
            return self.type
        return None if person is None else person.private_room.type
