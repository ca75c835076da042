"""What edges and shards say to each other: commands to the owner of a room or a user, and news for an edge.

Every command names its owner by `room_id` or `user_id`; the bus finds the shard. What concerns membership goes through
the user's owner and on to the room's, on one road, so that joins, leaves, drops and resumes of a session cannot
overtake each other. What a member shows goes straight to the room. Between workers they travel as msgpack
(cluster/letters.py), so each has a tag.
"""

from msgspec import Struct

from .messages import Activity, GetActive, MessageId, Privacy, RoomMessage, RoomType, SetStatus, Status


class Letter(Struct, tag=True):
    """Base of all that goes from worker to worker."""


NOWHERE = -1  # in place of an edge: a leased session has no socket [M2]


class Call(Struct, array_like=True):
    """Who waits for the answer to a command: call `number` at `edge`, made over HTTP on behalf of `user_id`. A command
    that carries one is answered with one CallAnswered there, and nothing of the answer goes to a socket [M9]."""

    edge: int
    number: int
    user_id: str


class Visitor(Struct, kw_only=True):
    """Who stands behind a session, as a room needs to know [A5, K1]; connected at `edge` by `connection` since `at`.
    `lease_until` is the monotonic second at which a session without a socket ends unless renewed; 0: it has one [M2].
    """

    edge: int
    session_id: str
    user_id: str
    name: str
    image: str | None
    connection: int = 0
    at: float = 0.0
    lease_until: float = 0.0
    disabled: bool = False
    invisible: bool = False
    share_cursor: bool = True
    share_selection: bool = True


class Profile(Struct, kw_only=True, frozen=True):
    """What a person shows in all rooms [D8, D10, D13]; the user's owner writes it. `revision` counts what owners have
    said: a word that is said again, or by an owner that is none any more, comes after a newer one."""

    status: Status = "active"
    status_message: str = ""
    activity: Activity = "active"
    revision: int = 0

    @property
    def shows(self) -> tuple[str, str, str]:
        """What others see of it."""
        return self.status, self.status_message, self.activity


# --- to the owner of a user ---------------------------------------------------------------------------------------


class OpenSession(Letter, kw_only=True):
    """A connection has proved who it is and wants a session: `resume` names an earlier one, `fresh` a new one. `at` is
    the monotonic second, the same for all workers of a host: of two connections the later one has the session."""

    user_id: str
    edge: int
    connection: int
    at: float = 0.0
    fresh: str
    resume: str | None = None
    privacy: Privacy | None = None
    disabled: bool = False


class EnterRoom(Letter, kw_only=True):
    """A session wants into a room; the user's owner counts rooms, then the room's owner decides [C6, C10]. For a
    `call` the user's owner knows where the session is connected; `lease` asks for one without a socket [M1, M2]."""

    user_id: str
    room_id: str
    visitor: Visitor
    call: Call | None = None
    lease: bool = False
    room_type: RoomType | None = None
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    id: MessageId | None = None
    privacy: Privacy | None = None


class LeaveRoom(Letter, kw_only=True):
    """A client's own leave, or `kicked` by a token that no longer opens the room; `reason` is user_left's. A `call` may
    name no session: then it is `lease`, or the user's only session there, or with `all` every one of them [M3]."""

    user_id: str
    room_id: str
    session_id: str
    id: MessageId | None = None
    reason: str = "left"
    call: Call | None = None
    lease: str = ""
    all: bool = False


class EndSession(Letter, kw_only=True):
    """The socket is gone. `grace`: hold the session for a while, it may resume [D2]. `connection` tells an old
    socket's late close from the present one's [D16]."""

    user_id: str
    session_id: str
    connection: int
    grace: bool
    reason: str


class ReportActivity(Letter, kw_only=True):
    """What a session's heartbeats and silences say of its user; `interacted` moves lastActiveAt [D8, D11, D12]."""

    user_id: str
    session_id: str
    activity: Activity
    interacted: bool


class ChangeStatus(Letter, kw_only=True):
    """setStatus, with the session's activity after it, so that both change in one step. A `call` may name no session:
    the status is the user's [D10]."""

    user_id: str
    session_id: str
    activity: Activity
    message: SetStatus
    call: Call | None = None


class ChangePrivacy(Letter, kw_only=True):
    """`disabled` is the token's word, not the client's: None when the command does not come from a token [K1]. A `call`
    may name no session when the scope is the user."""

    disabled: bool | None = None
    user_id: str
    session_id: str
    privacy: Privacy
    id: MessageId | None = None
    call: Call | None = None


class RenewLeases(Letter, kw_only=True):
    """The HTTP heartbeat: the leased session, or all of the user when none is named, lives 90 s more [M2, D6]."""

    user_id: str
    session_id: str
    activity: Activity | None
    call: Call | None = None


class RoomLeft(Letter, kw_only=True):
    """The room's owner tells the user's owner that a session is not, or no longer, in the room. `stay` is the one that
    has ended: this word may come late, when the session is in again."""

    user_id: str
    room_id: str
    session_id: str
    stay: int


class ClaimMember(Letter, kw_only=True):
    """A room tells the new owner of a user of a session that it has, which the old one may have had news of [N-b], and
    what it shows of the user.
    `visitor` goes with a leased one: no edge could tell of it."""

    user_id: str
    room_id: str
    session_id: str
    stay: int
    connection: int
    connected: bool = True
    profile: Profile | None = None
    visitor: Visitor | None = None


UserCommand = (
    OpenSession
    | EnterRoom
    | LeaveRoom
    | EndSession
    | ReportActivity
    | ChangeStatus
    | ChangePrivacy
    | RenewLeases
    | RoomLeft
    | ClaimMember
)


# --- to the owner of a room ---------------------------------------------------------------------------------------


class Admit(Letter, kw_only=True):
    """EnterRoom, passed on by the user's owner with what it knows of the person. `stay` numbers the user's stays."""

    room_id: str
    enter: EnterRoom
    stay: int
    profile: Profile


class Remove(Letter, kw_only=True):
    """End a membership now; `reason` is user_left's [D2]. `stay` is the one that ends, 0 when that is not known: this
    word may be said again, when the session is in again. `id` belongs to a client's own leave; the answer to a `call`
    says how many sessions have left with this one."""

    room_id: str
    session_id: str
    reason: str
    stay: int = 0
    id: MessageId | None = None
    call: Call | None = None
    left: int = 1


class Drop(Letter, kw_only=True):
    """The session's socket is lost: hold its place for the grace [D2], unless it has another `connection` already."""

    room_id: str
    session_id: str
    connection: int


class Resume(Letter, kw_only=True):
    """The session is back, on edge `edge` [D16]. `hears`: it was never away, only out of sight, and hears the room.
    `at` is the connection's, which tells a late Resume, said again by an heir, from the present one."""

    room_id: str
    session_id: str
    user_id: str
    edge: int
    connection: int
    at: float = 0.0
    stay: int
    hears: bool = False


class RenewLease(Letter, kw_only=True):
    """A leased member's time, prolonged; the last of several answers the `call` for all, `renewed` in number."""

    room_id: str
    session_id: str
    user_id: str
    stay: int
    lease_until: float
    call: Call | None = None
    renewed: int = 1


class ApplyProfile(Letter, kw_only=True):
    """The person's status changed; `session_id` is the session that caused it."""

    room_id: str
    user_id: str
    session_id: str
    profile: Profile
    interacted: bool = False


class ApplyPrivacy(Letter, kw_only=True):
    room_id: str
    session_id: str
    invisible: bool
    disabled: bool
    share_cursor: bool
    share_selection: bool


class Regrant(Letter, kw_only=True):
    """The session's permissions in the room are new, after a fresh token [A4]."""

    room_id: str
    session_id: str
    can_control: bool
    can_broadcast: bool
    moderator: bool


class Act(Letter, kw_only=True):
    """A member's message, as the client sent it. A `call` may name no session: then it is the caller's lease there, or
    the only session [M1]."""

    room_id: str
    session_id: str
    edge: int
    message: RoomMessage
    call: Call | None = None


class AskActive(Letter, kw_only=True):
    """get_active, from a member or from someone who could be one [C13, C14]."""

    room_id: str
    user_id: str
    session_id: str
    edge: int
    message: GetActive
    call: Call | None = None


RoomCommand = Admit | Remove | Drop | Resume | RenewLease | ApplyProfile | ApplyPrivacy | Regrant | Act | AskActive
Command = UserCommand | RoomCommand


# --- to an edge ---------------------------------------------------------------------------------------------------


class SessionOpened(Letter, kw_only=True):
    user_id: str
    connection: int
    session_id: str
    resumed: bool
    rooms: list[str]
    activity: Activity
    privacy: Privacy


class SessionRefused(Letter, kw_only=True):
    connection: int
    code: str


class SessionReplaced(Letter, kw_only=True):
    """A newer connection resumed this session [D16]: close the old one with 4409."""

    session_id: str
    connection: int


class SessionEvicted(Letter, kw_only=True):
    """The session was ended to make place for a new one of the same user [C11, evict_oldest]."""

    session_id: str
    connection: int


class Reply(Letter, kw_only=True):
    """A whole message for one session."""

    session_id: str
    payload: bytes
    refusal: bool = False


class SessionLost(Letter, kw_only=True):
    """The owners know nothing of what this session believes, after the loss of a worker: it has to come again."""

    session_id: str


class RoomRefused(Letter, kw_only=True):
    """The join failed; `payload` is the error message. `out`: so the session is not in the room."""

    session_id: str
    room_id: str
    payload: bytes
    out: bool = True


class SessionActed(Letter, kw_only=True):
    """Something was done for this session by another way than its socket [M1]: its edge counts that as its own, and
    knows what the session hides from now on."""

    session_id: str
    activity: Activity | None = None
    privacy: Privacy | None = None


class CallAnswered(Letter, kw_only=True):
    """What a call gets: its result as JSON, or the error message of L6 when it was `refused`."""

    number: int
    payload: bytes
    refused: bool = False


EdgeNews = (
    SessionOpened
    | SessionRefused
    | SessionReplaced
    | SessionEvicted
    | SessionLost
    | Reply
    | RoomRefused
    | SessionActed
    | CallAnswered
)
