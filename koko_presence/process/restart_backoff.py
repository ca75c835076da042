"""When the worker of a slot is started again after it has died or could not be started. Pure.

The first time at once: most deaths are single ones. After that with growing pauses, so that a fault that lasts costs
the others no core, and short enough that a slot is back a few seconds after the fault is gone.
"""

PAUSES_S = (0.0, 0.25, 0.5, 1.0, 2.0)  # before the first, second, ... start in a row; the last one from then on
STEADY_S = 10.0  # a worker that has run for so long begins the row anew


class Restarts:
    """The pauses of all slots."""

    def __init__(self) -> None:
        self._failures: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def failed(self, slot: int, ran_s: float, now: float) -> None:
        """The slot's worker is gone after it has run for `ran_s` seconds, 0 if it was never ready."""
        before = 0 if ran_s >= STEADY_S else self._failures.get(slot, 0)
        self._failures[slot] = before + 1
        self._due[slot] = now + PAUSES_S[min(before, len(PAUSES_S) - 1)]

    def pauses(self, slot: int) -> bool:
        """Whether the slot waits to be started again."""
        return slot in self._due

    def due_at(self, slot: int) -> float:
        """When the slot is to be started again. Only while it waits."""
        return self._due[slot]

    def take_due(self, now: float) -> list[int]:
        """The slots whose pause is over; each is given once."""
        due = sorted(slot for slot, at in self._due.items() if now >= at)
        for slot in due:
            del self._due[slot]
        return due

    def started(self, slot: int) -> None:
        """A worker is being started for the slot, for whatever reason."""
        self._due.pop(slot, None)
