"""A test run leaves no process behind, however it ends: with its last test, with Ctrl-C, or with SIGKILL to any part of it.

`begin` turns the process of the test runner into three:

    the first one, which was started: waits, and exits as the run does
      the keeper, a child subreaper (prctl(2)): every process of the run is its descendant, also one whose parent is
      gone, that has a session of its own, or that has another environment
        the run: goes on with the tests, in the process group that has the terminal

When the run is over or the first process is gone, the keeper kills all its descendants. It has a process group of its
own: what kills the run's group leaves it alive. Under `make` the first process ends with the shell that started it, as
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
PATIENCE_S = 10.0  # for killed processes to be gone; one that the kernel holds for longer is left to it


def begin() -> None:
    """Go on as the run. To be called once, before there are threads. In a worker of pytest-xdist it does nothing, as
    that is a descendant already. Errors: OSError."""
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
    if os.getppid() != keeper:  # it was gone before that call
        os._exit(1)


def descendants(pid: int) -> list[int]:
    """The pids of all processes under `pid`, from one reading of /proc. Zombies are among them."""
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
    """The first process: wait for the end and exit as the run did. Ctrl-C reaches the run without its help; a SIGINT
    that another process sent is passed on. What other signals end it with is the keeper's sign to end all."""
    numbers = {signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    while not (ended := os.waitpid(keeper, os.WNOHANG))[0]:
        told = signal.sigwaitinfo(numbers)
        if told.si_signo == signal.SIGINT and told.si_code == SI_USER:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(run, signal.SIGINT)
    os._exit(_exit_code(ended[1]))


def _keep(run: int, first: int) -> None:
    """The keeper: wait for the end of `run` or of `first`, kill what is left, and exit as `run` did."""
    numbers = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    while (code := _reap().get(run)) is None and os.getppid() == first:
        signal.sigwait(numbers)
    end = time.monotonic() + PATIENCE_S
    while (left := descendants(os.getpid())) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or is another user's
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01)
    os._exit(128 + signal.SIGKILL if code is None else code)


def _reap() -> dict[int, int]:
    """The exit codes of the children that have ended since the last call, by pid."""
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
    """As a shell says it: 128 and the signal's number for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
