"""For which share of the last half minute a worker's beats were late. Pure."""

from collections import deque

WINDOW_S = 30.0
CELL_S = 1.0


class Lateness:
    """Looks at one worker, counted in cells of a second."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: deque[list[float]] = deque()  # since when, looks, late looks

    def note(self, late: bool, now: float) -> None:
        """One look, several times a second: is the last beat older than it should be?"""
        if not self._cells or now - self._cells[-1][0] >= CELL_S:
            self._cells.append([now, 0, 0])
            while now - self._cells[0][0] > WINDOW_S:
                self._cells.popleft()
        self._cells[-1][1] += 1
        self._cells[-1][2] += late

    def share(self) -> float:
        """Late looks among all, from 0 to 1; 0 until there is almost a whole window."""
        if len(self._cells) < 2 or self._cells[-1][0] - self._cells[0][0] < WINDOW_S - 2 * CELL_S:
            return 0.0
        return sum(cell[2] for cell in self._cells) / sum(cell[1] for cell in self._cells)

    def forget(self) -> None:
        """What was seen says nothing of the worker."""
        self._cells.clear()
