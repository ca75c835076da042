"""A bounded cache of values with an expiry, with one pending request per key.

`Memory` is the only writer of its state, on one event loop. Times are arguments, in seconds of any one clock.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")
Key = TypeVar("Key")


class Kept(NamedTuple, Generic[Value]):
    """A value and the time until which it is valid; `until` 0 for one that is not to be cached."""

    value: Value
    until: float


class Memory(Generic[Key, Value]):
    """A cache of at most `limit` values, none of them None; the least recently used one is evicted first.

    `get` and `put` take constant time. It is an OrderedDict because a dict scans its deleted entries to find the first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Key, Kept[Value]] = OrderedDict()
        self._asking: dict[Key, asyncio.Future[Kept[Value]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def takes(self, key: Key, limit: int) -> bool:
        """Return True when a request for `key` is pending, or fewer than `limit` requests are."""
        return key in self._asking or len(self._asking) < limit

    def is_asking(self, key: Key) -> bool:
        """Return True when a request for `key` is pending."""
        return key in self._asking

    def get(self, key: Key, now: float) -> Value | None:
        """Return the value that is valid at `now`, or None."""
        kept = self._kept.pop(key, None)
        if kept is None or kept.until <= now:
            return None
        self._kept[key] = kept  # moved to the end: most recently used
        return kept.value

    def put(self, key: Key, value: Value, until: float) -> None:
        """Store a value until `until`."""
        self._kept.pop(key, None)
        self._kept[key] = Kept(value, until)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def forget(self, of: Callable[[Key], bool] = lambda key: True) -> None:
        """Remove the values whose key matches `of`. The answer of a pending request for such a key is not stored."""
        for key in [key for key in self._kept if of(key)]:
            del self._kept[key]
        for key in [key for key in self._asking if of(key)]:
            del self._asking[key]

    def forget_one(self, key: Key) -> None:
        """Remove the value of `key`, if there is one."""
        self._kept.pop(key, None)

    async def ask(self, key: Key, now: float, question: Callable[[], Awaitable[Kept[Value]]]) -> Value:
        """Return the cached value that is valid at `now`, or the result of `question`. Concurrent callers share one
        request, which goes on when a caller is cancelled. Errors: those of `question`, for all its callers; they are
        not cached."""
        value = self.get(key, now)
        if value is not None:
            return value
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(question())
            asking.add_done_callback(lambda done: self._on_answer(key, done))
        return (await asyncio.shield(asking)).value

    def stop(self) -> None:
        """Cancel all pending requests."""
        for asking in list(self._asking.values()):
            asking.cancel()

    def _on_answer(self, key: Key, done: "asyncio.Future[Kept[Value]]") -> None:
        wanted = self._asking.get(key) is done
        if wanted:
            del self._asking[key]
        if done.cancelled() or done.exception() is not None:  # retrieved, so that asyncio does not log it
            return
        if wanted:
            kept = done.result()
            self.put(key, kept.value, kept.until)
