"""Holds the state of a room without its rules. Written by `Room`, the functions of lifetime.py, presence_state.py and
playback_sync.py, and the owner package; read by the rest of this package. `members` is written by `Room.admit`,
`remove` and `_reveal_member`, and by owner/reconcile.py while it restores the room, and by no other code. What the bus
needs for flushes and replicas is written by methods of `RoomState`."""

from collections.abc import Iterable, Set

from msgspec import UNSET, UnsetType, structs

from koko_presence._fastpath.room_core import RoomCore
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.models import ControlMode, RoomSettings, RoomType
from koko_presence.protocol.settings import NO_SETTINGS

from .context import ShardContext
from .control import Control
from .load_control import Load
from .member import Member, Person
from .playback import Playback
from .targets import Targets
from .wait import Wait, WaitTimes

SYNCED_TYPES = frozenset(("video", "comparison"))  # playback is synchronised unless switched off [C16]


def unnamed_type() -> PresenceError:
    """Return the error for a join without a type to a room that has none yet [C2]."""
    return PresenceError("INVALID_MESSAGE", "The first to join a room names its roomType.")


class RoomState(RoomCore):
    """One room on its owner. `Room` adds the rules; lifetime.py begins and ends it."""

    __slots__ = (
        "changed", "context", "control", "created_at", "created_version", "edges", "edges_to_notify", "flushed_seq",
        "gone", "load", "moved", "people", "playback", "playback_waits", "replica_holders", "restored_revision",
        "revision", "sent_interval_ms", "settings", "shown", "sync_enabled", "targets", "type", "wait", "wait_times",
    )  # fmt: skip

    def __init__(self, room_id: str, room_type: RoomType, context: ShardContext, now: float) -> None:
        load = Load(context.limits, now)
        super().__init__(room_id, context.wall, load.budget, load.meter, room_type in SYNCED_TYPES)
        self.load = load
        self.type = room_type
        self.context = context
        self.created_at = now
        self.created_version = context.next_version()  # distinguishes the room from others of the same id
        self.shown = False  # whether the room exists for users other than its invisible members
        self.people: dict[str, Person] = {}
        self.gone: dict[str, Person] = {}  # users that have just left, kept for their budgets
        self.playback: Playback | None = None
        self.playback_waits: tuple[str, str, str] | None = None  # user, session, action whose broadcast waits [H11]
        self.targets = Targets()
        self.wait: Wait | None = None  # for viewers who buffer [H9]
        self.wait_times = WaitTimes()
        self.sync_enabled = True  # until the room is shown, each user's own room type decides
        self.control = Control()
        self.settings: RoomSettings = NO_SETTINGS  # of the back end [Q10]; none while the room is not shown
        # From here to `moved`: written by the methods below and by `Room` only, also where the bus decides.
        self.edges_to_notify: set[int] = set()  # edges that still have to receive the last events of this room
        self.changed: set[str] = set()  # sessions whose replica is out of date; "" for the room itself
        self.replica_holders: set[int] = set()  # workers that hold a replica of the room
        self.edges: list[int] = []  # with members that receive the room's events, as of the last flush or delta
        self.revision = 0  # of the replicas
        self.restored_revision = 0  # of the record it was restored from; 0: the room was created here
        self.flushed_seq = 0  # `seq` of the last flush
        self.moved = False  # another worker owns it by now
        self.sent_interval_ms = self.send_interval_ms  # last sent to the members
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

    def schedule_end(self) -> None:
        """Set the deadline at which the playback reaches its end, or cancel it [H20]. Called after every change of the
        playback or of the media."""
        ends_at = None if self.playback is None else self.playback.ends_at
        if ends_at is None:
            self.context.deadlines.cancel(("end", self.id, ""))
        else:
            self.context.deadlines.set(("end", self.id, ""), ends_at)

    # --- settings of the back end, or the defaults of the configuration [Q10] --------------------------------------

    def settings_for(self, person: Person) -> RoomSettings:
        """Return the room's settings as a user in it sees them."""
        return self.settings if self.shown else person.private_room.settings

    @property
    def control_mode(self) -> ControlMode:
        """Which members may command playback while no member has control [H1]."""
        mode = self.settings.control_mode
        return self.context.options.control_mode if isinstance(mode, UnsetType) else mode

    def shown_settings(self, settings: RoomSettings, room_type: RoomType) -> RoomSettings:
        """Return settings of a room of this type as its members see them: with the control mode of the configuration
        where the back end has set none. It stays absent while it is "open", which clients take for an absent one."""
        mode = self.context.options.control_mode
        if mode == "open" or settings.control_mode is not UNSET or room_type not in SYNCED_TYPES:
            return settings
        return structs.replace(settings, control_mode=mode)

    @property
    def auto_grant_away_s(self) -> float:
        """The seconds for which the holder of control may be away before it is passed on; 0: any time [I7]."""
        seconds = self.settings.auto_grant_away
        return self.context.options.auto_grant_away_s if isinstance(seconds, UnsetType) else seconds

    @property
    def wait_for_viewers_s(self) -> float:
        """The seconds for which playback waits for a viewer who buffers; 0: it does not [H9]."""
        seconds = self.settings.wait_for_viewers
        return self.context.options.wait_for_viewers_s if isinstance(seconds, UnsetType) else seconds

    @property
    def max_users(self) -> int:
        """The number of users who may be in the room, never above the server's limit [C6]."""
        most, limit = self.settings.max_users, self.context.limits.max_users_per_room
        return limit if isinstance(most, UnsetType) else min(most, limit)

    # --- the stream of events and its flushes ---------------------------------------------------------------------

    def attach(self, member: Member) -> None:
        """Let a member receive the room's stream from here on."""
        member.attached = True

    def detach(self, member: Member) -> None:
        """End the stream of a member; it receives events again after its next snapshot."""
        member.attached = False

    def edges_with_members(self) -> list[int]:
        """Return the edges with members that receive the room's stream, in ascending order."""
        return sorted({member.edge for member in self.members.values() if member.attached})

    def take_flush_edges(self) -> list[int]:
        """Return the edges of the next flush: those with members, and those whose last member has left since the last
        one. Later flushes go to `edges`, until the members change."""
        self.edges = edges = self.edges_with_members()
        if self.edges_to_notify:
            edges = sorted(self.edges_to_notify.union(edges))
            self.edges_to_notify.clear()
        return edges

    def note_flushed(self) -> int:
        """Record that everything up to `seq` is flushed; return up to which `seq` the previous flush went."""
        before, self.flushed_seq = self.flushed_seq, self.seq
        return before

    # --- replicas -------------------------------------------------------------------------------------------------

    def mark_changed(self, session_ids: Iterable[str]) -> None:
        """Record that the replicas of these sessions are out of date; "" is the room itself."""
        self.changed.update(session_ids)

    def take_changed(self) -> set[str]:
        """Return the sessions whose replicas are out of date, and count them as replicated."""
        changed, self.changed = self.changed, set()
        return changed

    def advance_revision(self) -> None:
        """Give the room's next record or delta a revision above all earlier ones."""
        self.revision = self.context.next_version(self.revision)

    def set_replica_holders(self, workers: set[int]) -> None:
        """Record which workers hold a replica of the room at its present revision."""
        self.replica_holders = workers

    def drop_replica_holder(self, worker: int) -> None:
        """Record that a worker has no replica; the next delta to it is the whole room."""
        self.replica_holders.discard(worker)

    def keep_replica_holders(self, workers: Set[int]) -> None:
        """Drop all replica holders but those among `workers`."""
        self.replica_holders &= workers

    def end_replicas(self) -> set[int]:
        """Begin the last revision of a room that is gone, and return the workers to which it is sent: the replica
        holders, and the edges that receive the room's last events."""
        self.advance_revision()
        self.edges = self.take_flush_edges()
        holders, self.replica_holders = self.replica_holders, set()
        return holders.union(self.edges)

    def note_restored(self, revision: int, flushed_seq: int) -> None:
        """Record from which revision the room was restored, and the highest `seq` that any worker has received."""
        self.revision = self.restored_revision = revision
        self.flushed_seq = flushed_seq

    def release(self) -> None:
        """Give the room up to another owner: it is not flushed here any more."""
        self.moved = True
