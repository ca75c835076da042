"""Reconciles a room's statement about a user's session with the state of the user's owner, when either owner is new
[N-b]. Writes `User` and `UserSession`.

For each value the higher version given by an owner wins, in whichever record it is.
"""

from koko_presence.protocol.commands import ApplyProfile, ClaimMember, SuspendMember
from koko_presence.rooms.room import UNHEARD_S

from .session import UserSession
from .user import MANUAL, User


def claim(user: User, command: ClaimMember, now: float) -> None:
    """Compare a room's statement that it holds this session with the state at monotonic second `now`, and send the room
    the correction."""
    room_id, session_id, effects = command.room_id, command.session_id, user.setting.effects
    session = user.sessions.get(session_id) or _believe(user, command, now)
    if session is not None and (
        not session.accepted_at  # known only from statements of rooms
        or (room_id in session.named and session.connection == command.connection)
    ):
        session.rooms.setdefault(room_id, command.stay)
    # Suspended, not removed: it may join again.
    if session is None or not session.connected or room_id not in session.rooms:
        if session is not None and not session.connected:
            _agree_on_grace(user, session, command, now)
        drop = SuspendMember(
            room_id=room_id,
            session_id=session_id,
            connection=command.connection,
            grace_until=command.grace_until or now + user.setting.limits.grace_s,
            version=user.setting.next_version(),
        )
        effects.append(drop)
    elif session.connection != command.connection or not command.connected:
        # wrongly suspended; with the same connection its edge still receives the room's events
        hears = session.connection == command.connection
        effects.append(user.resume_word(session_id, room_id, command.stay, hears=hears))
    if session is not None and room_id in session.rooms:
        session.rooms[room_id] = max(session.rooms[room_id], command.stay)


def _agree_on_grace(user: User, session: UserSession, command: ClaimMember, now: float) -> None:
    """Make the user's owner and the room hold a lost session until the same moment; it is returned in
    `command.grace_until`. `command.visitor.opening` is the version of the room's last change of where the session is
    connected."""
    until = command.grace_until or now + user.setting.limits.grace_s
    if session.connection == command.connection:
        if 0.0 < command.grace_until < session.grace_until:  # lost with an owner: the room has the beginning
            user.hold_until(command.session_id, command.grace_until, not_before=now + UNHEARD_S)
    elif command.visitor.opening > session.opening and until > session.grace_until:
        user.hold_until(command.session_id, until)  # a lost owner had resumed it, and the room has received that
    command.grace_until = session.grace_until


def _believe(user: User, command: ClaimMember, now: float) -> UserSession | None:
    """Restore a session of which all records are lost, perhaps with its edge: it may resume within its grace period,
    and keeps what it hides. Return None when it has ended since, by the versions known here, or when the user has too
    many sessions."""
    visitor = command.visitor
    if user.full or visitor.opening >= user.blank:
        return None
    session = UserSession(visitor.edge, command.connection, 0.0, visitor.opening, disabled=visitor.disabled)
    session.invisible, session.privacy_version = visitor.invisible, visitor.privacy_version
    session.share_cursor, session.share_selection = visitor.share_cursor, visitor.share_selection
    session.connected = False
    user.sessions[command.session_id] = session
    grace_until = command.grace_until or now + user.setting.limits.grace_s
    user.hold_until(command.session_id, grace_until, not_before=now + UNHEARD_S if grace_until <= now else 0.0)
    return session


def agree(user: User, command: ClaimMember) -> None:
    """Reconcile what the room shows of the user, and what it lets the session hide, with the user's owner."""
    _agree_on_privacy(user, command)
    _agree_on_profile(user, command)


def _agree_on_privacy(user: User, command: ClaimMember) -> None:
    session, told = user.sessions.get(command.session_id), command.visitor
    if session is None:
        return
    hides = (told.invisible, told.disabled, told.share_cursor, told.share_selection)
    if told.privacy_version > session.privacy_version:
        known = session.hides
        user.believe_privacy(command.session_id, told)
        if hides != known:
            user.tell_privacy(command.session_id)
    elif hides != session.hides:
        user.setting.effects.append(user.privacy_word(command.session_id, command.room_id))


def _agree_on_profile(user: User, command: ClaimMember) -> None:
    """Accept the profile that the room shows when all records of the user are lost, else send the room the present
    one."""
    shown = command.profile
    if shown.shows == user.profile.shows:
        return
    if user.believed < shown.version < user.blank:
        user.believed = shown.version
        user.manual = shown.status if shown.status in MANUAL and shown.status != shown.activity else None
        user.status_message = shown.status_message
        user.spread_profile(command.session_id, changed=True, interacted=False)
    if shown.shows != user.profile.shows:
        word = ApplyProfile(
            room_id=command.room_id, user_id=user.id, session_id=command.session_id, profile=user.profile
        )
        user.setting.effects.append(word)
