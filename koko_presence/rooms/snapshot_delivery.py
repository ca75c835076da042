"""A room's snapshot on its way to a member, in order with the room's events."""

from koko_presence._fastpath.fanout import StreamFrame, frame_text
from koko_presence.protocol.events import encode
from koko_presence.protocol.messages import MessageId

from .member import Member
from .room_state import RoomState
from .snapshot_view import joined_reply


def send_snapshot(room: RoomState, member: Member, id: MessageId | None, now: float) -> None:
    """The room as it is now; the member hears its stream from there on [C4]. A leased one hears nothing [M2]."""
    if member.leased:
        return
    member.attached = True
    reply = joined_reply(room, member, id, now)
    room.out.append(StreamFrame(frame_text(encode(reply)), only=member.session_id, attach=True))


def repeat_snapshot(room: RoomState, member: Member, now: float, *, alone: bool = False) -> None:
    """The room as it is now, unasked, for a member that hears its stream: what it knew counts no more. `alone`: no
    member is visible."""
    if member.attached:
        frame = frame_text(encode(joined_reply(room, member, None, now, alone=alone)))
        room.out.append(StreamFrame(frame, only=member.session_id))
