"""What a room says of a user's sessions to the user's owner, when either is new, held against what is known [N-b]."""

from koko_presence.commands import ApplyProfile, ClaimMember, Drop

from .setting import Setting
from .user import MANUAL, User


def claim(user: User, command: ClaimMember, now: float) -> None:
    """A room has this session: tell it of the difference, as known at monotonic second `now`."""
    room_id, session_id, effects = command.room_id, command.session_id, user.setting.effects
    session = user.sessions.get(session_id)
    if session is None or not session.connected or room_id not in session.rooms:  # it may still join again
        if session is not None and not session.connected and session.connection == command.connection:
            if 0.0 < command.grace_until < session.grace_until:  # lost with an owner: when it began is known there
                user.hold_until(session_id, command.grace_until)
            command.grace_until = session.grace_until
        refuse(user.setting, command, now)
    elif session.connection != command.connection or not command.connected:
        # it was dropped by mistake, and its edge has gone on hearing the room
        hears = session.connection == command.connection
        effects.append(user.resume_word(session_id, room_id, command.stay, hears=hears, now=now))
    if session is not None and room_id in session.rooms:
        session.rooms[room_id] = max(session.rooms[room_id], command.stay)


def refuse(setting: Setting, command: ClaimMember, now: float) -> None:
    """The session is not connected, as far as is known: it may come back inside its grace, which begins now unless it
    has begun."""
    drop = Drop(
        room_id=command.room_id,
        session_id=command.session_id,
        connection=command.connection,
        grace_until=command.grace_until or now + setting.limits.grace_s,
        said=now,
    )
    setting.effects.append(drop)


def agree(user: User, command: ClaimMember) -> None:
    """A room shows this of the person. That is believed when every record was lost; else the room is told better."""
    shown = command.profile
    if shown is None or shown.shows == user.profile.shows:
        return
    if user.blank:
        user.blank = False
        user.manual = shown.status if shown.status in MANUAL and shown.status != shown.activity else None
        user.status_message = shown.status_message
        user.spread_profile(command.session_id, changed=True, interacted=False)
    if shown.shows != user.profile.shows:
        word = ApplyProfile(
            room_id=command.room_id, user_id=user.id, session_id=command.session_id, profile=user.profile
        )
        user.setting.effects.append(word)
