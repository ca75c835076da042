"""The waiting time of new connections is measured, even by a worker that did not run at all."""

import logging

import pytest

from koko_presence.server.accept_delay import LONG_S, QUIET_S, AcceptDelay


class Told:
    def __init__(self) -> None:
        self.waits_s, self.late_s = 0.0, -0.1
        self.words: list[tuple[float, float]] = []
        self.arrivals = AcceptDelay(
            lambda now: self.waits_s, lambda now: self.late_s, lambda since, now: self.words.append((since, now))
        )


def test_no_wait_is_reported_while_no_connection_waits() -> None:
    told = Told()
    told.arrivals.look(10.0)
    assert told.words == []


def test_a_wait_is_reported_from_its_beginning() -> None:
    told = Told()
    told.waits_s = 3.0
    told.arrivals.look(10.0)
    assert told.words == [(7.0, 10.0)]


def test_a_worker_that_has_not_run_is_waited_for_since_its_timer_should_have_rung() -> None:
    told = Told()
    told.waits_s, told.late_s = 3.0, 7.5
    told.arrivals.look(10.0)
    assert told.words == [(2.5, 10.0)]


def test_a_long_wait_has_a_line_in_the_log_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.waits_s = LONG_S + 1.0
    with caplog.at_level(logging.WARNING):
        for now in (100.0, 101.0, 100.0 + QUIET_S):
            told.arrivals.look(now)
        assert len(caplog.records) == 1 and "new connections are delayed" in caplog.text
        told.arrivals.look(100.5 + QUIET_S)
    assert len(caplog.records) == 2
