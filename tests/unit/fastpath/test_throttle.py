"""Token buckets: the rates that they allow, and that their two methods agree."""

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.throttle import GO, WAITS, Coalescer, Meter, TokenBucket

RATES = st.floats(0.01, 100_000.0)
BURSTS = st.floats(1.0, 1000.0)


@given(RATES, BURSTS, st.floats(0.0, 1e7), st.lists(st.floats(0.0, 2.0), max_size=200))
def test_regression_a_refused_take_is_never_ready_now(hz: float, burst: float, start: float, gaps: list[float]) -> None:
    """After a refused take, ready_at is later than now. A take that failed at the very time returned by ready_at made
    the shard's timer fire without end."""
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
        assert bisect_right(taken, first + 1.0) - bisect_left(taken, first) <= int(hz) + 2 - (hz == int(hz))


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


def test_the_newest_value_waits_and_its_time_is_returned_once() -> None:
    bucket, waiting = TokenBucket(20.0), Coalescer()
    assert waiting.offer("cursor", 1, bucket, None, 10.0) == GO
    at = waiting.offer("cursor", 2, bucket, None, 10.01)
    assert at == pytest.approx(10.05)
    assert waiting.offer("cursor", 3, bucket, None, 10.02) == WAITS
    assert list(waiting) == ["cursor"] and "cursor" in waiting and len(waiting) == 1
    assert waiting.take("cursor") == 3 and not waiting
    assert waiting.offer("cursor", 3, bucket, None, at) == GO


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 0.08)), min_size=1, max_size=60), st.booleans())
def test_the_last_value_of_every_key_arrives_and_no_rate_is_exceeded(
    plan: list[tuple[str, float]], is_shared: bool
) -> None:
    """A sender with two kinds, each with its own budget, and one budget shared by all senders that is sometimes
    short."""
    own = {key: TokenBucket(20.0, 1.9) for key in "ab"}
    shared = TokenBucket(12.0 if is_shared else 1000.0)
    waiting, due, sent, now = Coalescer(), {}, [], 10.0

    def offer(key: str, value: int, at: float) -> None:
        when = waiting.offer(key, value, own[key], shared, at)
        if when == GO:
            sent.append((at, key, value))
        elif when != WAITS:
            assert when > at
            due[key] = when

    def release(until: float) -> None:
        while due and min(due.values()) <= until:
            key = min(due, key=lambda each: due[each])
            at = due.pop(key)
            offer(key, waiting.take(key), at)

    for value, (key, gap) in enumerate(plan):
        now += gap
        release(now)
        offer(key, value, now)
    release(now + 10.0)
    for key in "ab":
        values = [value for value, (each, _) in enumerate(plan) if each == key]
        assert [value for _, each, value in sent if each == key][-1:] == values[-1:]
        times = [at for at, each, _ in sent if each == key]
        assert all(sum(first <= at <= first + 1.0 for at in times) <= 21 for first in times)
    assert len(waiting) == 0


def test_values_can_be_dropped() -> None:
    bucket, waiting = TokenBucket(1.0), Coalescer()
    bucket.take(1.0)
    for key in "abc":
        waiting.offer(key, key, bucket, None, 1.0)
    waiting.drop("a")
    waiting.drop("never")
    assert sorted(waiting) == ["b", "c"]
    waiting.clear()
    assert list(waiting) == []
    with pytest.raises(KeyError):
        waiting.take("b")


def test_a_meter_counts_seconds() -> None:
    meter = Meter(10.0)
    assert [meter.tick(at) for at in (10.0, 10.5, 10.9, 11.0, 11.5)] == [False, False, False, True, True]
    assert (meter.count, meter.since) == (5, 10.0)
    meter.restart(11.5)
    assert not meter.tick(12.0) and meter.count == 1
