"""A test run leaves no process behind, however it ends: real runs of pytest are killed."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.run_end import descendants
from tests.waiting import is_running, wait_until

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# a run with a plain child, a service with two workers, a child in a session of its own without environment, and an
# orphaned process
CASE = """
import os, subprocess, sys, time
from pathlib import Path
from tests.integration.test_supervisor import service

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

def test_it():
    orphan = f"import subprocess; print(subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    pids = [subprocess.Popen(SLEEP).pid, subprocess.Popen(SLEEP, start_new_session=True, env={}).pid]
    pids.append(int(subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, check=True).stdout))
    with service(workers=2) as it:
        it.up()
        pids += [it.process.pid, *it.alive()]
        Path(FOLDER, "run").write_text(str(os.getpid()))
        Path(FOLDER, "half").write_text(" ".join(map(str, pids)))
        Path(FOLDER, "half").rename(Path(FOLDER, "pids"))
        if STAYS:
            time.sleep(600)
"""


def command_of(folder: Path, *options: str, stays: bool = True) -> list[str]:
    """Write the test case; return the command that runs it."""
    case = folder / "test_case.py"
    case.write_text(f"FOLDER, STAYS = {str(folder)!r}, {stays}\n{CASE}")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return [*command, "-c", str(folder / "pytest.ini"), *options, str(case)]  # and no settings of other folders


def environment() -> dict[str, str]:
    """The environment of a run that is not part of the present one."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "MAKE"))}
    return {**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@contextmanager
def run_of_pytest(folder: Path, *options: str, stays: bool = True) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of the test case with this project's conftest, as the leader of a process group."""
    command = command_of(folder, *options, stays=stays)
    with (folder / "output").open("wb") as output:
        it = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=output, process_group=0, preexec_fn=hear_ctrl_c
        )
    try:
        yield it
    finally:
        it.kill()
        it.wait()


def hear_ctrl_c() -> None:
    """Restore the default action of SIGINT. A shell starts background commands with SIGINT ignored, and children
    inherit this."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder: Path, it: "subprocess.Popen[bytes]") -> list[int]:
    """All processes of the run but the first, once its test has begun."""
    pids = folder / "pids"
    wait_until(lambda: pids.exists() or it.poll() is not None)
    assert pids.exists(), (folder / "output").read_text()
    named = [int(pid) for pid in pids.read_text().split()]
    found = descendants(it.pid)
    assert len(named) == 6 and set(named) <= set(found)
    return found


@pytest.mark.parametrize("killed", ["first", "first of xdist", "group", "run", "terminated"])
def test_a_killed_run_leaves_no_process_behind(tmp_path: Path, killed: str) -> None:
    with run_of_pytest(tmp_path, *(("-p", "xdist", "-n", "1") if "xdist" in killed else ())) as it:
        pids = started(tmp_path, it)
        if killed == "group":
            os.killpg(it.pid, signal.SIGKILL)
        elif killed == "run":
            os.kill(int((tmp_path / "run").read_text()), signal.SIGKILL)
        else:
            it.send_signal(signal.SIGTERM if killed == "terminated" else signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids)))
        assert it.wait() in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL)


def test_a_killed_make_leaves_no_process_behind(tmp_path: Path) -> None:
    command = shlex.join(command_of(tmp_path))
    (tmp_path / "Makefile").write_text(f"test:\n\t@cd {ROOT}; {command} && exit 0\n")
    with subprocess.Popen(["make", "-C", str(tmp_path), "test"], env=environment(), stdout=subprocess.DEVNULL) as make:
        try:
            wait_until(lambda: (tmp_path / "pids").exists() or make.poll() is not None)
            pids = descendants(make.pid)
            assert {int(pid) for pid in (tmp_path / "pids").read_text().split()} <= set(pids)
        finally:
            make.terminate()
        wait_until(lambda: not any(map(is_running, pids)))


def test_a_run_that_is_interrupted_reports_it_and_leaves_no_process_behind(tmp_path: Path) -> None:
    with run_of_pytest(tmp_path) as it:
        pids = started(tmp_path, it)
        it.send_signal(signal.SIGINT)
        assert it.wait() == pytest.ExitCode.INTERRUPTED and "KeyboardInterrupt" in (tmp_path / "output").read_text()
        assert not any(map(is_running, pids))


def test_a_run_that_ends_leaves_no_process_behind_and_exits_as_pytest_does(tmp_path: Path) -> None:
    with run_of_pytest(tmp_path, stays=False) as it:
        assert it.wait() == 0, (tmp_path / "output").read_text()
        assert not any(is_running(int(pid)) for pid in (tmp_path / "pids").read_text().split())
