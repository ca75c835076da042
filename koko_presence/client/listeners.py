"""Who wants to hear what: callbacks by name, and streams of events for `async for`."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

log = logging.getLogger("koko_presence.client")

Callback: TypeAlias = Callable[[Any], object]
Undo: TypeAlias = Callable[[], None]


class Listeners:
    """Callbacks by name. One that fails is logged and does not hurt the others."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Callback, ...]] = {}

    def add(self, name: str, callback: Callback) -> Undo:
        """Call `callback` with each value that is told under `name`, or under any name for `*`. Returns what undoes
        it. Errors: TypeError for a coroutine function."""
        if inspect.iscoroutinefunction(callback):
            raise TypeError("callbacks are plain functions; for async work use  async for event in room.events()")
        self._by_name[name] = (*self._by_name.get(name, ()), callback)

        def undo() -> None:
            left = list(self._by_name.get(name, ()))
            if callback in left:
                left.remove(callback)
            self._by_name[name] = tuple(left)

        return undo

    def tell(self, name: str, value: Any) -> bool:
        """Call who listens; False when nobody does."""
        wanted = self._by_name.get(name, ()) + self._by_name.get("*", ()) if self._by_name else ()
        for callback in wanted:
            try:
                callback(value)
            except Exception:
                log.exception("a callback for %r failed; the others were called", name)
        return bool(wanted)


class EventStream(AsyncIterator[Any]):
    """The events of a room from now on, until the room is left. A reader that falls behind by more than `size` events
    loses the oldest ones, counted in `dropped`; the room's own state misses nothing."""

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._waiting: deque[Any] = deque(maxlen=size)
        self._ended = False
        self._news = asyncio.Event()

    def put(self, event: Any) -> None:
        """Add an event."""
        if len(self._waiting) == self._waiting.maxlen:
            if not self.dropped:
                log.warning("a reader of room.events() is too slow; the oldest events are dropped")
            self.dropped += 1
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """No more events; those that wait are still read."""
        self._ended = True
        self._news.set()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Any:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
