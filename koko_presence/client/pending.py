"""Tracks requests until their answers, which are matched by id [B8], and holds a bounded number that cannot be sent
yet.

`Requests` is the only writer of its state. Held requests are sent in their order.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from koko_presence.protocol.messages import ClientMessage

from .errors import PresenceOffline
from .timing import Handle, Timers

MAX_HELD = 100


class _Question:
    __slots__ = ("answer", "message", "repeat", "room_id", "sent", "timer")

    def __init__(self, message: ClientMessage, room_id: str | None, repeat: bool, answer: asyncio.Future[Any]) -> None:
        self.message = message
        self.room_id = room_id
        self.repeat = repeat
        self.answer = answer
        self.sent = False
        self.timer: Handle


class Requests:
    """The pending requests of one client. A request waits until its `room_id` is ready: a room, by its id, or None for
    the connection."""

    def __init__(self, send: Callable[[ClientMessage], None], timers: Timers, timeout_s: float) -> None:
        self._send = send
        self._timers = timers
        self._timeout_s = timeout_s
        self._last_id = 0
        self._open: dict[str | int, _Question] = {}

    def start(
        self, message: ClientMessage, *, ready: bool, room_id: str | None = None, repeat: bool = False
    ) -> asyncio.Future[Any]:
        """Send a request now when `ready`, otherwise when its place is. With `repeat`, for idempotent requests, it is
        sent again after a lost connection. The future fails with `PresenceRefused` or `PresenceOffline`."""
        if not ready and sum(not each.sent for each in self._open.values()) >= MAX_HELD:
            raise PresenceOffline(f"{MAX_HELD} calls wait for the connection already. Wait for the status 'online'.")
        self._last_id += 1
        message.id = self._last_id
        question = _Question(message, room_id, repeat, asyncio.get_running_loop().create_future())
        question.timer = self._timers.call_later(self._timeout_s, partial(self._expire, self._last_id))
        self._open[message.id] = question
        question.answer.add_done_callback(partial(self._forget, self._last_id))
        if ready:
            self._transmit(question)
        return question.answer

    def ready(self, room_id: str | None) -> None:
        """Send the requests that wait for this place."""
        for question in list(self._open.values()):
            if not question.sent and question.room_id == room_id:
                self._transmit(question)

    def answer(self, id: str | int | None, value: Any) -> bool:
        """Complete the request `id` with `value`. Returns False when no such request is pending."""
        question = self._open.get(id) if id is not None else None
        if question is None or question.answer.done():
            return False
        question.answer.set_result(value)
        return True

    def refuse(self, id: str | int | None, error: Exception) -> bool:
        """Fail the request `id` with `error`. Returns False when no such request is pending."""
        question = self._open.get(id) if id is not None else None
        if question is None or question.answer.done():
            return False
        question.answer.set_exception(error)
        return True

    def on_lost(self, error: Exception) -> None:
        """The connection is lost: fail the sent requests that may not be repeated, and hold the others."""
        for id, question in list(self._open.items()):
            if question.sent and question.repeat:
                question.sent = False
            elif question.sent:
                self.refuse(id, error)

    def fail(self, error: Exception, room_id: str | None = None) -> None:
        """Fail all requests, or those of one place."""
        for id, question in list(self._open.items()):
            if room_id is None or question.room_id == room_id:
                self.refuse(id, error)

    def _transmit(self, question: _Question) -> None:
        question.sent = True
        self._send(question.message)

    def _expire(self, id: int) -> None:
        problem = "There was no answer" if self._open[id].sent else "There was no connection"
        self.refuse(id, PresenceOffline(f"{problem} within {self._timeout_s:g} s. Try again later."))

    def _forget(self, id: int, _: object) -> None:
        self._open.pop(id).timer.cancel()
