"""The rooms that a client watches without joining them [Q12]: sends the list, also after each reconnect, and holds the
last summary of each room. `WatchedRooms` is the only writer of its state."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from koko_presence.protocol.messages import MAX_WATCHED_ROOMS, Watch

from . import models
from .listeners import Listeners
from .timing import Handle, Timers


class WatchedRooms:
    """The watched rooms of one client. `ask` sends a message and waits for its answer, `send` sends it now."""

    def __init__(
        self,
        ask: Callable[[Watch], Awaitable[Any]],
        send: Callable[[Watch], None],
        listeners: Listeners,
        timers: Timers,
        random: Callable[[], float],
    ) -> None:
        self.summaries: dict[str, models.RoomSummary] = {}
        self._ask, self._send, self._listeners = ask, send, listeners
        self._timers, self._random = timers, random
        self._wanted: list[str] = []
        self._asking = 0  # calls without an answer; what they have sent is sent again after a reconnect
        self._again: Handle | None = None

    async def watch(self, room_ids: Iterable[str]) -> models.Watching:
        """Watch these rooms and no others. Errors: those of `PresenceClient.watch_rooms`."""
        wanted = list(dict.fromkeys(room_ids))
        if len(wanted) > MAX_WATCHED_ROOMS:
            raise ValueError(f"{len(wanted)} rooms; at most {MAX_WATCHED_ROOMS} can be watched")
        self._wanted = wanted
        self._asking += 1
        try:
            watching = await self._ask(Watch(rooms=wanted))
        finally:
            self._asking -= 1
        assert isinstance(watching, models.Watching)
        return watching

    def on_online(self) -> None:
        """There is a connection: send the list again, which belongs to the one before."""
        if self._wanted and not self._asking:
            self._send(Watch(rooms=self._wanted))

    def on_watching(self, message: models.Watching) -> None:
        """The server watches these rooms. The list is sent again when the access to others could not be checked."""
        self.summaries = {room_id: row for room_id, row in self.summaries.items() if room_id in message.rooms}
        waits_ms = [each.retry_after_ms for each in message.refused if each.retry_after_ms is not None]
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if waits_ms:
            self._again = self._timers.call_later(max(waits_ms) / 1000.0 * (1.0 + self._random()), self.on_online)
        self._listeners.emit("watching", message)

    def on_summary(self, message: models.RoomSummary) -> None:
        """A room has this summary now."""
        self.summaries[message.room_id] = message
        self._listeners.emit("room_summary", message)
