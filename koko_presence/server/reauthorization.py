"""Whether a session may stay in its rooms: asked again after a fresh token, or when an operator says so; and its end.
A session that is in stays in while there is no answer, and is asked about again until there is one.

The part of `membership.Memberships` that can take a room away from a session without its client asking for it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from koko_presence.access.policy import Grant
from koko_presence.protocol.commands import ChangeGrant, LeaveRoom
from koko_presence.protocol.events import Kicked
from koko_presence.users.session import NONE

from .unanswered import UnansweredRequests

if TYPE_CHECKING:
    from .session import Session


NOT_OPEN = "Your new token does not open this room."
NO_LONGER_OPEN = "You may not be in this room any more."
ASK_AGAIN_S = 5.0  # until what nobody could say is asked again, twice that at most


def kick(session: Session, reason: str) -> None:
    """Throw the client off the server: a `kicked` is the next it gets and the last, then 4403 [L7, N12]."""
    session.outbox.discard()
    session.send(Kicked(reason=reason))
    session.finish(4403)


class Reauthorization:
    """Base of Memberships, whose state this is."""

    __slots__ = ("_ask_at", "undecided")

    if TYPE_CHECKING:
        _session: Session
        _began: dict[str, float]
        joined: set[str]
        joining: dict[str, None]
        hearing: set[str]
        unanswered: UnansweredRequests

        def _check(self, room_id: str, room_type: Any, then: Callable[[Grant], None]) -> None: ...
        def _forget(self, room_id: str) -> None: ...
        def _catch_up(self) -> None: ...
        def outdate_joins(self) -> None: ...
        def _send(self, command: Any, now: float) -> None: ...

    def __init__(self) -> None:
        self.undecided: frozenset[str] = NONE  # rooms in which it is although nobody could say whether it may be
        self._ask_at = 0.0

    def check_again(self, now: float) -> None:
        """A fresh token: rooms it no longer opens are left, in the others the scopes are new [A4]."""
        self.outdate_joins()
        for room_id in sorted(self.joined):
            self.recheck(room_id, NOT_OPEN)

    def recheck(self, room_id: str, reason: str, then: Callable[[bool | None], None] = lambda allowed: None) -> None:
        """May the session still be in a room that it is in, or on its way into? If not it is thrown out, with `reason`;
        `then` hears which, or None when nobody could say [A6, N12]."""

        def decide(grant: Grant) -> None:
            self._regrant(room_id, grant, reason)
            then(None if grant.retry_after_s is not None else grant.allow)

        self._check(room_id, UNSET, decide)

    def _regrant(self, room_id: str, grant: Grant, reason: str) -> None:
        session, now = self._session, self._session.hub.clock()
        if self.undecided and (grant.allow or grant.retry_after_s is None):
            self.undecided -= {room_id}
        if grant.allow:
            command = ChangeGrant(
                user_id=session.user_id,
                room_id=room_id,
                session_id=session.session_id,
                connection=session.connection,
                opening=session.version,
                can_control=grant.can_control,
                can_broadcast=grant.can_broadcast,
                moderator=grant.moderator,
            )
            self.unanswered.grant(command, now)
            self._send(command, now)
            return
        if grant.retry_after_s is None:
            self.expel(room_id, reason, now)
        else:
            self.note_undecided(room_id, now)

    def note_undecided(self, room_id: str, now: float) -> None:
        """Nobody could say whether the session may be in a room in which it is: it stays, and is asked about later."""
        if room_id not in self.joined and room_id not in self.joining:
            return
        session = self._session
        if not self.undecided:
            # spread, for many were left undecided at the same time
            self._ask_at = now + ASK_AGAIN_S * (1.0 + session.connection % 16 / 16.0)
            session.hub.wake(session, now)
        self.undecided |= {room_id}

    def ask_undecided(self, now: float) -> float:
        """Ask again about the rooms of which nobody could say, if it is time. Returns when to come again."""
        if self.undecided and now >= self._ask_at:
            rooms, self.undecided = self.undecided, NONE
            for room_id in sorted(rooms):
                self.recheck(room_id, NO_LONGER_OPEN)
        return self._ask_at if self.undecided else inf

    def expel(self, room_id: str, reason: str, now: float) -> bool:
        """Throw the session out of a room that it is in, or on its way into: a `kicked` is the next it gets of it,
        and the last. False when it has nothing to do with it."""
        session = self._session
        if room_id not in self.joined and room_id not in self.joining:
            return False
        if room_id in self.hearing or self.unanswered.is_entering(room_id):
            session.barred |= {room_id}
        session.hub.mute(session, room_id)  # before the owner knows: it may be another worker
        session.send(Kicked(room_id=room_id, reason=reason))
        self.joining.pop(room_id, None)
        session.held.take(room_id)  # `kicked` is their answer
        self._began.pop(room_id, None)
        self._forget(room_id)
        command = LeaveRoom(user_id=session.user_id, room_id=room_id, session_id=session.session_id, reason="kicked")
        self.unanswered.leave(command, now)
        self._send(command, now)
        self._catch_up()
        return True
