"""Renews the token of one connection [A7]: after each `auth_expiring` a fresh token is sent, and while that fails it is
tried again with growing pauses, until the server takes one or the connection ends.

`TokenRenewal` is the only writer of its state, with one task at most.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from .errors import PresenceRefused

log = logging.getLogger("koko_presence.client")

DISTANCE_S = 5.0  # between two renewals: the server takes one in this time, after a burst [A4]
FIRST_PAUSE_S = 1.0  # after a failure, doubled at each one ...
LONGEST_PAUSE_S = 10.0  # ... up to this


class TokenRenewal:
    """`renew` fetches a token and authenticates with it; it may raise anything. `pause` waits for seconds, `clock` and
    `random` are those of the client."""

    def __init__(
        self,
        renew: Callable[[], Awaitable[object]],
        *,
        pause: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._renew = renew
        self._pause = pause
        self._clock = clock
        self._random = random
        self._task: asyncio.Task[None] | None = None
        self._is_due = False
        self._renewed_at = -math.inf

    def begin(self) -> None:
        """The token ends soon: renew it, not within `DISTANCE_S` of the last renewal."""
        self._is_due = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """The connection has ended, or the client is closed."""
        self._is_due = False
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while self._is_due:
            self._is_due = False
            wait_s = self._renewed_at + DISTANCE_S - self._clock()
            if wait_s > 0.0:  # the last token ends soon, too: perhaps it came from a cache
                await self._pause(wait_s)
            await self._repeat_until_taken()
            self._renewed_at = self._clock()

    async def _repeat_until_taken(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._renew()
                return
            except Exception as error:  # the application's token function may raise anything
                log.warning("token renewal failed, will be retried: %s", error)
                retry_after_ms = error.retry_after_ms if isinstance(error, PresenceRefused) else None
            await self._pause(max(pause_s, (retry_after_ms or 0) / 1000.0) * (0.75 + 0.5 * self._random()))
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
