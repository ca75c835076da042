"""Dispatches each message of the server to its room, to the pending request that it answers, or to callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from koko_presence.protocol.messages import Leave

from . import incoming, models
from .errors import PresenceRefused
from .listeners import Listeners
from .model import Event, Reply
from .pending import Requests
from .reconnecting import ReconnectingConnection
from .room import Room
from .watched_rooms import WatchedRooms

log = logging.getLogger("koko_presence.client")

MAX_WARNED = 100


class Client(Protocol):
    """The client that receives the messages."""

    rooms: dict[str, Room]
    clock: Callable[[], float]

    def send(self, message: Any) -> None: ...


class Dispatcher:
    """Decodes and dispatches the messages of one client, in the order in which they come. Its only state is the set of
    warnings that were logged already."""

    def __init__(
        self,
        client: Client,
        line: ReconnectingConnection,
        requests: Requests,
        listeners: Listeners,
        watched: WatchedRooms,
    ) -> None:
        self._client = client
        self._line = line
        self._requests = requests
        self._listeners = listeners
        self._watched = watched
        self._warned: set[str] = set()

    def take(self, data: bytes) -> None:
        """Decode and dispatch one message."""
        message = incoming.read(data)
        if isinstance(message, (Event, incoming.OtherEvent)):
            room = self._client.rooms.get(message.room_id)
            if room is not None and room.joined:
                room.on_event(message)
                return
            if isinstance(message, Event):
                return  # of a room that was just left
        handle = _HANDLERS.get(type(message))
        if handle is not None:
            handle(self, message, data)
        else:
            start = data[:40].decode(errors="replace")
            self._warn_once(start, f"unknown message ignored: {start}...")

    def _joined(self, message: models.Joined, data: bytes) -> None:
        room = self._client.rooms.get(message.room_id)
        if room is None:
            self._client.send(Leave(room_id=message.room_id))  # left before the answer came
            return
        room.on_joined(message)
        self._requests.answer(message.id, room)
        self._requests.ready(room.id)

    def _left(self, message: models.Left, data: bytes) -> None:
        room = self._client.rooms.get(message.room_id)
        if room is not None and room.joined:  # otherwise it answers an earlier membership's leave
            room.end(None)
        self._requests.answer(message.id, message)

    def _reply(self, message: Reply, data: bytes) -> None:
        self._requests.answer(message.id, message)

    def _watching(self, message: models.Watching, data: bytes) -> None:
        self._watched.on_watching(message)
        self._requests.answer(message.id, message)

    def _summary(self, message: models.RoomSummary, data: bytes) -> None:
        self._watched.on_summary(message)

    def _ack(self, message: models.Ack, data: bytes) -> None:
        self._requests.answer(message.id, msgspec.json.decode(data))

    def _pong(self, message: models.Pong, data: bytes) -> None:
        if message.echo is not None:
            self._line.server_clock.note(message.echo / 1000.0, self._client.clock(), message.server_time)

    def _refusal(self, message: models.Refusal, data: bytes) -> None:
        error = PresenceRefused(
            message.code,
            message.message,
            retry_after_ms=message.retry_after_ms,
            state=message.state,
            room_id=message.room_id,
        )
        if self._requests.refuse(message.id, error):
            return
        room = self._client.rooms.get(message.room_id or "")
        handled = room is not None and room.listeners.emit("error", error)
        if not (self._listeners.emit("error", error) or handled):
            self._warn_once(message.code, f"{error} (logged once; client.on('error', ...) gets every error)")

    def _expiring(self, message: models.AuthExpiring, data: bytes) -> None:
        self._line.renew(message.expires_at)

    def _kicked(self, message: models.Kicked, data: bytes) -> None:
        room = self._client.rooms.get(message.room_id or "")
        if room is not None:
            room.end(PresenceRefused("FORBIDDEN", message.reason or "You were removed.", room_id=room.id))
        self._listeners.emit("kicked", message)

    def _notice(self, message: models.Notice, data: bytes) -> None:
        room = self._client.rooms.get(message.room_id or "")
        if room is not None and message.send_interval_ms is not None:
            room.advise(message.send_interval_ms)
        if message.retry_after_ms is not None:
            self._line.retry_after_s = message.retry_after_ms / 1000.0
        self._listeners.emit("notice", message)

    def _warn_once(self, what: str, text: str) -> None:
        if what not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(what)
            log.warning("%s", text)


_HANDLERS: dict[type, Callable[[Dispatcher, Any, bytes], None]] = {
    models.Authenticated: Dispatcher._reply,
    models.Joined: Dispatcher._joined,
    models.Left: Dispatcher._left,
    models.Active: Dispatcher._reply,
    models.Watching: Dispatcher._watching,
    models.RoomSummary: Dispatcher._summary,
    models.Ack: Dispatcher._ack,
    models.Pong: Dispatcher._pong,
    models.Refusal: Dispatcher._refusal,
    models.AuthExpiring: Dispatcher._expiring,
    models.Kicked: Dispatcher._kicked,
    models.Notice: Dispatcher._notice,
}
