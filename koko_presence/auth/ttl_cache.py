"""A bounded cache of values with an expiry, with one pending request per key.

`TtlCache` is the only writer of its state, on one event loop. Times are arguments, in seconds of any one clock.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")
Key = TypeVar("Key")


class CachedValue(NamedTuple, Generic[Value]):
    """A value and the time until which it is valid; `until` 0 for one that is not to be cached."""

    value: Value
    until: float


class TtlCache(Generic[Key, Value]):
    """A cache of at most `limit` values, none of them None; the least recently used one is evicted first.

    `get` and `put` take constant time. It is an OrderedDict because a dict scans its deleted entries to find the first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Key, CachedValue[Value]] = OrderedDict()
        self._pending: dict[Key, asyncio.Future[CachedValue[Value]]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def accepts(self, key: Key, limit: int) -> bool:
        """Return True when a request for `key` is pending, or fewer than `limit` requests are."""
        return key in self._pending or len(self._pending) < limit

    def is_pending(self, key: Key) -> bool:
        """Return True when a request for `key` is pending."""
        return key in self._pending

    def get(self, key: Key, now: float) -> Value | None:
        """Return the value that is valid at `now`, or None."""
        cached = self._values.pop(key, None)
        if cached is None or cached.until <= now:
            return None
        self._values[key] = cached  # moved to the end: most recently used
        return cached.value

    def put(self, key: Key, value: Value, until: float) -> None:
        """Store a value until `until`."""
        self._values.pop(key, None)
        self._values[key] = CachedValue(value, until)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)

    def forget(self, of: Callable[[Key], bool] = lambda key: True) -> None:
        """Remove the values whose key matches `of`. The answer of a pending request for such a key is not stored."""
        for key in [key for key in self._values if of(key)]:
            del self._values[key]
        for key in [key for key in self._pending if of(key)]:
            del self._pending[key]

    def forget_one(self, key: Key) -> None:
        """Remove the value of `key`, if there is one."""
        self._values.pop(key, None)

    async def get_or_fetch(self, key: Key, now: float, fetch: Callable[[], Awaitable[CachedValue[Value]]]) -> Value:
        """Return the cached value that is valid at `now`, or the result of `fetch`. Concurrent callers share one
        request, which goes on when a caller is cancelled. Errors: those of `fetch`, for all its callers; they are
        not cached."""
        value = self.get(key, now)
        if value is not None:
            return value
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = asyncio.ensure_future(fetch())
            pending.add_done_callback(lambda done: self._on_answer(key, done))
        return (await asyncio.shield(pending)).value

    def stop(self) -> None:
        """Cancel all pending requests."""
        for pending in list(self._pending.values()):
            pending.cancel()

    def _on_answer(self, key: Key, done: "asyncio.Future[CachedValue[Value]]") -> None:
        wanted = self._pending.get(key) is done
        if wanted:
            del self._pending[key]
        if done.cancelled() or done.exception() is not None:  # retrieved, so that asyncio does not log it
            return
        if wanted:
            cached = done.result()
            self.put(key, cached.value, cached.until)
