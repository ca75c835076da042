"""Keeps all deadlines of a shard in one heap, so that thousands of deadlines need one timer of the event loop.

A key has at most one deadline. Moving or cancelling leaves the old heap entry behind; it is skipped when it reaches the
top, so `set` is one push and `cancel` one dict removal.
"""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any


class Deadlines:
    """Deadlines by key, in monotonic seconds. `take_due` returns passed ones in the order of their times."""

    __slots__ = ("_at", "_count", "_heap")

    def __init__(self) -> None:
        self._at: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: Hashable, at: float) -> None:
        """Set the deadline of `key` to `at`; an earlier one is replaced."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._count += 1
        heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._at):
            self._drop_stale()

    def cancel(self, key: Hashable) -> None:
        """Remove the deadline of `key`, if there is one."""
        self._at.pop(key, None)

    def at(self, key: Hashable) -> float | None:
        """Return the deadline of `key`; None when there is none."""
        return self._at.get(key)

    def next_at(self) -> float | None:
        """Return the earliest deadline; None when there is none."""
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> Iterator[Any]:
        """Remove and yield each key whose deadline has passed, including those set meanwhile for a time already
        past."""
        while (at := self.next_at()) is not None and at <= now:
            _, _, key = heappop(self._heap)
            del self._at[key]
            yield key

    def _drop_stale(self) -> None:
        self._heap = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
        heapify(self._heap)
