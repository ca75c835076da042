"""Matches the answers of owners with the HTTP calls that wait for them: one `CallAnswered` per numbered command [M9].

Any worker accepts a call; the owner of the room or user answers it, on whichever worker. A call without an answer
within `REQUEST_TIMEOUT_S` fails with UNAVAILABLE: its owner, or the connection to it, was lost. `PendingRequests` of
the `Hub` writes the table of pending calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from koko_presence.cluster.bus import Bus, Timers
from koko_presence.protocol.commands import EnterRoom, ReplyTo
from koko_presence.protocol.delivery import Delivery
from koko_presence.protocol.edge_messages import CallAnswered
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import ErrorReply

from .request_tracker import RequestTracker

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
        self._requests: RequestTracker[Any, bytes] = RequestTracker(timers, clock, REQUEST_TIMEOUT_S)

    def __len__(self) -> int:
        return len(self._requests)

    def check_free(self) -> None:
        """Errors: UNAVAILABLE when MAX_PENDING calls are pending."""
        if len(self._requests) >= MAX_PENDING:
            raise PresenceError("UNAVAILABLE", "More calls wait here than this server takes. Try again.")

    async def request(self, command: Any) -> bytes:
        """Send `command`, a command of commands.py with a field `reply_to`, and return the owner's answer as JSON.
        Errors: the owner's PresenceError, or UNAVAILABLE without an answer within `REQUEST_TIMEOUT_S`."""
        self.check_free()

        def send(number: int) -> None:
            command.reply_to = ReplyTo(self._edge_id, number=number)
            self._bus.send(command, self._clock())

        try:
            return await self._requests.request(command, send)
        except TimeoutError:
            raise PresenceError("UNAVAILABLE", _NOT_KNOWN) from None

    async def request_all(self, commands: Iterable[Any]) -> list[bytes]:
        """Send commands, all before the first is answered, and return their answers. Errors: as `request`."""
        return list(await asyncio.gather(*map(self.request, commands)))

    def joins(self) -> dict[str, set[str]]:
        """By session: the rooms that it joins by pending calls."""
        found: dict[str, set[str]] = {}
        for command in self._requests:
            if isinstance(command, EnterRoom):
                found.setdefault(command.session_info.session_id, set()).add(command.room_id)
        return found

    def on_answer(self, answered: CallAnswered) -> None:
        """Complete the call with the owner's answer. A second answer, or one to a call that has ended, is ignored."""
        if answered.refused:
            self._requests.refuse(answered.number, _error_in(answered.payload))
        else:
            self._requests.answer(answered.number, answered.payload)

    def retry_pending(self, now: float) -> None:
        """Repeat the pending commands of which the sender is to do that (`Delivery`), after the loss of an owner."""
        for command in self._requests.unanswered():
            if command.delivery is Delivery.SENDER_REPEATS:
                self._bus.send(command, now)

    def stop(self) -> None:
        """Fail all pending calls with UNAVAILABLE."""
        self._requests.stop(PresenceError("UNAVAILABLE", "The server stops. Try again."))


def _error_in(payload: bytes) -> PresenceError:
    error = _errors.decode(payload)
    retry_after_s = error.retry_after_ms / 1000.0 if isinstance(error.retry_after_ms, int) else None
    state = None if error.state is msgspec.UNSET else error.state
    return PresenceError(error.code, error.message, retry_after_s=retry_after_s, state=state)
