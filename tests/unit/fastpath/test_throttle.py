"""Token buckets: what they let through, and that their two answers agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.throttle import TokenBucket

RATES = st.floats(0.01, 100_000.0)
BURSTS = st.floats(1.0, 1000.0)


@given(RATES, BURSTS, st.floats(0.0, 1e7), st.lists(st.floats(0.0, 2.0), max_size=200))
def test_regression_a_refused_take_is_never_ready_now(hz: float, burst: float, start: float, gaps: list[float]) -> None:
    """A take that failed at the very time ready_at had named made the shard's clock spin for ever."""
    bucket, now = TokenBucket(hz, burst), start
    for gap in gaps:
        now += gap
        ready_at = bucket.ready_at(now)
        assert (ready_at <= now) is bucket.take(now)
        assert bucket.ready_at(now) >= now


@given(st.floats(1.0, 100.0), st.lists(st.floats(0.0, 0.2), min_size=50, max_size=200))
def test_a_burst_of_almost_two_keeps_the_rule_of_hz_plus_one(hz: float, gaps: list[float]) -> None:
    bucket, now, taken = TokenBucket(hz, 1.9), 100.0, []
    for gap in gaps:
        now += gap / hz
        if bucket.take(now):
            taken.append(now)
    for first in taken:
        assert sum(1 for at in taken if first <= at <= first + 1.0) <= int(hz) + 2 - (hz == int(hz))


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(2.0, 4)
    assert [bucket.take(10.0) for _ in range(5)] == [True] * 4 + [False]
    assert bucket.ready_at(10.0) == pytest.approx(10.5)
    assert bucket.take(10.5) and not bucket.take(10.6)
    assert [bucket.take(100.0) for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(("hz", "burst"), [(0, 1), (-1, 1), (1, 0.5)])
def test_senseless_rates_are_refused(hz: float, burst: float) -> None:
    with pytest.raises(ValueError, match="hz must be above 0"):
        TokenBucket(hz, burst)
