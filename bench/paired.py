"""Two revisions side by side: their pytest-benchmark cases in slices of CPU time, in turn, judged by paired ratios.

A busy machine changes its speed from one second to the next, and a process is fast or slow by how its memory happens
to lie. So two processes, one of each revision, are pinned to one core and run short slices of the same case in the
order A B B A: each such four give one ratio, of which the median is a pair's. Several pairs of fresh processes give
several medians, and these an interval of confidence, which knows of both kinds of noise.
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
from pathlib import Path
from statistics import NormalDist, mean, median, stdev
from typing import Any

SLICES = Path(__file__).with_name("slices.py")
SLICE_NS = 5_000_000
Four = tuple[int, int, int, int]  # nanoseconds of base, this, this, base


class Side:
    """A process of bench.slices in a revision's tree."""

    def __init__(self, tree: Path, core: int, seed: int) -> None:
        self.tree = tree
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        env = os.environ | {
            "PYTHONPATH": str(tree), "PYTHONHASHSEED": str(seed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
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

    def slice(self, times: int) -> int:
        self.say(times)
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
    core = quietest_core()
    sides: list[Side] = []
    try:
        for tree in (base, this):
            sides.append(Side(tree, core, seed))
        yield sides[0], sides[1]
    finally:
        for side in sides:
            side.end()


@dataclass
class Session:
    """Pairs of processes. `fours` by case and pair; `only_in` and `failed` say what could not be compared, and why."""

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
            fours = list(slices(*sides, seconds))
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


def slices(base: Side, this: Side, seconds: float) -> Iterator[Four]:
    """A B B A for so long, every slice as many runs as take SLICE_NS."""
    times = max(1, round(SLICE_NS / max(1, min(base.slice(1), base.slice(1), base.slice(1)))))
    base.slice(times), this.slice(times)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield base.slice(times), this.slice(times), this.slice(times), base.slice(times)


def _inside(path: str, tree: Path) -> bool:
    return Path(path).resolve().is_relative_to(tree.resolve())


def is_case(name: str, only: str = "") -> bool:
    """Whether a test measures this project, and not the reference that it is held against in bench.check."""
    return "reference" not in name and only in name


# --- what the slices say ------------------------------------------------------------------------------------------------


def middle(fours: Sequence[Four]) -> float:
    """The median of the logarithms of this over base."""
    return median(math.log((b1 + b2) / (a1 + a2)) for a1, b1, b2, a2 in fours)
