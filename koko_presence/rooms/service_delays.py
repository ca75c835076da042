"""Records the times in which the service was late to serve new connections, and extends their time limits accordingly.
Pure.

A client that has lost its connection has a grace period in which to resume [D2]; a client that has just connected has a
time limit for authentication [A1]. While a worker is behind with its work, such clients wait for the server through no
fault of their own, so that time does not count. It covers all workers of the service, because a new connection may be
accepted by any of them.
"""

COUNTS_FROM_S = 1.0  # a shorter wait costs no client its place: clients begin to reconnect within a fraction of it
# Time to handle what was read last, and to receive the delay of another worker, which is sent once a second.
AFTERWARDS_S = 1.5
LONGEST_EXTRA_S = 60.0  # upper bound by which a grace period is extended, so that no session is listed for ever
RETENTION_S = 300.0  # longer than any extended grace period


class Delays:
    """The intervals in which a client waited for the service for `COUNTS_FROM_S` or longer, at any of its workers. All
    times are monotonic seconds. Written by the worker's loop only."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []  # disjoint, in order

    @property
    def times(self) -> list[tuple[float, float]]:
        """The recorded intervals, in order: from when until when a client waited."""
        return list(self._times)

    def note(self, since: float, until: float) -> bool:
        """Record that a client waited for the service at least from `since` until `until`. Return False when that is
        shorter than `COUNTS_FROM_S`. Intervals may overlap, and come in any order."""
        if until - since < COUNTS_FROM_S:
            return False
        merged = []
        for began, ended in self._times:
            if ended < since or began > until:
                merged.append((began, ended))
            else:
                since, until = min(began, since), max(ended, until)
        merged.append((since, until))
        merged.sort()
        self._times = [each for each in merged if each[1] > merged[-1][1] - RETENTION_S]
        return True

    def ends(self, since: float, patience_s: float) -> float:
        """Return when `patience_s` seconds that began at `since` are over, without the time in which the service was
        behind, as far as that is known now. Call it again at that time. The result is at most `LONGEST_EXTRA_S` later
        than without delays."""
        at, left_s = since, patience_s
        for began, ended in self._times:
            if ended + AFTERWARDS_S <= at:
                continue
            if began - at >= left_s:
                break
            if began > at:
                left_s -= began - at
            at = ended + AFTERWARDS_S
        return min(at + left_s, since + patience_s + LONGEST_EXTRA_S)
