"""Limits the connections of an HTTP server: their number, and how long one may be idle.

aiohttp closes idle connections only after their first request, and does not limit their number. `Bounded` closes the
one that has been idle for the longest time in favour of a new one, so that connections left open cannot block the port.
It is the only writer of its state.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Bounded:
    """A protocol factory that wraps the protocols of `make`. At most `most` connections are open, and one that has sent
    no data for `idle_s` seconds is aborted."""

    def __init__(self, make: Callable[[], asyncio.Protocol], *, most: int, idle_s: float) -> None:
        self.most, self.idle_s = most, idle_s
        self._make = make
        self._open: OrderedDict[_Connection, None] = OrderedDict()  # the longest idle one first
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._make())

    def __len__(self) -> int:
        return len(self._open)

    def note_received(self, connection: "_Connection") -> None:
        """The connection was opened or has sent data."""
        self._open.pop(connection, None)
        connection.last_received_at = self._loop.time()
        self._open[connection] = None
        while len(self._open) > self.most:
            self._end(next(iter(self._open)))
        if self._timer is None:
            self._timer = self._loop.call_later(self.idle_s, self._look)

    def forget(self, connection: "_Connection") -> None:
        """The connection was closed."""
        self._open.pop(connection, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._open and now - (oldest := next(iter(self._open))).last_received_at >= self.idle_s:
            self._end(oldest)
        if self._open:
            self._timer = self._loop.call_later(self.idle_s - (now - oldest.last_received_at), self._look)

    def _end(self, connection: "_Connection") -> None:
        self.forget(connection)
        connection.transport.abort()

    def close(self) -> None:
        """Cancel the timer. Open connections stay open."""
        if self._timer is not None:
            self._timer.cancel()


class _Connection(asyncio.Protocol):
    """Forwards all calls to the wrapped protocol and reports activity to `Bounded`."""

    def __init__(self, bounded: Bounded, inner: Any) -> None:
        self._bounded, self._inner = bounded, inner
        self.last_received_at = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._inner.connection_made(transport)
        self._bounded.note_received(self)

    def data_received(self, data: bytes) -> None:
        self._bounded.note_received(self)
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
