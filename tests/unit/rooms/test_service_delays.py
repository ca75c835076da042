"""The time during which clients wait for the service does not count against them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.rooms.service_delays import AFTERWARDS_S, COUNTS_FROM_S, LONGEST_EXTRA_S, RETENTION_S, Delays

GRACE_S = 5.0


def noted(*times: tuple[float, float]) -> Delays:
    delays = Delays()
    for since, until in times:
        delays.note(since, until)
    return delays


def test_in_time_a_grace_ends_when_it_was_to_end() -> None:
    assert Delays().ends(100.0, GRACE_S) == 105.0


def test_a_short_wait_changes_nothing() -> None:
    delays = Delays()
    assert not delays.note(101.0, 101.0 + COUNTS_FROM_S - 0.01)
    assert delays.times == [] and delays.ends(100.0, GRACE_S) == 105.0


@pytest.mark.parametrize(
    ("since", "until", "ends_at"),
    [
        (90.0, 98.0, 105.0),  # before the loss
        (106.0, 110.0, 105.0),  # after the grace period
        (102.0, 104.0, 105.0 + 2.0 + AFTERWARDS_S),
        (98.0, 103.0, 105.0 + 3.0 + AFTERWARDS_S),  # it had begun before
        (104.0, 130.0, 105.0 + 26.0 + AFTERWARDS_S),
        (98.5, 99.5, 105.0 + 1.0),  # and what was read last is still to be handled
    ],
)
def test_the_time_in_which_the_service_was_behind_is_added(since: float, until: float, ends_at: float) -> None:
    assert noted((since, until)).ends(100.0, GRACE_S) == pytest.approx(ends_at)


def test_several_workers_that_are_behind_at_the_same_time_count_once() -> None:
    delays = noted((101.0, 103.0), (102.0, 104.0), (101.5, 102.5), (110.0, 112.0), (101.0, 103.0))
    assert delays.times == [(101.0, 104.0), (110.0, 112.0)]
    assert delays.ends(100.0, 20.0) == pytest.approx(120.0 + 3.0 + 2.0 + 2 * AFTERWARDS_S)


def test_no_grace_period_is_extended_for_ever() -> None:
    delays = Delays()
    for second in range(100, 400):
        delays.note(99.0, float(second))
    assert delays.ends(100.0, GRACE_S) == 105.0 + LONGEST_EXTRA_S


def test_old_delays_are_dropped() -> None:
    delays = Delays()
    for start in range(0, 2000, 10):
        delays.note(float(start), start + 2.0)
    assert len(delays.times) <= RETENTION_S / 10 + 1 and delays.times[-1] == (1990.0, 1992.0)


_times = st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 30.0)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(_times, max_size=8), st.floats(0.0, 100.0), st.floats(0.1, 60.0))
def test_order_and_repetition_do_not_matter_and_time_is_only_ever_added(
    times: list[tuple[float, float]], since: float, patience_s: float
) -> None:
    delays, again = noted(*times), noted(*reversed(times), *times)
    assert delays.times == again.times
    assert all(before[1] < after[0] for before, after in zip(delays.times, delays.times[1:], strict=False))
    assert since + patience_s - 1e-9 <= delays.ends(since, patience_s) <= since + patience_s + LONGEST_EXTRA_S
