"""A test run leaves no process behind, however it ends: after its last test, by Ctrl-C, or by SIGKILL to any part of
it.

`begin` turns the process of the test runner into three:

    the first process, which was started: waits, and exits as the run does
      the keeper, a child subreaper (prctl(2)): every process of the run is its descendant, including those whose parent
      has ended, that have a session of their own, or that have another environment
        the run: executes the tests, in the process group that has the terminal

When the run or the first process has ended, the keeper kills all its descendants. It has a process group of its own, so
a signal to the run's group does not end it. Under `make` the first process ends with the shell that started it, because
a make that is killed ends its shells and nothing below them.
"""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SI_USER = 0
PATIENCE_S = 10.0  # for killed processes to end; a process that the kernel holds for longer is left


def begin() -> None:
    """Continue as the run. Call it once, before there are threads. In a worker of pytest-xdist it does nothing, as that
    is already a descendant. Errors: OSError."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    if "MAKELEVEL" in os.environ:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    first = os.getpid()
    reading, writing = os.pipe()
    keeper = os.fork()
    if keeper:
        os.close(writing)
        _wait(keeper, int(os.read(reading, 32)))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    run = os.fork()
    if run:
        os.write(writing, b"%d" % run)
        _keep(run, first)
    os.close(reading)
    os.close(writing)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # it had ended before that call
        os._exit(1)


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes under `pid`, zombies included, from one reading of /proc."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(each.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(each.parent.name))
    found = list(children.get(pid, ()))
    for child in found:
        found += children.get(child, ())
    return found


def _wait(keeper: int, run: int) -> None:
    """In the first process: wait for the end and exit as the run did. Ctrl-C reaches the run directly; a SIGINT from
    another process is passed on. Any other signal ends this process, and the keeper then ends the run."""
    numbers = {signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    while not (ended := os.waitpid(keeper, os.WNOHANG))[0]:
        told = signal.sigwaitinfo(numbers)
        if told.si_signo == signal.SIGINT and told.si_code == SI_USER:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(run, signal.SIGINT)
    os._exit(_exit_code(ended[1]))


def _keep(run: int, first: int) -> None:
    """In the keeper: wait for the end of `run` or of `first`, kill what is left, and exit as `run` did."""
    numbers = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    while (code := _reap().get(run)) is None and os.getppid() == first:
        signal.sigwait(numbers)
    end = time.monotonic() + PATIENCE_S
    while (left := descendants(os.getpid())) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or belongs to another user
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01)
    os._exit(128 + signal.SIGKILL if code is None else code)


def _reap() -> dict[int, int]:
    """Return the exit codes of the children that have ended since the last call, by pid."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = _exit_code(status)


def _exit_code(status: int) -> int:
    """Return the exit code in a shell's form: 128 plus the signal's number for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
