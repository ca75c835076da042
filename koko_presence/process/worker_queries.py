"""Sends one request to many workers and collects the answers that arrive within a second."""

import asyncio
from collections.abc import Callable, Mapping

from .control_channel import Message

ANSWER_WITHIN_S = 1.0


class _PendingQuery:
    def __init__(self, ids: set[int], complete: "asyncio.Future[None]") -> None:
        self.ids, self.complete = ids, complete
        self.answers: dict[int, bytes] = {}


class Questions:
    """The pending requests of the supervisor. Written by `query`, and by `on_answer` when a worker answers."""

    def __init__(self) -> None:
        self._out: dict[int, _PendingQuery] = {}
        self._last = 0

    async def query(
        self, sends: Mapping[int, Callable[[Message], None]], make: Callable[[int], Message]
    ) -> dict[int, bytes]:
        """Send a request to all workers of `sends`, which has the send function by worker id; `make` builds the message
        from the request's number. Returns the answers by worker id."""
        if not sends:
            return {}
        self._last += 1
        number, pending = self._last, _PendingQuery(set(sends), asyncio.get_running_loop().create_future())
        self._out[number] = pending
        message = make(number)
        for send in sends.values():
            send(message)
        try:
            await asyncio.wait([pending.complete], timeout=ANSWER_WITHIN_S)
        finally:
            del self._out[number]
        return pending.answers

    def on_answer(self, id: int, number: int, body: bytes) -> None:
        """Record a worker's answer; a late one is dropped."""
        pending = self._out.get(number)
        if pending is not None:
            pending.answers[id] = body
            if pending.answers.keys() >= pending.ids and not pending.complete.done():
                pending.complete.set_result(None)
