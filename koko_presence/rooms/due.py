"""Applies a deadline of a room, of its members and of its users; the shard handles the end of an empty room."""

from typing import NamedTuple

from koko_presence.protocol.commands import RoomLeft

from . import playback_sync, presence_state
from .room import Room


class Due(NamedTuple):
    """The effect of a deadline. `ended` is the reason of `user_left` when a membership has ended, else empty. `touched`
    are the sessions whose replicas are out of date; None when there is nothing to flush either."""

    ended: str = ""
    touched: tuple[str, ...] | None = ()


def handle_due(room: Room, kind: str, sub_id: str, now: float) -> Due:
    """Apply the deadline `kind` at monotonic second `now`. `sub_id` is a session, for `forget` and `control_request` a
    user, for `playback`, `end`, `wait` and `holder_away` empty."""
    if kind == "forget":
        room.gone.pop(sub_id, None)
        return Due(touched=None)
    if kind == "playback":
        playback_sync.release_playback(room, now)
    elif kind == "end":
        playback_sync.end_playback(room, now)
    elif kind == "wait":
        playback_sync.judge_wait(room, now)
    elif kind == "holder_away":
        room.replace_holder(now)
    elif kind == "control_request":
        person = room.people.get(sub_id)
        member = room.best_session(person) if person is not None else None
        if room.control.withdraw(sub_id) and member is not None:
            playback_sync.end_request(room, member, "expired", now)
    else:
        member = room.members[sub_id]  # a member's deadlines are cancelled when it is removed
        if kind == "grace":
            until = 0.0 if member.leased else room.context.more_grace(member.grace_until, now)
            if until:
                room.context.deadlines.set(("grace", room.id, sub_id), until)
                return Due(touched=None)
            reason = "timeout" if member.leased else "disconnected"
            room.remove(member, reason, now)
            left = RoomLeft(
                user_id=member.user_id, room_id=room.id, session_id=sub_id, membership_id=member.membership_id
            )
            room.context.add_effect(left)
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
            if kind == "cursor":  # a cursor is not replicated at each move; the edges hold the last one
                return Due()
    return Due(touched=(sub_id,))
