"""What all tests share: `make test` explores the same examples every time; HYPOTHESIS_PROFILE=thorough looks for new ones."""

import os
import shutil
import signal
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


class Counting:
    """The instruction counts, which take most of a minute and do not mind what else the machine does: begun first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Errors: none; without valgrind `result` says so."""
        if self._process is None and shutil.which("valgrind") is not None:
            self._process = subprocess.Popen(
                ["nice", "-n", "19", sys.executable, "-m", "bench.instructions"],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def result(self) -> tuple[int, str]:
        """The exit code and what was printed."""
        self.begin()
        if self._process is None:
            return 1, "No valgrind here. Type: make test (it installs one), or: sudo apt-get install valgrind"
        said, _ = self._process.communicate()
        return self._process.returncode, said

    def end(self) -> None:
        """Whatever still counts is ended, valgrind included."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


_counting = Counting()


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly and any(
        "instruction_counts" in item.fixturenames for item in session.items
    ):  # type: ignore[attr-defined]
        _counting.begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    _counting.end()  # also when the run was cut short


@pytest.fixture(scope="session")
def instruction_counts() -> Counting:
    return _counting
