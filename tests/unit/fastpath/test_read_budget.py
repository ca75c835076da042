"""The read budget of a connection: floods of any kind are slowed down to a rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence._fastpath.read_budget import ReadBudget


def test_a_burst_is_free_and_then_reading_rests_until_the_bucket_has_a_token() -> None:
    read_budget = ReadBudget(500, 500, 1e9, 1e9, 16)
    assert all(read_budget.frame(10.0) for _ in range(500))
    assert not read_budget.frame(10.0)
    assert read_budget.resume_at == 10.02, "a fiftieth of a second at least"
    assert read_budget.frame(read_budget.resume_at)


def test_bytes_count_like_frames_and_a_whole_frame_is_a_debt_and_no_fault() -> None:
    read_budget = ReadBudget(1e9, 1e9, 1000, 2000, 16)
    assert read_budget.bytes_read(2000, 5.0)
    assert not read_budget.bytes_read(500, 5.0)
    assert read_budget.resume_at == 5.5
    assert read_budget.bytes_read(1, 5.501)


@given(st.lists(st.tuples(st.floats(0.0, 0.2), st.integers(0, 400)), min_size=1, max_size=60))
def test_a_sender_that_is_read_only_within_its_budget_never_exceeds_its_rate(plan: list[tuple[float, int]]) -> None:
    read_budget = ReadBudget(50, 10, 1e9, 1e9, 16)
    now, read = 100.0, 0
    for pause_s, waiting in plan:
        now = max(now + pause_s, read_budget.resume_at)
        for _ in range(waiting):
            read += 1
            if not read_budget.frame(now):
                break
        assert read <= 50 * (now - 100.0) + 10 + 1 + 1e-6


def test_so_many_frames_of_any_kind_before_authentication() -> None:
    read_budget = ReadBudget(500, 500, 1e9, 1e9, 16)
    for _ in range(16):
        read_budget.frame(1.0)
    assert not read_budget.exceeds_preauth_limit()
    read_budget.frame(1.0)
    assert read_budget.exceeds_preauth_limit()
    read_budget.lift_preauth_limit()
    assert not read_budget.exceeds_preauth_limit()


def test_budgets_of_nothing_are_refused() -> None:
    for wrong in ((0, 1, 1, 1), (1, 0.5, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)):
        with pytest.raises(ValueError):
            ReadBudget(*wrong, 16)
