"""Measures a rate limit, against a token bucket in plain Python."""

from itertools import repeat
from typing import Any

import pytest

from . import cases
from .cases import Run, measure, times

N = 2000


class PlainBucket:
    def __init__(self, hz: float, burst: float = 1.0) -> None:
        self.hz, self.burst = hz, burst
        self.tokens, self.at = burst, 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.hz)
        self.at = now
        if self.tokens < 1.0 - 1e-6:
            return False
        self.tokens -= 1.0
        return True


class PlainTrailing:
    def __init__(self) -> None:
        self.waiting: dict[str, Any] = {}

    def offer(self, key: str, value: Any, own: PlainBucket, shared: PlainBucket, now: float) -> float:
        if key not in self.waiting and own.take(now) and shared.take(now):
            return 0.0
        self.waiting[key] = value
        return -1.0


def take_plain(n: int) -> int:
    return sum(map(PlainBucket(20.0).take, times(n, 0.025)))


def offer_plain(n: int) -> float:
    own, shared = repeat(PlainBucket(20.0)), repeat(PlainBucket(2000.0, 2000.0))
    return sum(map(PlainTrailing().offer, repeat("cursor"), repeat(None), own, shared, times(n, 0.051)))


@pytest.mark.parametrize("run", [cases.take_token, take_plain], ids=["ours", "reference"])
def test_taking_a_token(benchmark: Any, run: Run) -> None:
    assert measure(benchmark, run, N) == N // 2


@pytest.mark.parametrize("run", [cases.offer_value, offer_plain], ids=["ours", "reference"])
def test_offering_a_value(benchmark: Any, run: Run) -> None:
    assert measure(benchmark, run, N) == 0.0
