"""Sends one request to many workers and collects the answers that arrive within a second."""

import asyncio
from collections.abc import Callable, Mapping

from .control_channel import Message

ANSWER_WITHIN_S = 1.0


class _Asked:
    def __init__(self, ids: set[int], complete: "asyncio.Future[None]") -> None:
        self.ids, self.complete = ids, complete
        self.answers: dict[int, bytes] = {}


class Questions:
    """The pending requests of the supervisor. Written by `ask`, and by `on_answer` when a worker answers."""

    def __init__(self) -> None:
        self._out: dict[int, _Asked] = {}
        self._last = 0

    async def ask(
        self, sends: Mapping[int, Callable[[Message], None]], make: Callable[[int], Message]
    ) -> dict[int, bytes]:
        """Send a request to all workers of `sends`, which has the send function by worker id; `make` builds the message
        from the request's number. Returns the answers by worker id."""
        if not sends:
            return {}
        self._last += 1
        number, asked = self._last, _Asked(set(sends), asyncio.get_running_loop().create_future())
        self._out[number] = asked
        message = make(number)
        for send in sends.values():
            send(message)
        try:
            await asyncio.wait([asked.complete], timeout=ANSWER_WITHIN_S)
        finally:
            del self._out[number]
        return asked.answers

    def on_answer(self, id: int, number: int, body: bytes) -> None:
        """Record a worker's answer; a late one is dropped."""
        asked = self._out.get(number)
        if asked is not None:
            asked.answers[id] = body
            if asked.answers.keys() >= asked.ids and not asked.complete.done():
                asked.complete.set_result(None)
