"""The pure parts of bench.check --base: the statistics over slices of two revisions, and when a case is measured
longer."""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import check, paired, revisions
from bench.paired import Change, Four
from bench.slices import Sliced

pytestmark = pytest.mark.bench


def fours(ratio: float, seed: int, count: int = paired.FOURS, noise: float = 0.1) -> list[Four]:
    """Slices of about 5 ms on a machine whose speed changes all the time; this revision takes `ratio` times the
    base."""
    chance = random.Random(seed)

    def some() -> Iterator[Four]:
        for _ in range(count):
            speed = math.exp(chance.gauss(0.0, 0.5))
            a1, b1, b2, a2 = (5e6 * speed * each * math.exp(chance.gauss(0.0, noise)) for each in (1, ratio, ratio, 1))
            yield int(a1), int(b1), int(b2), int(a2)

    return list(some())


@pytest.mark.parametrize(("ratio", "slower"), [(1.0, False), (1.02, False), (1.1, True), (1.3, True), (0.8, False)])
def test_a_tenth_is_seen_through_the_noise_and_nothing_where_there_is_nothing(ratio: float, slower: bool) -> None:
    for seed in range(20):
        (found,) = paired.changes({"x": [fours(ratio, 100 * seed + pair) for pair in range(8)]})
        assert found.slower is slower and found.low < ratio - 1.0 < found.high
        assert found.faster is (ratio < 0.9)


def test_a_four_that_was_disturbed_does_not_count() -> None:
    quiet: list[Four] = [(100, 110, 110, 100)] * 9
    assert paired.middle([*quiet, (100, 9000, 110, 100), (9000, 110, 110, 100)]) == pytest.approx(math.log(1.1))


def test_drift_within_a_four_cancels() -> None:
    assert paired.middle([(100, 110, 120, 130)]) == 0.0


def test_the_interval_includes_differences_between_processes() -> None:
    alike, apart = [0.05] * 8, [0.05 + step for step in (-0.06, 0.06) * 4]
    sure, unsure = paired.change_of("x", alike), paired.change_of("x", apart)
    assert sure.slower and sure.low == pytest.approx(sure.high) == pytest.approx(math.expm1(0.05))
    assert unsure.change == pytest.approx(sure.change) and not unsure.slower and unsure.low < 0.0 < unsure.high
    assert paired.change_of("x", [0.2]).slower is False  # one pair of processes is no evidence about the next
    assert paired.change_of("x", [0.2] * 7).slower is False and paired.change_of("x", [0.2] * 7).high == math.inf


def test_a_pair_of_processes_that_is_far_off_moves_little() -> None:
    chance = random.Random(5)
    middles = [0.0953 + chance.gauss(0.0, 0.01) for _ in range(paired.MOST_PAIRS - 1)]
    for outlier in (-0.7, 0.7):
        found = paired.change_of("x", [*middles, outlier])
        assert found.change == pytest.approx(0.1, abs=0.015) and found.slower and found.high - found.low < 0.1


@pytest.mark.parametrize("count", [*range(1, 11)])
def test_the_rank_is_the_last_that_the_signed_rank_test_allows(count: int) -> None:
    """The expected rank by going through all signs: how often the sum of the positive ranks is at most as small."""
    sums = [sum(rank for rank in range(1, count + 1) if signs >> rank - 1 & 1) for signs in range(2**count)]

    def both_sides(rank: int) -> float:
        return 2.0 * sum(total <= rank for total in sums) / len(sums)

    rank = paired.rank_of(count)
    assert both_sides(rank) <= 1.0 - paired.CONFIDENCE < both_sides(rank + 1)
    assert (rank >= 0) is (count >= paired.PAIRS)


@pytest.mark.parametrize(("part", "expected"), [(0.0, False), (0.1, True)])
def test_no_false_alarm_and_a_tenth_is_found_when_one_pair_in_ten_is_disturbed(part: float, expected: bool) -> None:
    """A thousand judgements with the spread of pairs on a busy machine: 1.5 %, and five times that in one pair of
    ten."""
    chance = random.Random(11)
    wrong = 0
    for _ in range(1000):
        spread = [0.075 if chance.random() < 0.1 else 0.015 for _ in range(paired.MOST_PAIRS)]
        middles = [math.log1p(part) + chance.gauss(0.0, each) for each in spread]
        found = paired.change_of("x", middles[: paired.PAIRS])
        for count in range(paired.PAIRS + 1, paired.MOST_PAIRS + 1):
            if not found.worth_more:
                break
            found = paired.change_of("x", middles[:count])
        wrong += found.slower is not expected
    assert wrong == 0


def test_what_looks_slower_or_is_open_gets_more_pairs() -> None:
    found = [
        Change("fine", 0.0, -0.03, 0.03, 8),
        Change("wide", 0.01, -0.1, 0.12, 8),
        Change("wide, and surely not slower", -0.1, -0.3, 0.02, 8),
        Change("open", 0.03, -0.01, 0.07, 8),
        Change("slower for sure", 0.1, 0.08, 0.12, 8),
        Change("slower, and that will not change", 0.06, 0.02, 0.1, 8),
        Change("slower, but nearly not", 0.06, 0.01, 0.11, 8),
        Change("small for sure", 0.03, 0.02, 0.035, 8),
        Change("tried often enough", 0.03, -0.01, 0.17, paired.MOST_PAIRS),
    ]
    assert paired.suspects(found) == ["wide", "open", "slower, but nearly not"]
    assert [each.name for each in found if each.undecided] == ["wide", "tried often enough"]


def test_a_reference_is_no_case() -> None:
    assert paired.is_case("bench/test_x.py::test_y[ours-2]") and not paired.is_case(
        "bench/test_x.py::test_y[reference]"
    )
    assert paired.is_case("a fan-out", "fan") and not paired.is_case("a join", "fan")


def test_the_report_marks_slower_cases_and_lists_those_not_compared() -> None:
    found = [
        Change("bench/test_x.py::test_y[ours-2]", 0.1, 0.08, 0.12, 5),
        Change("b::test_z[ours]", 0.0, -0.1, 0.1, 5),
        Change("b::test_w[ours]", 0.05, -0.1, 0.3, 5),
    ]
    lines = paired.report(found, {"b::test_new[ours]": "new"}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["test_y[2]", "test_z", "test_w", "test_new:"]
    assert [line.split()[-1] for line in lines[1:4]] == ["slower", "5", "undecided"]


def test_slices_go_in_the_order_a_b_b_a_and_do_as_many_things_as_fill_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def slice(self, number: int) -> int:
            asked.append((self.name, number))
            return number * paired.SLICE_NS // 4

    seconds = iter([0.0, 0.1, 0.2, 9.0])
    monkeypatch.setattr(paired.time, "monotonic", lambda: next(seconds))
    a: Any = Fake("a")
    assert len(list(paired.slices(a, Fake("b"), 1.0, 50))) == 3  # type: ignore[arg-type]
    assert asked[:3] == [("a", 50)] * 3 and asked[3:5] == [("a", 4), ("b", 4)]
    assert asked[5:] == [("a", 4), ("b", 4), ("b", 4), ("a", 4)] * 3
    monkeypatch.setattr(paired.time, "monotonic", lambda: 0.0)
    assert len(list(paired.slices(a, a, 1.0, 1))) == paired.FOURS


@pytest.mark.parametrize(("slices", "calls"), [([3, 4], [5, 3, 4, 3, 5]), ([10], [5, 10, 5]), ([], [5, 5])])
def test_a_case_is_checked_after_all_its_things_whatever_the_slices_were(slices: list[int], calls: list[int]) -> None:
    class Asked:
        def __init__(self) -> None:
            self.asked, self.said = iter([*slices, 0]), list[Any]()

        def hear(self) -> int:
            return next(self.asked)

        def say(self, what: Any) -> None:
            self.said.append(what)

    called: list[int] = []
    line: Any = Asked()
    assert Sliced(line, "x").pedantic(lambda n: called.append(n) or n, args=(5,), rounds=3) == 5
    assert called == calls and line.said[0] == {"ready": "x", "n": 5} and len(line.said) == 1 + len(slices)


def test_both_sides_run_the_same_cases_and_report_which_fail(tmp_path: Path) -> None:
    """Both revisions run the same cases in real processes. Two small projects stand in for those of bench.revisions,
    and a case fails in one of them."""
    text = (
        "import koko_presence._fastpath.cursor_parser\n"
        "def test_same(benchmark): assert benchmark.pedantic(sum, args=([1],), rounds=1) == 1\n"
        "def test_fails(benchmark): assert benchmark.pedantic(sum, args=([1],)) == {}\n"
        "def test_{}(benchmark): benchmark.pedantic(sum, args=([1],))\n"
    )
    for name in ("base", "this"):
        (tmp_path / name / "bench").mkdir(parents=True)
        package = tmp_path / name / "koko_presence" / "_fastpath"
        package.mkdir(parents=True)
        for file in (package.parent / "__init__.py", package / "__init__.py", package / "cursor_parser.py"):
            file.touch()
        (tmp_path / name / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--benchmark-disable'\n")
        (tmp_path / name / "bench" / "test_x.py").write_text(text.format(1 if name == "base" else 2, name))
    session = paired.Session(tmp_path / "base", tmp_path / "this")
    session.pair(7, 0.05)
    assert list(session.fours) == ["bench/test_x.py::test_same"] and session.fours["bench/test_x.py::test_same"][0]
    why = session.uncompared
    assert why.pop("bench/test_x.py::test_this") == "new" and why.pop("bench/test_x.py::test_base") == "gone"
    assert list(why) == ["bench/test_x.py::test_fails"] and "of this revision fails" in why.popitem()[1]


def test_code_of_another_place_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "test_x.py").write_text(
        "import koko_presence._fastpath.cursor_parser\ndef test_x(benchmark): pass\n"
    )
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(SystemExit, match="runs code of another place"):
        paired.Session(tmp_path, tmp_path).pair(1, 0.05)


def test_arguments_are_checked_before_anything_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    for line, said in {
        "--base HEAD --accept why_not_so": "say why, in a few words",
        "--only scan": "--only belongs to --base",
    }.items():
        with pytest.raises(SystemExit):
            check.main(line.split())
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.main(["--base", "HEAD", "--accept", "two words"])
    assert "--base does not use that one" in capsys.readouterr().err


@pytest.mark.parametrize("revision", ["no-such-branch", "--help", ""])
def test_a_revision_unknown_to_git_is_reported(revision: str) -> None:
    with pytest.raises(SystemExit, match="git knows no revision"):
        revisions.resolve(revision)
