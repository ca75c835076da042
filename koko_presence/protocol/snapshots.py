"""Declares the snapshots and deltas of rooms and users that other workers store, so that a lost owner loses none [N-b].

The owner writes them. Edges and backup owners store them and send them to the next owner. Rate budgets and values that
wait for them are not included, presence objects excepted: after a take-over a client may send a little earlier than its
rate permits.
"""

from msgspec import Struct

from .commands import Profile, UserInfo
from .models import Activity, ControlMode, Cursor, Medium, RoomSettings, RoomType, Selection


class PrivateRoomRecord(Struct, array_like=True, kw_only=True):
    """The state of `rooms.member.PrivateRoom`; `since` is a monotonic second."""

    type: RoomType
    since: float
    settings: RoomSettings


class PresenceRecord(Struct, array_like=True, kw_only=True):
    """The state of `rooms.presence_object.PresenceObject`: values as JSON, None for a removed key."""

    shown: dict[str, str]
    waiting: dict[str, str | None]
    hidden: dict[str, str | None]
    session_version: int


class MemberRecord(Struct, array_like=True, kw_only=True):
    """One member of a room: the state of `rooms.member.Member`. `joined_at`, `last_active_at`, `lease_until` and
    `grace_until` are monotonic seconds, the same for all workers of a host; the last two are 0.0 when not set.
    `last_step` has the connection and number of the last step [H21]. `private_room` is what its user sees while the
    room is not `shown`; None while it has a visible session [K7]."""

    session_id: str
    user_id: str
    edge: int
    connection: int
    membership_id: int
    session_version: int
    privacy_version: int
    granted: int
    lease_until: float
    grace_until: float
    can_control: bool
    can_broadcast: bool
    moderator: bool
    disabled: bool
    session_disabled: bool
    room_disabled: bool
    invisible: bool
    share_cursor: bool
    share_selection: bool
    color: str
    index: int | None
    joined_at: float
    last_active_at: float
    connected: bool
    attached: bool
    cursor: Cursor | None
    cursor_put_away: bool
    selection: Selection | None
    typing: str | None
    watching: bool
    profile: Profile
    last_step: tuple[int, int] = (0, 0)
    private_room: PrivateRoomRecord | None = None
    presence: PresenceRecord | None = None


class PlaybackRecord(Struct, array_like=True, kw_only=True):
    """The state of `rooms.playback.Playback`; `anchor` and `acted_at` are monotonic seconds, the same for all workers
    of a host."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: float
    version: int
    duration: float | None
    target: str | None
    acted_at: float
    known_version: int = 0
    decided_version: int = 0


class WaitRecord(Struct, array_like=True, kw_only=True):
    """The state of `rooms.wait.Wait`; `began` and `until` are monotonic seconds."""

    began: float
    until: float
    viewers: dict[str, str]


class MediaRecord(Struct, array_like=True, kw_only=True):
    """The state of `rooms.targets.Targets`: the media and the durations that commands have named, by target, whether
    the back end has set the media, and the targets that were removed last."""

    media: dict[str, Medium]
    durations: dict[str, float]
    from_back_end: bool = False
    removed: list[str] = []


class RoomHead(Struct, array_like=True, kw_only=True):
    """The state of a room besides its members. `requests` are the pending requests for control: user id, name, time of
    the request and time of expiry, in monotonic seconds. `holder_away_since` is the monotonic second since which the
    controller is shown as away; 0.0: it is not. `created_version` is the version that the room was given when it was
    created; 0: unknown. `control_mode` is the one that applies, as the members know it."""

    type: RoomType
    created_at: float
    sync_enabled: bool
    playback: PlaybackRecord | None
    controller: str | None
    controller_session: str | None
    control_version: int
    requests: list[tuple[str, str, float, float]]
    shown: bool = True
    media: MediaRecord | None = None
    settings: RoomSettings = RoomSettings()
    holder_away_since: float = 0.0
    wait: WaitRecord | None = None
    created_version: int = 0
    control_mode: ControlMode = "open"


class RoomDelta(Struct, array_like=True, kw_only=True):
    """The changes of a room since the last delta. `revision` increases with every delta, across owners; `complete`:
    this is the complete state; `deleted`: the room has ended."""

    seq: int
    revision: int
    head: RoomHead | None
    members: list[MemberRecord]
    removed: list[str]
    complete: bool = False
    deleted: bool = False


class RoomRecord(Struct, array_like=True, kw_only=True):
    """The snapshot of a room. `final`: its owner wrote it when it released the room, so no later change exists."""

    seq: int
    revision: int
    head: RoomHead
    members: dict[str, MemberRecord]
    final: bool = False

    def apply(self, delta: RoomDelta) -> None:
        """Apply a delta; one with a lower revision changes nothing."""
        if delta.revision < self.revision:
            return
        self.seq, self.revision, self.final = delta.seq, delta.revision, False
        if delta.complete:
            self.members.clear()
        if delta.head is not None:
            self.head = delta.head
        for member in delta.members:
            self.members[member.session_id] = member
        for session_id in delta.removed:
            self.members.pop(session_id, None)


class MembershipEnd(Struct, array_like=True):
    """The end of a membership, all times in monotonic seconds: `notified_at` is when the room sent the events of it,
    0.0 when the room did not have the member; `noted_at` is when it was recorded; `created_at` is when the room was
    created, 0.0 when there was no room. `reason` is that of `user_left`."""

    session_id: str
    membership_id: int
    notified_at: float
    noted_at: float
    created_at: float
    reason: str


# an edge does not have the version of a membership and sends one of these in its place
NOT_SUBSCRIBED = 0  # the session is a member and does not get the room's events
SUBSCRIBED = 1  # it is a member and gets the room's events
JOINING = 2  # its join is not answered yet


class SessionRecord(Struct, array_like=True, kw_only=True):
    """One session of a user. In an owner's record `rooms` has the version of each membership. An edge sends the record
    of a session that is connected there, with `NOT_SUBSCRIBED`, `SUBSCRIBED` or `JOINING` for each room. `left`, from
    an edge only, holds the rooms whose owner has confirmed a leave recently, with the reason. A room in neither may
    just have been joined by a call at another edge. `stream`: it is connected by an event stream [M6c].
    `user_info`, from an edge only, is what the session's token says of the user. `activity_at`: the monotonic second as
    of which its activity is known."""

    session_id: str
    edge: int
    connection: int
    accepted_at: float
    session_version: int
    privacy_version: int
    received_privacy_seq: int
    lease_until: float
    grace_until: float
    connected: bool
    disabled: bool
    invisible: bool
    share_cursor: bool
    share_selection: bool
    activity: Activity
    rooms: dict[str, int]
    left: dict[str, str] = {}
    stream: bool = False
    user_info: UserInfo = UserInfo()
    activity_at: float = 0.0


class UserRecord(Struct, array_like=True, kw_only=True):
    """The snapshot of a user. `revision` increases with every change, across owners. `manual` is the manual status,
    `idle_at` the monotonic second at which the user was set to idle, 0.0 when a session has acted since [D8],
    `status_at` that at which the status was last set.
    `privacy_defaults` are the privacy settings of scope "user": invisible, share cursor, share selection; None: not set
    [K6]."""

    user_id: str
    revision: int
    manual: str | None
    status_message: str
    privacy_defaults: tuple[bool | None, bool | None, bool | None]
    sessions: list[SessionRecord]
    idle_at: float = 0.0
    user_info: UserInfo = UserInfo()
    status_at: float = 0.0


Present = dict[str, tuple[bool, int, Cursor | None]]


class Presence(Struct, array_like=True, kw_only=True):
    """An edge's list of the sessions in one room that are connected there. `sessions` has for each session id: whether
    it gets the room's events, its connection, and its last cursor, which is None when unknown and an empty `Cursor`
    when hidden. `epoch` is the view by which the edge has made the list."""

    edge: int
    sessions: Present
    epoch: int = 0


class RoomPresence(Struct, array_like=True, kw_only=True):
    room_id: str
    presence: Presence
