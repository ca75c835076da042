"""Builds what an operator may see of a room or a user: all sessions, with the hidden ones flagged [K4, M10].

Reads only. What members see is in rooms/snapshot_view.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from koko_presence.protocol.settings import NO_SETTINGS
from koko_presence.protocol.survey import MemberRow, PlaybackNow, RoomDetail, RoomRow, SessionRow, UserRow
from koko_presence.rooms.member import Member
from koko_presence.rooms.snapshot_view import counts

if TYPE_CHECKING:
    from koko_presence.rooms.room import Room
    from koko_presence.users.user import User


def room_row(room: Room) -> RoomRow:
    """Return the room's summary; takes time proportional to the number of its members."""
    return RoomRow(**_row(room))


def _row(room: Room) -> dict[str, Any]:
    users, sessions = counts(room)
    return {
        "id": room.id,
        "type": room.type,
        "user_count": users,
        "session_count": sessions,
        "invisible_user_count": len(room.people) - users,
        "invisible_session_count": len(room.members) - sessions,
        "controller": UNSET if room.control.user_id is None else room.control.user_id,
        "created_at": room.context.wall.iso(room.created_at),
    }


def room_detail(room: Room, now: float) -> RoomDetail:
    """Return the room with all its members, in the order in which they joined."""
    playback = room.playback
    shown: Any = UNSET
    if playback is not None and playback.version:
        shown = PlaybackNow(
            is_playing=playback.is_playing,
            current_time=playback.position(now),
            playback_rate=playback.playback_rate,
            version=playback.version,
            server_time=room.context.wall.ms(now),
        )
    return RoomDetail(
        **_row(room),
        sync_enabled=room.sync_enabled,
        seq=room.seq,
        advised_interval_ms=room.load.advised_ms,
        playback=shown,
        settings=UNSET if room.settings == NO_SETTINGS else room.settings,
        members=[_member(room, member) for member in room.members.values()],
    )


def _member(room: Room, member: Member) -> MemberRow:
    wall, profile = room.context.wall, member.person.profile
    return MemberRow(
        user_id=member.user_id,
        session_id=member.session_id,
        name=member.name,
        image=member.image or UNSET,
        color=member.color,
        status=profile.status if member.shown_connected else "away",
        status_message=profile.status_message or UNSET,
        activity=profile.activity if member.shown_connected else "away",
        connected=member.shown_connected,
        invisible=not member.visible,
        presence_off=member.disabled,
        share_cursor=member.share_cursor,
        share_selection=member.share_selection,
        can_control=member.can_control,
        can_broadcast=member.can_broadcast,
        moderator=member.moderator,
        is_controller=room.control.session_id == member.session_id,
        is_typing=member.typing is not None,
        is_watching=member.watching,
        transport="http" if member.leased else UNSET,
        joined_at=wall.iso(member.joined_at),
        last_active_at=wall.iso(member.last_active_at),
    )


def user_row(user: User) -> UserRow:
    """Return the user with all sessions, the oldest first."""
    profile, is_off = user.profile, user.id in user.context.presence_off
    sessions = [
        SessionRow(
            session_id=session_id,
            connected=session.connected,
            activity=session.activity if session.connected else "away",
            invisible=session.hidden or is_off,
            presence_off=session.disabled or is_off,
            share_cursor=session.share_cursor,
            share_selection=session.share_selection,
            transport="http" if session.leased else UNSET,
            rooms=sorted(session.rooms),
        )
        for session_id, session in user.sessions.items()
    ]
    return UserRow(
        user_id=user.id,
        status=profile.status,
        status_message=profile.status_message,
        activity=profile.activity,
        sessions=sessions,
    )
