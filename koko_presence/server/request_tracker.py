"""Tracks requests by number until each has its answer, its time is up, or the process stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from koko_presence.cluster.bus import Alarm, Timers
from koko_presence.rooms.deadlines import Deadlines

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class RequestTracker(Generic[Request, Answer]):
    """Open requests of one kind, each with a number from 1. Written by the loop's thread only."""

    def __init__(self, timers: Timers, clock: Callable[[], float], timeout_s: float) -> None:
        self._clock, self._timeout_s = clock, timeout_s
        self._last_number = 0
        self._open: dict[int, tuple[Request, asyncio.Future[Answer]]] = {}
        self._deadlines = Deadlines()
        self._alarm = Alarm(timers, clock, self._tick)

    def __len__(self) -> int:
        return len(self._open)

    async def request(self, request: Request, send: Callable[[int], None]) -> Answer:
        """Call `send` with a new number and return the answer with that number, which may come before `send` returns.
        Errors: the exception of `refuse` or `stop`; TimeoutError after `timeout_s` without an answer."""
        self._last_number += 1
        number, until = self._last_number, self._clock() + self._timeout_s
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[number] = request, answer
        self._deadlines.set(number, until)
        self._alarm.schedule(until)
        try:
            send(number)
            return await answer
        finally:
            self._deadlines.cancel(number)
            del self._open[number]

    def __iter__(self) -> Iterator[Request]:
        """The open requests, those included whose answer has just come and is not handled yet."""
        return iter([request for request, _ in self._open.values()])

    def unanswered(self) -> list[Request]:
        """Return the requests without an answer."""
        return [request for request, answer in self._open.values() if not answer.done()]

    def find(self, number: int) -> Request | None:
        """Return the open request with that number."""
        return self._open[number][0] if number in self._open else None

    def answer(self, number: int, answer: Answer) -> None:
        """Complete a request. A second answer, or one to a request that has ended, is ignored."""
        if (waiting := self._waiting(number)) is not None:
            waiting.set_result(answer)

    def refuse(self, number: int, error: Exception) -> None:
        """Fail a request, as `answer` completes it."""
        if (waiting := self._waiting(number)) is not None:
            waiting.set_exception(error)

    def stop(self, error: Exception) -> None:
        """Fail all requests."""
        self._alarm.stop()
        for number in self._open:
            self.refuse(number, error)

    def _waiting(self, number: int) -> asyncio.Future[Answer] | None:
        _, answer = self._open.get(number, (None, None))
        return None if answer is None or answer.done() else answer

    def _tick(self) -> None:
        for number in self._deadlines.take_due(self._clock()):
            self.refuse(number, TimeoutError())
        self._alarm.schedule(self._deadlines.next_at())
