"""How long people wait who want in is told, also by a worker that did not run at all."""

import logging

import pytest

from koko_presence.edge.arrivals import LONG_S, LOOK_S, QUIET_S, Arrivals
from tests.world import FakeTimers


class Told:
    def __init__(self) -> None:
        self.timers = FakeTimers()
        self.waits_s = 0.0
        self.words: list[tuple[float, float]] = []
        self.arrivals = Arrivals(
            self.timers, self.timers.clock, lambda now: self.waits_s, lambda since, now: self.words.append((since, now))
        )


def test_nothing_is_told_while_nobody_waits() -> None:
    told = Told()
    told.timers.advance(10.0)
    assert told.words == []


def test_a_wait_is_told_from_its_beginning_several_times_a_second() -> None:
    told = Told()
    told.waits_s, start = 3.0, told.timers.now
    told.timers.advance(LOOK_S + 0.001)
    assert told.words == [(start + LOOK_S - 3.0, start + LOOK_S)]
    told.timers.advance(4 * LOOK_S)
    assert len(told.words) == 5
    told.arrivals.stop()
    told.timers.advance(10.0)
    assert len(told.words) == 5


def test_a_worker_that_has_not_run_is_waited_for_since_its_timer_should_have_rung() -> None:
    told = Told()
    due = told.timers.now + LOOK_S
    told.timers.now += 7.0
    told.arrivals.look(told.timers.now)  # whatever rings first asks
    assert told.words == [(due, told.timers.now)]
    told.timers.advance(0.0)
    assert told.words[1:] == [(due, told.timers.now)]
    told.timers.advance(1.0)
    assert len(told.words) == 2


def test_a_long_wait_has_a_line_in_the_log_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.waits_s = LONG_S + 1.0
    with caplog.at_level(logging.WARNING):
        told.timers.advance(QUIET_S - 1.0)
        assert len(caplog.records) == 1 and "have to wait" in caplog.text
        told.timers.advance(2.0)
    assert len(caplog.records) == 2
