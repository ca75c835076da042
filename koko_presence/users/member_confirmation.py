"""Reconciles a room's statement about a user's session with the state of the user's owner, when either owner is new
[N-b]. Writes `User` and `UserSession`.

For each value the higher version given by an owner wins, in whichever record it is.
"""

from koko_presence.protocol.commands import ApplyProfile, ConfirmMember, RemoveMember, SuspendMember
from koko_presence.rooms.room import RESUME_MARGIN_S

from .session import UserSession
from .user import MANUAL, User


def confirm(user: User, command: ConfirmMember, now: float) -> None:
    """Compare a room's statement that it holds this session with the state at monotonic second `now`, and send the room
    the correction."""
    room_id, session_id, add_effect = command.room_id, command.session_id, user.context.add_effect
    if session_id not in user.sessions and session_id in user.ended_sessions:
        reason = user.ended_sessions[session_id]
        add_effect(
            RemoveMember(room_id=room_id, session_id=session_id, reason=reason, membership_id=command.membership_id)
        )
        return
    session = user.sessions.get(session_id) or _restore_unknown_session(user, command, now)
    if session is not None and (
        not session.accepted_at  # known only from statements of rooms
        or (room_id in session.named and session.connection == command.connection)
    ):
        session.rooms.setdefault(room_id, command.membership_id)
    # Suspended, not removed: it may join again.
    if session is None or not session.connected or room_id not in session.rooms:
        if session is not None and not session.connected:
            _reconcile_grace(user, session, command, now)
        drop = SuspendMember(
            room_id=room_id,
            session_id=session_id,
            connection=command.connection,
            grace_until=command.grace_until or now + user.context.limits.grace_s,
            version=user.context.next_version(),
        )
        add_effect(drop)
    elif session.connection != command.connection or not command.connected:
        # wrongly suspended; with the same connection its edge still receives the room's events
        subscribed = session.connection == command.connection
        add_effect(user.issue_resume(session_id, room_id, command.membership_id, subscribed=subscribed))
    if session is not None and room_id in session.rooms:
        session.rooms[room_id] = max(session.rooms[room_id], command.membership_id)


def _reconcile_grace(user: User, session: UserSession, command: ConfirmMember, now: float) -> None:
    """Make the user's owner and the room hold a lost session until the same moment; it is returned in
    `command.grace_until`. `command.session_info.session_version` is the version of the room's last change of where the
    session is connected."""
    until = command.grace_until or now + user.context.limits.grace_s
    if session.connection == command.connection:
        if 0.0 < command.grace_until < session.grace_until:  # lost with an owner: the room has the beginning
            user.keep_until(command.session_id, command.grace_until, not_before=now + RESUME_MARGIN_S)
    elif command.session_info.session_version > session.session_version and until > session.grace_until:
        user.keep_until(command.session_id, until)  # a lost owner had resumed it, and the room has received that
    command.grace_until = session.grace_until


def _restore_unknown_session(user: User, command: ConfirmMember, now: float) -> UserSession | None:
    """Restore a session of which all records are lost, perhaps with its edge: it may resume within its grace period,
    and keeps what it hides. Return None when it has ended since, by the versions known here, or when the user has too
    many sessions."""
    session_info = command.session_info
    if user.full or session_info.session_version >= user.restored_empty_version:
        return None
    session = UserSession(
        session_info.edge, command.connection, 0.0, session_info.session_version, disabled=session_info.disabled
    )
    session.invisible, session.privacy_version = session_info.invisible, session_info.privacy_version
    session.share_cursor, session.share_selection = session_info.share_cursor, session_info.share_selection
    session.connected = False
    user.sessions[command.session_id] = session
    grace_until = command.grace_until or now + user.context.limits.grace_s
    user.keep_until(command.session_id, grace_until, not_before=now + RESUME_MARGIN_S if grace_until <= now else 0.0)
    return session


def reconcile_shown(user: User, command: ConfirmMember) -> None:
    """Reconcile what the room shows of the user, and what it lets the session hide, with the user's owner."""
    _reconcile_privacy(user, command)
    _reconcile_profile(user, command)


def _reconcile_privacy(user: User, command: ConfirmMember) -> None:
    session, known_info = user.sessions.get(command.session_id), command.session_info
    if session is None:
        return
    hides = (known_info.invisible, known_info.disabled, known_info.share_cursor, known_info.share_selection)
    if known_info.privacy_version > session.privacy_version:
        known = session.hides
        user.restore_privacy(command.session_id, known_info)
        if hides != known:
            user.send_privacy_to_edge(command.session_id)
    elif hides != session.hides:
        user.context.add_effect(user.privacy_command(command.session_id, command.room_id))


def _reconcile_profile(user: User, command: ConfirmMember) -> None:
    """Accept the profile that the room shows when all records of the user are lost, or when its status was set later
    than the one here: the later one was in no record, and an earlier one may have been repeated since. Else send the
    room the present profile. The name is that of the newest token, here or there; of two issued in the same second,
    the one known later."""
    shown = command.profile
    user.take_user_info(command.session_id, shown.user_info, shown.version)
    is_restorable = user.restored_profile_version < shown.version < user.restored_empty_version
    is_later = shown.status_at > user.status_at
    if shown.shows != user.profile.shows and (is_restorable or is_later):
        user.restored_profile_version = max(user.restored_profile_version, shown.version)
        user.status_at = max(user.status_at, shown.status_at)
        user.manual = shown.status if shown.status in MANUAL and shown.status != shown.activity else None
        user.status_message = shown.status_message
        user.publish_profile(command.session_id, changed=True, interacted=False)
    if shown.shows != user.profile.shows or shown.user_info.shows != user.user_info.shows:
        update = ApplyProfile(
            room_id=command.room_id, user_id=user.id, session_id=command.session_id, profile=user.issue_profile()
        )
        user.context.add_effect(update)
