"""Joins and leaves of one session that no owner has answered yet: an owner that is lost may have had them [N-b]."""

from koko_presence.commands import EnterRoom, LeaveRoom

LEAVING_S = 10.0  # longer than any worker that hangs is left alone


class Unanswered:
    """The last of each room. A leave is kept for a while even so: who answered it may not have told the rest."""

    __slots__ = ("_entering", "_leaving")

    def __init__(self) -> None:
        self._entering: dict[str, EnterRoom] = {}
        self._leaving: dict[str, tuple[LeaveRoom, float]] = {}

    def enter(self, command: EnterRoom) -> None:
        """The session wants in."""
        self._leaving.pop(command.room_id, None)
        self._entering[command.room_id] = command

    def is_entering(self, room_id: str) -> bool:
        """Is a join on its way to the owners, or its answer on the way back?"""
        return room_id in self._entering

    def entered(self, room_id: str) -> None:
        """That has been answered."""
        self._entering.pop(room_id, None)

    def leave(self, command: LeaveRoom, now: float) -> None:
        """The session wants out."""
        self._entering.pop(command.room_id, None)
        self._leaving[command.room_id] = (command, now)

    def left(self, room_id: str) -> None:
        """The room has said good-bye."""
        self._leaving.pop(room_id, None)

    @property
    def leaving(self) -> set[str]:
        """Rooms that have not said good-bye yet."""
        return set(self._leaving)

    def again(self, now: float) -> list[EnterRoom | LeaveRoom]:
        """What is to be asked once more."""
        self._leaving = {room: (leave, at) for room, (leave, at) in self._leaving.items() if now - at < LEAVING_S}
        return [*self._entering.values(), *(leave for leave, _ in self._leaving.values())]
