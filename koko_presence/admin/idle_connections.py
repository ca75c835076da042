"""Bounds the connections of an HTTP server: how many there are, and how long one may say nothing.

aiohttp ends an idle connection only after its first request, and counts none. Here who has said nothing for the longest
makes room for who comes, so the port answers whatever others leave open.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Bounded:
    """Makes the protocols of a server: `make` gives the real one. At most `most` connections are open, and one that has
    sent nothing for `idle_s` seconds is ended."""

    def __init__(self, make: Callable[[], asyncio.Protocol], *, most: int, idle_s: float) -> None:
        self.most, self.idle_s = most, idle_s
        self._make = make
        self._open: OrderedDict[_Connection, None] = OrderedDict()  # who has said nothing for the longest comes first
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._make())

    def __len__(self) -> int:
        return len(self._open)

    def heard(self, connection: "_Connection") -> None:
        """It is there, and has said something."""
        self._open.pop(connection, None)
        connection.heard_at = self._loop.time()
        self._open[connection] = None
        while len(self._open) > self.most:
            self._end(next(iter(self._open)))
        if self._timer is None:
            self._timer = self._loop.call_later(self.idle_s, self._look)

    def forget(self, connection: "_Connection") -> None:
        """It is over."""
        self._open.pop(connection, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._open and now - (oldest := next(iter(self._open))).heard_at >= self.idle_s:
            self._end(oldest)
        if self._open:
            self._timer = self._loop.call_later(self.idle_s - (now - oldest.heard_at), self._look)

    def _end(self, connection: "_Connection") -> None:
        self.forget(connection)
        connection.transport.abort()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


class _Connection(asyncio.Protocol):
    """Stands before the real protocol and passes everything on."""

    def __init__(self, bounded: Bounded, inner: Any) -> None:
        self._bounded, self._inner = bounded, inner
        self.heard_at = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._inner.connection_made(transport)
        self._bounded.heard(self)

    def data_received(self, data: bytes) -> None:
        self._bounded.heard(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return bool(self._inner.eof_received())

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounded.forget(self)
        self._inner.connection_lost(exc)
