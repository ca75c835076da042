"""How long those who want in have to wait for one worker, looked at several times a second.

While it is long the graces of those who have lost the connection do not run out (domain/delays.py), and people without
a session are asked to come later (rooms.Rooms.join).
"""

import logging
from collections.abc import Callable

from koko_presence.cluster.bus import TimerHandle, Timers

log = logging.getLogger("koko_presence.arrivals")

LOOK_S = 0.25
LONG_S = 2.0  # a wait that is worth a line in the log
QUIET_S = 60.0


class Arrivals:
    """`waits_for(now)` is how long somebody may have waited by now, in seconds; `tell(since, now)` is told of it."""

    def __init__(
        self,
        timers: Timers,
        clock: Callable[[], float],
        waits_for: Callable[[float], float],
        tell: Callable[[float, float], object],
    ) -> None:
        self._timers, self._clock, self._waits_for, self._tell = timers, clock, waits_for, tell
        self._handle: TimerHandle | None = None
        self._due = clock()
        self._complained_at = float("-inf")
        self._plan()

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self, now: float) -> None:
        """Tell how long somebody has waited, also for this worker to run at all: the timer is late itself then."""
        waited_s = max(self._waits_for(now), now - self._due)
        if waited_s <= 0.0:
            return
        self._tell(now - waited_s, now)
        if waited_s > LONG_S and now - self._complained_at > QUIET_S:
            self._complained_at = now
            log.warning("those who connect have to wait", extra={"seconds": round(waited_s, 1)})

    def _plan(self) -> None:
        self._due = self._clock() + LOOK_S
        self._handle = self._timers.call_later(LOOK_S, self._ring)

    def _ring(self) -> None:
        self.look(self._clock())
        self._plan()
