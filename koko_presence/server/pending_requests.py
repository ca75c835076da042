"""Matches the answers of owners with the HTTP calls that wait for them: one `CallAnswered` per numbered command [M9].

Any worker accepts a call; the owner of the room or user answers it, on whichever worker. A call without an answer
within `REQUEST_TIMEOUT_S` fails with UNAVAILABLE: its owner, or the connection to it, was lost. `PendingRequests` of
the `Hub` writes the table of pending calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from koko_presence.cluster.bus import Alarm, Bus, Timers
from koko_presence.protocol.commands import EnterRoom, ReplyTo
from koko_presence.protocol.delivery import Delivery
from koko_presence.protocol.edge_messages import CallAnswered
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import ErrorReply
from koko_presence.rooms.deadlines import Deadlines

REQUEST_TIMEOUT_S = 5.0  # longer than a view change takes, a worker that hangs included
MAX_PENDING = 10_000

_NOT_KNOWN = "No answer came in time, so it is not known whether this was done. Look, and try again."
_errors: msgspec.json.Decoder[ErrorReply] = msgspec.json.Decoder(ErrorReply)


class PendingRequests:
    """The pending calls of one edge. Written by the loop's thread only."""

    def __init__(self, edge_id: int, bus: Bus, timers: Timers, clock: Callable[[], float]) -> None:
        self._edge_id = edge_id
        self._bus = bus
        self._clock = clock
        self._last_number = 0
        self._pending: dict[int, tuple[asyncio.Future[bytes], Any]] = {}
        self._deadlines = Deadlines()
        self._alarm = Alarm(timers, clock, self._tick)

    def __len__(self) -> int:
        return len(self._pending)

    def check_free(self) -> None:
        """Errors: UNAVAILABLE when MAX_PENDING calls are pending."""
        if len(self._pending) >= MAX_PENDING:
            raise PresenceError("UNAVAILABLE", "More calls wait here than this server takes. Try again.")

    async def request(self, command: Any) -> bytes:
        """Send `command`, a command of commands.py with a field `reply_to`, and return the owner's answer as JSON.
        Errors: the owner's PresenceError, or UNAVAILABLE without an answer within `REQUEST_TIMEOUT_S`."""
        self.check_free()
        now = self._clock()
        self._last_number += 1
        number = self._last_number
        command.reply_to = ReplyTo(self._edge_id, number=number)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[number] = (answer, command)
        self._deadlines.set(number, now + REQUEST_TIMEOUT_S)
        self._alarm.schedule(now + REQUEST_TIMEOUT_S)
        try:
            self._bus.send(command, now)
            return await answer
        finally:
            self._deadlines.cancel(number)
            self._pending.pop(number, None)

    def joins(self) -> dict[str, set[str]]:
        """By session: the rooms that it joins by pending calls."""
        found: dict[str, set[str]] = {}
        for _, command in self._pending.values():
            if isinstance(command, EnterRoom):
                found.setdefault(command.session_info.session_id, set()).add(command.room_id)
        return found

    def on_answer(self, answered: CallAnswered) -> None:
        """Complete the call with the owner's answer. A second answer, or one to a call that has ended, is ignored."""
        answer, _ = self._pending.get(answered.number, (None, None))
        if answer is None or answer.done():
            return
        if answered.refused:
            answer.set_exception(_error_in(answered.payload))
        else:
            answer.set_result(answered.payload)

    def retry_pending(self, now: float) -> None:
        """Repeat the pending commands of which the sender is to do that (`Delivery`), after the loss of an owner."""
        for answer, command in list(self._pending.values()):
            if command.delivery is Delivery.SENDER_REPEATS and not answer.done():
                self._bus.send(command, now)

    def stop(self) -> None:
        """Fail all pending calls with UNAVAILABLE."""
        self._alarm.stop()
        for answer, _ in self._pending.values():
            if not answer.done():
                answer.set_exception(PresenceError("UNAVAILABLE", "The server stops. Try again."))

    def _tick(self) -> None:
        for number in self._deadlines.take_due(self._clock()):
            answer, _ = self._pending[number]
            if not answer.done():
                answer.set_exception(PresenceError("UNAVAILABLE", _NOT_KNOWN))
        self._alarm.schedule(self._deadlines.next_at())


def _error_in(payload: bytes) -> PresenceError:
    error = _errors.decode(payload)
    retry_after_s = error.retry_after_ms / 1000.0 if isinstance(error.retry_after_ms, int) else None
    state = None if error.state is msgspec.UNSET else error.state
    return PresenceError(error.code, error.message, retry_after_s=retry_after_s, state=state)
