"""Whether a process that says nothing is hung, or only gets no time on a core. Pure.

A silent worker that wants to run and was not let run is starved: to replace it would add the work of a start, and of
everybody who comes back, to a machine that has too much to do already. One that sleeps, is stopped, or has had its time
and still says nothing is hung.
"""

from typing import NamedTuple

SILENT_CPU_S = 1.5  # so much CPU time without a beat, and it is the worker's own doing
STARVED_LONGEST_S = 60.0  # of silence; after that it does not matter why
START_CPU_S = 30.0  # many times what a start takes
START_LONGEST_S = 600.0


class Vitals(NamedTuple):
    """`cpu_s`: seconds for which the process's main thread has run so far; `wants_cpu`: it runs, waits for a core or
    for a page of its memory, as opposed to one that sleeps or was stopped."""

    cpu_s: float
    wants_cpu: bool


class Watch:
    """What was seen of one worker since its last sign of life, or since its start."""

    __slots__ = ("_cpu_s", "_progress_at", "_progress_cpu_s")

    def __init__(self) -> None:
        self._cpu_s: float | None = None  # at the first look since the last sign of life
        self._progress_cpu_s = 0.0
        self._progress_at: float | None = None

    def heard(self) -> None:
        """A sign of life."""
        self._cpu_s = None

    def is_starved(self, vitals: Vitals | None, silent_s: float) -> bool:
        """To be asked several times while the worker is late: whether its silence of `silent_s` seconds is for want of
        a core. None: nothing is known of it."""
        if vitals is None:
            return False
        if self._cpu_s is None:
            self._cpu_s = vitals.cpu_s
        return vitals.wants_cpu and vitals.cpu_s - self._cpu_s < SILENT_CPU_S and silent_s < STARVED_LONGEST_S

    def start_stands_still_since(self, vitals: Vitals | None, started_at: float, now: float) -> float:
        """To be asked several times while the worker starts: since when it makes no progress."""
        if self._progress_at is None:
            self._progress_at = started_at
        if vitals is None or now - started_at > START_LONGEST_S or vitals.cpu_s > START_CPU_S:
            return self._progress_at
        if vitals.wants_cpu or vitals.cpu_s > self._progress_cpu_s:
            self._progress_at, self._progress_cpu_s = now, vitals.cpu_s
        return self._progress_at
