"""What edges and shards say to each other: commands to the owner of a room or a user, and news for an edge.

Every command names its owner by `room_id` or `user_id`; the bus finds the shard. What concerns membership goes through
the user's owner and on to the room's, on one road, so that joins, leaves, drops and resumes of a session cannot
overtake each other. What a member shows goes straight to the room. Between workers they travel as msgpack
(cluster/wire_messages.py), so each has a tag.

A word may come twice, or late from an owner that is none any more. So all that a user's owner says carries a *version*
(`ShardContext.next_version`): the epoch of its view and a count, in one integer. The receiver keeps the highest for
each thing that it is told of, and ignores a word with a lower one. docs/architecture.md lists which is compared with
which.
"""

from msgspec import Struct

from .messages import Activity, GetActive, MessageId, Privacy, RoomMessage, RoomType, SetStatus, Status


class ClusterMessage(Struct, tag=True):
    """Base of all that goes from worker to worker."""


NO_EDGE = -1  # in place of an edge: a leased session has no socket [M2]


class Scopes(Struct, array_like=True, frozen=True):
    """What a token allows in a room beyond being there. `presence` False: to others its user is not there [K1, Q11]."""

    can_control: bool
    can_broadcast: bool
    moderator: bool
    presence: bool = True


class Call(Struct, array_like=True):
    """Who waits for the answer to a command: call `number` at `edge`, made over HTTP on behalf of `user_id`. A command
    that carries one is answered with one CallAnswered there, and nothing of the answer goes to a socket [M9].
    `scopes` are those of the caller's token in the room, which may be less than those of the session that acts."""

    edge: int
    number: int
    user_id: str
    scopes: Scopes | None = None


class SessionInfo(Struct, kw_only=True):
    """Who stands behind a session, as a room needs to know [A5, K1]; connected at `edge` by `connection`, to which its
    user's owner gave the session with version `opening`. `privacy_version` is that of what it hides. `lease_until` is
    the monotonic second at which a session without a socket ends unless renewed; 0: it has one [M2].
    """

    edge: int
    session_id: str
    user_id: str
    name: str
    image: str | None
    connection: int = 0
    opening: int = 0
    lease_until: float = 0.0
    privacy_version: int = 0
    disabled: bool = False
    invisible: bool = False
    share_cursor: bool = True
    share_selection: bool = True


class Profile(Struct, kw_only=True, frozen=True):
    """What a person shows in all rooms [D8, D10, D13]; the user's owner writes it."""

    status: Status = "active"
    status_message: str = ""
    activity: Activity = "active"
    version: int = 0

    @property
    def shows(self) -> tuple[str, str, str]:
        """What others see of it."""
        return self.status, self.status_message, self.activity


# --- to the owner of a user ---------------------------------------------------------------------------------------


class OpenSession(ClusterMessage, kw_only=True):
    """A connection has proved who it is and wants a session: `resume` names an earlier one, `fresh` a new one. It was
    accepted at monotonic second `accepted_at`, on the clock that all workers share: of two connections that have not
    heard of each other the later one has the session, in whatever order they reach the owner. `resumes_only`: the
    resume token is the only proof there is, so it is that session or none."""

    user_id: str
    edge: int
    connection: int
    accepted_at: float = 0.0
    resumes_only: bool = False
    fresh: str
    resume: str | None = None
    privacy: Privacy | None = None
    disabled: bool = False


class EnterRoom(ClusterMessage, kw_only=True):
    """A session wants into a room; the user's owner counts rooms, then the room's owner decides [C6, C10]. For a
    `call` the user's owner knows where the session is connected; `lease` asks for one without a socket [M1, M2]. Only a
    call has `privacy` here: what a socket's join says of it has gone before, as ChangePrivacy [K3]. `stays`: the
    authoriser has not answered, so only a member gets in, with the permissions that it has."""

    user_id: str
    room_id: str
    visitor: SessionInfo
    stays: bool = False
    call: Call | None = None
    lease: bool = False
    room_type: RoomType | None = None
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    id: MessageId | None = None
    privacy: Privacy | None = None


class LeaveRoom(ClusterMessage, kw_only=True):
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


class EndSession(ClusterMessage, kw_only=True):
    """The socket is gone. `grace`: hold the session for a while, it may resume [D2]. `connection` and `opening`, its
    version, tell an old socket's late close from the present one's [D16]. `migrates`: the worker is being replaced and
    has sent the client to another one, so that for a moment nothing is shown of it."""

    user_id: str
    session_id: str
    connection: int
    edge: int = NO_EDGE
    opening: int = 0
    grace: bool
    reason: str
    migrates: bool = False


class ReportActivity(ClusterMessage, kw_only=True):
    """What a session's heartbeats and silences say of its user; `interacted` moves lastActiveAt [D8, D11, D12]."""

    user_id: str
    session_id: str
    activity: Activity
    interacted: bool


class ChangeStatus(ClusterMessage, kw_only=True):
    """setStatus, with the session's activity after it, so that both change in one step. A `call` may name no session:
    the status is the user's [D10]; `disabled` is the word of the caller's token [K1]."""

    user_id: str
    session_id: str
    activity: Activity
    message: SetStatus
    call: Call | None = None
    disabled: bool = False


class ChangePrivacy(ClusterMessage, kw_only=True):
    """`disabled` is the token's word, not the client's: None when the command does not come from a token [K1]. A `call`
    may name no session when the scope is the user. `of_join`: it came with a join, which is what is answered. `word`
    counts what the connection has said of its privacy, from 1 on; `opening` is the connection's version. Both 0: it
    came by another way than the session's socket."""

    disabled: bool | None = None
    user_id: str
    session_id: str
    privacy: Privacy
    id: MessageId | None = None
    call: Call | None = None
    of_join: bool = False
    connection: int = 0
    opening: int = 0
    word: int = 0


class ChangeGrant(ClusterMessage, kw_only=True):
    """What the session's new token allows it in a room that it is in [A4], said by `connection`, whose version is
    `opening`."""

    user_id: str
    room_id: str
    session_id: str
    connection: int
    opening: int
    can_control: bool
    can_broadcast: bool
    moderator: bool


class TakeLook(ClusterMessage, kw_only=True):
    """One getActive over HTTP is taken from the user's budget, which is one for all workers [M8]."""

    user_id: str
    call: Call | None = None


class AskLeases(ClusterMessage, kw_only=True):
    """Which leases a user holds, and where: all, or the named one. The answer is a list of [sessionId, roomId]."""

    user_id: str
    session_id: str
    call: Call | None = None


class RenewLeases(ClusterMessage, kw_only=True):
    """The HTTP heartbeat: these leases live 90 s more [M2, D6]. `disabled` is the word of the caller's token [K1]."""

    user_id: str
    sessions: list[str]
    activity: Activity | None
    call: Call | None = None
    disabled: bool = False


class RoomLeft(ClusterMessage, kw_only=True):
    """The room's owner tells the user's owner that a session is not, or no longer, in the room. `stay` is the one that
    has ended: this word may come late, when the session is in again."""

    user_id: str
    room_id: str
    session_id: str
    stay: int


class ClaimMember(ClusterMessage, kw_only=True):
    """A room tells the new owner of a user of a session that it has, which the old one may have had news of [N-b], and
    what it shows of the user. `grace_until` is the monotonic second at which the place of a lost one is free. In the
    `visitor`, `opening` is the version of the last word on where it is connected."""

    user_id: str
    room_id: str
    session_id: str
    stay: int
    connection: int
    connected: bool = True
    grace_until: float = 0.0
    profile: Profile
    visitor: SessionInfo


UserCommand = (
    OpenSession
    | EnterRoom
    | LeaveRoom
    | EndSession
    | ReportActivity
    | ChangeStatus
    | ChangePrivacy
    | ChangeGrant
    | TakeLook
    | AskLeases
    | RenewLeases
    | RoomLeft
    | ClaimMember
)


# --- to the owner of a room ---------------------------------------------------------------------------------------


class AdmitMember(ClusterMessage, kw_only=True):
    """EnterRoom, passed on by the user's owner with what it knows of the person. Its version, `stay`, names the stay
    that begins."""

    room_id: str
    enter: EnterRoom
    stay: int
    profile: Profile


class RemoveMember(ClusterMessage, kw_only=True):
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


class SuspendMember(ClusterMessage, kw_only=True):
    """The session's socket is lost: hold its place until monotonic second `grace_until` [D2], unless it has another
    `connection` already: that is left alone while it is there, and held no shorter when it is lost. It is shown as
    before until monotonic second `away_at`; 0.0: not for a moment."""

    room_id: str
    session_id: str
    connection: int
    grace_until: float
    version: int
    away_at: float = 0.0


class ResumeMember(ClusterMessage, kw_only=True):
    """The session is back, on edge `edge` [D16]. `hears`: it was never away, only out of sight, and hears the room."""

    room_id: str
    session_id: str
    user_id: str
    edge: int
    connection: int
    version: int
    stay: int
    hears: bool = False


class RenewLease(ClusterMessage, kw_only=True):
    """A leased member's time, prolonged; the last of several answers the `call` for all, `renewed` in number."""

    room_id: str
    session_id: str
    user_id: str
    stay: int
    lease_until: float
    call: Call | None = None
    renewed: int = 1


class ApplyProfile(ClusterMessage, kw_only=True):
    """The person's status changed; `session_id` is the session that caused it."""

    room_id: str
    user_id: str
    session_id: str
    profile: Profile
    interacted: bool = False


class ApplyPrivacy(ClusterMessage, kw_only=True):
    """What the session hides from now on [K1, K2]."""

    room_id: str
    session_id: str
    version: int
    invisible: bool
    disabled: bool
    share_cursor: bool
    share_selection: bool


class UpdatePermissions(ClusterMessage, kw_only=True):
    """The session's permissions in the room are new, after a fresh token [A4]."""

    room_id: str
    session_id: str
    version: int
    can_control: bool
    can_broadcast: bool
    moderator: bool


class RoomAction(ClusterMessage, kw_only=True):
    """A member's message, as the client sent it. A `call` may name no session: then it is the caller's lease there, or
    the only session [M1]. `hidden`: its session was invisible when it came, whatever the room has heard since [K3]."""

    room_id: str
    session_id: str
    edge: int
    message: RoomMessage
    call: Call | None = None
    hidden: bool = False


class AskActive(ClusterMessage, kw_only=True):
    """get_active, from a member or from someone who could be one [C13, C14]."""

    room_id: str
    user_id: str
    session_id: str
    edge: int
    message: GetActive
    call: Call | None = None


class ServerBroadcast(ClusterMessage, kw_only=True):
    """A broadcast of the server's own [J4]: `data` is a JSON object, `to` names the users it is for, None all."""

    room_id: str
    data: bytes
    to: list[str] | None = None


RoomCommand = (
    AdmitMember
    | RemoveMember
    | SuspendMember
    | ResumeMember
    | RenewLease
    | ApplyProfile
    | ApplyPrivacy
    | UpdatePermissions
    | RoomAction
    | AskActive
    | ServerBroadcast
)
Command = UserCommand | RoomCommand
