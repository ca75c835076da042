"""Defines the messages between workers: the content and the encoding of each kind.

All but cursors and flushes are msgpack. A client's message is carried as JSON, in the client's own text while that is
short, which its edge has checked, and decoded again by the owner.
"""

from functools import reduce
from operator import or_
from typing import Any

import msgspec
from msgspec import Struct

from koko_presence._fastpath import wire
from koko_presence.protocol.codec import BadMessage
from koko_presence.protocol.codec import decode as decode_message
from koko_presence.protocol.commands import (
    COMMANDS,
    Authority,
    ClusterMessage,
    Command,
    ReplyTo,
    RoomAction,
    UserCommand,
)
from koko_presence.protocol.edge_messages import EDGE_MESSAGES
from koko_presence.protocol.snapshots import MembershipEnd, RoomPresence, RoomRecord, SessionRecord, UserRecord

from .placement import room_key, user_key

# Kinds. The order of messages between two workers is kept: a stage (view_change.py) covers all that precedes it.
CURSORS = wire.CURSORS
(
    COMMAND, RELIABLE_COMMAND, ACKNOWLEDGED, EDGE_MESSAGE, FLUSH, ROUTE, STAGE, ROOM, USER, PRESENCE, SESSIONS,
    USER_REPLICA, REPLICA_REQUEST, REFRESH, DELAY, MEMBERSHIP_ENDS, ROOM_REPLICA,
) = range(2, 19)  # fmt: skip

MAX_PEER_MESSAGE_BYTES = 64 << 20


class RelayedAction(ClusterMessage, kw_only=True):
    """A `RoomAction` between workers: all its fields but the message, which is in `raw` as JSON."""

    room_id: str
    session_id: str
    raw: bytes
    reply_to: ReplyTo | None
    authority: Authority | None
    hidden: bool
    round_trip_ms: int
    step: int
    connection: int
    session_version: int


class UndecodableAction(BadMessage):
    """A client's message that its edge has accepted and this worker cannot decode. `reply_to` is the address for the
    answer."""

    def __init__(self, action: RelayedAction, type: str) -> None:
        self.reply_to = action.reply_to
        id = None if action.reply_to is None else action.reply_to.id
        super().__init__("INVALID_MESSAGE", id=id, room_id=action.room_id, type=type)


class RouteGranted(Struct, array_like=True):
    """The compiled route of one member's cursors: its `handle` at the owner, and the view by which the sender is the
    owner."""

    room_id: str
    session_id: str
    handle: int
    epoch: int


class Stage(Struct, array_like=True):
    """The sender has finished this stage of the change to view `epoch`."""

    epoch: int
    stage: int


class RoomReplica(Struct, array_like=True):
    """The record that `holder` has of a room."""

    room_id: str
    holder: int
    record: RoomRecord


class MembershipEnds(Struct, array_like=True):
    """The memberships of a room that have ended recently, from its owner to the next one."""

    room_id: str
    ends: list[MembershipEnd]


class Delay(Struct, array_like=True):
    """A client has waited for a worker, from `since` until `until` in monotonic seconds."""

    since: float
    until: float


class Refresh(Struct, array_like=True):
    """The members at `edge` have missed events of the room."""

    room_id: str
    edge: int


class EdgeSessions(Struct, array_like=True):
    """An edge's report of the sessions of one user that are connected there. Connections above `newest` are not
    covered; 0: it says nothing about other sessions. `epoch` is the view by which the edge has made the report."""

    user_id: str
    edge: int
    sessions: list[SessionRecord]
    newest: int
    epoch: int = 0


def _decoder_of(*types: type) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(reduce(or_, types))


_encode = msgspec.msgpack.Encoder().encode
_command = _decoder_of(*(each for each in COMMANDS if each is not RoomAction), RelayedAction)
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    ACKNOWLEDGED: msgspec.msgpack.Decoder(int),
    EDGE_MESSAGE: _decoder_of(*EDGE_MESSAGES),
    ROUTE: msgspec.msgpack.Decoder(RouteGranted),
    STAGE: msgspec.msgpack.Decoder(Stage),
    ROOM: msgspec.msgpack.Decoder(RoomReplica),
    ROOM_REPLICA: msgspec.msgpack.Decoder(RoomReplica),
    USER: msgspec.msgpack.Decoder(UserRecord),
    REFRESH: msgspec.msgpack.Decoder(Refresh),
    DELAY: msgspec.msgpack.Decoder(Delay),
    MEMBERSHIP_ENDS: msgspec.msgpack.Decoder(MembershipEnds),
    REPLICA_REQUEST: msgspec.msgpack.Decoder(str),
    USER_REPLICA: msgspec.msgpack.Decoder(UserRecord),
    PRESENCE: msgspec.msgpack.Decoder(RoomPresence),
    SESSIONS: msgspec.msgpack.Decoder(EdgeSessions),
}


def key_of(command: Command) -> str:
    """Return the key of the room or user whose owner handles the command."""
    return user_key(command.user_id) if isinstance(command, UserCommand) else room_key(command.room_id)


def encode(body: Any) -> bytes:
    """Return the body of a message that is neither a command, nor cursors, nor a flush."""
    return _encode(body)


def encode_command(command: Command) -> bytes:
    """Return the body of a command's message."""
    if isinstance(command, RoomAction):
        return _encode(
            RelayedAction(
                room_id=command.room_id,
                session_id=command.session_id,
                raw=command.raw or msgspec.json.encode(command.message),
                reply_to=command.reply_to,
                authority=command.authority,
                hidden=command.hidden,
                round_trip_ms=command.round_trip_ms,
                step=command.step,
                connection=command.connection,
                session_version=command.session_version,
            )
        )
    return _encode(command)


def decode_command(body: bytes) -> Command:
    """Return the command in a message's body. Errors: msgspec.MsgspecError for what no worker of this version writes,
    UndecodableAction."""
    command = _command.decode(body)
    if not isinstance(command, RelayedAction):
        return command  # type: ignore[no-any-return]
    try:
        message: Any = decode_message(command.raw)
    except BadMessage as error:
        raise UndecodableAction(command, error.type) from None
    return RoomAction(
        room_id=command.room_id,
        session_id=command.session_id,
        message=message,
        raw=command.raw,
        reply_to=command.reply_to,
        authority=command.authority,
        hidden=command.hidden,
        round_trip_ms=command.round_trip_ms,
        step=command.step,
        connection=command.connection,
        session_version=command.session_version,
    )


def decode(kind: int, body: bytes) -> Any:
    """Return the content of any other message but cursors and flushes. Errors: KeyError, msgspec.MsgspecError."""
    return _decoders[kind].decode(body)
