"""Callbacks by event name, and streams of events for `async for`."""

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
    """Callbacks by name. An exception of one is logged, and the others are still called."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Callback, ...]] = {}

    def add(self, name: str, callback: Callback) -> Undo:
        """Call `callback` with each value of the name `name`, or of any name for `*`. Returns a function that removes
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

    def emit(self, name: str, value: Any) -> bool:
        """Call the callbacks of `name` and of `*`, in the order in which they were added. Returns False when there is
        none."""
        wanted = self._by_name.get(name, ()) + self._by_name.get("*", ()) if self._by_name else ()
        for callback in wanted:
            try:
                callback(value)
            except Exception:
                log.exception("callback for %r failed", name)
        return bool(wanted)


class EventStream(AsyncIterator[Any]):
    """The events of a room from now on, until the room is left. Above `size` unread events the oldest ones are dropped
    and counted in `dropped`; the room's state still includes them."""

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._waiting: deque[Any] = deque(maxlen=size)
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, event: Any) -> None:
        """Add an event."""
        if len(self._waiting) == self._waiting.maxlen:
            if not self.dropped:
                log.warning("room.events() is read too slowly, the oldest events are dropped")
            self.dropped += 1
        self._waiting.append(event)
        self._changed.set()

    def end(self) -> None:
        """End the stream; unread events can still be read."""
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Any:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()
