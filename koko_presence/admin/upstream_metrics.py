"""How the servers that this one asks answer it: requests by result, and how long they took.

Kept apart from what is measured of this server itself, so that a slow identity provider is not taken for a slow server.
One writer each: the part that sends the requests. Read when metrics are asked for.
"""

from bisect import bisect_left

from koko_presence.protocol.metric_types import BOUNDS_S, UPSTREAM_RESULTS, UPSTREAMS, Histogram


class Durations:
    """A histogram of seconds, by the bounds of all our histograms."""

    __slots__ = ("_buckets", "_sum_s")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Something took so long."""
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Histogram:
        """What has been observed so far."""
        return Histogram(buckets=list(self._buckets), sum_s=self._sum_s)


class Upstream:
    """One kind of server that is asked. `note` counts a request; `skip` one that was not even sent."""

    __slots__ = ("_results", "durations")

    def __init__(self) -> None:
        self._results = dict.fromkeys(UPSTREAM_RESULTS, 0)
        self.durations = Durations()

    @property
    def results(self) -> dict[str, int]:
        """Requests by what became of them: a key for each of UPSTREAM_RESULTS."""
        return dict(self._results)

    def note(self, result: str, seconds: float) -> None:
        """A request ended after so many seconds with one of UPSTREAM_RESULTS."""
        self._results[result] += 1
        self.durations.observe(seconds)

    def skip(self) -> None:
        """A request was not sent: the circuit breaker is open, or too many are on their way."""
        self._results["skipped"] += 1


class Upstreams(dict[str, Upstream]):
    """One worker's, by UPSTREAMS."""

    def __init__(self) -> None:
        super().__init__((name, Upstream()) for name in UPSTREAMS)
