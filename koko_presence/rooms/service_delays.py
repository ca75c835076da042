"""When this server was too late to serve those who want in, and what they may wait for meanwhile. Pure.

A client that has lost the connection has a grace in which to come back [D2], one that has just connected a time in
which to authenticate [A1]. While a worker is behind with its work such a client waits for the server and is not to
blame for being late: that time does not count. It is known from all workers of the service, because a new connection
may come to any of them.
"""

COUNTS_FROM_S = (
    1.0  # a shorter wait costs no client its place: clients begin to come back within a fraction of a second
)
AFTERWARDS_S = 1.5  # what was read last has still to be done, and word of another worker comes once a second
LONGEST_EXTRA_S = 60.0  # so much later than it would does a grace end at most: nobody stays listed for ever
KEPT_S = 300.0  # longer than any grace with what is added to it


class Delays:
    """The times in which a client waited for the service for COUNTS_FROM_S or longer, at any of its workers. All times
    are monotonic seconds. Written by the worker's loop alone."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []  # disjoint, in order

    @property
    def times(self) -> list[tuple[float, float]]:
        """All that is known: from when until when a client waited, in order."""
        return list(self._times)

    def note(self, since: float, until: float) -> bool:
        """A client that wanted in has waited from `since` until `until` at least; True when that counts. The same time
        may be noted more than once, in any order."""
        if until - since < COUNTS_FROM_S:
            return False
        kept = []
        for began, ended in self._times:
            if ended < since or began > until:
                kept.append((began, ended))
            else:
                since, until = min(began, since), max(ended, until)
        kept.append((since, until))
        kept.sort()
        self._times = [each for each in kept if each[1] > kept[-1][1] - KEPT_S]
        return True

    def ends(self, since: float, patience_s: float) -> float:
        """When `patience_s` seconds that began at `since` are over, not counting the time in which the service was
        behind, as far as that is known now: to be asked again when it has come. At most LONGEST_EXTRA_S later than if
        it had been in time."""
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
