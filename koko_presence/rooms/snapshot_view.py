"""Builds what a user may see of a room: rows, counts, the snapshot at join, the answer to get_active. Reads only."""

from itertools import islice

from msgspec import UNSET, Raw

from koko_presence.protocol.commands import Authority, QueryActive
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import JoinedReply, PlaybackSynced, encode
from koko_presence.protocol.models import (
    ControlRequestRow,
    MessageId,
    PresenceRoom,
    PresenceUser,
    Rights,
    RoomType,
    SummaryRow,
    SummaryUser,
)
from koko_presence.protocol.procedures import ActiveResult, JoinResult
from koko_presence.protocol.settings import NO_SETTINGS

from .member import Member, Person
from .room_state import SYNCED_TYPES, RoomState


def rows(room: RoomState, person: Person, session_id: str, *, own_only: bool = False) -> Raw:
    """Return, as JSON, the sessions that session `session_id` of `person` may see, its own included [C7, C14, K4]. The
    id of another user's session selects nothing. `own_only`: no member is visible, so only the person's own are listed.

    Rows are encoded once per change, not once per join: a hundred clients that reconnect at once share the same bytes.
    """
    wall, room_type = room.context.wall, room.type if room.shown else person.private_room.type
    encoded = [
        encode(member.row(room.id, room_type, wall, full=True, own=True))
        if member.session_id == session_id and member.person is person  # over HTTP the caller chooses the id
        else member.encoded_row(room.id, room_type, wall)
        for member in (person if own_only else room).members.values()
        if member.visible or member.person is person
    ]
    return Raw(b"[" + b",".join(encoded) + b"]")


def outside_rows(room: RoomState) -> list[PresenceUser]:
    """Return what a user that is not in the room may see [C14]."""
    wall = room.context.wall
    return [
        member.row(room.id, room.type, wall, full=False, own=False)
        for member in room.members.values()
        if member.visible
    ]


def counts(room: RoomState) -> tuple[int, int]:
    """Return the numbers of distinct visible users and of visible sessions [C7, C8]."""
    user_ids = [member.user_id for member in room.members.values() if member.visible]
    return len(set(user_ids)), len(user_ids)


SUMMARY_USERS = 3  # that a summary names


def summary(room_id: str, room: RoomState | None, room_type: RoomType | None) -> SummaryRow:
    """Return what a user that watches the room sees: the number of visible users, and the first to enter. The same for
    all, so an invisible user is not in it for their own other sessions either [Q12]. `room` is None when there is
    none. `room_type` is the type for which the user has access, None for any: a room of another type is empty."""
    members = () if room is None or room_type not in (None, room.type) else room.members.values()
    first: dict[str, Member] = {}
    for member in members:
        if member.visible:
            first.setdefault(member.user_id, member)
    users = [
        SummaryUser(user_id=user_id, name=member.name, image=member.image or UNSET, color=member.color)
        for user_id, member in islice(first.items(), SUMMARY_USERS)
    ]
    return SummaryRow(room_id=room_id, user_count=len(first), users=users)


def active_result(room: RoomState, query: QueryActive) -> ActiveResult:
    """Return the answer to get_active: all details for a user with a session in the room, fewer for others [C14]."""
    person = room.people.get(query.user_id)
    user_count, session_count = counts(room)
    return ActiveResult(
        users=outside_rows(room) if person is None else rows(room, person, query.session_id),
        total_count=user_count,
        session_count=session_count,
    )


def describe(room: RoomState, member: Member, *, own_only: bool = False) -> PresenceRoom:
    """Return the room as `member` sees it [PresenceRoom, C5, H5, I5]. `own_only`: no member is visible, so others are
    not examined."""
    wall = room.context.wall
    user_count, session_count = (0, 0) if own_only else counts(room)
    private = member.person.private_room
    room_type, since = (room.type, room.created_at) if room.shown else (private.type, private.since)
    settings = room.shown_settings(room.settings_for(member.person), room_type)
    row = PresenceRoom(
        id=room.id,
        type=room_type,
        users=rows(room, member.person, member.session_id, own_only=own_only),
        user_count=user_count,
        session_count=session_count,
        sync_enabled=room.sync_enabled and room_type in SYNCED_TYPES,
        control_requests=[
            ControlRequestRow(user_id=user, requester_name=request.name, requested_at=wall.iso(request.requested_at))
            for user, request in room.control.requests.items()
        ],
        created_at=wall.iso(since),
    )
    if room.control.user_id is not None and room.control.session_id is not None:
        row.controller, row.controller_session_id = room.control.user_id, room.control.session_id
    if room.playback is not None and room.playback.version:
        row.playback = room.playback.row(wall)
    if room.targets.media:
        row.media = room.targets.media
    if settings != NO_SETTINGS:
        row.settings = settings
    return row


def synced(room: RoomState, action: str, now: float) -> PlaybackSynced:
    """Return the event with the room's playback after an action [H3]."""
    playback, wall = room.playback, room.context.wall
    assert playback is not None
    frame, frame_target = playback.shown_frame()
    return PlaybackSynced(
        is_playing=playback.is_playing,
        current_time=playback.current_time,
        playback_rate=playback.playback_rate,
        action=action,
        version=playback.version,
        server_time=wall.ms(playback.anchor),
        sync_enabled=room.sync_enabled,
        duration=UNSET if playback.duration is None else playback.duration,
        target=UNSET if playback.target is None else playback.target,
        frame=frame,
        frame_target=frame_target,
        ended=playback.ended,
        effective_at=wall.ms(playback.anchor) if playback.anchor > max(now, playback.acted_at) else UNSET,
        waiting_for=UNSET if room.wait is None else room.wait.users,
    )


def rights(member: Member) -> Rights:
    """Return what the session may do in the room [A6]."""
    return Rights(control=member.may_play, broadcast=member.can_broadcast, moderate=member.moderator)


def joined_reply(
    room: RoomState, member: Member, id: MessageId | None, now: float, *, own_only: bool = False
) -> JoinedReply:
    """Return the answer to a join [C4]; `own_only` as in `describe`."""
    return JoinedReply(
        id=id,
        room_id=room.id,
        room=describe(room, member, own_only=own_only),
        assigned_color=member.color,
        session_id=member.session_id,
        rights=rights(member),
        seq=room.seq,
        server_time=room.context.wall.ms(now),
        send_interval_ms=room.send_interval_ms,
    )


def join_result(room: RoomState, member: Member, now: float) -> JoinResult:
    """Return the answer to a join by a call."""
    return JoinResult(
        room=describe(room, member),
        assigned_color=member.color,
        session_id=member.session_id,
        rights=rights(member),
        lease_seconds=room.context.limits.silence_s if member.leased else UNSET,
        seq=room.seq,
        server_time=room.context.wall.ms(now),
        send_interval_ms=room.send_interval_ms,
    )


def acting_member(room: RoomState | None, session_id: str, authority: Authority | None) -> Member:
    """Return the member that a message is for: session `session_id`, or for an HTTP call the session of that id of the
    caller, without an id the caller's lease or only session [M1]. Errors: NOT_IN_ROOM, also for a session of another
    user, and SESSION_REQUIRED."""
    if authority is None:
        member: Member | None = None if room is None else room.members.get(session_id)
        if member is None:
            raise PresenceError("NOT_IN_ROOM")
        return member
    person = None if room is None else room.people.get(authority.user_id)
    here = [] if person is None else [m for m in person.members.values() if m.connected]
    if session_id:
        here = [member for member in here if member.session_id == session_id]
    if not here:
        raise PresenceError("NOT_IN_ROOM")
    if len(here) > 1:
        here = [member for member in here if member.leased]
    if len(here) != 1:
        raise PresenceError("SESSION_REQUIRED", "You have several sessions in this room. Name the one this is for.")
    return here[0]
