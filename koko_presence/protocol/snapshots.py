"""What other workers keep of a room or a user, so that nobody is lost with its owner [N-b].

An owner writes these, edges and heirs keep them without looking inside, and give them to the next owner. Budgets and
values that wait for them are not kept: at worst somebody may send a little earlier.
"""

from msgspec import Struct

from .commands import Profile
from .messages import Activity, Cursor, RoomType, Selection


class MemberRecord(Struct, array_like=True, kw_only=True):
    """One session in a room, as rooms/member.py has it. `lease_until` and `grace_until` are monotonic seconds, the
    same for all workers of a host; 0 for a session that has a socket."""

    session_id: str
    user_id: str
    edge: int
    connection: int
    stay: int
    told: int
    privacy_version: int
    granted: int
    lease_until: float
    grace_until: float
    name: str
    image: str | None
    can_control: bool
    can_broadcast: bool
    moderator: bool
    disabled: bool
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


class PlaybackRecord(Struct, array_like=True, kw_only=True):
    """rooms/playback.py's state; `anchor` is a monotonic second, the same for all workers of a host."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: float
    version: int
    duration: float | None
    target: str | None


class RoomHead(Struct, array_like=True, kw_only=True):
    """What a room knows besides its members. `requests` are user, name, asked at, expires at; `alone` are, while the
    room is not `shown`, its users with the type and the creation that each of them knows [K7]."""

    type: RoomType
    created_at: float
    sync_enabled: bool
    playback: PlaybackRecord | None
    controller: str | None
    controller_session: str | None
    control_version: int
    requests: list[tuple[str, str, float, float]]
    shown: bool = True
    alone: list[tuple[str, RoomType, float]] = []


class RoomMemo(Struct, array_like=True, kw_only=True):
    """What has changed in a room since the last memo. `revision` counts memos, over all owners; `whole` says that there
    is nothing but what stands here, `over` that the room is gone."""

    seq: int
    revision: int
    head: RoomHead | None
    members: list[MemberRecord]
    gone: list[str]
    whole: bool = False
    over: bool = False


class RoomRecord(Struct, array_like=True, kw_only=True):
    """A whole room. `final` says that its owner wrote it when it let go, so that nothing can have come after it."""

    seq: int
    revision: int
    head: RoomHead
    members: dict[str, MemberRecord]
    final: bool = False

    def apply(self, memo: RoomMemo) -> None:
        """Take over a memo; one that is older changes nothing."""
        if memo.revision < self.revision:
            return
        self.seq, self.revision, self.final = memo.seq, memo.revision, False
        if memo.whole:
            self.members.clear()
        if memo.head is not None:
            self.head = memo.head
        for member in memo.members:
            self.members[member.session_id] = member
        for session_id in memo.gone:
            self.members.pop(session_id, None)


class StayEnd(Struct, array_like=True):
    """The end of a stay in a room: `told_at` is the monotonic second at which the room's events told of it, 0.0 when
    the stay was not known there; `noted_at` that at which it was noted; `created_at` that at which the room was made,
    0.0 when there was none."""

    session_id: str
    stay: int
    told_at: float
    noted_at: float
    created_at: float


# what an edge, which does not know the number of a stay, says in its place
IN_WITHOUT_EVENTS = 0  # the session is in the room, and gets none of its events
HEARS = 1  # it is in the room, and gets its events
ASKED = 2  # it has asked to join, and has no answer yet


class SessionRecord(Struct, array_like=True, kw_only=True):
    """One session of a user. `rooms` has the version of each stay. From an edge it says what is connected there, and of
    each of its rooms IN_WITHOUT_EVENTS, HEARS or ASKED. `left`, from an edge only, are rooms that have said good-bye
    to it lately, and why it left. A room in neither may have been joined by another edge's call just now."""

    session_id: str
    edge: int
    connection: int
    accepted_at: float
    opening: int
    privacy_version: int
    heard: int
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


class UserRecord(Struct, array_like=True, kw_only=True):
    """A whole user; `revision` counts changes, over all owners."""

    user_id: str
    revision: int
    manual: str | None
    status_message: str
    wishes: tuple[bool | None, bool | None, bool | None]
    sessions: list[SessionRecord]


Present = dict[str, tuple[bool, int, Cursor | None]]


class Presence(Struct, array_like=True, kw_only=True):
    """An edge's word on one room: which sessions here are in it, by which connection, whether they hear it, and where
    they point: None when that is not known, a cursor without a point and a second of the video when it was put away. Of
    connections above `newest` nothing is said."""

    edge: int
    newest: int
    sessions: Present


class RoomPresence(Struct, array_like=True, kw_only=True):
    room_id: str
    presence: Presence
