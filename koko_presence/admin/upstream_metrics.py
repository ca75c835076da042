"""Counts the requests of this server to other servers, by result, and measures their durations.

They are separate from this server's own durations, so that a slow identity provider does not look like a slow server.
The component that sends the requests is the only writer of its `Upstream`; it is read at a scrape.
"""

from bisect import bisect_left

from koko_presence.protocol.metric_types import BOUNDS_S, UPSTREAM_RESULTS, UPSTREAMS, Histogram


class Durations:
    """A histogram of seconds with the bounds `BOUNDS_S`."""

    __slots__ = ("_buckets", "_sum_s")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Histogram:
        """Return the histogram of all durations so far."""
        return Histogram(buckets=list(self._buckets), sum_s=self._sum_s)


class Upstream:
    """The counters of one kind of server. `note` counts a request; `skip` one that was not sent."""

    __slots__ = ("_results", "durations")

    def __init__(self) -> None:
        self._results = dict.fromkeys(UPSTREAM_RESULTS, 0)
        self.durations = Durations()

    @property
    def results(self) -> dict[str, int]:
        """The numbers of requests by result, one key for each of `UPSTREAM_RESULTS`."""
        return dict(self._results)

    def note(self, result: str, seconds: float) -> None:
        """A request has ended after `seconds` with `result`, one of `UPSTREAM_RESULTS`."""
        self._results[result] += 1
        self.durations.observe(seconds)

    def skip(self) -> None:
        """A request was not sent, because the circuit breaker is open or too many are pending."""
        self._results["skipped"] += 1


class Upstreams(dict[str, Upstream]):
    """The counters of one worker for each of `UPSTREAMS`."""

    def __init__(self) -> None:
        super().__init__((name, Upstream()) for name in UPSTREAMS)
