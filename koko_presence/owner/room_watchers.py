"""Sends the summaries of this owner's rooms to the edges that watch them for their clients [Q12].

An edge gets the summary when it begins to watch a room, and after that when it has changed, at most once in
`SUMMARY_INTERVAL_S`. A summary goes once to each edge, whatever the number of its clients. A room need not exist to be
watched, and its type is known when it does: it is watched as a room of the type for which the clients have access, or
of any, and is empty to those with access to another one [C1]. Only what others see is compared and sent, so neither the
content nor the time of a summary depends on invisible members [K7].
"""

from collections.abc import Callable, Collection, Iterator

from koko_presence.protocol.commands import WatchRoom
from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.events import RoomSummary, encode
from koko_presence.protocol.models import RoomType
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.room import Room
from koko_presence.rooms.snapshot_view import summary

SUMMARY_INTERVAL_S = 1.0  # to an edge, which collects summaries and keeps this interval for its clients by itself


class _WatchedRoom:
    """What was sent to the edges that watch one room as one of `room_type`, None for any, and when; `numbers` has each
    edge with its last command."""

    __slots__ = ("numbers", "payload", "room_id", "room_type", "sent_at")

    def __init__(self, room_id: str, room_type: RoomType | None) -> None:
        self.room_id = room_id
        self.room_type = room_type
        self.numbers: dict[int, int] = {}
        self.payload = b""
        self.sent_at = float("-inf")

    @property
    def deadline(self) -> tuple[str, str, str]:
        """The key of the deadline at which it is sent next."""
        return ("summary", self.room_id, self.room_type or "")

    def encode(self, room: Room | None) -> bytes:
        """Return its summary as the message for clients."""
        row = summary(self.room_id, room, self.room_type)
        return encode(RoomSummary(room_id=self.room_id, user_count=row.user_count, users=row.users))


class RoomWatchers:
    """The watched rooms of one shard. Written by the shard's handlers and deadlines, and at changes of owners."""

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._rooms: dict[str, dict[RoomType | None, _WatchedRoom]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def edges_of(self, room_id: str) -> set[int]:
        """Return the edges that watch the room."""
        return {edge for watched in self._rooms.get(room_id, {}).values() for edge in watched.numbers}

    def begin(self, command: WatchRoom, room: Room | None) -> None:
        """Send the summary to the edge of the command, now and when it has changed."""
        types = self._rooms.setdefault(command.room_id, {})
        watched = types.get(command.room_type)
        if watched is None:
            watched = types[command.room_type] = _WatchedRoom(command.room_id, command.room_type)
            watched.payload = watched.encode(room)
        if command.number >= watched.numbers.get(command.edge, 0):
            watched.numbers[command.edge] = command.number
            self._send(watched, [command.edge])

    def end(self, command: WatchRoom) -> None:
        """Send the summary to the edge of the command no more, unless a later one of its commands has come before."""
        watched = self._rooms.get(command.room_id, {}).get(command.room_type)
        if watched is None or command.number < watched.numbers.get(command.edge, 0):
            return
        watched.numbers.pop(command.edge, None)
        if not watched.numbers:
            self._drop(watched)

    def note_change(self, room_id: str, room: Room | None, now: float) -> None:
        """Send the summary, now or as soon as its rate allows, if it has changed. `room` is None when it has ended."""
        for watched in self._rooms.get(room_id, {}).values():
            if self._context.deadlines.at(watched.deadline) is not None:
                continue
            payload = watched.encode(room)
            if payload == watched.payload:
                continue
            if now < watched.sent_at + SUMMARY_INTERVAL_S:
                self._context.deadlines.set(watched.deadline, watched.sent_at + SUMMARY_INTERVAL_S)
                continue
            watched.payload, watched.sent_at = payload, now
            self._send(watched, watched.numbers)

    def keep_edges(self, edges: Collection[int]) -> None:
        """Forget the edges that are not among `edges`, the workers of the view."""
        for watched in list(self._all()):
            watched.numbers = {edge: number for edge, number in watched.numbers.items() if edge in edges}
            if not watched.numbers:
                self._drop(watched)

    def release(self, moved: Callable[[str], bool]) -> None:
        """Forget the rooms that move to another owner, to which their edges repeat their commands."""
        for watched in [watched for watched in self._all() if moved(watched.room_id)]:
            self._drop(watched)

    def _all(self) -> Iterator[_WatchedRoom]:
        return (watched for types in self._rooms.values() for watched in types.values())

    def _drop(self, watched: _WatchedRoom) -> None:
        types = self._rooms[watched.room_id]
        del types[watched.room_type]
        if not types:
            del self._rooms[watched.room_id]
        self._context.deadlines.cancel(watched.deadline)

    def _send(self, watched: _WatchedRoom, edges: Collection[int]) -> None:
        message = SummaryChanged(
            room_id=watched.room_id,
            room_type=watched.room_type,
            version=self._context.next_version(),
            payload=watched.payload,
        )
        for edge in edges:
            self._context.add_effect((edge, message))
