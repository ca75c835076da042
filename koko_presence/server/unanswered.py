"""Stores one session's commands that may be lost with an owner, for repeating them: joins and leaves without an answer,
and new permissions, which have no answer [N-b].

`UnansweredRequests` is written by the session's `Memberships`, which also sends what it returns. Of each room only the
last command of each kind counts.
"""

from koko_presence.protocol.commands import ChangeGrant, EnterRoom, LeaveRoom
from koko_presence.users.session import NONE

LEAVING_S = 10.0  # longer than a worker that hangs is kept


class UnansweredRequests:
    """The unacknowledged commands of one session, by room. A leave is kept for LEAVING_S after its answer: the room's
    owner answers it, and the user's owner may be lost before another worker has the leave. A repeated join may be
    answered twice, with different results."""

    __slots__ = ("_entering", "_granted", "_leaving", "_left", "_notified", "_refused", "_repeated_joins")

    def __init__(self) -> None:
        self._repeated_joins: frozenset[str] = NONE  # rooms with a repeated join, usually none
        self._refused: dict[str, float] = {}  # rooms whose repeated join was refused by one answer, and when
        self._entering: dict[str, EnterRoom] = {}
        self._leaving: dict[str, tuple[LeaveRoom, float]] = {}
        # answered leaves: reason and time; None: there are none
        self._left: dict[str, tuple[str, float]] | None = None
        self._notified: frozenset[str] = NONE  # rooms whose leave the edge has acknowledged to the client in advance
        self._granted: dict[str, tuple[ChangeGrant, float]] | None = None  # new permissions, and when; None: none

    def enter(self, command: EnterRoom) -> None:
        """Record a join that is sent."""
        self._forget_leave(command.room_id)
        self._refused.pop(command.room_id, None)
        if command.room_id in self._repeated_joins:
            self._repeated_joins -= {command.room_id}
        self._entering[command.room_id] = command
        if self._granted is not None:
            self._granted.pop(command.room_id, None)  # the join carries its own permissions

    def grant(self, command: ChangeGrant, now: float) -> None:
        """Record new permissions in a room that are sent."""
        self._granted = {} if self._granted is None else self._granted
        self._granted[command.room_id] = (command, now)

    def is_entering(self, room_id: str) -> bool:
        """True while a join has no answer."""
        return room_id in self._entering

    def note_entered(self, room_id: str) -> None:
        """Record the answer to a join."""
        self._entering.pop(room_id, None)

    def note_refused(self, room_id: str, now: float) -> bool:
        """Record a refused join. Returns False when the join was repeated and has entered by its other answer."""
        if room_id in self._repeated_joins:
            self._repeated_joins -= {room_id}
            if room_id not in self._entering:
                return False
            self._refused[room_id] = now
        return True

    def take_refused(self, room_id: str, now: float) -> bool:
        """True when a repeated join was refused by its other answer within LEAVING_S; the record is removed."""
        return now - self._refused.pop(room_id, -LEAVING_S) < LEAVING_S

    def leave(self, command: LeaveRoom, now: float) -> None:
        """Record a leave that is sent."""
        self._entering.pop(command.room_id, None)
        self._forget_leave(command.room_id)
        self._leaving[command.room_id] = (command, now)

    def is_superseded(self, room_id: str) -> bool:
        """True when an answer for the room is out of date: the client has the acknowledgement of its leave, or joins
        again."""
        return room_id in self._notified or room_id in self._entering

    def note_notified(self, room_id: str) -> None:
        """Record that the edge has acknowledged a leave to the client before the owner."""
        if room_id in self._leaving:
            self._notified |= {room_id}

    def note_left(self, room_id: str) -> None:
        """Record the owner's answer to a leave."""
        answered = self._leaving.get(room_id)
        self._forget_leave(room_id)
        if answered is not None:
            command, at = answered
            recent = {room: each for room, each in (self._left or {}).items() if at - each[1] < LEAVING_S}
            self._left = recent | {room_id: (command.reason, at)}

    def note_entered_again(self, room_id: str) -> None:
        """Remove the record of an answered leave: the session is in the room again, over its socket or by a call."""
        if self._left is not None and self._left.pop(room_id, None) is not None and not self._left:
            self._left = None

    def _forget_leave(self, room_id: str) -> None:
        self.note_entered_again(room_id)
        self._leaving.pop(room_id, None)
        if room_id in self._notified:
            self._notified -= {room_id}

    @property
    def entering(self) -> set[str]:
        """Rooms with a join that has no answer; the session may be a member there already."""
        return set(self._entering)

    def begin_retry(self, now: float) -> list[EnterRoom | LeaveRoom | ChangeGrant]:
        """Drop leaves older than LEAVING_S, and return the commands to repeat after the loss of an owner: joins, then
        leaves and permissions of the last LEAVING_S. The joins count as repeated from now on."""
        self._leaving = {room: (leave, at) for room, (leave, at) in self._leaving.items() if now - at < LEAVING_S}
        if self._entering:
            self._repeated_joins |= self._entering.keys()
        granted = [grant for grant, at in (self._granted or {}).values() if now - at < LEAVING_S]
        return [*self._entering.values(), *(leave for leave, _ in self._leaving.values()), *granted]

    def recently_left(self, now: float) -> dict[str, str]:
        """Rooms that the session has left within LEAVING_S, with the reasons, and has not joined again."""
        return {room: reason for room, (reason, at) in (self._left or {}).items() if now - at < LEAVING_S}
