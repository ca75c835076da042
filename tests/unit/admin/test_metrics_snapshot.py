"""What is read at a scrape: the longest iteration of the event loop."""

from collections.abc import Callable
from typing import Any

from koko_presence.admin.metrics_snapshot import (
    BEGIN_S,
    ITERATION_S,
    LAG_SLOT_S,
    LAG_SLOTS,
    QUIET_S,
    STILL_S,
    IterationCpu,
)


class Loop:
    """An event loop whose clocks the test moves, and its poller."""

    def __init__(self) -> None:
        self.now, self.cpu = 50.0, 7.0
        self.scheduled: tuple[float, Callable[[], None]] | None = None
        self.on_round: Callable[[], None] | None = None
        self.rings = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.scheduled = delay, callback
        return self

    def call_soon(self, callback: Callable[[], None]) -> Any:
        return self.call_later(0.0, callback)

    def cancel(self) -> None:
        self.scheduled = None

    def on_next_round(self, callback: Callable[[], None] | None) -> None:
        self.on_round = callback

    @property
    def delay(self) -> float | None:
        return self.scheduled[0] if self.scheduled else None

    def pass_time(self, wall_s: float, cpu_s: float) -> None:
        """Let `wall_s` seconds pass with `cpu_s` seconds of CPU time, then run the scheduled callback."""
        self.now += wall_s
        self.cpu += cpu_s
        if self.scheduled is not None:
            self.rings += 1
            callback, self.scheduled = self.scheduled[1], None
            callback()

    def read(self, cpu_s: float) -> None:
        """Run one round of reading that takes `cpu_s` seconds."""
        if self.on_round is not None:
            callback, self.on_round = self.on_round, None
            callback()
        self.pass_time(cpu_s, cpu_s)


def watched() -> tuple[Any, IterationCpu]:
    """Return a loop that has served for a while and is idle."""
    loop: Any = Loop()
    iteration = IterationCpu(loop, loop.on_next_round, lambda: float(loop.cpu))
    loop.pass_time(BEGIN_S / 2, 0.4)
    assert iteration.longest_s == 0.0, "it has only begun"
    loop.pass_time(BEGIN_S, 0.0001)
    assert loop.delay is None and loop.on_round is not None
    return loop, iteration


def test_the_longest_iteration_is_reported_for_a_minute_in_cpu_time() -> None:
    loop, iteration = watched()
    loop.read(0.012)
    assert abs(iteration.longest_s - 0.012) < 1e-9
    assert loop.delay == ITERATION_S, "it is busy: every turn is looked at"
    for _ in range(30):
        loop.pass_time(0.0012, 0.001)
        assert loop.delay == ITERATION_S, "many short turns are no long one"
    loop.pass_time(5.0, 0.0125)
    assert abs(iteration.longest_s - 0.0125) < 1e-9, "however long others have had the core"
    loop.pass_time(0.01, 0.0006)
    assert loop.delay == QUIET_S
    for _ in range(LAG_SLOTS):
        loop.pass_time(LAG_SLOT_S, 0.002)
    assert abs(iteration.longest_s - 0.002) < 1e-9
    iteration.stop()
    assert loop.delay is None and loop.on_round is None


def test_regression_an_idle_loop_is_not_woken_to_be_watched() -> None:
    """An idle loop is not woken to be watched. It was, 125 times a second, which was nearly all that an idle server
    cost."""
    loop, iteration = watched()
    before = loop.rings
    for _ in range(500):
        loop.pass_time(0.2, 0.0001)
        iteration.look()
    assert loop.rings == before and iteration.longest_s < STILL_S


def test_a_long_iteration_of_an_idle_loop_is_measured_whatever_started_it() -> None:
    loop, iteration = watched()
    loop.pass_time(0.1, 0.03)  # a timer, or a socket outside the poller
    iteration.look()
    assert abs(iteration.longest_s - 0.03) < 1e-9 and loop.delay == ITERATION_S
    loop, iteration = watched()
    loop.pass_time(0.1, 0.03)
    loop.read(0.02)
    assert abs(iteration.longest_s - 0.03) < 1e-9, "and what is read next is not added to it"


def test_short_loop_iterations_do_not_add_up_to_a_long_one() -> None:
    loop, iteration = watched()
    for _ in range(1000):
        loop.now += 0.02
        loop.read(0.0003)
        iteration.look()
    assert iteration.longest_s < 0.0004


def test_consecutive_rounds_are_not_each_measured() -> None:
    loop, iteration = watched()
    for _ in range(1000):
        loop.now += 0.001
        if loop.on_round is not None:
            callback, loop.on_round = loop.on_round, None
            callback()
        if loop.delay == 0.0 or loop.now >= iteration._rang_at + QUIET_S:
            loop.pass_time(0.0, 0.00003)
    assert loop.rings <= 300, "in a second"
    assert iteration.longest_s < STILL_S
