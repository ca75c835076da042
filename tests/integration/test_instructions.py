"""The gate of instruction counts [bench/instructions.py]: the cost of a hot function is recorded in git and may not
grow unnoticed."""

import subprocess
import sys

import pytest

from bench.baselines import Baseline
from bench.instructions import BASELINE, ROOT, TOLERANCE, hot, verdict, versions


@pytest.mark.counts
def test_no_hot_function_takes_more_instructions_than_the_baseline_says(instruction_counts: tuple[int, str]) -> None:
    code, said = instruction_counts
    assert code == 0, said


def test_every_hot_function_has_a_baseline_with_a_reason() -> None:
    baseline = Baseline.read(BASELINE)
    assert set(baseline.figures) == set(hot()) and baseline.reason


def judged(change: float, **other: str) -> tuple[bool, str]:
    before = Baseline({"echo": 1000.0, "scan": 10.0}, "a reason", versions())
    now = Baseline({"echo": 1000.0 * (1.0 + change), "scan": 10.0}, "", versions() | other)
    return verdict(before, now)


@pytest.mark.parametrize(
    ("change", "passes"), [(0.0, True), (0.01, True), (0.029, True), (0.031, False), (0.05, False)]
)
def test_five_per_cent_more_instructions_fail_and_one_per_cent_passes(change: float, passes: bool) -> None:
    assert TOLERANCE == 0.03
    assert judged(change)[0] is passes
    assert ("--accept" in judged(change)[1]) is not passes


def test_fewer_instructions_suggest_a_new_baseline() -> None:
    passes, said = judged(-0.1)
    assert passes and "--accept" in said


def test_counts_of_other_versions_only_warn() -> None:
    passes, said = judged(0.5, msgspec="99")
    assert passes and "WARNING" in said and "msgspec" in said


def test_a_new_function_needs_a_baseline() -> None:
    assert not verdict(
        Baseline({"echo": 1.0}, "a reason", versions()), Baseline({"echo": 1.0, "new": 1.0}, "", versions())
    )[0]


def test_a_baseline_is_accepted_only_with_a_reason() -> None:
    before = BASELINE.read_text()
    for reason in ([], ["ok"]):
        run = subprocess.run(
            [sys.executable, "-m", "bench.instructions", "--accept", *reason], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode == 2 and ("why" in run.stderr or "expected one argument" in run.stderr)
    assert BASELINE.read_text() == before


@pytest.mark.bench
def test_every_bench_case_does_what_it_measures() -> None:
    run = subprocess.run([sys.executable, "-m", "pytest", "bench", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
