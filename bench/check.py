"""Detects slowdowns: runs bench/test_*.py against another revision, or against bench/baseline.json.

With --base that revision is built in addition, and both run the same cases in turn. A case is slower if its estimate is
more than 4 % above the base and it is above the base with certainty (docs/performance.md states the sensitivity). A
case for which 10 % cannot be excluded is listed as undecided, which does not fail. Cases that exist in one revision
only are not compared. Changes of bench/ and tests/world.py are part of the figures.

Without --base each case is timed with a reference in the same run (msgspec, or plain Python). The baseline stores only
the ratios of the two, which do not depend on the speed of the machine. A busy machine disturbs them, so the minimum of
each counts, and before a failure all is run again, up to three times; it detects 25 %.

  python -m bench.check --base main                        against another revision; exit 1 if a case is slower
  python -m bench.check                                    compare; exit 1 if a case is more than 25 % slower
  python -m bench.check --accept "joins are checked now"   store the present ratios as baseline, with the reason
  python -m pytest bench --benchmark-enable -k echo        the times themselves

`python -m bench.instructions` finds additional instructions more exactly.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import paired, revisions
from .baselines import Baseline, Row, better, compare, reason, table, worse

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.25
RUNS = 3


def least_times() -> dict[str, float]:
    """Run every case and reference of bench/test_*.py once; returns the minimum time in seconds by test name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.json"
        command = [sys.executable, "-m", "pytest", "bench", "-q", "--benchmark-enable", f"--benchmark-json={path}"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"{run.stdout}{run.stderr}\nbench-check: the cases themselves fail")
        return {each["name"]: each["stats"]["min"] for each in json.loads(path.read_text())["benchmarks"]}


def ratios(times: dict[str, float]) -> dict[str, float]:
    """Case divided by reference, from `test_x[ours-2]` and `test_x[reference-2]`, as `x: 2`."""
    return {
        _title(name): time / times[name.replace("ours", "reference")] for name, time in times.items() if "ours" in name
    }


def _title(name: str) -> str:
    words, _, parameters = name.removeprefix("test_").removesuffix("]").replace("_", " ").partition("[")
    rest = re.sub("-?ours-?", "", parameters).replace("-", " ")
    return f"{words}: {rest}" if rest else words


def run_until_good(before: Baseline, runs: int) -> list[Row]:
    """Run and compare until no case is worse, at most `runs` times."""
    least: dict[str, float] = {}
    for run in range(1, runs + 1):
        for name, time in least_times().items():
            least[name] = min(time, least.get(name, time))
        rows = compare(before.figures, ratios(least))
        slower = worse(rows, TOLERANCE)
        if not slower:
            break
        if before.figures:
            print(f"bench-check: run {run} of {runs}: slower:", *(f"\n  {row.name}" for row in slower), file=sys.stderr)
    return rows


def against(revision: str, only: str) -> None:
    """Compare with another revision. Errors: SystemExit if a case is slower, or none could be compared."""
    commit, tree = revisions.resolve(revision), revisions.built(revision)
    print(f"bench-check: the cases of {commit[:12]} and of this one in turn, two minutes or more", flush=True)
    found, uncompared = paired.compare(tree, ROOT, only)
    print(paired.report(found, uncompared))
    changed = ["git", "diff", "--quiet", commit, "--", "bench/cases.py", "bench/test_*.py", "tests/world.py"]
    if subprocess.run(changed, cwd=ROOT, check=False).returncode:
        print("bench-check: the cases themselves have changed since (bench/, tests/world.py); that is in the figures")
    failing = [name for name, why in uncompared.items() if why not in ("new", "gone")]
    if not found or failing:
        raise SystemExit("bench-check: nothing to compare" if not found else "bench-check: some cases fail")
    undecided = [paired.title(each.name) for each in found if each.undecided]
    if undecided:
        print(
            f"bench-check: undecided, each may be {paired.OPEN:.0%} slower or not at all: {', '.join(undecided)}\n"
            "Run them again when it is quieter, one by one:  make bench-check BASE=REV CASES=NAME"
        )
    slower = [paired.title(each.name) for each in found if each.slower]
    if slower:
        raise SystemExit(
            f"bench-check: more than {paired.SLOWER:.0%} slower than {commit[:12]}: {', '.join(slower)}\n"
            "Find the cause with  python -m bench.instructions --annotate NAME"
        )


def main(line: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", metavar="REASON", type=reason, help="store the present ratios as baseline")
    parser.add_argument("--base", metavar="REV", help="build this revision and compare with it")
    parser.add_argument("--only", default="", metavar="TEXT", help="with --base: only cases whose name contains this")
    arguments = parser.parse_args(line)
    if arguments.base and arguments.accept:
        parser.error("--accept makes a new stored baseline; --base does not use that one")
    if arguments.only and not arguments.base:
        parser.error("--only belongs to --base")
    if arguments.base:
        against(arguments.base, arguments.only)
        return
    before = Baseline.read(BASELINE)
    if arguments.accept:
        rows = run_until_good(Baseline({}), RUNS)  # without a baseline to compare with: all runs
        now = {row.name: round(row.now, 3) for row in rows if row.now is not None}
        Baseline(now, arguments.accept).write(BASELINE)
        print(table(compare(before.figures, now), ".3f", TOLERANCE))
        return
    rows = run_until_good(before, RUNS)
    print(table(rows, ".3f", TOLERANCE))
    if worse(rows, TOLERANCE):
        raise SystemExit(
            f"bench-check: slower than {TOLERANCE:.0%} above the baseline ({before.reason}).\n"
            "Find the cause with  python -m bench.instructions --annotate NAME , or, if it is worth its price,\n"
            'say so:  python -m bench.check --accept "why it is"'
        )
    if better(rows, TOLERANCE):
        print('bench-check: faster by more than that; keep it:  python -m bench.check --accept "what was done"')


if __name__ == "__main__":
    main()
