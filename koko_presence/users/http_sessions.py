"""Handles HTTP calls at a user's owner: sessions without a socket (leases), and the session that a call acts for [M1,
M2, M3].

A lease is a session without an edge. It is in one room and ends `Limits.silence_s` (three heartbeats) after its last
renewal. Its user's owner and its room's owner each hold that deadline, so either can end it without the other. A lease
counts as a session, and its room as a room [C10]. It never takes the place of another session, not even of one in its
grace period; a socket may take the place of a lease [C11].
"""

import hashlib

from koko_presence.protocol.commands import (
    NO_EDGE,
    BeatStream,
    ChangePrivacy,
    ConfirmMember,
    EnterRoom,
    LeaveRoom,
    RemoveMember,
    RenewLease,
    RenewLeases,
    SessionInfo,
)
from koko_presence.protocol.edge_messages import SessionActed
from koko_presence.protocol.errors import PresenceError

from .session import UserSession
from .user import User, presence_is_off

_LEASE_ID_CHARS = 38
SHOWS_ALL = (False, False, True, True)  # of `UserSession.hides`
_ONE_ROOM = "A session held over HTTP is for one room. Join without a sessionId to hold another."


def lease_id(user_id: str, room_id: str, client_key: str) -> str:
    """Return the session id of a lease: one per user, room and key, so a repeated request returns the same lease
    [M2]."""
    found = hashlib.blake2b(digest_size=16, person=b"koko lease")
    for part in (user_id, room_id, client_key):
        data = part.encode()
        found.update(len(data).to_bytes(4, "big") + data)
    return "lease_" + found.hexdigest()


def is_lease(session_id: str) -> bool:
    """Return whether this has the form of a lease's id; it may be any user's, and have ended."""
    return session_id.startswith("lease_") and len(session_id) == _LEASE_ID_CHARS


def unknown_session() -> PresenceError:
    """Return the error for a missing session and for one of another user; the text is the same [M1]."""
    return PresenceError("SESSION_REQUIRED", "You have no such session. Name one that is connected, or join first.")


def prepare(user: User, command: EnterRoom, now: float) -> None:
    """Complete a call's `EnterRoom`: the edge and connection of the session, or the end of its lease. Errors:
    SESSION_REQUIRED, TOO_MANY_SESSIONS [C11], TOO_MANY_ROOMS [C10]; FORBIDDEN when the caller's token disables presence
    and the session is a socket's with presence, which other users would see [K1]."""
    session_info = command.session_info
    session = user.sessions.get(session_info.session_id)
    if session is None and command.by_stream and (stream := _only_stream(user)):
        command.lease, session_info.session_id, session = False, stream, user.sessions[stream]
    if session is None and command.lease:
        user.check_rooms(command.room_id)
        if user.full:
            raise PresenceError("TOO_MANY_SESSIONS")
        session = _begin(user, session_info)
    if session is None or not session.connected:
        raise unknown_session()
    if session.leased or command.lease:
        if session.rooms and command.room_id not in session.rooms:
            raise PresenceError("SESSION_REQUIRED", _ONE_ROOM)
        _hold(user, session_info.session_id, now + user.context.limits.silence_s)
        user.set_disabled(session_info.session_id, session_info.disabled)
        session.activity, session.activity_at, user.idle_at = "active", now, 0.0
        user.update_activity(session_info.session_id, interacted=False)
    elif session_info.disabled and not session.disabled:
        raise presence_is_off()
    session_info.edge = session.edge
    session_info.connection = session.connection
    session_info.session_version = session.session_version
    session_info.lease_until = session.lease_until


def _only_stream(user: User) -> str:
    """Return the session that the user has by an event stream, "" unless there is exactly one."""
    streams = [each for each, session in user.sessions.items() if session.stream and session.connected]
    return streams[0] if len(streams) == 1 else ""


def _begin(user: User, session_info: SessionInfo) -> UserSession:
    version = user.context.next_version()
    session = user.sessions[session_info.session_id] = UserSession(
        NO_EDGE, 0, 0.0, version, disabled=session_info.disabled
    )
    session.hide(user.privacy_defaults)
    return session


def _hold(user: User, session_id: str, until: float) -> None:
    user.sessions[session_id].lease_until = until
    user.context.deadlines.set(("session", user.id, session_id), until)


def held(user: User, session_id: str, *, shown: bool) -> list[tuple[str, str]]:
    """Return the user's leases with their rooms; all of them, or the one of `session_id`. `shown`: those that hide
    nothing."""
    return [
        (each, room_id)
        for each, session in user.sessions.items()
        if session.leased and session_id in ("", each) and not (shown and session.hides != SHOWS_ALL)
        for room_id in session.rooms
    ]


def renew(user: User, command: RenewLeases, now: float) -> None:
    """Renew leases, the HTTP heartbeat; the room of the last one answers for all. Errors: METHOD_NOT_SUPPORTED when
    there is none to renew [D6]."""
    named = dict(zip(command.sessions, command.presence, strict=True))
    leases = [each for each in named if each in user.sessions and user.sessions[each].leased]
    if not leases:
        raise nothing_to_renew()
    until = now + user.context.limits.silence_s
    user.take_user_info(leases[0], command.user_info)
    for number, session_id in enumerate(leases, 1):
        session = user.sessions[session_id]
        _hold(user, session_id, until)
        user.set_disabled(session_id, command.disabled)
        if command.activity is not None:
            session.activity, session.activity_at = command.activity, now
        if command.activity == "active":
            user.idle_at = 0.0
        user.update_activity(session_id, interacted=command.activity == "active")
        for room_id, membership_id in session.rooms.items():
            user.context.add_effect(
                RenewLease(
                    room_id=room_id,
                    session_id=session_id,
                    user_id=user.id,
                    membership_id=membership_id,
                    lease_until=until,
                    presence=named[session_id],
                    reply_to=command.reply_to if number == len(leases) else None,
                    renewed=len(leases),
                    client_time=command.client_time,
                )
            )


def beat(user: User, command: BeatStream) -> None:
    """Pass the heartbeat of an event stream's session on to its edge. Errors: METHOD_NOT_SUPPORTED for any other
    session [D6]."""
    session = user.sessions.get(command.session_id)
    if session is None or not session.stream or not session.connected:
        raise nothing_to_renew()
    acted = SessionActed(
        session_id=command.session_id,
        activity=command.activity,
        beat=True,
        token=command.token,
        cookie=command.cookie,
        expires_at_s=command.expires_at_s,
    )
    user.send_to_edge(acted)


def nothing_to_renew() -> PresenceError:
    return PresenceError(
        "METHOD_NOT_SUPPORTED",
        "Over HTTP a heartbeat renews a session that was joined over HTTP, and you have none, or it has ended: join "
        "again. A socket's session sends its heartbeats over the socket.",
    )


def leave(user: User, command: LeaveRoom) -> bool:
    """Handle an HTTP leave [M3]: of the named session, the lease, the only session in the room, or all. Return False
    when no session had to leave; else the room answers. Errors: SESSION_REQUIRED."""
    room_id = command.room_id
    there = [session_id for session_id, session in user.sessions.items() if room_id in session.rooms]
    if command.all:
        leavers = there
    elif command.session_id:
        if command.session_id not in user.sessions and not is_lease(command.session_id):
            raise unknown_session()
        leavers = [command.session_id] if command.session_id in user.sessions else []  # a lease that has ended has left
    elif command.lease in there:
        leavers = [command.lease]
    elif len(there) == 1:
        leavers = there
    else:
        raise unknown_session()
    for number, session_id in enumerate(leavers, 1):
        last = number == len(leavers)
        user.leave_room(
            RemoveMember(
                room_id=room_id,
                session_id=session_id,
                reason=command.reason,
                reply_to=command.reply_to if last else None,
                left=len(leavers),
            )
        )
    return bool(leavers)


def change_privacy(user: User, command: ChangePrivacy) -> dict[str, object]:
    """setPrivacy over HTTP, of one session, or of all with scope "user" [K6]; the edges of the connected ones are
    notified. Return the fields of the answer. Errors: SESSION_REQUIRED, FORBIDDEN."""
    if not command.session_id and (command.privacy.scope == "user" or len(user.sessions) == 1):
        command.session_id = next(iter(user.sessions), "")
    if command.session_id not in user.sessions:
        raise unknown_session()
    result = user.change_privacy(command)
    user.send_privacy_to_edge(command.session_id)
    return result


def restore_http_session(user: User, command: ConfirmMember, now: float) -> None:
    """Restore a lease that a room holds and that the new owner of its user may not have [N-b]. It ends when it has run
    out or the user has too many sessions."""
    session_info = command.session_info
    session = user.sessions.get(command.session_id)
    if session is None:
        if session_info.lease_until <= now or user.full:
            removal = RemoveMember(room_id=command.room_id, session_id=command.session_id, reason="timeout")
            user.context.add_effect(removal)
            return
        session = _begin(user, session_info)
        session.invisible = session_info.invisible
        session.share_cursor, session.share_selection = session_info.share_cursor, session_info.share_selection
        session.privacy_version = session_info.privacy_version
        _hold(user, command.session_id, session_info.lease_until)
        user.update_activity(command.session_id, interacted=False)
    session.rooms[command.room_id] = max(command.membership_id, session.rooms.get(command.room_id, 0))
