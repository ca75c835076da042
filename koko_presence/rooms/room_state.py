"""What a room is, without its rules: the state that room.py writes, and that others of this package read."""

from koko_presence._fastpath.room_core import RoomCore
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import RoomType

from .context import ShardContext
from .control import Control
from .load_control import Load
from .member import Person
from .playback import Playback

SYNCED_TYPES = frozenset(("video", "comparison"))  # where playback is synchronised unless switched off [C16]


def unnamed_type() -> PresenceError:
    """What a join without a type gets where there is no room to take it from [C2]."""
    return PresenceError("INVALID_MESSAGE", "The first to join a room names its roomType.")


class RoomState(RoomCore):
    """One room on its owner. `Room` has the rules; lifetime.py begins and ends it."""

    __slots__ = (
        "changed", "control", "created_at", "edges", "flushed_seq", "gone", "keepers", "load", "moved", "parted",
        "people", "playback", "playback_waits", "restored_revision", "revision", "setting", "shown",
        "sync_enabled", "told_ms", "type",
    )  # fmt: skip

    def __init__(self, room_id: str, room_type: RoomType, setting: ShardContext, now: float) -> None:
        load = Load(setting.limits, now)
        super().__init__(room_id, setting.wall, load.budget, load.meter, room_type in SYNCED_TYPES)
        self.load = load
        self.type = room_type
        self.setting = setting
        self.created_at = now
        self.shown = False  # is there a room for others than the invisible in it?
        self.people: dict[str, Person] = {}
        self.gone: dict[str, Person] = {}  # who has just left, for the budgets
        self.playback: Playback | None = None
        self.playback_waits: tuple[str, str, str] | None = None  # user, session, action whose broadcast waits [H11]
        self.sync_enabled = True  # until the room is shown, by each one's own type
        self.control = Control()
        self.parted: set[int] = set()  # edges that still have a last word of this room to hear
        self.changed: set[str] = set()  # sessions of which other workers keep an old record; "" for the room itself
        self.keepers: set[int] = set()  # workers that have a record of the room
        self.edges: list[int] = []  # with members that hear the room; the bus keeps it
        self.revision = 0  # of the records
        self.restored_revision = 0  # of the record of the owner before; 0: the room began here
        self.flushed_seq = 0  # how far the edges have been told
        self.moved = False  # another worker owns it by now
        self.told_ms = self.send_interval_ms  # what members know of it
        self.advised_ms = setting.advised_ms

    @property
    def send_interval_ms(self) -> int:
        """How often clients are asked to send here: by the room's budget [L2], and by the worker's load [N17]."""
        return max(self.load.advised_ms, self.setting.advised_ms)

    def type_for(self, person: Person | None) -> RoomType | None:
        """The room's type as a user knows it; None when there is no such room for them. `person` is the user in the
        room, None for one who is not there."""
        if self.shown:
            return self.type
        return None if person is None else person.alone.type
