"""Converts rooms and users to replicated records and back, and reconciles them with the edges' reports [N-b].

Pure: `record_of` and `delta_of` only read, `restore_*` return a new object, `reconcile`, `merge_live_session` and
`suspend_absent_sessions` apply which sessions an edge reports as connected. All of them are idempotent and tolerate
late records and reports."""

from collections.abc import Collection, Iterable, Mapping

from msgspec import UNSET, structs

from koko_presence.protocol.commands import EnterRoom, RemoveMember, SessionInfo
from koko_presence.protocol.models import Cursor
from koko_presence.protocol.snapshots import (
    JOINING,
    NOT_SUBSCRIBED,
    SUBSCRIBED,
    MediaRecord,
    MemberRecord,
    PlaybackRecord,
    Presence,
    PresenceRecord,
    PrivateRoomRecord,
    RoomDelta,
    RoomHead,
    RoomRecord,
    SessionRecord,
    UserRecord,
    WaitRecord,
)
from koko_presence.rooms import lifetime, playback_sync
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.control import Request
from koko_presence.rooms.member import Member, Person, PrivateRoom
from koko_presence.rooms.playback import Playback
from koko_presence.rooms.presence_object import PresenceObject
from koko_presence.rooms.presence_state import COALESCED_VALUES, settle, submit
from koko_presence.rooms.room import RESUME_MARGIN_S, Room
from koko_presence.rooms.wait import Wait
from koko_presence.users.session import NONE, UserSession
from koko_presence.users.user import User

# the fields of `UserSession` that are in a `SessionRecord`
SESSION_FIELDS = tuple(name for name in UserSession.__slots__ if name not in ("away_at", "named"))
NONE_NEWER: Mapping[int, int] = {}
RESTORED_SEQ_GAP = 1000  # above all numbers that a lost owner can have given and no remaining worker has received


# --- rooms --------------------------------------------------------------------------------------------------------


def member_record(member: Member) -> MemberRecord:
    """Return all state of a member that must outlive its room's owner."""
    return MemberRecord(
        session_id=member.session_id,
        user_id=member.user_id,
        edge=member.edge,
        connection=member.connection,
        membership_id=member.membership_id,
        session_version=member.session_version,
        privacy_version=member.privacy_version,
        granted=member.granted,
        lease_until=member.lease_until,
        grace_until=member.grace_until,
        can_control=member.can_control,
        can_broadcast=member.can_broadcast,
        moderator=member.moderator,
        disabled=member.disabled,
        session_disabled=member.session_disabled,
        room_disabled=member.room_disabled,
        invisible=member.invisible,
        share_cursor=member.share_cursor,
        share_selection=member.share_selection,
        color=member.color,
        index=member.index,
        joined_at=member.joined_at,
        last_active_at=member.last_active_at,
        connected=member.connected,
        attached=member.attached,
        cursor=member.cursor,
        cursor_put_away=member.cursor_put_away,
        selection=member.selection,
        typing=member.typing,
        watching=member.watching,
        profile=member.person.profile,
        last_step=member.last_step,
        private_room=None if member.person.visible_count else _private_room_record(member.person.private_room),
        presence=None if member.presence is None else _presence_record(member.presence),
    )


def _presence_record(presence: PresenceObject) -> PresenceRecord:
    return PresenceRecord(
        shown=presence.shown,
        waiting=presence.waiting,
        hidden=presence.hidden,
        session_version=presence.session_version,
    )


def _private_room_record(private_room: PrivateRoom) -> PrivateRoomRecord:
    return PrivateRoomRecord(type=private_room.type, since=private_room.since, settings=private_room.settings)


def session_info_of(member: Member) -> SessionInfo:
    """Return the session of a member, as the room has received it."""
    return SessionInfo(
        edge=member.edge,
        session_id=member.session_id,
        user_id=member.user_id,
        connection=member.connection,
        session_version=member.session_version,
        lease_until=member.lease_until,
        privacy_version=member.privacy_version,
        disabled=member.session_disabled,
        invisible=member.invisible,
        share_cursor=member.share_cursor,
        share_selection=member.share_selection,
    )


def head_of(room: Room) -> RoomHead:
    """Return the room's state without its members and sequence number."""
    playback = room.playback
    return RoomHead(
        type=room.type,
        created_at=room.created_at,
        sync_enabled=room.sync_enabled,
        playback=None
        if playback is None
        else PlaybackRecord(
            is_playing=playback.is_playing,
            current_time=playback.current_time,
            playback_rate=playback.playback_rate,
            anchor=playback.anchor,
            version=playback.version,
            acted_at=playback.acted_at,
            duration=playback.duration,
            target=playback.target,
            known_version=playback.known_version,
            decided_version=playback.decided_version,
        ),
        controller=room.control.user_id,
        controller_session=room.control.session_id,
        control_version=room.control.version,
        requests=[(user_id, *request) for user_id, request in room.control.requests.items()],
        shown=room.shown,
        media=MediaRecord(
            media=dict(room.targets.media),
            durations=dict(room.targets.durations),
            removed=list(room.targets.removed),
            from_back_end=room.targets.from_back_end,
        ),
        settings=room.settings,
        holder_away_since=room.control.away_since,
        wait=None if room.wait is None else _wait_record(room.wait),
        created_version=room.created_version,
        control_mode=room.control_mode,
    )


def _wait_record(wait: Wait) -> WaitRecord:
    return WaitRecord(began=wait.began, until=wait.until, viewers=dict(wait.viewers))


def full_delta(room: Room) -> RoomDelta:
    """Return the whole room at its present revision, for a worker without a replica of it."""
    members = [member_record(member) for member in room.members.values()]
    return RoomDelta(
        seq=room.seq, revision=room.revision, head=head_of(room), members=members, removed=[], complete=True
    )


def delta_of(room: Room, session_ids: Iterable[str]) -> RoomDelta:
    """Return the delta for the replicas of the room: these sessions, and the room's own state."""
    members = {session_id: room.members.get(session_id) for session_id in sorted(session_ids) if session_id}
    return RoomDelta(
        seq=room.seq,
        revision=room.revision,
        head=head_of(room),
        members=[member_record(member) for member in members.values() if member is not None],
        removed=[session_id for session_id, member in members.items() if member is None],
    )


def release_waiting(room: Room, now: float) -> None:
    """Show the values that wait for a budget: they are not part of a record [E1]."""
    room.admit_deferred(now)
    for member in list(room.members.values()):
        for kind in member.pending:
            value = member.pending.take(kind)
            room.context.deadlines.cancel((kind, room.id, member.session_id))
            COALESCED_VALUES[kind].apply(room, member, value, now)
    playback_sync.release_playback(room, now, at_once=True)


def forget_deadlines(room: Room) -> None:
    """Cancel all deadlines of this room and its members."""
    cancel = room.context.deadlines.cancel
    lifetime.forget_deadlines(room)
    for member in room.members.values():
        for kind in (*member.pending, "grace", "away", "typing_stop", "report_stale"):
            cancel((kind, room.id, member.session_id))


def record_of(room: Room) -> RoomRecord:
    """Return the whole room, as its final record by an owner that gives it up."""
    return RoomRecord(
        seq=room.seq,
        revision=room.revision,
        head=head_of(room),
        members={session_id: member_record(member) for session_id, member in room.members.items()},
        final=True,
    )


def restore_room(room_id: str, record: RoomRecord, seq: int, context: ShardContext, now: float) -> Room:
    """Restore the room from a record. Leases and grace periods end at their original times; other deadlines begin anew.
    `seq` is the highest one that any worker has received."""
    head, limits, deadlines = record.head, context.limits, context.deadlines
    room = Room(room_id, head.type, context, now)
    room.created_at, room.shown, room.settings = head.created_at, head.shown, head.settings
    room.sync_enabled, room.created_version = head.sync_enabled, head.created_version
    gap = 0 if record.final else RESTORED_SEQ_GAP
    room.seq = seq + gap if room.shown else 0
    room.note_restored(record.revision, seq)
    if head.media is not None:
        media = head.media
        room.targets.restore(media.media, media.durations, media.removed, from_back_end=media.from_back_end)
    if head.playback is not None:
        room.playback = Playback(now, room.targets)
        for name in (
            "is_playing", "current_time", "playback_rate", "anchor", "acted_at", "version", "target", "known_version",
            "decided_version",
        ):  # fmt: skip
            setattr(room.playback, name, getattr(head.playback, name))
        room.schedule_end()
        room.playback.decided_version += gap
        room.playback.version += gap  # clients that have the lost owner's last command must accept the next one [H16]
    private_rooms = {}
    for each in record.members.values():
        if each.private_room is not None:
            private = each.private_room
            private_rooms[each.user_id] = PrivateRoom(private.type, private.since, private.settings)
    for each in record.members.values():  # a user with a visible session gets the settings that it has seen
        private_room = private_rooms.get(each.user_id, PrivateRoom(head.type, head.created_at, head.settings))
        _restore_member(room, each, private_room, now)
    control = room.control
    control.version = head.control_version + gap
    if head.controller_session in room.members:
        control.user_id, control.session_id = head.controller, head.controller_session
    for user_id, name, requested_at, expires_at in head.requests:
        if user_id in room.people:
            control.requests[user_id] = Request(name, requested_at, expires_at)
            deadlines.set(("control_request", room.id, user_id), max(expires_at, now))
    control.away_since = head.holder_away_since
    room.watch_holder(now)
    if head.wait is not None:
        viewers = {
            session_id: user_id for session_id, user_id in head.wait.viewers.items() if session_id in room.members
        }
        room.wait = Wait(head.wait.began, head.wait.until, viewers)
        deadlines.set(("wait", room.id, ""), max(head.wait.until, now) if viewers else now)
        for user_id in viewers.values():
            room.people[user_id].waited_at = head.wait.began
    if not any(member.visible for member in room.members.values()):
        deadlines.set(("empty", room.id, ""), now + limits.room_linger_s)
    return room


def _restore_member(room: Room, record: MemberRecord, private_room: PrivateRoom, now: float) -> None:
    context = room.context
    limits, deadlines = context.limits, context.deadlines
    person = room.people.get(record.user_id)
    if person is None:
        person = room.people[record.user_id] = Person(record.user_id, record.profile, limits, private_room)
    session_info = SessionInfo(
        edge=record.edge,
        session_id=record.session_id,
        user_id=record.user_id,
        connection=record.connection,
        lease_until=record.lease_until,
        privacy_version=record.privacy_version,
        disabled=record.session_disabled,
        invisible=record.invisible,
        share_cursor=record.share_cursor,
        share_selection=record.share_selection,
    )
    enter = EnterRoom(
        user_id=record.user_id,
        room_id=room.id,
        session_info=session_info,
        can_control=record.can_control,
        can_broadcast=record.can_broadcast,
        moderator=record.moderator,
        presence=not record.room_disabled,
    )
    member = Member(enter, record.membership_id, person, limits, now)
    for name in (
        "color", "index", "joined_at", "last_active_at", "connected", "cursor", "cursor_put_away", "selection",
        "typing", "watching", "session_version", "granted", "last_step", "disabled",
    ):  # fmt: skip
        setattr(member, name, getattr(record, name))
    if record.presence is not None:
        kept = record.presence
        member.presence = PresenceObject()
        member.presence.restore(kept.shown, kept.waiting, kept.hidden, kept.session_version)
        if kept.waiting:
            member.pending.hold("presence", None)
            deadlines.set(("presence", room.id, member.session_id), now)
    if record.attached:
        room.attach(member)
    person.members[member.session_id] = room.members[member.session_id] = member
    if not member.connected:
        room.keep_place(member, record.grace_until, now, not_before=now + RESUME_MARGIN_S)
    room.extend_lease(member, member.lease_until)
    if member.typing is not None:
        deadlines.set(("typing_stop", room.id, member.session_id), now + limits.typing_stop_s)
    if member.watching:
        deadlines.set(("report_stale", room.id, member.session_id), now + limits.report_fresh_s)


def reconcile(
    room: Room, presence: Presence, edges: Collection[int], now: float, *, delayed: bool = False
) -> list[str]:
    """Apply an edge's report to the room. A member of that edge that the report lacks is held for the grace period; a
    reported one is resumed, unless it is connected at another of `edges`. `delayed`: the room may have admitted a
    session since the edge reported, or answered a join of a session that receives no events by the report. So a member
    that a delayed report lacks is left to `cluster/unconfirmed.py`, which distinguishes memberships. Return the
    sessions that receive the room's events but are not in it."""
    edge, sessions = presence.edge, presence.sessions
    for member in list(room.members.values()):
        if not delayed and member.edge == edge and member.connected and member.session_id not in sessions:
            room.suspend(member, now)
    lost = []
    for session_id, (subscribed, connection, _) in sessions.items():
        found = room.members.get(session_id)
        if found is None:
            if subscribed:  # a session without the room's events gets the answer at its next join
                lost.append(session_id)
            continue
        if found.edge != edge and found.connected and found.edge in edges:
            continue
        if not found.connected or found.edge != edge:
            if delayed and found.connection != connection:
                continue  # the user's owner decides which of the two connections is the later one
            room.resume(found, edge, connection, now)
        if subscribed:
            room.attach(found)
        elif not delayed:  # a delayed report ends no stream: `resume` has ended that of another connection
            room.detach(found)
    return lost


def show_last_cursors(room: Room, presence: Presence, now: float) -> None:
    """Show the last cursor that the edge has of each session connected there."""
    for session_id, (_, _, cursor) in presence.sessions.items():
        member = room.members.get(session_id)
        if cursor is None or member is None or member.edge != presence.edge or not member.connected:
            continue
        shown = None if cursor.hidden else cursor
        if shown != _as_sent(member.cursor):
            submit(room, member, "cursor", shown, now)


def _as_sent(cursor: Cursor | None) -> Cursor | None:
    """Return a cursor without its medium, which the owner may have added when the medium was replaced [H19]."""
    return None if cursor is None else structs.replace(cursor, media_id=UNSET)


def suspend_absent_members(room: Room, edges: Collection[int], now: float) -> bool:
    """Suspend the members whose edge is gone; return whether there were any. Leases have no edge."""
    absent = [
        member
        for member in room.members.values()
        if member.connected and member.edge not in edges and not member.leased
    ]
    for member in absent:
        settle(room, member, now)
        room.suspend(member, now)
    return bool(absent)


# --- users --------------------------------------------------------------------------------------------------------


def session_record(session_id: str, session: UserSession) -> SessionRecord:
    """Return the record of one session, as its user's owner has it."""
    return SessionRecord(
        session_id=session_id,
        edge=session.edge,
        connection=session.connection,
        accepted_at=session.accepted_at,
        session_version=session.session_version,
        privacy_version=session.privacy_version,
        received_privacy_seq=session.received_privacy_seq,
        lease_until=session.lease_until,
        grace_until=session.grace_until,
        connected=session.connected,
        disabled=session.disabled,
        invisible=session.invisible,
        share_cursor=session.share_cursor,
        share_selection=session.share_selection,
        activity=session.activity,
        activity_at=session.activity_at,
        rooms=dict(session.rooms),
        stream=session.stream,
    )


def user_record(user: User) -> UserRecord:
    """Return the record of the whole user."""
    privacy_defaults = (
        user.privacy_defaults.invisible,
        user.privacy_defaults.share_cursor,
        user.privacy_defaults.share_selection,
    )
    return UserRecord(
        user_id=user.id,
        revision=user.revision,
        manual=user.manual,
        idle_at=user.idle_at,
        status_at=user.status_at,
        status_message=user.status_message,
        user_info=user.user_info,
        privacy_defaults=tuple(value if isinstance(value, bool) else None for value in privacy_defaults),  # type: ignore[arg-type]
        sessions=[session_record(session_id, session) for session_id, session in user.sessions.items()],
    )


def restore_user(user_id: str, record: UserRecord | None, context: ShardContext, now: float) -> User:
    """Restore the user from a record; without one return a new user."""
    user = User(user_id, context)
    if record is None:
        user.restored_empty_version = context.next_version()
        return user
    user.note_restored(record.revision)
    user.manual, user.status_message, user.idle_at = record.manual, record.status_message, record.idle_at
    user.status_at = record.status_at
    user.take_user_info("", record.user_info, record.revision)
    _restore_privacy_defaults(user, record)
    for each in record.sessions:
        user.sessions[each.session_id] = _restored_session(each)
        if not each.connected:
            user.keep_until(each.session_id, each.grace_until, not_before=now + RESUME_MARGIN_S)
        elif each.lease_until:
            context.deadlines.set(("session", user_id, each.session_id), each.lease_until)
    user.activity = user.liveliest()
    return user


def merge_delayed_privacy(user: User, record: UserRecord) -> None:
    """Apply a late record, of an owner that stalled: what a session hides with a higher version than here counts,
    together with what the user hides with scope "user"."""
    newer = [
        each
        for each in record.sessions
        if each.session_id in user.sessions and each.privacy_version > user.sessions[each.session_id].privacy_version
    ]
    for each in newer:
        user.restore_privacy(each.session_id, each)
    if newer:
        _restore_privacy_defaults(user, record)


def _restore_privacy_defaults(user: User, record: UserRecord) -> None:
    """Restore the privacy settings with scope "user" from a record, where this owner has none."""
    for name, default in zip(("invisible", "share_cursor", "share_selection"), record.privacy_defaults, strict=True):
        if default is not None and not isinstance(getattr(user.privacy_defaults, name), bool):
            setattr(user.privacy_defaults, name, default)


def merge_delayed_record(user: User, record: UserRecord) -> bool:
    """Apply the late record of a user that was restored without one. Return whether it changes the user's status. The
    name counts in any case when its token is newer."""
    user.take_user_info("", record.user_info, record.revision)
    if not user.restored_profile_version < record.revision < user.restored_empty_version:
        return False
    user.restored_empty_version, user.manual, user.status_message = 0, record.manual, record.status_message
    user.status_at = record.status_at
    _restore_privacy_defaults(user, record)
    return True


def merge_delayed_rooms(user: User, record: UserRecord) -> None:
    """Apply a late record, of an owner that stalled: rooms that a connected session joined there after this owner
    received its replica. Each room is notified, and answers with `RoomLeft` when the session has left it since. In a
    room that both have, the later membership counts: a leave of an earlier one would leave the session in the room."""
    for each in record.sessions:
        session = user.sessions.get(each.session_id)
        if session is None or not session.connected or session.connection != each.connection:
            continue
        for room_id in each.rooms.keys() & session.rooms.keys():
            session.rooms[room_id] = max(session.rooms[room_id], each.rooms[room_id])
        for room_id in sorted(each.rooms.keys() - session.rooms.keys()):
            session.rooms[room_id] = each.rooms[room_id]
            user.context.add_effect(user.issue_resume(each.session_id, room_id, each.rooms[room_id], subscribed=False))


def _restored_session(record: SessionRecord) -> UserSession:
    session = UserSession.__new__(UserSession)
    session.away_at, session.named = 0.0, NONE
    for name in SESSION_FIELDS:
        setattr(session, name, getattr(record, name))
    session.rooms = dict(record.rooms)
    return session


def merge_live_session(user: User, record: SessionRecord, *, notify_rooms: bool) -> SessionRecord | None:
    """Apply an edge's report of one of the user's sessions. When two connections have the session, the one with the
    higher `session_version` keeps it, and the other one is returned [D16]. `notify_rooms`: notify the rooms in any
    case."""
    session = user.sessions.get(record.session_id)
    replaced, unknown = None, session is None
    if session is None:
        session = user.sessions[record.session_id] = _restored_session(record)
        session.rooms = {}
        session.connected = False
    elif session.connection != record.connection:
        if session.session_version > record.session_version:
            return record
        replaced = session_record(record.session_id, session) if session.connected else None
        session.edge = record.edge
        session.connection = record.connection
        session.received_privacy_seq = record.received_privacy_seq
        # Resumed since: the new connection has received which rooms the session is in.
        session.connected, session.rooms = False, {}
    session.accepted_at, session.stream = record.accepted_at, record.stream
    session.session_version = max(session.session_version, record.session_version)
    if record.privacy_version > session.privacy_version:
        user.restore_privacy(record.session_id, record)
    session.activity, session.activity_at = record.activity, record.activity_at
    if user.idle_at and record.activity == "active":  # the edge may not have been notified, or the session has acted
        session.activity = "idle"
        user.send_idle_to_edge(record.session_id)
    user.end_grace(record.session_id)
    # the record of a stalled owner has versions of memberships here, which no edge reports
    session.named = frozenset(room_id for room_id, how in record.rooms.items() if how <= JOINING) or NONE
    for room_id, how in record.rooms.items():
        if how != JOINING:
            session.rooms.setdefault(room_id, 0)  # the version comes with the next join or the room's `ConfirmMember`
    if notify_rooms or not session.connected:
        session.connected = True
        _resume_in_rooms(user, session, record)
    if record.privacy_version < session.privacy_version:  # another session has changed it with scope "user"
        user.send_privacy_to_edge(record.session_id)
    if unknown:  # the edge has the client's last change of privacy, which no room may have received yet
        for room_id in sorted(session.rooms):
            user.context.add_effect(user.privacy_command(record.session_id, room_id))
    return replaced


def merge_reported_name(user: User, records: Collection[SessionRecord]) -> None:
    """Apply the name and image of the newest token among these reports of edges: a lost owner may have been the only
    one that had received it. Once for all reports, because each change of a known name is sent to the rooms."""
    newest = max(records, key=lambda record: record.user_info.issued_at_s, default=None)
    if newest is not None:
        user.take_repeated_user_info(newest.session_id, newest.user_info)


def leave_left_rooms(user: User, record: SessionRecord) -> None:
    """Leave the rooms that the session's edge reports as left, after the user was restored from a record: a lost owner
    may not have replicated these leaves."""
    session = user.sessions[record.session_id]
    if (session.edge, session.connection) == (record.edge, record.connection):
        for room_id, reason in record.left.items():
            if room_id in session.rooms and room_id not in record.rooms:
                user.leave_room(RemoveMember(room_id=room_id, session_id=record.session_id, reason=reason))


def _resume_in_rooms(user: User, session: UserSession, record: SessionRecord) -> None:
    """Notify the session's rooms that it is connected, because they may hold it as lost; also rooms with a join that is
    not answered yet. In rooms that the edge does not report the session receives no events: it may have left, or been
    removed."""
    for room_id in sorted(session.rooms):
        subscribed = record.rooms.get(room_id, NOT_SUBSCRIBED) in (SUBSCRIBED, JOINING)
        membership_id = session.rooms[room_id]
        user.context.add_effect(user.issue_resume(record.session_id, room_id, membership_id, subscribed=subscribed))


def suspend_absent_sessions(
    user: User, edges: Collection[int], named: dict[int, set[str]], now: float, newest: Mapping[int, int] = NONE_NEWER
) -> None:
    """Begin the grace period of each session that no edge holds any more. Its edge is not among `edges`, or has
    reported its sessions (`named`, by edge) without it, although its connection is not above the edge's `newest`, up to
    which the report goes. Leases have no edge."""
    for session_id, session in list(user.sessions.items()):
        if session.leased or not session.connected:
            continue
        missed = session_id not in named.get(session.edge, (session_id,))
        if session.edge not in edges or (missed and session.connection <= newest.get(session.edge, session.connection)):
            user.suspend(session_id, now)
