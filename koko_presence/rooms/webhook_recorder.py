"""What a room notes for the application's back end [M10], when its setting has a sink for it; otherwise nothing at all.

Only a room's owner notes, and only what it does itself: a room that was taken over is not created again, and nobody in
it enters again; who does not come back leaves it there.
"""

from typing import Any

from koko_presence.protocol.snapshots import MemberRecord
from koko_presence.protocol.webhook_events import (
    AnyHappening,
    ControlChanged,
    RoomCounts,
    RoomCreated,
    RoomEmptied,
    RoomFull,
    RoomHidden,
    RoomShown,
    UserEntered,
    UserLeft,
    happening_id,
)

from .member import Member
from .room_state import RoomState


def shown(room: RoomState, now: float) -> None:
    """The room has begun to exist for others than the invisible in it [K7]."""
    if room.setting.happenings is not None:
        _note(room, RoomShown, now, (room.id, room.created_at))


def hidden(room: RoomState, now: float) -> None:
    """The room has ended for all but the invisible in it [K7]."""
    if room.setting.happenings is not None:
        _note(room, RoomHidden, now, (room.id, room.created_at))


def entered(room: RoomState, member: Member, now: float, *, made: bool, begun: bool) -> None:
    """A session is in; `made`: the room was made for it, `begun`: for others it begins with it. The session may have
    taken the last free place."""
    if room.setting.happenings is None:
        return
    stay = (room.id, member.session_id, member.joined_at)
    if made:
        _note(room, RoomCreated, now, stay, by=member, invisible=not member.visible)
    elif begun:
        shown(room, now)
    _note_stay(room, UserEntered, member, now, stay)
    limit = room.setting.limits.max_users_per_room
    if len(room.people) == limit and len(member.person.members) == 1:
        _note(room, RoomFull, now, stay, limit=limit)


def entered_before_creation(room: RoomState, created_at: float, told_at: float, now: float) -> None:
    """Those who are in have entries that a receiver has forgotten, if they are not after `told_at`: by then another
    owner has told to have made the same room, at `created_at`."""
    if room.setting.happenings is None:
        return
    for member in room.members.values():
        if member.joined_at <= told_at:
            _note_stay(room, UserEntered, member, now, (room.id, member.session_id, member.joined_at, created_at))


def left(room: RoomState, member: Member, reason: str, now: float) -> None:
    """A session has been taken out of the room."""
    if room.setting.happenings is not None:
        stay = (room.id, member.session_id, member.joined_at)
        _note_stay(room, UserLeft, member, now, stay, reason=reason)


def left_with_its_owner(room: RoomState, record: MemberRecord, now: float) -> None:
    """A session is not in the room, which an owner before this one has told to have entered."""
    if room.setting.happenings is None:
        return
    person = room.people.get(record.user_id)
    _note(
        room,
        UserLeft,
        now,
        (room.id, record.session_id, record.joined_at),
        user_id=record.user_id,
        session_id=record.session_id,
        name=record.name,
        invisible=record.invisible or record.disabled,
        session_count=0 if person is None else len(person.members),
        reason="disconnected",
    )


def emptied(room: RoomState, now: float, *, invisible: bool = False) -> None:
    """The room is gone; `invisible`: it was already, for others."""
    if room.setting.happenings is not None:
        _note(room, RoomEmptied, now, (room.id, room.created_at), invisible=invisible)


def control_changed(room: RoomState, from_user_id: str | None, reason: str, now: float) -> None:
    """Control has gone from `from_user_id` to whom it belongs now."""
    if room.setting.happenings is None:
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


def _note_stay(
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
    kind: type[AnyHappening],
    now: float,
    key: tuple[object, ...],
    by: Member | None = None,
    **fields: Any,
) -> None:
    sink = room.setting.happenings
    assert sink is not None
    members = room.members.values()
    happening = kind(
        id=happening_id(kind.__struct_config__.tag, *key),
        timestamp=room.setting.wall.iso(now),
        room_id=room.id,
        room_type=room.type if room.shown or by is None else by.person.alone.type,
        room=RoomCounts(
            users=len(room.people),
            sessions=len(room.members),
            visible_users=len({member.user_id for member in members if member.visible}),
            visible_sessions=sum(member.visible for member in members),
        ),
        **fields,
    )
    sink.append(happening)
