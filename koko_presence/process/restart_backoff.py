"""Schedules the restart of a slot's worker that has died or could not be started. Pure; `Fleet` calls it.

The first restart is immediate, since most deaths are single ones. Further restarts wait for growing pauses, so that a
lasting fault costs the other workers no core, of at most 2 s, so that the slot returns soon after the fault is fixed.
"""

PAUSES_S = (0.0, 0.25, 0.5, 1.0, 2.0)  # before the first, second, ... restart in a row; the last value repeats
STEADY_S = 10.0  # a worker with a longer lifetime resets the row


class Restarts:
    """The pending restarts of all slots."""

    def __init__(self) -> None:
        self._failures: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def failed(self, slot: int, ran_s: float, now: float) -> None:
        """Record that the slot's worker is gone after `ran_s` seconds of service, 0 if it was never ready."""
        before = 0 if ran_s >= STEADY_S else self._failures.get(slot, 0)
        self._failures[slot] = before + 1
        self._due[slot] = now + PAUSES_S[min(before, len(PAUSES_S) - 1)]

    def pauses(self, slot: int) -> bool:
        """Whether the slot has a pending restart."""
        return slot in self._due

    def due_at(self, slot: int) -> float:
        """Return when the slot is to be restarted, in monotonic seconds. Errors: KeyError without a pending restart."""
        return self._due[slot]

    def take_due(self, now: float) -> list[int]:
        """Return the slots whose pause is over, and remove them."""
        due = sorted(slot for slot, at in self._due.items() if now >= at)
        for slot in due:
            del self._due[slot]
        return due

    def started(self, slot: int) -> None:
        """Drop the pending restart of the slot, because a worker is being started."""
        self._due.pop(slot, None)
