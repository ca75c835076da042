"""Handles messages about the user: heartbeats, status and privacy. The edge checks rates; the user's owner decides.

Functions write the session's activity and privacy. A change of privacy applies at the edge at once; the owner's version
is applied when it arrives, except for switches that the client has changed since.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Protocol

from msgspec import UNSET

from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.cookies import SessionCookie
from koko_presence.protocol.commands import ChangePrivacy, ChangeStatus
from koko_presence.protocol.edge_messages import SessionActed
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Pong
from koko_presence.protocol.messages import CursorMessage, Heartbeat, Join, SelectionMessage, SetPrivacy, SetStatus
from koko_presence.protocol.models import Activity, Cursor, Privacy, is_plain

from .idle_tracker import ActivityWatch
from .session_ports import SessionContext, reply_to

SWITCHES = ("invisible", "share_cursor", "share_selection")


class UserReports(Protocol):
    """The effects of a message about the user on the rooms of the session."""

    def report(self, activity: Activity | None, now: float, *, interacted: bool) -> None: ...

    def drop_waiting(self, kinds: Set[type]) -> None: ...

    def reveal_presence(self, now: float) -> None: ...


class PrivacySession(SessionContext, Protocol):
    """A session with its privacy, which its own methods write."""

    @property
    def privacy(self) -> Privacy: ...

    @property
    def hidden(self) -> bool: ...

    @property
    def rate_limiter(self) -> SessionRateLimiter: ...

    @property
    def memberships(self) -> UserReports: ...

    def change_privacy(self, privacy: Privacy) -> int: ...

    def apply_owner_privacy(self, privacy: Privacy, version: int, applied: int) -> bool: ...


class SelfServiceSession(PrivacySession, Protocol):
    """A session with its privacy, its activity and the rates of messages about the user."""

    @property
    def ponged_at(self) -> float: ...

    @property
    def activity(self) -> ActivityWatch: ...

    @property
    def activity_changes(self) -> TokenBucket: ...

    @property
    def status_bucket(self) -> TokenBucket: ...

    def renew_token(self, token: str, cookie: SessionCookie | None, expires_at_s: float) -> None: ...

    def note_pong_sent(self, now: float) -> None: ...


def handle_heartbeat(session: SelfServiceSession, message: Heartbeat, now: float) -> None:
    """Handle presence.heartbeat: accepted at any rate, answered at most every 5 s [D3, D7, D9]."""
    status = message.status
    if isinstance(status, str) and (status == session.activity.activity or session.activity_changes.take(now)):
        session.memberships.report(session.activity.declare(status, now), now, interacted=status == "active")
    if now - session.ponged_at < session.hub.limits.heartbeat_min_interval_s:
        return
    session.note_pong_sent(now)
    wall = session.hub.wall
    session.send(Pong(id=message.id, timestamp=wall.iso(now), server_time=wall.ms(now), echo=message.client_time))


def handle_status(session: SelfServiceSession, message: SetStatus, now: float) -> None:
    """Handle presence.setStatus [D8]. Errors: RATE_LIMITED."""
    if not session.status_bucket.take(now):
        raise PresenceError("RATE_LIMITED", retry_after_s=session.status_bucket.ready_at(now) - now)
    session.activity.interact(now)
    if message.data.status == "idle":
        session.activity.declare("idle", now)
    command = ChangeStatus(
        user_id=session.user_id,
        session_id=session.session_id,
        activity=session.activity.activity,
        data=message.data,
        at=now,
        reply_to=reply_to(session, message.id),
    )
    session.hub.bus.send(command, now)


def handle_privacy(session: SelfServiceSession, message: SetPrivacy, now: float) -> None:
    """Handle presence.setPrivacy [K1]. Errors: RATE_LIMITED."""
    if not session.status_bucket.take(now):
        raise PresenceError("RATE_LIMITED", retry_after_s=session.status_bucket.ready_at(now) - now)
    command = change_privacy(session, message.data)
    command.reply_to = reply_to(session, message.id)
    session.hub.bus.send(command, now)


def hide_with_join(session: PrivacySession, privacy: Privacy, now: float) -> None:
    """Apply the privacy of a join, whether or not the join succeeds. The command goes to the user's owner before the
    join and by the same route, so that the session is not visible for an instant [K1, K3]."""
    command = change_privacy(session, privacy)
    command.of_join = True
    session.hub.bus.send(command, now)


def change_privacy(session: PrivacySession, privacy: Privacy) -> ChangePrivacy:
    """Apply a change of privacy at the edge and return the command for the user's owner. Waiting values of kinds that
    were hidden and are not any more are dropped [K3, K5]. Until the owner has confirmed the change, it takes precedence
    over the privacy that the owner sends."""
    hidden = _hidden(session.privacy)
    seq = session.change_privacy(privacy)
    _note_change(session, hidden)
    return ChangePrivacy(
        user_id=session.user_id,
        session_id=session.session_id,
        privacy=privacy,
        connection=session.connection,
        session_version=session.version,
        privacy_seq=seq,
    )


def _on_privacy(session: PrivacySession, acted: SessionActed) -> None:
    """Apply the owner's privacy of the session, unless it is older than the last one. Switches that the client has
    changed since keep their values: the owner has not received these changes yet [K3]."""
    if acted.privacy is None:
        return
    hidden = _hidden(session.privacy)
    received = acted.received_privacy_seq if acted.connection == session.connection else 0
    if session.apply_owner_privacy(acted.privacy, acted.privacy_version, received):
        _note_change(session, hidden)


def _note_change(session: PrivacySession, before: set[type]) -> None:
    """Drop what a change of the hidden kinds invalidates; `before` are the kinds hidden until now."""
    after = _hidden(session.privacy)
    session.memberships.drop_waiting(before - after)
    if not session.hidden:
        session.memberships.reveal_presence(session.hub.clock())
    if CursorMessage in before ^ after:  # the last cursor is hidden now, or was sent while cursors were hidden
        session.rate_limiter.forget_last()


def last_shown(session: PrivacySession, cursor: Cursor | None) -> Cursor | None:
    """The cursor that a room's next owner gets from this edge after one that was handled in Python: an empty `Cursor`
    for one that the client has hidden. None for a cursor that others do not see, and for one with a target, which may
    have a kilobyte and is left to the room's record."""
    if session.hidden or CursorMessage in _hidden(session.privacy):
        return None
    if cursor is None or cursor.hidden:
        return Cursor()
    return cursor if is_plain(cursor) else None


def changes_privacy(session: PrivacySession, message: Any) -> bool:
    """True when `message` would change the session's privacy, or by its scope that of other sessions of the user."""
    if isinstance(message, SetPrivacy):
        privacy = message.data
    elif isinstance(message, Join) and message.privacy is not UNSET:
        privacy = message.privacy
    else:
        return False
    present = session.privacy
    return privacy.scope == "user" or any(
        isinstance(value := getattr(privacy, name), bool) and value != getattr(present, name) for name in SWITCHES
    )


def note_acted(session: SelfServiceSession, acted: SessionActed, now: float) -> None:
    """Apply what a call over HTTP has changed for this session [M1]: privacy, and activity as of a message of the
    socket."""
    if session.state != "open":
        return
    _on_privacy(session, acted)
    if acted.beat:
        _on_beat(session, acted, now)
    elif acted.idle_at and session.activity.acted_after(acted.idle_at):
        # the owner may have the session as active already
        session.memberships.report("active", now, interacted=False)
    elif acted.idle_at:
        session.memberships.report(session.activity.declare("idle", now), now, interacted=False)
    elif acted.activity is not None:
        session.activity.note_received(now)
        session.memberships.report(session.activity.declare(acted.activity, now), now, interacted=False)


def _on_beat(session: SelfServiceSession, acted: SessionActed, now: float) -> None:
    """Handle a heartbeat over HTTP: as one of the socket, and its token replaces one that ends before [M6c]."""
    session.activity.note_heartbeat(now)
    status = acted.activity
    if status is not None and (status == session.activity.activity or session.activity_changes.take(now)):
        session.memberships.report(session.activity.declare(status, now), now, interacted=status == "active")
    cookie = None if acted.cookie is None else SessionCookie(*acted.cookie)
    session.renew_token(acted.token, cookie, acted.expires_at_s)


def _hidden(privacy: Privacy) -> set[type]:
    """The message types that are accepted and dropped because of `privacy`."""
    found: set[type] = set()
    if privacy.invisible is True or privacy.share_cursor is False:
        found.add(CursorMessage)
    if privacy.invisible is True or privacy.share_selection is False:
        found.add(SelectionMessage)
    return found
