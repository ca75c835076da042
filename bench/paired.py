"""Compares two revisions: their pytest-benchmark cases in short slices of CPU time, in turn, judged by paired ratios.

A busy machine changes its speed within milliseconds, and the speed of a process depends on its memory layout. So two
processes, one of each revision, are pinned to one core and run short slices of the same case in the order A B B A. Each
four slices give one ratio; the median of these is the result of the pair. Short slices give many ratios with little
drift within each, which determines the precision of a pair. Several pairs of fresh processes give several medians, of
which one may be an outlier: a case is judged by their Hodges-Lehmann estimate with the interval of Wilcoxon's
signed-rank test, and an inconclusive case gets more pairs.
"""

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, combinations_with_replacement
from pathlib import Path
from statistics import median
from typing import Any

SLICES = Path(__file__).with_name("slices.py")
SLICE_NS = 400_000
FOURS = 120  # per case and pair of processes
Four = tuple[int, int, int, int]  # nanoseconds of base, this, this, base


class Side:
    """A process of bench.slices in the tree of a revision."""

    def __init__(self, tree: Path, core: int, seed: int) -> None:
        self.tree = tree
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        env = os.environ | {
            "PYTHONPATH": str(tree), "PYTHONHASHSEED": str(seed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }  # fmt: skip
        command = [sys.executable, "-P", str(SLICES), str(theirs_in), str(theirs_out)]
        self.process = subprocess.Popen(
            command, cwd=tree, env=env, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in), os.fdopen(ours_out, "w")

    def hear(self) -> Any:
        """Read its next line. Errors: SystemExit if it has ended."""
        line = self._in.readline()
        if not line:
            said = self.process.communicate()[0]
            raise SystemExit(f"{said[-4000:]}\nbench-check: the cases of {self.tree} end early")
        return json.loads(line)

    def say(self, what: Any) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    def slice(self, number: int) -> int:
        """CPU nanoseconds of `number` operations of the case."""
        self.say(number)
        return int(self.hear())

    def end(self) -> None:
        self._out.close()
        self._in.close()
        self.process.kill()
        self.process.communicate()


def quietest_core() -> int:
    """The usable core with the lowest load during a tenth of a second."""

    def busy() -> dict[int, int]:
        lines = Path("/proc/stat").read_text().splitlines()
        rows = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
        return {int(row[0][3:]): sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows}

    before = busy()
    time.sleep(0.1)
    after = busy()
    return min(os.sched_getaffinity(0), key=lambda core: after.get(core, 0) - before.get(core, 0))


@contextmanager
def two_sides(base: Path, this: Path, seed: int) -> Iterator[tuple[Side, Side]]:
    """Start a fresh pair on one core, with this process on the same core, so that no slice waits for another core."""
    before, core = os.sched_getaffinity(0), quietest_core()
    sides: list[Side] = []
    try:
        for tree in (base, this):
            sides.append(Side(tree, core, seed))
        os.sched_setaffinity(0, {core})
        yield sides[0], sides[1]
    finally:
        os.sched_setaffinity(0, before)
        for side in sides:
            side.end()


@dataclass
class Session:
    """The pairs of processes. `fours` by case and pair; `uncompared` has the reason for each case that was not
    compared."""

    base: Path
    this: Path
    fours: dict[str, list[list[Four]]] = field(default_factory=dict)
    uncompared: dict[str, str] = field(default_factory=dict)

    def pair(self, seed: int, seconds: float, wanted: Sequence[str] | None = None, only: str = "") -> None:
        """Run the cases of both (`wanted`, or those with `only` in the name) for `seconds` each in a fresh pair."""
        with two_sides(self.base, self.this, seed) as sides:
            collected = [side.hear() for side in sides]
            for side, said in zip(sides, collected, strict=True):
                foreign = [path for path in said["product"] if not _inside(path, side.tree)]
                if foreign:
                    raise SystemExit(f"bench-check: {side.tree} runs code of another place: {foreign[0]}")
            theirs, ours = ({name for name in said["cases"] if is_case(name, only)} for said in collected)
            for name in theirs ^ ours:
                self.uncompared[name] = "new" if name in ours else "gone"
            cases = sorted(theirs & ours if wanted is None else set(wanted))
            random.Random(seed).shuffle(cases)
            for side in sides:
                side.say(cases)
            for name in cases:
                found = self._case(name, sides, seconds)
                if found:
                    self.fours.setdefault(name, []).append(found)

    def _case(self, name: str, sides: tuple[Side, Side], seconds: float) -> list[Four]:
        said = [side.hear() for side in sides]
        fours: list[Four] = []
        if all("ready" in each for each in said):
            fours = list(slices(*sides, seconds, said[0]["n"]))
        for side, each in zip(sides, said, strict=True):
            done = each
            if "ready" in each:
                side.say(0)
                done = side.hear()
            if done["failed"]:
                which = "of the base" if side is sides[0] else "of this revision"
                self.uncompared[name] = f"the case {which} fails:\n{done['failed'][-2000:]}"
                fours = []
        return fours


def slices(base: Side, this: Side, seconds: float, n: int) -> Iterator[Four]:
    """Run A B B A until there are enough, for `seconds` at most; `n` is the number of operations of the case."""
    number = max(1, round(n * SLICE_NS / max(1, min(base.slice(n), base.slice(n), base.slice(n)))))
    base.slice(number), this.slice(number)
    end = time.monotonic() + seconds
    for _ in range(FOURS):
        yield base.slice(number), this.slice(number), this.slice(number), base.slice(number)
        if time.monotonic() > end:
            break


def _inside(path: str, tree: Path) -> bool:
    return Path(path).resolve().is_relative_to(tree.resolve())


def is_case(name: str, only: str = "") -> bool:
    """Whether a test measures this project, not the reference of bench.check."""
    return "reference" not in name and only in name


# --- evaluation -----------------------------------------------------------------------------------------------------

SLOWER = 0.04  # the limit above the base
SUSPECT = 0.015  # a higher estimate after the first pairs leads to more pairs
OPEN = 0.1  # if so much cannot be excluded, the case is undecided
CONFIDENCE = 0.99
PAIRS, MOST_PAIRS = 8, 16  # at least 8: the signed-rank test has no 99 % interval with fewer
SECONDS = 0.4  # per case and pair, at most


def middle(fours: Sequence[Four]) -> float:
    """The median of the logarithms of this over base in one pair of processes."""
    return median(math.log((b1 + b2) / (a1 + a2)) for a1, b1, b2, a2 in fours)


@dataclass(frozen=True)
class Change:
    """The relative change of this over base: 0.1 is 10 % more CPU time. `low` to `high` is the 99 % interval."""

    name: str
    change: float
    low: float
    high: float
    pairs: int

    @property
    def slower(self) -> bool:
        return self.change > SLOWER and self.low > 0.0

    @property
    def faster(self) -> bool:
        return self.change < -SLOWER and self.high < 0.0

    @property
    def undecided(self) -> bool:
        """Whether the case may be 10 % slower, or not slower at all."""
        return not self.slower and self.high > OPEN

    @property
    def worth_more(self) -> bool:
        """Whether another pair could change the judgement."""
        if self.pairs >= MOST_PAIRS or (self.slower and self.low > SUSPECT):
            return False
        return self.undecided or (self.change > SUSPECT and self.high > SLOWER)


def change_of(name: str, middles: Sequence[float]) -> Change:
    """The change by the logarithms of the pairs; with fewer than eight pairs the interval is unbounded.

    The estimate is the median of the means of any two pairs (Hodges and Lehmann 1963), and the interval lies between
    two of these means (Hollander and Wolfe, Nonparametric Statistical Methods, 3.3). This assumes
    that medians are too high as often as too low, not a normal distribution.
    """
    means = sorted((one + other) / 2 for one, other in combinations_with_replacement(middles, 2))
    rank = rank_of(len(middles))
    low, high = (means[rank], means[-1 - rank]) if rank >= 0 else (-math.inf, math.inf)
    return Change(name, math.expm1(median(means)), math.expm1(low), math.expm1(high), len(middles))


@cache
def rank_of(count: int) -> int:
    """How many of the means of `count` values lie outside of the interval on either side; -1 if it is unbounded.

    Wilcoxon's statistic is the sum of the ranks with a positive sign: each of 1 to `count` is included with probability
    1/2.
    """
    ways = [1]  # by sum
    for rank in range(1, count + 1):
        longer = [*ways, *[0] * rank]
        ways = [many + (longer[total - rank] if total >= rank else 0) for total, many in enumerate(longer)]
    allowed = (1.0 - CONFIDENCE) / 2.0 * 2**count
    return sum(below <= allowed for below in accumulate(ways)) - 1


def changes(fours: Mapping[str, Sequence[Sequence[Four]]]) -> list[Change]:
    return [change_of(name, [middle(pair) for pair in pairs if pair]) for name, pairs in sorted(fours.items())]


def suspects(found: Sequence[Change]) -> list[str]:
    """The cases that need another pair of processes."""
    return [each.name for each in found if each.worth_more]


def compare(base: Path, this: Path, only: str = "", seed: int | None = None) -> tuple[list[Change], dict[str, str]]:
    """The changes of all cases with `only` in their name, and the reasons for cases that were not compared."""
    session = Session(base, this)
    first = random.randrange(1_000_000) if seed is None else seed
    for number in range(PAIRS):
        session.pair(first + number, SECONDS, only=only)
    for number in range(PAIRS, MOST_PAIRS):
        wanted = suspects(changes(session.fours))
        if not wanted:
            break
        session.pair(first + number, SECONDS, wanted)
    return changes(session.fours), session.uncompared


def title(name: str) -> str:
    """`bench/test_x.py::test_y[ours-2]` as `test_y[2]`."""
    return name.rpartition("::")[2].replace("ours-", "").replace("-ours", "").replace("[ours]", "")


def report(found: Sequence[Change], uncompared: Mapping[str, str]) -> str:
    """One line per case; slower, faster and undecided ones are marked."""
    width = max((len(title(each.name)) for each in found), default=0)
    lines = [f"{'':{width}}  {'change':>8}  {'99 % between':>18}  pairs"]
    for each in found:
        mark = "  <-- slower" if each.slower else "  faster" if each.faster else "  undecided" if each.undecided else ""
        interval = f"{each.low:+.1%} and {each.high:+.1%}"
        lines.append(f"{title(each.name):{width}}  {each.change:+8.1%}  {interval:>18}  {each.pairs:5}{mark}")
    lines += [f"{title(name)}: {why}" for name, why in sorted(uncompared.items())]
    return "\n".join(lines)
