"""Sends a room's snapshot to a member, in order with the room's events."""

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.framing import frame_text
from koko_presence.protocol.events import encode
from koko_presence.protocol.models import MessageId

from .member import Member
from .room_state import RoomState
from .snapshot_view import joined_reply


def send_snapshot(room: RoomState, member: Member, id: MessageId | None, now: float) -> None:
    """Send the present snapshot; the member receives the room's stream from there on [C4]. A leased member receives
    neither [M2]."""
    if member.leased:
        return
    room.attach(member)
    reply = joined_reply(room, member, id, now)
    room.out.append(StreamFrame(frame_text(encode(reply)), only=member.session_id, attach=True))


def repeat_snapshot(room: RoomState, member: Member, now: float, *, own_only: bool = False) -> None:
    """Send a new snapshot, without a request, to a member that receives the stream; it replaces all that the client
    holds of the room. `own_only`: no member is visible."""
    if member.attached:
        frame = frame_text(encode(joined_reply(room, member, None, now, own_only=own_only)))
        room.out.append(StreamFrame(frame, only=member.session_id))
