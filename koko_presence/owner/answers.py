"""Answers commands: turns the result of a handler, or the error that it has raised, into the answer, and sends it to
where the command's `reply_to` says."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.protocol.commands import (
    AdmitMember,
    Command,
    EnterRoom,
    QueryActive,
    ReplyTo,
    RoomAction,
    UserCommand,
)
from koko_presence.protocol.edge_messages import CallAnswered, EdgeMessage, Reply, RoomRefused
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import ActiveReply, encode, encode_ack, error_reply
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.member import Member
from koko_presence.rooms.room import Room
from koko_presence.users.user import User


class Answers:
    """The answers of one shard, which go into its effects and into the streams of its rooms."""

    def __init__(self, context: ShardContext, rooms: Mapping[str, Room], users: Mapping[str, User]) -> None:
        self._context, self._rooms, self._users = context, rooms, users

    def send(self, command: Command, outcome: Any, member: Member | None = None) -> None:
        """Answer `command` with `outcome`: a PresenceError, or the result of the handler. A refusal is counted, also
        when there is no answer. `member`: the member that has acted; its answer goes into the room's stream, in
        order with the events around it."""
        error = outcome if isinstance(outcome, PresenceError) else None
        counted_as = None if error is None else command.refused_as
        if error is not None and counted_as is not None:
            counters.refused(counted_as, error.code)
        reply_to = command.reply_to
        if reply_to is None:
            return
        payload = _encoded(command, reply_to, outcome)
        if payload is None:
            return
        edge, refusal, session_id = reply_to.edge, counted_as is not None, reply_to.session_id
        message: EdgeMessage
        if reply_to.is_call:
            message = CallAnswered(number=reply_to.number, payload=payload, refused=error is not None)
        elif isinstance(command, EnterRoom | AdmitMember):
            out = isinstance(command, EnterRoom) or not self._has_member(command.room_id, session_id)
            message = RoomRefused(session_id=session_id, room_id=command.room_id, payload=payload, out=out)
        elif isinstance(command, RoomAction) and member is not None and member.attached:
            frame = StreamFrame(frame_text(payload), only=session_id, refusal=refusal)
            self._rooms[command.room_id].out.append(frame)
            return
        else:
            shown_room_id = command.room_id if isinstance(command, QueryActive) and error is None else ""
            message = Reply(session_id=session_id, payload=payload, refusal=refusal, shown_room_id=shown_room_id)
            if member is not None:  # resumed, but not joined again yet: it receives no stream
                edge = member.edge
            elif isinstance(command, UserCommand):
                user = self._users.get(command.user_id)
                session = None if user is None else user.sessions.get(session_id)
                if session is None:
                    return
                edge = session.edge  # where the session is connected by now
        self._context.add_effect((edge, message))

    def _has_member(self, room_id: str, session_id: str) -> bool:
        room = self._rooms.get(room_id)
        return room is not None and session_id in room.members


def _encoded(command: Command, reply_to: ReplyTo, outcome: Any) -> bytes | None:
    """Return the answer as JSON; None for an acknowledgement that the session has not asked for."""
    if isinstance(outcome, PresenceError):
        return error_reply(outcome, reply_to.id, getattr(command, "room_id", None))
    if reply_to.is_call:
        return encode(outcome)
    if isinstance(command, QueryActive):
        return encode(ActiveReply(id=reply_to.id, room_id=command.room_id, **structs.asdict(outcome)))
    return encode_ack(reply_to.id, outcome)
