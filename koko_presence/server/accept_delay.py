"""Measures how long new connections wait for one worker, and reports each wait, several times a second.

The worker passes reports to the bus, which stores a wait of 1 s or more in `Delays` on every worker: grace periods and
authentication timeouts do not count that time (rooms/service_delays.py). `Memberships.join` reads the wait itself, not
these reports, when it refuses joins. Holds no state but the time of the last log line.
"""

import logging
from collections.abc import Callable

log = logging.getLogger("koko_presence.accept_delay")

LONG_S = 2.0  # a longer wait is logged
QUIET_S = 60.0  # at most one log line in this time


class AcceptDelay:
    """Reports the longest wait of a new connection. `waits_for(now)` returns the seconds that a client has waited by
    monotonic second `now`, `late_s(now)` the seconds that the worker has not run; `report(since, now)` is called with
    the beginning of the longer of the two and with `now`."""

    def __init__(
        self,
        waits_for: Callable[[float], float],
        late_s: Callable[[float], float],
        report: Callable[[float, float], object],
    ) -> None:
        self._waits_for, self._late_s, self._report = waits_for, late_s, report
        self._complained_at = float("-inf")

    def look(self, now: float) -> None:
        """Report the wait at monotonic second `now`. The caller calls it several times a second, and before it handles
        any deadline, so that a deadline sees the delay that applies to it."""
        waited_s = max(self._waits_for(now), self._late_s(now))
        if waited_s <= 0.0:
            return
        self._report(now - waited_s, now)
        if waited_s > LONG_S and now - self._complained_at > QUIET_S:
            self._complained_at = now
            log.warning("new connections are delayed", extra={"seconds": round(waited_s, 1)})
