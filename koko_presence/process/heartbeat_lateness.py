"""Measures for which share of the last half minute the heartbeats of a worker were late. Pure; `Fleet` calls it."""

from collections import deque

WINDOW_S = 30.0
CELL_S = 1.0


class Lateness:
    """The checks of one worker, counted per second."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: deque[list[float]] = deque()  # start, checks, late checks

    def note(self, late: bool, now: float) -> None:
        """Record one check, several per second: whether the last heartbeat is older than allowed."""
        if not self._cells or now - self._cells[-1][0] >= CELL_S:
            self._cells.append([now, 0, 0])
            while now - self._cells[0][0] > WINDOW_S:
                self._cells.popleft()
        self._cells[-1][1] += 1
        self._cells[-1][2] += late

    def share(self) -> float:
        """The share of late checks, from 0 to 1; 0 until almost a whole window is recorded."""
        if len(self._cells) < 2 or self._cells[-1][0] - self._cells[0][0] < WINDOW_S - 2 * CELL_S:
            return 0.0
        return sum(cell[2] for cell in self._cells) / sum(cell[1] for cell in self._cells)

    def forget(self) -> None:
        """Drop what was recorded, after a pause of the supervisor itself."""
        self._cells.clear()
