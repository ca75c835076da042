"""What the main process logs and counts itself: the clock, its descriptors, workers that others cannot reach."""

import logging
import os

import pytest

from koko_presence.admin.file_descriptors import LISTED, Descriptors, allowed
from koko_presence.admin.main_process_watch import ClockWatch, MainWatch


def test_a_clock_that_is_set_is_noticed_and_one_that_is_corrected_is_not() -> None:
    watch = ClockWatch()
    assert watch.look(100.0, 5000.0, 100.0) == 0.0, "the first look says nothing"
    assert watch.look(101.0, 5001.1, 101.0) == 0.0
    assert watch.look(102.0, 5002.1 + 3600.0, 102.0) == pytest.approx(3600.0)
    assert watch.look(103.0, 5003.1 + 3600.0, 103.0) == 0.0, "said once"
    assert watch.look(104.0, 5004.1, 104.0) == pytest.approx(-3600.0)


def test_clocks_that_were_not_read_at_the_same_moment_are_not_judged() -> None:
    watch = ClockWatch()
    watch.look(100.0, 5000.0, 100.0)
    assert watch.look(101.0, 5002.0, 102.0) == 0.0, "a second passed between the two"
    assert watch.look(103.0, 5003.0, 103.0) == 0.0


def test_a_clock_jump_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    shift = 0.0
    at = 0.0
    watch = MainWatch(is_supervisor=False, clock=lambda: (at, 5000.0 + at + shift, at))
    with caplog.at_level(logging.INFO):
        for at in (0.0, 0.5, 1.0, 1.1, 2.0):
            if at == 1.1:
                shift = -30.0
            watch.tick(at)
    assert [(line.getMessage(), line.seconds) for line in caplog.records] == [("the clock has jumped", -30.0)]  # type: ignore[attr-defined]
    assert watch.counts().clock_jumps == 1


def test_a_worker_that_another_cannot_reach_is_named_by_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    watch = MainWatch(is_supervisor=True, workers=3)
    for now in (10.0, 11.0, 12.0):  # the report is repeated while the state lasts
        watch.on_report(2, 0, now)
    watch.on_report(2, 1, 12.0)
    (first, _) = caplog.records
    assert (first.getMessage(), first.worker, first.peer) == (  # type: ignore[attr-defined]
        "worker reports an unreachable peer", 0, 2,
    )  # fmt: skip
    assert watch.counts().reported == {"0": 0, "1": 0, "2": 2}


def test_events_that_no_worker_can_send_by_webhook_are_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    watch = MainWatch(is_supervisor=True)
    for count in (3, 4):
        watch.on_events_dropped(count)
    assert [line.events for line in caplog.records] == [3, 4] and watch.counts().events_dropped == 7  # type: ignore[attr-defined]


def test_only_a_supervisor_counts_its_own_descriptors_since_else_the_worker_does() -> None:
    counts = MainWatch(is_supervisor=True).counts()
    assert counts.descriptors_allowed == allowed() and 3 <= counts.descriptors < allowed()
    assert MainWatch(is_supervisor=False).counts().descriptors_allowed == 0


def test_descriptors_are_counted_and_listed_only_while_that_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = Descriptors()
    before = descriptors.used()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    assert descriptors.used() == before + 10

    class Old:
        st_size = 0  # as before Linux 6.2

    monkeypatch.setattr(os, "stat", lambda path: Old)
    assert descriptors.used(connections=10) == before + 10
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail("that takes too long"))
    assert descriptors.used(connections=LISTED + 1) == before + LISTED + 1
    for number in opened:
        os.close(number)
