"""What a room does when one of its deadlines has come. That it is empty for good is the shard's affair."""

from typing import NamedTuple

from koko_presence.protocol.commands import RoomLeft

from . import playback_sync, presence_state
from .room import Room


class Due(NamedTuple):
    """What follows: `ended` is user_left's reason when a membership has, `touched` names sessions whose records have
    changed; None when there is nothing to send either."""

    ended: str = ""
    touched: tuple[str, ...] | None = ()


def what_is_due(room: Room, kind: str, sub_id: str, now: float) -> Due:
    """Do what the deadline `kind` of a member, a user or the room asks for at monotonic second `now`."""
    if kind == "forget":
        room.gone.pop(sub_id, None)
        return Due(touched=None)
    if kind == "playback":
        playback_sync.release_playback(room, now)
    elif kind == "control_request":
        person = room.people.get(sub_id)
        member = room.best_session(person) if person is not None else None
        if room.control.withdraw(sub_id) and member is not None:
            playback_sync.end_request(room, member, "expired", now)
    else:
        member = room.members[sub_id]  # a member's deadlines are cancelled when it goes
        if kind == "grace":
            until = 0.0 if member.leased else room.setting.more_grace(member.grace_until, now)
            if until:
                room.setting.deadlines.set(("grace", room.id, sub_id), until)
                return Due(touched=None)
            reason = "timeout" if member.leased else "disconnected"
            room.remove(member, reason, now)
            left = RoomLeft(user_id=member.user_id, room_id=room.id, session_id=sub_id, stay=member.stay)
            room.setting.effects.append(left)
            return Due(ended=reason)
        if kind == "away":
            room.show_away(member, now)
        elif kind == "typing_stop":
            if member.typing is not None:
                room.stop_typing(member, "timeout", now)
        elif kind == "report_stale":
            playback_sync.lapse_report(room, member, now)
        else:
            presence_state.release(room, member, kind, now)
            if kind == "cursor":  # moves too often to be kept; the edges know it
                return Due()
    return Due(touched=(sub_id,))
