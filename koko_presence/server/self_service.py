"""What a client says of itself: heartbeats, status, privacy. The session checks the rates; the user's owner decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from koko_presence.protocol.commands import ChangePrivacy, ChangeStatus
from koko_presence.protocol.edge_messages import SessionActed
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Pong
from koko_presence.protocol.messages import (
    Cursor,
    CursorMessage,
    Heartbeat,
    Join,
    Privacy,
    SelectionMessage,
    SetPrivacy,
    SetStatus,
    is_plain,
)

if TYPE_CHECKING:
    from .session import Session

_SWITCHES = ("invisible", "share_cursor", "share_selection")


def handle_heartbeat(session: Session, message: Heartbeat, now: float) -> None:
    """presence.heartbeat: never refused for being early, answered at most every 5 s [D3, D7, D9]."""
    status = message.status
    if isinstance(status, str) and (status == session.activity.activity or session.claims.take(now)):
        session.rooms.report(session.activity.claim(status, now), now, interacted=status == "active")
    if now - session.ponged_at < session.hub.limits.heartbeat_min_interval_s:
        return
    session.ponged_at = now
    wall = session.hub.wall
    session.send(Pong(id=message.id, timestamp=wall.iso(now), server_time=wall.ms(now), echo=message.client_time))


def handle_status(session: Session, message: SetStatus, now: float) -> None:
    """presence.setStatus [D8]."""
    if not session.status_bucket.take(now):
        raise PresenceError("RATE_LIMITED", retry_after_s=session.status_bucket.ready_at(now) - now)
    session.activity.interact(now)
    if message.data.status == "idle":
        session.activity.claim("idle", now)
    command = ChangeStatus(
        user_id=session.user_id,
        session_id=session.session_id,
        activity=session.activity.activity,
        message=SetStatus(id=message.id, data=message.data),  # one name for both
    )
    session.hub.bus.send(command, now)


def handle_privacy(session: Session, message: SetPrivacy, now: float) -> None:
    """presence.setPrivacy [K1]."""
    if not session.status_bucket.take(now):
        raise PresenceError("RATE_LIMITED", retry_after_s=session.status_bucket.ready_at(now) - now)
    command = change_privacy(session, message.data)
    command.id = message.id
    session.hub.bus.send(command, now)


def hide_with_join(session: Session, privacy: Privacy, now: float) -> None:
    """The privacy of a join, when its turn has come, whatever becomes of the join. It goes to the user's owner before
    the join and on its road, so that there is no visible instant [K1, K3]."""
    command = change_privacy(session, privacy)
    command.of_join = True
    session.hub.bus.send(command, now)


def change_privacy(session: Session, privacy: Privacy) -> ChangePrivacy:
    """What the session hides from now on; what it sent while it was hidden and still waits is dropped [K3, K5]. Until
    its user's owner has heard of it, that counts above what the owner says. Returns the command that tells it."""
    hidden = _hidden(session.privacy)
    session.privacy_words += 1
    for name in _SWITCHES:
        if isinstance(value := getattr(privacy, name), bool):
            setattr(session.privacy, name, value)
            session.privacy_unheard = {**session.privacy_unheard, name: session.privacy_words}
    _note_change(session, hidden)
    return ChangePrivacy(
        user_id=session.user_id,
        session_id=session.session_id,
        privacy=privacy,
        connection=session.connection,
        opening=session.version,
        word=session.privacy_words,
    )


def _on_privacy(session: Session, news: SessionActed) -> None:
    """The owner's word on what the session hides. What the client has said since stays as it is: the owner has not
    heard of it yet, and will count it [K3]."""
    privacy = news.privacy
    if privacy is None or news.privacy_version < session.privacy_version:
        return
    heard = news.heard if news.connection == session.connection else 0
    unheard = {name: word for name, word in session.privacy_unheard.items() if word > heard}
    for name in unheard:
        setattr(privacy, name, getattr(session.privacy, name))
    hidden, session.privacy = _hidden(session.privacy), privacy
    session.privacy_version, session.privacy_unheard = news.privacy_version, unheard
    _note_change(session, hidden)


def _note_change(session: Session, before: set[type]) -> None:
    """The session hides something else than the kinds `before`."""
    after = _hidden(session.privacy)
    session.rooms.drop_waiting(before - after)
    if CursorMessage in before ^ after:  # neither what is hidden now nor what came while it was
        session.gate.forget_last()


def last_shown(session: Session, cursor: Cursor | None) -> Cursor | None:
    """What a room's next owner is told of a cursor that goes the long way there. None, nothing, for one that others do
    not see, and for one with a target, which the room's record may have: it has up to a kilobyte."""
    if session.hidden or CursorMessage in _hidden(session.privacy):
        return None
    if cursor is None or cursor.hidden:
        return Cursor()
    return cursor if is_plain(cursor) else None


def changes_privacy(session: Session, message: Any) -> bool:
    """Would `message` let the session, or by its scope another of the user's, hide anything else than now?"""
    if isinstance(message, SetPrivacy):
        privacy = message.data
    elif isinstance(message, Join) and message.privacy is not UNSET:
        privacy = message.privacy
    else:
        return False
    present = session.privacy
    return privacy.scope == "user" or any(
        isinstance(value := getattr(privacy, name), bool) and value != getattr(present, name) for name in _SWITCHES
    )


def note_acted(session: Session, news: SessionActed, now: float) -> None:
    """Something was done for this session over HTTP [M1]: the person is there, as if the socket had said it."""
    if session.state != "open":
        return
    _on_privacy(session, news)
    if news.activity is not None:
        session.activity.note_life(now)
        session.rooms.report(session.activity.claim(news.activity, now), now, interacted=False)


def _hidden(privacy: Privacy) -> set[type]:
    """The kinds of messages that are accepted and dropped."""
    found: set[type] = set()
    if privacy.invisible is True or privacy.share_cursor is False:
        found.add(CursorMessage)
    if privacy.invisible is True or privacy.share_selection is False:
        found.add(SelectionMessage)
    return found
