"""Decides whether a silent process hangs or only gets no CPU time. Pure; the state of a `Watch` is written by its
methods alone.

A silent worker that is runnable and was not scheduled is starved: a replacement would add the cost of a start, and of
all reconnecting clients, to an overloaded machine. A silent worker that sleeps, is stopped, or has had its CPU time
hangs.
"""

from typing import NamedTuple

SILENT_CPU_S = 1.5  # a silent worker that has used this much CPU time hangs
STARVED_LONGEST_S = 60.0  # after this much silence it is replaced for any cause
START_CPU_S = 30.0  # many times the cost of a start
START_LONGEST_S = 600.0


class ProcessStats(NamedTuple):
    """Process statistics. `cpu_s`: the CPU time of the main thread in seconds; `wants_cpu`: the thread runs, waits for
    a core or for a page of memory, and neither sleeps nor is stopped."""

    cpu_s: float
    wants_cpu: bool


class Watch:
    """The CPU time of one process since its last heartbeat, or its progress since its start."""

    __slots__ = ("_cpu_s", "_progress_at", "_progress_cpu_s")

    def __init__(self) -> None:
        self._cpu_s: float | None = None  # at the first check since the last heartbeat
        self._progress_cpu_s = 0.0
        self._progress_at: float | None = None

    def note_received(self) -> None:
        """Record a sign of life."""
        self._cpu_s = None

    def judge_silence(self, process_stats: ProcessStats | None, silent_s: float) -> bool:
        """Record the CPU time of a late worker, and return whether its silence of `silent_s` seconds is due to a lack
        of CPU time. To be called repeatedly while the worker is late. `process_stats` is None if the statistics cannot
        be read; then the answer is False."""
        if process_stats is None:
            return False
        if self._cpu_s is None:
            self._cpu_s = process_stats.cpu_s
        return (
            process_stats.wants_cpu
            and process_stats.cpu_s - self._cpu_s < SILENT_CPU_S
            and silent_s < STARVED_LONGEST_S
        )

    def note_start(self, process_stats: ProcessStats | None, started_at: float, now: float) -> float:
        """Record the progress of a starting process, and return since which monotonic second it makes none. To be
        called repeatedly during the start."""
        if self._progress_at is None:
            self._progress_at = started_at
        if process_stats is None or now - started_at > START_LONGEST_S or process_stats.cpu_s > START_CPU_S:
            return self._progress_at
        if process_stats.wants_cpu or process_stats.cpu_s > self._progress_cpu_s:
            self._progress_at, self._progress_cpu_s = now, process_stats.cpu_s
        return self._progress_at
