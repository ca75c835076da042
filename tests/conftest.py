"""Settings of all tests: `make test` uses the same examples every time; HYPOTHESIS_PROFILE=thorough searches new ones.

Tests that take long or need a machine of their own carry the mark of their tier and run only on request: `--tier NAME`,
`--tier all`, or their file by name. `make test-fast` leaves out those with the mark `deep`, too.
"""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests import run_end

run_end.begin()

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TIERS = {
    "bench": "runs the benches and the load generator",
    "counts": "counts instructions under valgrind",
    "bundlers": "builds pages with the bundlers that applications use",
    "pages": "films, minutes of a page's clock, the finer points of the demo and the pages of the docs, in a browser",
    "packaging": "builds the sdist and the wheel and installs them",
    "systemd": "boots a container with systemd in it",
    "long": "many seconds of work: hangs and waits of real processes, thousands of simulated stories",
    "soak": "minutes to hours; neither in make test nor in CI",
}
DEEP = "random and scripted stories beyond the 200 seeds; not in make test-fast"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier", choices=[*TIERS, "all"], help="run the tests of this tier alone; all: everything but soak"
    )


def pytest_configure(config: pytest.Config) -> None:
    for tier, text in TIERS.items():
        config.addinivalue_line("markers", f"{tier}: {text}; left out unless asked for (--tier {tier})")
    config.addinivalue_line("markers", f"deep: {DEEP}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--tier")
    named = {str(Path(arg.split("::")[0]).resolve()) for arg in config.args if ".py" in arg}
    chosen, left_out = [], []
    for item in items:
        (chosen if is_chosen(tier_of(item), wanted, str(item.path) in named) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def tier_of(item: pytest.Item) -> str | None:
    return next((mark.name for mark in item.iter_markers() if mark.name in TIERS), None)


def is_chosen(tier: str | None, wanted: str | None, named: bool) -> bool:
    """Whether a test of `tier` runs when `--tier` is `wanted`; `named`: its file is on the command line."""
    if wanted == "all":
        return tier != "soak"
    if wanted is not None:
        return tier == wanted
    return tier is None or named


@pytest.fixture(scope="session")
def instruction_counts() -> tuple[int, str]:
    """The exit code and the output of bench.instructions."""
    if shutil.which("valgrind") is None:
        return 1, "No valgrind here. Type: make test (it installs one), or: sudo apt-get install valgrind"
    command = [sys.executable, "-m", "bench.instructions"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def pytest_collection_finish() -> None:
    """Exempt the collected items from garbage collection: they stay until the end of the run."""
    gc.collect()
    gc.freeze()
