"""Declares what the parts of a session use of the session and of the worker's edge.

The hub makes the sessions and a session makes its parts, so imports go from `hub` to `session` and from there to
`authentication`, `membership`, `reauthorization` and `self_service`. In the other direction each part declares a
protocol of what it uses: it extends the common ones of this module. `Session` and `Hub` satisfy the protocols by their
members. The parts only read their properties: what they change, they change by methods.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.cluster.bus import Bus, Timers
from koko_presence.protocol.commands import ReplyTo
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.models import MessageId, Wire


class EdgeServices(Protocol):
    """The services of a worker's edge. `clock` returns monotonic seconds."""

    @property
    def edge_id(self) -> int: ...

    @property
    def bus(self) -> Bus: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def timers(self) -> Timers: ...

    @property
    def wall(self) -> WallClock: ...

    def clock(self) -> float: ...

    def await_answer(self, answer: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class SessionContext(Protocol):
    """The names, state and output of a session."""

    @property
    def hub(self) -> EdgeServices: ...

    @property
    def connection(self) -> int: ...

    @property
    def session_id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def version(self) -> int: ...

    def send(self, message: Wire) -> None: ...


def reply_to(session: SessionContext, id: MessageId | None) -> ReplyTo:
    """Return the address for the answer to the session's message `id`."""
    return ReplyTo(session.hub.edge_id, session.session_id, id)
