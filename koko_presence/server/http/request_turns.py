"""A few HTTP requests are begun in a turn of the loop, in the order in which they came, whatever was pipelined.

A request whose answer waits for nothing gives the loop no turn: a connection that pipelines hundreds of them, or
hundreds of connections with one each, would have them all answered at once, before anything else is read.
"""

import asyncio
from collections import deque

REQUESTS_A_TURN = 16


class RequestTurns:
    """Lets `REQUESTS_A_TURN` callers through in each turn of the running loop; the others wait in line."""

    def __init__(self) -> None:
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return when the caller's turn has come: at once while this one has room and no other waits."""
        loop = asyncio.get_running_loop()
        if self._used == 0:
            loop.call_soon(self._next_turn, loop)
        if self._used < REQUESTS_A_TURN:
            self._used += 1
            return
        place = loop.create_future()
        self._waiting.append(place)
        await place

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._used = 0
        while self._waiting and self._used < REQUESTS_A_TURN:
            place = self._waiting.popleft()
            if not place.done():  # else its connection is gone
                place.set_result(None)
                self._used += 1
        if self._used:
            loop.call_soon(self._next_turn, loop)
