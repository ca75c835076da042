"""What the main process, which is the supervisor or the only worker, notices once a second, says and counts."""

import logging
import time
from collections.abc import Callable

from koko_presence.config import logs
from koko_presence.config.queued_stream import lost_lines
from koko_presence.protocol.metric_types import MainCounts

from .file_descriptors import Descriptors, allowed

log = logging.getLogger("koko_presence.main")

EVERY_S = 1.0
REPORT_LASTS_S = 5.0  # a report that is repeated within this time is the same one
JUMP_S = 0.5  # a step of the wall clock from here on is said; smaller ones are everyday corrections
READ_WITHIN_S = 0.05  # readings of two clocks that took longer to make say nothing of each other


def real_clock() -> tuple[float, float, float]:
    """Wall seconds since 1970, between two readings of a clock that no one sets and that runs on while the machine is
    suspended."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    return before, time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Notices when the wall clock was set; pure."""

    def __init__(self) -> None:
        self._offset_s: float | None = None

    def look(self, before: float, wall: float, after: float) -> float:
        """By how many seconds the wall clock has jumped since the last look; 0 when it has not. `wall` was read between
        `before` and `after`, seconds of a clock that nobody sets."""
        if after - before > READ_WITHIN_S:
            return 0.0
        offset_s = wall - before
        last, self._offset_s = self._offset_s, offset_s
        jump_s = 0.0 if last is None else offset_s - last
        return jump_s if abs(jump_s) >= JUMP_S else 0.0


class MainWatch:
    """`is_supervisor`: this process's descriptors and lost lines are not counted by a worker."""

    def __init__(
        self, *, is_supervisor: bool, clock: Callable[[], tuple[float, float, float]] = real_clock, workers: int = 1
    ) -> None:
        """`clock` gives what `ClockWatch.look` takes."""
        self._is_supervisor = is_supervisor
        self._clock = clock
        self._wall = ClockWatch()
        self._descriptors = Descriptors()
        self._due = 0.0
        self._jumps = self._events_dropped = 0
        self._reported_at: dict[tuple[int, int], float] = {}  # by the slots of the one and of the one that says so
        self._reported = {str(slot): 0 for slot in range(workers)}

    def tick(self, now: float) -> None:
        """As often as you like; `now` is in monotonic seconds."""
        if now < self._due:
            return
        self._due = now + EVERY_S
        logs.report()
        jump_s = self._wall.look(*self._clock())
        if jump_s:
            self._jumps += 1
            log.warning("the clock has jumped", extra={"seconds": round(jump_s, 3)})

    def on_report(self, slot: int, by: int, now: float) -> None:
        """The worker in slot `by` says that the one in `slot` cannot be reached, and does so again and again while that
        lasts: counted and logged once."""
        before, self._reported_at[slot, by] = self._reported_at.get((slot, by), float("-inf")), now
        if now - before < REPORT_LASTS_S:
            return
        self._reported[str(slot)] = self._reported.get(str(slot), 0) + 1
        log.warning("a worker reports another one that it cannot reach", extra={"worker": by, "peer": slot})

    def on_events_dropped(self, count: int) -> None:
        """So many events for the webhook were left by a worker, and there is no other one to tell them."""
        self._events_dropped += count
        log.warning("events for the webhook are lost with the last worker", extra={"events": count})

    def counts(self) -> MainCounts:
        """What has been counted, now."""
        counts = MainCounts(clock_jumps=self._jumps, reported=dict(self._reported))
        if self._is_supervisor:
            counts.log_lines_lost, counts.events_dropped = lost_lines(), self._events_dropped
            counts.descriptors, counts.descriptors_allowed = self._descriptors.used(), allowed()
        return counts
