"""Limits how many HTTP requests begin per loop iteration; requests begin in the order received, pipelined or not.

A handler that awaits nothing does not yield to the loop: a connection that pipelines hundreds of requests, or hundreds
of connections with one each, would have all of them answered before anything else is read. `RequestScheduler` writes
the queue of waiting requests.
"""

import asyncio
from collections import deque

REQUESTS_PER_ITERATION = 16


class RequestScheduler:
    """Admits `REQUESTS_PER_ITERATION` callers per iteration of the running loop; further callers wait in a queue."""

    def __init__(self) -> None:
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when the caller may begin: at once while the present iteration has capacity, else after all callers
        that were queued before."""
        loop = asyncio.get_running_loop()
        if self._used == 0:
            loop.call_soon(self._next_iteration, loop)
        if self._used < REQUESTS_PER_ITERATION:
            self._used += 1
            return
        future = loop.create_future()
        self._waiting.append(future)
        await future

    def _next_iteration(self, loop: asyncio.AbstractEventLoop) -> None:
        self._used = 0
        while self._waiting and self._used < REQUESTS_PER_ITERATION:
            future = self._waiting.popleft()
            if not future.done():  # done: cancelled, as its connection was lost
                future.set_result(None)
                self._used += 1
        if self._used:
            loop.call_soon(self._next_iteration, loop)
