"""Sends one request to many workers and collects the answers that arrive within a second."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from koko_presence.cluster.bus import Timers
from koko_presence.server.request_tracker import RequestTracker

from .control_channel import Message

ANSWER_WITHIN_S = 1.0


class _Query:
    def __init__(self, workers: set[int]) -> None:
        self.workers = workers
        self.answers: dict[int, bytes] = {}


class Questions:
    """The pending requests of the supervisor. Written by `query`, and by `on_answer` when a worker answers."""

    def __init__(self, timers: Timers) -> None:
        self._queries: RequestTracker[_Query, None] = RequestTracker(timers, time.monotonic, ANSWER_WITHIN_S)

    async def query(
        self, sends: Mapping[int, Callable[[Message], None]], make: Callable[[int], Message]
    ) -> dict[int, bytes]:
        """Send a request to all workers of `sends`, which has the send function by worker id; `make` builds the message
        from the request's number. Returns the answers by worker id."""
        if not sends:
            return {}
        query = _Query(set(sends))

        def send_all(number: int) -> None:
            message = make(number)
            for send in sends.values():
                send(message)

        with suppress(TimeoutError):
            await self._queries.request(query, send_all)
        return query.answers

    def on_answer(self, id: int, number: int, body: bytes) -> None:
        """Record a worker's answer; a late one is dropped."""
        query = self._queries.find(number)
        if query is not None:
            query.answers[id] = body
            if query.answers.keys() >= query.workers:
                self._queries.answer(number, None)
