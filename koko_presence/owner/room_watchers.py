"""Sends the summaries of this owner's rooms to the edges that watch them for their clients [Q12].

An edge gets the summary when it begins to watch a room, and after that when it has changed, at most once in
`SUMMARY_INTERVAL_S`. A summary goes once to each edge, whatever the number of its clients. A room need not exist to be
watched. Only what others see is compared and sent, so neither the content nor the time of a summary depends on
invisible members [K7].
"""

from collections.abc import Callable, Collection

from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.events import RoomSummary, encode
from koko_presence.rooms.context import ShardContext
from koko_presence.rooms.room import Room
from koko_presence.rooms.snapshot_view import summary

SUMMARY_INTERVAL_S = 1.25  # for clients at least a second: an edge may keep a summary for 0.25 s to send it with others


class _WatchedRoom:
    """What was sent to the edges that watch one room, and when; `numbers` has each edge with its last command."""

    __slots__ = ("numbers", "payload", "sent_at")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.payload = b""
        self.sent_at = float("-inf")


class RoomWatchers:
    """The watched rooms of one shard. Written by the shard's handlers and deadlines, and at changes of owners."""

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._rooms: dict[str, _WatchedRoom] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def edges_of(self, room_id: str) -> set[int]:
        """Return the edges that watch the room."""
        watched = self._rooms.get(room_id)
        return set() if watched is None else set(watched.numbers)

    def begin(self, room_id: str, edge: int, number: int, room: Room | None) -> None:
        """Send the summary to the edge, now and when it has changed, by its command `number`."""
        watched = self._rooms.get(room_id)
        if watched is None:
            watched = self._rooms[room_id] = _WatchedRoom()
            watched.payload = _encoded(room_id, room)
        if number >= watched.numbers.get(edge, 0):
            watched.numbers[edge] = number
            self._send(room_id, watched, [edge])

    def end(self, room_id: str, edge: int, number: int) -> None:
        """Send the summary to the edge no more, unless a later command than `number` has come before."""
        watched = self._rooms.get(room_id)
        if watched is None or number < watched.numbers.get(edge, 0):
            return
        watched.numbers.pop(edge, None)
        if not watched.numbers:
            self._drop(room_id)

    def note_change(self, room_id: str, room: Room | None, now: float) -> None:
        """Send the summary, now or as soon as its rate allows, if it has changed. `room` is None when it has ended."""
        watched = self._rooms.get(room_id)
        if watched is None:
            return
        deadline = ("summary", room_id, "")
        if self._context.deadlines.at(deadline) is not None:
            return
        payload = _encoded(room_id, room)
        if payload == watched.payload:
            return
        if now < watched.sent_at + SUMMARY_INTERVAL_S:
            self._context.deadlines.set(deadline, watched.sent_at + SUMMARY_INTERVAL_S)
            return
        watched.payload, watched.sent_at = payload, now
        self._send(room_id, watched, watched.numbers)

    def keep_edges(self, edges: Collection[int]) -> None:
        """Forget the edges that are not among `edges`, the workers of the view."""
        for room_id, watched in list(self._rooms.items()):
            watched.numbers = {edge: number for edge, number in watched.numbers.items() if edge in edges}
            if not watched.numbers:
                self._drop(room_id)

    def release(self, moved: Callable[[str], bool]) -> None:
        """Forget the rooms that move to another owner, to which their edges repeat their commands."""
        for room_id in [room_id for room_id in self._rooms if moved(room_id)]:
            self._drop(room_id)

    def _drop(self, room_id: str) -> None:
        del self._rooms[room_id]
        self._context.deadlines.cancel(("summary", room_id, ""))

    def _send(self, room_id: str, watched: _WatchedRoom, edges: Collection[int]) -> None:
        message = SummaryChanged(room_id=room_id, version=self._context.next_version(), payload=watched.payload)
        for edge in edges:
            self._context.add_effect((edge, message))


def _encoded(room_id: str, room: Room | None) -> bytes:
    row = summary(room_id, room)
    return encode(RoomSummary(room_id=room_id, user_count=row.user_count, users=row.users))
