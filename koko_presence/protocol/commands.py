"""Declares the commands that edges and owners send to the owner of a room or a user.

A command's base class says whose owner handles it: `UserCommand` or `RoomCommand`. Its `delivery` says what happens to
it when a worker is lost. Routing, the wire format and the repeated requests follow from these. Commands about a
membership go to the user's owner, which sends the command for the room's owner, so that joins, leaves, suspensions and
resumes of a session keep their order. What a member shows goes directly to the room's owner. Between workers commands
are msgpack (`cluster/wire_messages.py`), therefore each has a tag.

A command may arrive twice, or late from a former owner. Therefore every message of a user's owner carries a *version*
(`ShardContext.next_version`): the epoch of its view and a count, in one integer. The receiver keeps the highest version
for each value and ignores a message with a lower one. docs/architecture.md lists which versions are compared.
"""

from msgspec import UNSET, Struct, UnsetType

from .delivery import Delivery
from .messages import ClientMessage, GetActive, Join, PlaybackMessage, RoomMessage, StatusData
from .models import Activity, Known, MessageId, Privacy, RoomSettings, RoomType, Status
from .settings import SettingsChange


class ClusterMessage(Struct, tag=True):
    """Base of every message from worker to worker."""


class ReplyTo(Struct, array_like=True, frozen=True):
    """The return address of a command at `edge`: session `session_id` for its message `id`, or HTTP call `number`. A
    call is answered with one `CallAnswered`, and no part of the answer goes to a socket [M9]. A session's message
    without an `id` is answered only when it is refused, or asks for something [B8]."""

    edge: int
    session_id: str = ""
    id: MessageId | None = None
    number: int = 0  # of calls, from 1

    @property
    def is_call(self) -> bool:
        return self.number != 0


class Authority(Struct, array_like=True, frozen=True):
    """On whose behalf a call acts in a room: user `user_id`, with the rights of the caller's token there, which may be
    fewer than those of the session that acts [M1]. `presence` False: others do not see the user [K1, Q11]."""

    user_id: str
    can_control: bool
    can_broadcast: bool
    moderator: bool
    presence: bool = True


class _Command(ClusterMessage):
    """What all commands declare. A class without a delivery of its own cannot be imported. A command that may have an
    answer has a field `reply_to`; a command that causes another one passes it on, if that one is to be answered."""

    def __init_subclass__(cls) -> None:
        if _Command not in cls.__bases__ and "delivery" not in vars(cls):
            raise TypeError(f"{cls.__name__} declares no delivery")

    @property
    def delivery(self) -> Delivery:
        """How the command gets to its owner when workers are lost on the way."""
        raise NotImplementedError

    @property
    def reply_to(self) -> ReplyTo | None:
        """Where the answer goes; None: there is none."""
        return None

    @property
    def refused_as(self) -> ClientMessage | type[ClientMessage] | None:
        """The client's message, or its type, as which a refusal is counted: in the metrics, and against the session
        that has sent it [L3]. None: it is not counted."""
        return None

    @property
    def by_call(self) -> bool:
        """Whether the command comes from a call over HTTP, not from the session's socket."""
        reply_to = self.reply_to
        return reply_to is not None and reply_to.number != 0

    @property
    def message_id(self) -> MessageId | None:
        """The id of the session's message that is to be repeated in the answer."""
        reply_to = self.reply_to
        return None if reply_to is None else reply_to.id


class UserCommand(_Command, kw_only=True):
    """Base of the commands to the owner of user `user_id`."""

    user_id: str


class RoomCommand(_Command, kw_only=True):
    """Base of the commands to the owner of room `room_id`."""

    room_id: str


NO_EDGE = -1  # in place of an edge: an HTTP session has no socket [M2]


class UserInfo(Struct, array_like=True, frozen=True):
    """The name and image that a user shows, from a verified token [A5]. `issued_at_s` is the unix second at which the
    token was issued, or verified where it does not say that: of a user's tokens the newest counts. 0.0: the token says
    nothing of a name, or could not be checked, so any other one counts."""

    name: str = ""
    image: str | None = None
    issued_at_s: float = 0.0

    @property
    def shows(self) -> tuple[str, str | None]:
        """The part that other users see."""
        return self.name, self.image


class SessionInfo(Struct, kw_only=True):
    """What a room stores of a session [K1]. The session is connected at `edge` by `connection`, to
    which the user's owner assigned it with version `session_version`. `privacy_version` is the version of the privacy
    settings. `lease_until` is the monotonic second at which an HTTP session ends unless it is renewed; 0.0: the session
    has a socket [M2]."""

    edge: int
    session_id: str
    user_id: str
    connection: int = 0
    session_version: int = 0
    lease_until: float = 0.0
    privacy_version: int = 0
    disabled: bool = False
    invisible: bool = False
    share_cursor: bool = True
    share_selection: bool = True


class Profile(Struct, kw_only=True, frozen=True):
    """What a user shows in all rooms: the status [D8, D10, D13], the name and the image [A5]. Only the user's owner
    makes it. `status_at` is the monotonic second at which the status was last set; 0.0: never."""

    status: Status = "active"
    status_message: str = ""
    activity: Activity = "active"
    user_info: UserInfo = UserInfo()
    version: int = 0
    status_at: float = 0.0

    @property
    def shows(self) -> tuple[str, str, str]:
        """The status as other users see it."""
        return self.status, self.status_message, self.activity


# --- to the owner of a user ---------------------------------------------------------------------------------------


class OpenSession(UserCommand, kw_only=True):
    """An authenticated connection requests a session: `resume` names an earlier session, `new_session_id` a new one.
    `accepted_at` is the monotonic second at which the connection was accepted, on the clock that all workers of a host
    share: of two connections for one session the one accepted later gets it, in whatever order they reach the owner.
    `resumes_only`: the resume token is the only proof of identity, so the owner resumes that session or refuses.
    `stream`: the connection is an event stream over HTTP [M6c]."""

    delivery = Delivery.SENDER_REPEATS

    edge: int
    connection: int
    accepted_at: float = 0.0
    resumes_only: bool = False
    new_session_id: str
    resume: str | None = None
    privacy: Privacy | None = None
    disabled: bool = False
    stream: bool = False
    user_info: UserInfo = UserInfo()


class EnterRoom(UserCommand, kw_only=True):
    """A session requests membership in a room. The user's owner counts rooms, then the room's owner decides [C6, C10].
    For a call the user's owner looks up where the session is connected; `lease` requests an HTTP session [M1, M2].
    `privacy` is set for calls only: the privacy in a socket's join is sent before as `ChangePrivacy` [K3].
    `members_only`: the authoriser has not answered, so only a present member is admitted, with its present
    permissions. `presence` False: the authoriser has switched the user's presence off in this room [K1, Q11].
    `settings` are those that the back end gives the room if this join makes it [Q10]. `known` is what the client knows
    of the room from before a restart [H24]. `by_stream`: the call names no session, so the caller's event stream is
    meant if it has one only [M6c]. `presence_object` is that of the session as compact JSON, as
    `codec.encode_presence` returns it; empty for none [P2]."""

    delivery = Delivery.SENDER_REPEATS
    refused_as = Join

    room_id: str
    session_info: SessionInfo
    user_info: UserInfo = UserInfo()
    members_only: bool = False
    reply_to: ReplyTo | None = None
    lease: bool = False
    by_stream: bool = False
    room_type: RoomType | None = None
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    presence: bool = True
    privacy: Privacy | None = None
    settings: RoomSettings | None = None
    known: Known | None = None
    presence_object: bytes = b""


class LeaveRoom(UserCommand, kw_only=True):
    """Ends a membership: the client's own leave, or `kicked` after a refreshed token that no longer permits the room.
    `reason` is that of `user_left`. A call may name no session: then `lease`, or the user's only session in the room,
    or with `all` every session of the user there leaves [M3]. `connection` is the session's that leaves, with its
    version `session_version`: it does not end what a later one has joined; 0 for a call. With `before` only a
    membership that began before this version ends; 0: any one. An edge sets it, to the session's version, when a
    session that was resumed with the room gets the answer to a leave that its connection has not sent: a membership
    that a call has begun since stays."""

    room_id: str
    session_id: str
    reason: str = "left"
    connection: int = 0
    session_version: int = 0
    before: int = 0
    reply_to: ReplyTo | None = None
    lease: str = ""
    all: bool = False

    @property
    def delivery(self) -> Delivery:
        # one that names no session could match another session the second time
        return Delivery.SENDER_REPEATS if self.session_id or self.all else Delivery.AT_MOST_ONCE


class EndSession(UserCommand, kw_only=True):
    """A session's socket is closed. `grace`: hold the session for the grace period, it may resume [D2]. `connection`
    and its version `session_version` distinguish the late close of an earlier socket from that of the present one
    [D16]. `migrates`: the worker is being replaced and has sent the client to another one, so the session is shown as
    connected for `users.user.MIGRATION_S` more."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    connection: int
    edge: int = NO_EDGE
    session_version: int = 0
    grace: bool
    reason: str
    migrates: bool = False


class ReportActivity(UserCommand, kw_only=True):
    """A session's activity has changed, by its messages or its silence, at monotonic second `at`. `interacted` updates
    `lastActiveAt` [D8, D11, D12]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    activity: Activity
    interacted: bool
    at: float


class ChangeStatus(UserCommand, kw_only=True):
    """`setStatus` at monotonic second `at`, with the session's activity after it, so that both change in one step. A
    call may name no session, because the status belongs to the user [D10]. `disabled` is the claim of the caller's
    token [K1]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    activity: Activity
    data: StatusData
    at: float
    reply_to: ReplyTo | None = None
    disabled: bool = False


class ChangePrivacy(UserCommand, kw_only=True):
    """Changes what a session hides. `disabled` is the claim of a token, never the client's; None when the command does
    not come from a token [K1]. A call may name no session when the scope is the user. `of_join`: the change came with
    a join and has no answer of its own. `privacy_seq` is the number of this privacy message on its connection, from 1;
    `session_version` is the session version of the connection. Both are 0 for a change that did not come over the
    session's socket."""

    delivery = Delivery.BUS_REPEATS

    disabled: bool | None = None
    session_id: str
    privacy: Privacy
    reply_to: ReplyTo | None = None
    of_join: bool = False
    connection: int = 0
    session_version: int = 0
    privacy_seq: int = 0


class RenewUserInfo(UserCommand, kw_only=True):
    """A session has a new token of the same user, with this name and image [A5]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    user_info: UserInfo


class ChangeGrant(UserCommand, kw_only=True):
    """The permissions that a session's new token gives in a room of which it is a member [A4]; sent for `connection`,
    whose session version is `session_version`. It has no answer, so its edge repeats it as well, for a while after it
    was sent (`server/room_membership.py`)."""

    delivery = Delivery.BUS_REPEATS

    room_id: str
    session_id: str
    connection: int
    session_version: int
    can_control: bool
    can_broadcast: bool
    moderator: bool
    presence: bool = True


class SpendQueryBudget(UserCommand, kw_only=True):
    """Takes one `getActive` over HTTP from the user's budget, which is one for all workers [M8]."""

    delivery = Delivery.BUS_REPEATS

    reply_to: ReplyTo | None = None


class QueryLeases(UserCommand, kw_only=True):
    """Requests the HTTP sessions of a user with their rooms: all, or the one named `session_id`. `shown`: those only
    that hide nothing. The answer is a list of [sessionId, roomId]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    shown: bool = False
    reply_to: ReplyTo | None = None


class RenewLeases(UserCommand, kw_only=True):
    """The heartbeat over HTTP: these leases end `Limits.silence_s` (90 s) from now [M2, D6]. `disabled` is the claim of
    the caller's token [K1], `presence` the authoriser's decision for the room of each lease, None when there is none
    [Q11]. The answer repeats `client_time` [D7]."""

    delivery = Delivery.BUS_REPEATS

    sessions: list[str]
    presence: list[bool | None]
    activity: Activity | None
    reply_to: ReplyTo | None = None
    client_time: float | UnsetType = UNSET
    disabled: bool = False
    user_info: UserInfo = UserInfo()


class BeatStream(UserCommand, kw_only=True):
    """The heartbeat over HTTP of a session that is connected by an event stream [M6c], passed on to its edge. `token`
    is the caller's, "" without one, or `cookie` with its name and value; it ends at unix second `expires_at_s`. The
    answer repeats `client_time` [D7]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    activity: Activity | None
    token: str
    expires_at_s: float
    cookie: tuple[str, str] | None = None
    reply_to: ReplyTo | None = None
    client_time: float | UnsetType = UNSET


class RoomLeft(UserCommand, kw_only=True):
    """From the room's owner to the user's owner: the session is not a member of the room. `membership_id` is the
    membership that has ended; the user's owner ignores the command when the session has joined again since."""

    delivery = Delivery.BUS_REPEATS

    room_id: str
    session_id: str
    membership_id: int


class ConfirmMember(UserCommand, kw_only=True):
    """From a room to the new owner of a user: the room has this member and shows this profile of the user [N-b]. The
    user's owner replies with commands for every difference. `grace_until` is the monotonic second at which the grace
    period of a disconnected member ends. In `session_info`, `session_version` is the version of the last message that
    the room has received about where the session is connected."""

    delivery = Delivery.SENDER_REPEATS

    room_id: str
    session_id: str
    membership_id: int
    connection: int
    connected: bool = True
    grace_until: float = 0.0
    profile: Profile
    session_info: SessionInfo


# --- to the owner of a room ---------------------------------------------------------------------------------------


class AdmitMember(RoomCommand, kw_only=True):
    """`EnterRoom`, forwarded by the user's owner with the user's profile. Its version, `membership_id`, identifies the
    membership that begins."""

    delivery = Delivery.BUS_REPEATS
    refused_as = Join

    enter: EnterRoom
    membership_id: int
    profile: Profile

    @property
    def reply_to(self) -> ReplyTo | None:
        return self.enter.reply_to


class RemoveMember(RoomCommand, kw_only=True):
    """Ends a membership at once; `reason` is that of `user_left` [D2]. `membership_id` is the membership that ends, so
    that a repeated command does not end a later one; 0 when it is unknown. A session is answered by the end of its
    stream (`Room.remove`). Of several commands for one HTTP leave only the last has a `reply_to`, and its answer
    counts all of them (`left`)."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    reason: str
    membership_id: int = 0
    reply_to: ReplyTo | None = None
    left: int = 1


class SuspendMember(RoomCommand, kw_only=True):
    """The session's socket is lost: hold the member until monotonic second `grace_until` [D2]. If the member has
    another `connection`, nothing changes while that is connected, and its grace period is never shortened. The member
    is shown as connected until monotonic second `away_at`; 0.0: as disconnected at once."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    connection: int
    grace_until: float
    version: int
    away_at: float = 0.0


class ResumeMember(RoomCommand, kw_only=True):
    """The session is connected again, on edge `edge` [D16]. `membership_id` 0: the user's owner has the membership from
    an edge's record only. `subscribed`: the connection was never lost and its edge still subscribes to the room, so the
    room attaches the member and sends a snapshot in place of the events that it has missed."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    user_id: str
    edge: int
    connection: int
    version: int
    membership_id: int
    subscribed: bool = False


class RenewLease(RoomCommand, kw_only=True):
    """Extends the lease of an HTTP session's membership. Of several commands for one heartbeat only the last has a
    `reply_to`; its answer counts all of them (`renewed`) and repeats `client_time` [D7]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    user_id: str
    membership_id: int
    lease_until: float
    presence: bool | None = None
    reply_to: ReplyTo | None = None
    renewed: int = 1
    client_time: float | UnsetType = UNSET


class ApplyProfile(RoomCommand, kw_only=True):
    """The user's profile has changed; `session_id` is the session that caused it."""

    delivery = Delivery.BUS_REPEATS

    user_id: str
    session_id: str
    profile: Profile
    interacted: bool = False


class ApplyPrivacy(RoomCommand, kw_only=True):
    """What the session hides from now on [K1, K2]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    version: int
    invisible: bool
    disabled: bool
    share_cursor: bool
    share_selection: bool


class ApplyUserPresence(RoomCommand, kw_only=True):
    """The back end has switched the presence of a user in the room on or off; each worker knows of whom it is off, and
    is told before [Q11]."""

    delivery = Delivery.BUS_REPEATS

    user_id: str


class UpdatePermissions(RoomCommand, kw_only=True):
    """The session has new permissions in the room, after a refreshed token [A4]."""

    delivery = Delivery.BUS_REPEATS

    session_id: str
    version: int
    can_control: bool
    can_broadcast: bool
    moderator: bool
    presence: bool = True


class RoomAction(RoomCommand, kw_only=True):
    """A member's message. A call has an `authority` and may name no session: then the caller's HTTP session in the room
    acts, or the user's only session there [M1]. `raw`: the message as the client has sent it, which is what goes to
    another worker; empty for one that is encoded again: made or changed by this server, or too long. `hidden`: the
    session was invisible when its edge received the message, whatever privacy the room has applied since [K3].
    `round_trip_ms` comes with playback messages: that to the session's client, 0 when it is unknown [H10].
    `step` is the number of a step on its connection, from 1, by which the room recognises a repeated one [H21]; 0 for
    all else. `connection` and its version `session_version` come with a change of the presence object over a socket,
    which is dropped when the session has a later connection; 0 for all else [P3]."""

    session_id: str
    message: RoomMessage
    raw: bytes = b""
    reply_to: ReplyTo | None = None
    authority: Authority | None = None
    hidden: bool = False
    round_trip_ms: int = 0
    step: int = 0
    connection: int = 0
    session_version: int = 0

    @property
    def delivery(self) -> Delivery:
        """That of the client's message; a step by a call has no number and is not repeated."""
        message = self.message
        if isinstance(message, PlaybackMessage) and message.adds_up and not self.step:
            return Delivery.AT_MOST_ONCE
        return message.delivery

    @property
    def refused_as(self) -> ClientMessage:
        return self.message


class QueryActive(RoomCommand, kw_only=True):
    """`get_active` of a member, or of a user who is permitted to join [C13, C14]."""

    delivery = Delivery.BUS_REPEATS
    refused_as = GetActive

    user_id: str
    session_id: str
    room_type: RoomType | UnsetType = UNSET
    reply_to: ReplyTo | None = None


class WatchRoom(RoomCommand, kw_only=True):
    """Edge `edge` begins or ends to watch the room for its clients [Q12]. `room_type` is the type for which they have
    access, None for any: a room of another type is empty to them. `number` counts these commands of the edge, so that
    an older one which arrives late changes nothing. The edge repeats it at each change of the room's owner."""

    delivery = Delivery.SENDER_REPEATS

    edge: int
    number: int
    watches: bool
    room_type: RoomType | None = None


class QuerySummary(RoomCommand, kw_only=True):
    """`getSummaries`, for one room that the caller may enter [Q12]. `room_type` as in `WatchRoom`."""

    delivery = Delivery.BUS_REPEATS

    room_type: RoomType | None = None
    reply_to: ReplyTo | None = None


class ServerBroadcast(RoomCommand, kw_only=True):
    """A broadcast of the server API [J4]: `data` is a JSON object; `to` lists the receiving users, None means all."""

    delivery = Delivery.AT_MOST_ONCE

    data: bytes
    to: list[str] | None = None


class ChangeSettings(RoomCommand, kw_only=True):
    """The back end changes settings of the room [Q10]. It is sent by the worker that owns the room."""

    delivery = Delivery.BUS_REPEATS

    change: SettingsChange


Command = UserCommand | RoomCommand
COMMANDS: tuple[type[Command], ...] = (*UserCommand.__subclasses__(), *RoomCommand.__subclasses__())
