"""Rechecks whether a session may stay in its rooms, after a new token or on an operator's request, and expels it.

A session in a room stays in it while there is no answer, and the check is repeated until there is one. This is the part
of `membership.Memberships` that can remove a session from a room without a request of its client.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET

from koko_presence._fastpath.outbox import Outbox
from koko_presence.access.policy import Grant
from koko_presence.protocol.commands import ChangeGrant
from koko_presence.protocol.events import Kicked
from koko_presence.protocol.models import Wire

from .held_messages import HeldBytes
from .room_membership import RoomMembership
from .session_ports import EdgeServices, SessionContext
from .subscription import SubscribedSession

NOT_OPEN = "Your new token does not open this room."
NO_LONGER_OPEN = "You may not be in this room any more."
RECHECK_S = 5.0  # until an undecided check is repeated, at most twice that


class KickableSession(Protocol):
    """A session that can be kicked off the server."""

    @property
    def outbox(self) -> Outbox: ...

    def send(self, message: Wire) -> None: ...

    def finish(self, code: int) -> None: ...


class RecheckHub(EdgeServices, Protocol):
    """The edge of a session whose rooms are rechecked."""

    def wake(self, connection: int, at: float) -> None: ...

    def unsubscribe(self, session: SubscribedSession, room_id: str) -> None: ...


class RecheckedSession(SessionContext, SubscribedSession, Protocol):
    """A session whose rooms are rechecked."""

    @property
    def hub(self) -> RecheckHub: ...

    @property
    def held(self) -> HeldBytes: ...

    def recheck_watched(self) -> int: ...

    def unwatch(self, room_id: str, reason: str) -> None: ...


def kick(session: KickableSession, reason: str) -> None:
    """Kick the client off the server: unsent messages are dropped, `kicked` is the last message, then the connection is
    closed with 4403 [L7, N12]."""
    session.outbox.discard()
    session.send(Kicked(reason=reason))
    session.finish(4403)


class Reauthorization:
    """Base of `Memberships`, whose state it shares."""

    __slots__ = ("_recheck_at",)

    if TYPE_CHECKING:
        _session: RecheckedSession
        rooms: dict[str, RoomMembership]

        @property
        def joined(self) -> list[str]: ...

        def outdate_joins(self) -> None: ...
        def _apply(self, membership: RoomMembership, event: str, now: float, *arguments: Any) -> None: ...
        def _check(self, room_id: str, room_type: Any, then: Callable[[Grant], None]) -> None: ...
        def _send(self, command: Any, now: float) -> None: ...

    def __init__(self) -> None:
        self._recheck_at = inf  # monotonic second at which the undecided rooms are rechecked

    def check_again(self, now: float) -> None:
        """Recheck all rooms after a new token: the session is expelled from rooms that the token does not open, and
        gets the token's scopes in the others [A4]."""
        self.outdate_joins()
        for room_id in self.joined:
            self.recheck(room_id, NOT_OPEN)
        self._session.recheck_watched()

    def recheck(self, room_id: str, reason: str, then: Callable[[bool | None], None] = lambda allowed: None) -> None:
        """Check whether the session may be in a room that it is in or joins, and expel it with `reason` if not. `then`
        is called with the result, None when there was no answer [A6, N12]."""

        def decide(grant: Grant) -> None:
            self._regrant(room_id, grant, reason)
            then(None if grant.retry_after_s is not None else grant.allow)

        self._check(room_id, UNSET, decide)

    def _regrant(self, room_id: str, grant: Grant, reason: str) -> None:
        session, now, membership = self._session, self._session.hub.clock(), self.rooms.get(room_id)
        if membership is not None and (grant.allow or grant.retry_after_s is None):
            membership.set_undecided(undecided=False)
        if grant.allow:
            command = ChangeGrant(
                user_id=session.user_id,
                room_id=room_id,
                session_id=session.session_id,
                connection=session.connection,
                session_version=session.version,
                can_control=grant.can_control,
                can_broadcast=grant.can_broadcast,
                moderator=grant.moderator,
                presence=grant.presence,
            )
            if membership is not None and membership.is_current:
                membership.note_granted(command, now)
            self._send(command, now)
        elif grant.retry_after_s is None:
            self.expel(room_id, reason, now)
        else:
            self.note_undecided(room_id, now)

    @property
    def _undecided(self) -> list[str]:
        return sorted(room_id for room_id, each in self.rooms.items() if each.undecided)

    def note_undecided(self, room_id: str, now: float) -> None:
        """Record that the access check of a room that the session is in or joins had no answer: the session stays, and
        the check is repeated later."""
        session, membership = self._session, self.rooms.get(room_id)
        if membership is None or not membership.is_current:
            return
        if not self._undecided:
            # spread by connection number: many sessions become undecided at the same time
            self._recheck_at = now + RECHECK_S * (1.0 + session.connection % 16 / 16.0)
            session.hub.wake(session.connection, now)
        membership.set_undecided(undecided=True)

    def recheck_undecided(self, now: float) -> float:
        """Recheck the undecided rooms when it is due. Returns the monotonic second of the next recheck, infinity for
        none."""
        if self._recheck_at == inf:
            return inf
        undecided = self._undecided
        if undecided and now >= self._recheck_at:
            for room_id in undecided:
                self.rooms[room_id].set_undecided(undecided=False)
            for room_id in undecided:
                self.recheck(room_id, NO_LONGER_OPEN)
            undecided = self._undecided
        if not undecided:
            self._recheck_at = inf
        return self._recheck_at

    def expel(self, room_id: str, reason: str, now: float) -> bool:
        """Expel the session from a room that it is in or joins: `kicked` is the next and last message that its client
        gets of the room. It does not watch the room any more, either. Returns False when the session is neither in the
        room nor joins it."""
        membership = self.rooms.get(room_id)
        is_current = membership is not None and membership.is_current
        if membership is not None and is_current:
            self._apply(membership, "expel", now, reason)
        self._session.unwatch(room_id, reason)
        return is_current
