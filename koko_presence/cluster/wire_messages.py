"""The letters that workers write to each other: what each kind holds, and its bytes.

Everything but cursors and flushes is msgpack. A client's message travels as the JSON it was, and is decoded again by
the owner: a relay looks at nothing inside.
"""

from typing import Any

import msgspec
from msgspec import Struct

from koko_presence._fastpath import wire
from koko_presence.protocol import commands
from koko_presence.protocol.codec import decode as decode_message
from koko_presence.protocol.commands import Command, RoomAction
from koko_presence.protocol.edge_messages import EdgeMessage
from koko_presence.protocol.messages import Broadcast, CursorMessage
from koko_presence.protocol.snapshots import RoomPresence, RoomRecord, SessionRecord, StayEnd, UserRecord

from .placement import room_key, user_key

# Kinds. The order of letters between two workers is never changed: a stage (view_change.py) closes what is before it.
CURSORS = wire.CURSORS
(
    COMMAND, KEPT_COMMAND, GOT, NEWS, PACKET, LANE, STAGE, ROOM, USER, PRESENCE, SESSIONS, USER_KEPT, WANT, REFRESH,
    DELAY, ENDS,
) = range(2, 18)  # fmt: skip

MAX_LETTER_BYTES = 64 << 20


class RelayedAct(commands.ClusterMessage, kw_only=True):
    """A RoomAction between workers: `text` is the client's message as JSON."""

    room_id: str
    session_id: str
    edge: int
    text: bytes
    call: commands.Call | None = None
    hidden: bool = False


class LaneGiven(Struct, array_like=True):
    """The owner's short way for one member's cursors: its number there, and the view by which it is the owner."""

    room_id: str
    session_id: str
    handle: int
    epoch: int


class Stage(Struct, array_like=True):
    """The sender has done this stage of the change to view `epoch`."""

    epoch: int
    stage: int


class RoomLetter(Struct, array_like=True):
    """What `keeper` has of a room."""

    room_id: str
    keeper: int
    record: RoomRecord


class EndsLetter(Struct, array_like=True):
    """Which stays in a room have ended lately with its owner, for the next one."""

    room_id: str
    ends: list[StayEnd]


class Delay(Struct, array_like=True):
    """A client that wanted in has waited for a worker, in monotonic seconds."""

    since: float
    until: float


class Refresh(Struct, array_like=True):
    """Those at `edge` have missed something of the room."""

    room_id: str
    edge: int


class SessionsLetter(Struct, array_like=True):
    """An edge's word on the sessions of one user that are connected there. Of connections above `newest` it says
    nothing."""

    user_id: str
    edge: int
    sessions: list[SessionRecord]
    newest: int


_encode = msgspec.msgpack.Encoder().encode
_command: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    commands.OpenSession
    | commands.EnterRoom
    | commands.LeaveRoom
    | commands.EndSession
    | commands.ReportActivity
    | commands.ChangeStatus
    | commands.ChangePrivacy
    | commands.ChangeGrant
    | commands.TakeLook
    | commands.AskLeases
    | commands.RenewLeases
    | commands.RoomLeft
    | commands.ClaimMember
    | commands.AdmitMember
    | commands.RemoveMember
    | commands.SuspendMember
    | commands.ResumeMember
    | commands.RenewLease
    | commands.ApplyProfile
    | commands.ApplyPrivacy
    | commands.UpdatePermissions
    | commands.AskActive
    | commands.ServerBroadcast
    | RelayedAct
)
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    GOT: msgspec.msgpack.Decoder(int),
    NEWS: msgspec.msgpack.Decoder(EdgeMessage),
    LANE: msgspec.msgpack.Decoder(LaneGiven),
    STAGE: msgspec.msgpack.Decoder(Stage),
    ROOM: msgspec.msgpack.Decoder(RoomLetter),
    USER: msgspec.msgpack.Decoder(UserRecord),
    REFRESH: msgspec.msgpack.Decoder(Refresh),
    DELAY: msgspec.msgpack.Decoder(Delay),
    ENDS: msgspec.msgpack.Decoder(EndsLetter),
    WANT: msgspec.msgpack.Decoder(str),
    USER_KEPT: msgspec.msgpack.Decoder(UserRecord),
    PRESENCE: msgspec.msgpack.Decoder(RoomPresence),
    SESSIONS: msgspec.msgpack.Decoder(SessionsLetter),
}


# of these the user's owner decides, although they name a room
_FOR_USERS = (commands.EnterRoom, commands.LeaveRoom, commands.ChangeGrant, commands.RoomLeft, commands.ClaimMember)


def key_of(command: Command) -> str:
    """Whose business a command is: the ring's key of a room or a user."""
    if isinstance(command, _FOR_USERS) or not hasattr(command, "room_id"):
        return user_key(command.user_id)
    return room_key(command.room_id)


def encode(body: Any) -> bytes:
    """The body of a letter that is neither a command, nor cursors, nor a flush."""
    return _encode(body)


def encode_command(command: Command) -> bytes:
    """The body of a command's letter."""
    if isinstance(command, RoomAction):
        text = msgspec.json.encode(command.message)
        relayed = RelayedAct(
            room_id=command.room_id,
            session_id=command.session_id,
            edge=command.edge,
            text=text,
            call=command.call,
            hidden=command.hidden,
        )
        return _encode(relayed)
    return _encode(command)


def decode_command(body: bytes) -> Command:
    """Errors: msgspec.MsgspecError, PresenceError for what no worker of ours writes."""
    command = _command.decode(body)
    if isinstance(command, RelayedAct):
        message: Any = decode_message(command.text)
        return RoomAction(
            room_id=command.room_id,
            session_id=command.session_id,
            edge=command.edge,
            message=message,
            call=command.call,
            hidden=command.hidden,
        )
    return command  # type: ignore[no-any-return]


def decode(kind: int, body: bytes) -> Any:
    """Any other letter but cursors and flushes. Errors: KeyError, msgspec.MsgspecError."""
    return _decoders[kind].decode(body)


# said again by the edge that waits for the answer, or by the room when owners change
_ASKED_AGAIN = (commands.OpenSession, commands.EnterRoom, commands.LeaveRoom, commands.ClaimMember)


def is_kept(command: Command) -> bool:
    """Whether a command is said again to the heir of an owner who is lost before it has confirmed it. All may be, that
    do no harm when they are done twice; a broadcast is delivered at most once [J2], after a cursor comes the next."""
    if isinstance(command, RoomAction):
        return not isinstance(command.message, (Broadcast, CursorMessage))
    return not isinstance(command, (*_ASKED_AGAIN, commands.ServerBroadcast))
