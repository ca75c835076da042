"""Records the webhook events of a room [M10] in the `webhook_sink` of its context; without one it records nothing.

Only a room's owner records, and only changes that it makes itself: a take-over creates no room and no entry; a session
that does not return leaves there.
"""

from math import inf, nextafter
from typing import Any

from koko_presence.protocol.snapshots import MemberRecord
from koko_presence.protocol.webhook_events import (
    AnyWebhookEvent,
    ControlChanged,
    RoomCounts,
    RoomCreated,
    RoomEmptied,
    RoomFull,
    RoomHidden,
    RoomShown,
    UserEntered,
    UserLeft,
    webhook_event_id,
)

from .member import Member
from .room_state import RoomState


def shown(room: RoomState, now: float) -> None:
    """Record that the room begins to exist for users other than its invisible members [K7]."""
    if room.context.webhook_sink is not None:
        _note(room, RoomShown, now, (room.id, room.created_at))


def hidden(room: RoomState, now: float) -> None:
    """Record that the room has ended for all users but its invisible members [K7]."""
    if room.context.webhook_sink is not None:
        _note(room, RoomHidden, now, (room.id, room.created_at))


def entered(room: RoomState, member: Member, now: float, *, made: bool, begun: bool) -> None:
    """Record that a session has entered. `made`: the room was created for it; `begun`: the room becomes visible to
    other users with it. The session may have taken the last free place."""
    if room.context.webhook_sink is None:
        return
    event_key = (room.id, member.session_id, member.joined_at)
    if made:
        _note(room, RoomCreated, now, event_key, by=member, invisible=not member.visible)
    elif begun:
        shown(room, now)
    _record_membership(room, UserEntered, member, now, event_key)
    limit = room.context.limits.max_users_per_room
    if len(room.people) == limit and len(member.person.members) == 1:
        _note(room, RoomFull, now, event_key, limit=limit)


def entered_before_creation(room: RoomState, created_at: float, notified_at: float, now: float) -> None:
    """Record the entries of members once more when they joined at `notified_at` or before. Another owner has reported
    the creation of the same room, at `created_at`, by which the back end drops these entries. It may have reported
    their leaves too, which the back end then knows by their ids: those that follow on these entries get others."""
    if room.context.webhook_sink is None:
        return
    for member in room.members.values():
        if member.joined_at <= notified_at:
            event_key = (room.id, member.session_id, member.membership_id, created_at)
            _record_membership(room, UserEntered, member, now, event_key)
            member.joined_at = nextafter(member.joined_at, inf)


def left(room: RoomState, member: Member, reason: str, now: float) -> None:
    """Record that a session was removed from the room."""
    if room.context.webhook_sink is not None:
        event_key = (room.id, member.session_id, member.joined_at)
        _record_membership(room, UserLeft, member, now, event_key, reason=reason)


def left_with_its_owner(room: RoomState, record: MemberRecord, now: float) -> None:
    """Record the leave of a session that is not in the room, but whose entry an earlier owner has reported."""
    if room.context.webhook_sink is None:
        return
    person = room.people.get(record.user_id)
    _note(
        room,
        UserLeft,
        now,
        (room.id, record.session_id, record.joined_at),
        user_id=record.user_id,
        session_id=record.session_id,
        name=record.profile.user_info.name,
        invisible=record.invisible or record.disabled,
        session_count=0 if person is None else len(person.members),
        reason="disconnected",
    )


def emptied(room: RoomState, now: float, *, invisible: bool = False) -> None:
    """Record that the room is gone; `invisible`: for other users it had ended before."""
    if room.context.webhook_sink is not None:
        _note(room, RoomEmptied, now, (room.id, room.created_at), invisible=invisible)


def control_changed(room: RoomState, from_user_id: str | None, reason: str, now: float) -> None:
    """Record that control has passed from `from_user_id` to the present controller, if any."""
    if room.context.webhook_sink is None:
        return
    control = room.control
    _note(
        room,
        ControlChanged,
        now,
        (room.id, room.created_at, control.version),
        from_user_id=from_user_id,
        to_user_id=control.user_id,
        reason=reason,
        version=control.version,
    )


def _record_membership(
    room: RoomState,
    kind: type[UserEntered | UserLeft],
    member: Member,
    now: float,
    key: tuple[object, ...],
    **more: str,
) -> None:
    _note(
        room,
        kind,
        now,
        key,
        by=member,
        user_id=member.user_id,
        session_id=member.session_id,
        name=member.name,
        invisible=not member.visible,
        session_count=len(member.person.members),
        **more,
    )


def _note(
    room: RoomState,
    kind: type[AnyWebhookEvent],
    now: float,
    key: tuple[object, ...],
    by: Member | None = None,
    **fields: Any,
) -> None:
    sink = room.context.webhook_sink
    assert sink is not None
    members = room.members.values()
    event = kind(
        id=webhook_event_id(kind.__struct_config__.tag, *key),
        timestamp=room.context.wall.iso(now),
        room_id=room.id,
        room_type=room.type if room.shown or by is None else by.person.private_room.type,
        room=RoomCounts(
            users=len(room.people),
            sessions=len(room.members),
            visible_users=len({member.user_id for member in members if member.visible}),
            visible_sessions=sum(member.visible for member in members),
        ),
        **fields,
    )
    sink.append(event)
