"""Two revisions side by side: their pytest-benchmark cases in slices of CPU time, in turn, judged by paired ratios.

A busy machine changes its speed within milliseconds, and a process is fast or slow by how its memory happens to lie. So
two processes, one of each revision, are pinned to one core and run short slices of the same case in the order A B B A:
each such four give one ratio, of which the median is a pair's. The shorter the slices, the more of them there are and
the more alike is the machine within four of them: this decides how exact a pair is. Several pairs of fresh processes
give several medians, of which one may be far off: what is said of a case is their Hodges-Lehmann estimate, with the
interval of Wilcoxon's signed-rank test, and a case of which that says too little gets more pairs.
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
FOURS = 120  # of a case in a pair of processes
Four = tuple[int, int, int, int]  # nanoseconds of base, this, this, base


class Side:
    """A process of bench.slices in a revision's tree."""

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
        """What it says next. Errors: SystemExit when it has ended."""
        line = self._in.readline()
        if not line:
            said = self.process.communicate()[0]
            raise SystemExit(f"{said[-4000:]}\nbench-check: the cases of {self.tree} end early")
        return json.loads(line)

    def say(self, what: Any) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    def slice(self, number: int) -> int:
        """CPU nanoseconds of so many things of the case."""
        self.say(number)
        return int(self.hear())

    def end(self) -> None:
        self._out.close()
        self._in.close()
        self.process.kill()
        self.process.communicate()


def quietest_core() -> int:
    """Of those usable here the one that was least busy during a tenth of a second."""

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
    """A fresh pair on one core, and this process on it too: what a slice waits for is then never the other core."""
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
    """Pairs of processes. `fours` by case and pair; `uncompared` says what could not be, and why."""

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
    """A B B A until there are enough of them, for so long at the most; `n` things are what a case does at once."""
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
    """Whether a test measures this project, and not the reference that it is held against in bench.check."""
    return "reference" not in name and only in name


# --- what the slices say --------------------------------------------------------------------------------------------

SLOWER = 0.04  # what is more than this above the base is slower
SUSPECT = 0.015  # what looks like more than this after the first pairs gets more of them
OPEN = 0.1  # where this much cannot be excluded, nothing is said of the case
CONFIDENCE = 0.99
PAIRS, MOST_PAIRS = 8, 16  # 8: with fewer, the signed-rank test has no interval of 99 %
SECONDS = 0.4  # a case in a pair, at the most


def middle(fours: Sequence[Four]) -> float:
    """The median of the logarithms of this over base in one pair of processes."""
    return median(math.log((b1 + b2) / (a1 + a2)) for a1, b1, b2, a2 in fours)


@dataclass(frozen=True)
class Change:
    """This over base as a part: 0.1 is 10 % more CPU. `low` to `high` is the interval of 99 %."""

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
        """Whether it may be a tenth slower, or not slower at all."""
        return not self.slower and self.high > OPEN

    @property
    def worth_more(self) -> bool:
        """Whether another pair might change what is said of it."""
        if self.pairs >= MOST_PAIRS or (self.slower and self.low > SUSPECT):
            return False
        return self.undecided or (self.change > SUSPECT and self.high > SLOWER)


def change_of(name: str, middles: Sequence[float]) -> Change:
    """From the logarithms of the pairs; with fewer than eight of them the interval is everything.

    The estimate is the median of the means of any two of them (Hodges and Lehmann 1963), the interval lies between two
    of these means (Hollander and Wolfe, Nonparametric Statistical Methods, 3.3): it asks for medians that are as often
    too high as too low, and not for a normal distribution.
    """
    means = sorted((one + other) / 2 for one, other in combinations_with_replacement(middles, 2))
    rank = rank_of(len(middles))
    low, high = (means[rank], means[-1 - rank]) if rank >= 0 else (-math.inf, math.inf)
    return Change(name, math.expm1(median(means)), math.expm1(low), math.expm1(high), len(middles))


@cache
def rank_of(count: int) -> int:
    """How many of the means of `count` values lie outside of the interval on either side; -1 when all may.

    Wilcoxon's statistic is the sum of the ranks whose sign is plus: each of 1 to `count` is in it or not, alike often.
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
    """The cases that another pair of processes is worth."""
    return [each.name for each in found if each.worth_more]


def compare(base: Path, this: Path, only: str = "", seed: int | None = None) -> tuple[list[Change], dict[str, str]]:
    """The changes of all cases with `only` in their name, and why some are not among them."""
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
    """A line for each case; what is slower, faster or undecided is marked."""
    width = max((len(title(each.name)) for each in found), default=0)
    lines = [f"{'':{width}}  {'change':>8}  {'99 % between':>18}  pairs"]
    for each in found:
        mark = "  <-- slower" if each.slower else "  faster" if each.faster else "  undecided" if each.undecided else ""
        interval = f"{each.low:+.1%} and {each.high:+.1%}"
        lines.append(f"{title(each.name):{width}}  {each.change:+8.1%}  {interval:>18}  {each.pairs:5}{mark}")
    lines += [f"{title(name)}: {why}" for name, why in sorted(uncompared.items())]
    return "\n".join(lines)
