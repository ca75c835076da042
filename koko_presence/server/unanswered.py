"""What one session has said to owners that may be lost with an owner: joins and leaves that nobody has answered yet,
and new rights, which nobody answers [N-b]."""

from koko_presence.protocol.commands import ChangeGrant, EnterRoom, LeaveRoom
from koko_presence.users.session import NONE

LEAVING_S = 10.0  # longer than any worker that hangs is left alone


class UnansweredRequests:
    """The last of each room. A leave is known for a while after its answer: the room has given that, and the user's
    owner may be lost before any other worker knows. A join that was said twice may be answered twice, and not in the
    same way."""

    __slots__ = ("_entering", "_granted", "_leaving", "_left", "_refused", "_told", "_twice")

    def __init__(self) -> None:
        self._twice: frozenset[str] = NONE  # joins that were said again, which is seldom
        self._refused: dict[str, float] = {}  # those of which one has been refused, and when
        self._entering: dict[str, EnterRoom] = {}
        self._leaving: dict[str, tuple[LeaveRoom, float]] = {}
        # why the session has left, and when: leaves that were answered; None: there are none
        self._left: dict[str, tuple[str, float]] | None = None
        self._told: frozenset[str] = NONE  # leaves of which the client has heard
        self._granted: dict[str, tuple[ChangeGrant, float]] | None = None  # new rights, and when; None: there are none

    def enter(self, command: EnterRoom) -> None:
        """The session wants in."""
        self._forget_leave(command.room_id)
        self._refused.pop(command.room_id, None)
        if command.room_id in self._twice:
            self._twice -= {command.room_id}
        self._entering[command.room_id] = command
        if self._granted is not None:
            self._granted.pop(command.room_id, None)  # the join brings its own

    def grant(self, command: ChangeGrant, now: float) -> None:
        """The session has new rights in a room."""
        self._granted = {} if self._granted is None else self._granted
        self._granted[command.room_id] = (command, now)

    def is_entering(self, room_id: str) -> bool:
        """Is a join on its way to the owners, or its answer on the way back?"""
        return room_id in self._entering

    def entered(self, room_id: str) -> None:
        """That has been answered."""
        self._entering.pop(room_id, None)

    def refused(self, room_id: str, now: float) -> bool:
        """A join was refused. False: it was said twice, and has been let in already."""
        if room_id in self._twice:
            self._twice -= {room_id}
            if room_id not in self._entering:
                return False
            self._refused[room_id] = now
        return True

    def is_refused(self, room_id: str, now: float) -> bool:
        """Has the session been told lately that it is not let in, by the other answer to the same join?"""
        return now - self._refused.pop(room_id, -LEAVING_S) < LEAVING_S

    def leave(self, command: LeaveRoom, now: float) -> None:
        """The session wants out."""
        self._entering.pop(command.room_id, None)
        self._forget_leave(command.room_id)
        self._leaving[command.room_id] = (command, now)

    def has_gone_on(self, room_id: str) -> bool:
        """Does the client know that it has left, or does it want in again?"""
        return room_id in self._told or room_id in self._entering

    def tell(self, room_id: str) -> None:
        """The client has been told that it has left, though no owner has said so yet."""
        if room_id in self._leaving:
            self._told |= {room_id}

    def left(self, room_id: str) -> None:
        """The room has said good-bye."""
        answered = self._leaving.get(room_id)
        self._forget_leave(room_id)
        if answered is not None:
            command, at = answered
            recent = {room: each for room, each in (self._left or {}).items() if at - each[1] < LEAVING_S}
            self._left = recent | {room_id: (command.reason, at)}

    def entered_again(self, room_id: str) -> None:
        """The session is in the room, by whatever way it has joined: it has not left any more."""
        if self._left is not None and self._left.pop(room_id, None) is not None and not self._left:
            self._left = None

    def _forget_leave(self, room_id: str) -> None:
        self.entered_again(room_id)
        self._leaving.pop(room_id, None)
        if room_id in self._told:
            self._told -= {room_id}

    @property
    def entering(self) -> set[str]:
        """Rooms that have not answered a join yet; they may have let the session in."""
        return set(self._entering)

    def again(self, now: float) -> list[EnterRoom | LeaveRoom | ChangeGrant]:
        """What is to be asked once more."""
        self._leaving = {room: (leave, at) for room, (leave, at) in self._leaving.items() if now - at < LEAVING_S}
        if self._entering:
            self._twice |= self._entering.keys()
        granted = [grant for grant, at in (self._granted or {}).values() if now - at < LEAVING_S]
        return [*self._entering.values(), *(leave for leave, _ in self._leaving.values()), *granted]

    def left_lately(self, now: float) -> dict[str, str]:
        """Rooms that have said good-bye lately and that the session has not joined again, and why it left."""
        return {room: reason for room, (reason, at) in (self._left or {}).items() if now - at < LEAVING_S}
