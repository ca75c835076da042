"""How long those who want in have to wait for one worker, looked at several times a second.

While it is long the graces of those who have lost the connection do not run out (rooms/service_delays.py), and people
without a session are asked to come later (Memberships.join).
"""

import logging
from collections.abc import Callable

log = logging.getLogger("koko_presence.arrivals")

LONG_S = 2.0  # a wait that is worth a line in the log
QUIET_S = 60.0


class AcceptDelay:
    """`waits_for(now)` is how long a client may have waited by monotonic second `now`, `late_s(now)` for how long the
    worker has not run at all, in seconds; `tell(since, now)` is told of the longer one."""

    def __init__(
        self,
        waits_for: Callable[[float], float],
        late_s: Callable[[float], float],
        tell: Callable[[float, float], object],
    ) -> None:
        self._waits_for, self._late_s, self._tell = waits_for, late_s, tell
        self._complained_at = float("-inf")

    def look(self, now: float) -> None:
        """To be called several times a second, and before anything is ended because its time is over."""
        waited_s = max(self._waits_for(now), self._late_s(now))
        if waited_s <= 0.0:
            return
        self._tell(now - waited_s, now)
        if waited_s > LONG_S and now - self._complained_at > QUIET_S:
            self._complained_at = now
            log.warning("those who connect have to wait", extra={"seconds": round(waited_s, 1)})
