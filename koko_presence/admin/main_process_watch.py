"""Watches the clock, logs and counts events in the main process: the supervisor, or the only worker.

`MainWatch` is the only writer of its counters; its `tick` acts once a second.
"""

import logging
import time
from collections.abc import Callable

from koko_presence.config import logs
from koko_presence.config.queued_stream import lost_lines
from koko_presence.protocol.metric_types import MainCounts

from .file_descriptors import Descriptors, allowed

log = logging.getLogger("koko_presence.main")

EVERY_S = 1.0
REPORT_LASTS_S = 5.0  # a report that is repeated within this time counts as the same one
JUMP_S = 0.5  # steps of the wall clock from this size on are logged; smaller ones are usual corrections
READ_WITHIN_S = 0.05  # readings of the two clocks that took longer cannot be compared


def real_clock() -> tuple[float, float, float]:
    """Return wall-clock seconds since 1970, between two readings of CLOCK_BOOTTIME, which is never set and runs on
    while the machine is suspended."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    return before, time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Detects steps of the wall clock. Pure: times are arguments."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def look(self, before: float, wall: float, after: float) -> float:
        """Return the seconds by which the wall clock was set since the last call; 0.0 when it was not. `wall` was read
        between `before` and `after`, seconds of a clock that is never set."""
        if after - before > READ_WITHIN_S:
            return 0.0
        offset_s = wall - before
        last, self._offset_s = self._offset_s, offset_s
        jump_s = 0.0 if last is None else offset_s - last
        return jump_s if abs(jump_s) >= JUMP_S else 0.0


class MainWatch:
    """The watch of the main process. `is_supervisor`: it counts this process's descriptors and lost log lines, which no
    worker counts."""

    def __init__(
        self, *, is_supervisor: bool, clock: Callable[[], tuple[float, float, float]] = real_clock, workers: int = 1
    ) -> None:
        """`clock` returns the arguments of `ClockWatch.look`; `workers` is the number of slots."""
        self._is_supervisor = is_supervisor
        self._clock = clock
        self._wall = ClockWatch()
        self._descriptors = Descriptors()
        self._due = 0.0
        self._jumps = self._events_dropped = 0
        self._reported_at: dict[tuple[int, int], float] = {}  # by slots: the reported and the reporting one
        self._reported = {str(slot): 0 for slot in range(workers)}

    def tick(self, now: float) -> None:
        """Check the clock and report lost log lines, at most once a second; `now` is in monotonic seconds."""
        if now < self._due:
            return
        self._due = now + EVERY_S
        logs.report()
        jump_s = self._wall.look(*self._clock())
        if jump_s:
            self._jumps += 1
            log.warning("the clock has jumped", extra={"seconds": round(jump_s, 3)})

    def on_report(self, slot: int, by: int, now: float) -> None:
        """The worker in slot `by` reports that the one in `slot` is unreachable. It repeats the report while that
        lasts; repetitions within `REPORT_LASTS_S` are not counted and logged again. `now` is in monotonic seconds."""
        before, self._reported_at[slot, by] = self._reported_at.get((slot, by), float("-inf")), now
        if now - before < REPORT_LASTS_S:
            return
        self._reported[str(slot)] = self._reported.get(str(slot), 0) + 1
        log.warning("worker reports an unreachable peer", extra={"worker": by, "peer": slot})

    def on_events_dropped(self, count: int) -> None:
        """A worker has stopped with `count` undelivered webhook events, and no other worker is left to take them."""
        self._events_dropped += count
        log.warning("webhook events dropped: no worker left to take them", extra={"events": count})

    def counts(self) -> MainCounts:
        """Return the present counters."""
        counts = MainCounts(clock_jumps=self._jumps, reported=dict(self._reported))
        if self._is_supervisor:
            counts.log_lines_lost, counts.events_dropped = lost_lines(), self._events_dropped
            counts.descriptors, counts.descriptors_allowed = self._descriptors.used(), allowed()
        return counts
