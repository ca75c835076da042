"""Answers from elsewhere, kept for a while: a bounded map in which entries end, and one question at a time per key.

Written by its owner alone, on one loop. Times are whatever clock the owner uses, in seconds, and always arguments.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")
Key = TypeVar("Key")


class Kept(NamedTuple, Generic[Value]):
    """An answer and the time until which it counts; one that counts for nothing later has `until` 0."""

    value: Value
    until: float


class Memory(Generic[Key, Value]):
    """At most `limit` answers, none of them None; the one that was not wanted for the longest time goes first.

    `get` and `put` take constant time. Hence OrderedDict: a dict steps over what is gone to find its first entry.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Key, Kept[Value]] = OrderedDict()
        self._asking: dict[Key, asyncio.Future[Kept[Value]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def takes(self, key: Key, limit: int) -> bool:
        """Is this being asked already, or are fewer than `limit` questions on their way?"""
        return key in self._asking or len(self._asking) < limit

    def is_asking(self, key: Key) -> bool:
        """Is this being asked already?"""
        return key in self._asking

    def get(self, key: Key, now: float) -> Value | None:
        """The answer that still counts at `now`, or None."""
        kept = self._kept.pop(key, None)
        if kept is None or kept.until <= now:
            return None
        self._kept[key] = kept  # to the end: it was used
        return kept.value

    def put(self, key: Key, value: Value, until: float) -> None:
        """Keep an answer until `until`."""
        self._kept.pop(key, None)
        self._kept[key] = Kept(value, until)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def forget(self, of: Callable[[Key], bool] = lambda key: True) -> None:
        """Forget the answers whose key `of` names. A question that is on its way is not kept when it is answered."""
        for key in [key for key in self._kept if of(key)]:
            del self._kept[key]
        for key in [key for key in self._asking if of(key)]:
            del self._asking[key]

    def forget_one(self, key: Key) -> None:
        """Forget one answer, if it is kept."""
        self._kept.pop(key, None)

    async def ask(self, key: Key, now: float, question: Callable[[], Awaitable[Kept[Value]]]) -> Value:
        """The answer that counts, else that of `question`, which is asked once however many wait for it, and goes on
        when one of them is gone. Errors: those of `question`, for all who wait; they are not kept."""
        value = self.get(key, now)
        if value is not None:
            return value
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(question())
            asking.add_done_callback(lambda done: self._on_answer(key, done))
        return (await asyncio.shield(asking)).value

    def stop(self) -> None:
        """Give up what is being asked."""
        for asking in list(self._asking.values()):
            asking.cancel()

    def _on_answer(self, key: Key, done: "asyncio.Future[Kept[Value]]") -> None:
        wanted = self._asking.get(key) is done
        if wanted:
            del self._asking[key]
        if done.cancelled() or done.exception() is not None:  # taken from the future, so that nobody complains of it
            return
        if wanted:
            kept = done.result()
            self.put(key, kept.value, kept.until)
