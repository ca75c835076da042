"""System calls for processes: starting the fork server, signals, limits, parent relations, titles and reserved
descriptors.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

from . import stack_dump

RESERVED = 12  # more descriptors than the socket pair and the pidfd of a start need
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


def prepare() -> None:
    """Set up signals and limits. To be called first: until the service handles them, SIGHUP and SIGUSR2 must not end
    the process; SIGUSR1 writes stacks to the log from now on. The soft limit of open files is raised to the hard one,
    since every connection needs a descriptor; the usual soft limit of 1024 exists for programs that use select()."""
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    stack_dump.listen()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def raise_oom_score(more: int = 200) -> None:
    """Make the kernel end this process before its parent, which replaces it, when the machine runs out of memory.
    `more` is added to the inherited score [proc(5), oom_score_adj]."""
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        path.write_text(str(min(1000, int(path.read_text()) + more)))


class Terminal:
    """The controlling terminal at the start, if any. Closing its window sends SIGHUP, which an operator uses for a
    reload; a server whose terminal is closed is meant to end instead. To be created before `prepare`, which changes the
    disposition of SIGHUP: a server started by nohup stays."""

    def __init__(self) -> None:
        self._had = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()

    @property
    def is_gone(self) -> bool:
        """Whether there was a terminal and it is closed."""
        return self._had and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def start_fork_server(sock: int, supervisor: int) -> "subprocess.Popen[bytes]":
    """Start a process that loads the installed program and forks workers.

    `sock` is its end of the socket and has the same number in the child; `supervisor` is the pid of the workers'
    parent. Blocks until the interpreter of the program is found, so it is to be called in a thread. Errors: OSError."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "koko_presence.process.fork_server", str(sock), str(supervisor)],
        pass_fds=(sock,),
        stdin=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for the supervisor
    )


def adopt_orphans() -> None:
    """Make descendants whose parent ends children of this process [prctl(2), PR_SET_CHILD_SUBREAPER]. Errors:
    OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends [prctl(2), PR_SET_PDEATHSIG]. If `parent` is no longer its parent,
    end it now. Errors: OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def set_title(title: str) -> None:
    """Set the command line that ps, pgrep and systemctl show for this process, by overwriting the memory of its
    arguments [proc(5), cmdline and arg_start]. Does nothing where that is impossible."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        start, end = int(fields[45]), int(fields[46])  # fields 48 and 49 of proc(5)
        size = end - start
        if 0 < start < end:
            text = title.encode()[: size - 1]
            ctypes.memmove(start, text.ljust(size, b"\0"), size)


def reap_unknown_children(known: Container[int]) -> None:
    """Reap ended children whose pid is not in `known`: orphans that this process has inherited."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid in known:  # reaped by its owner
                return
            os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:  # no child is left, or the thread that started it has just reaped it
            return


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Reserve:
    """A few descriptors held in reserve for a start, and released while the block is entered, so that a dead worker can
    be replaced when all other descriptors are in use. Taken at the beginning, so that they lie below a limit that is
    lowered later."""

    def __init__(self, size: int = RESERVED) -> None:
        self._size = size
        self._held: list[int] = []
        self._take()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _give_back(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def __enter__(self) -> None:
        self._give_back()

    def __exit__(self, *exc: object) -> None:
        self._take()


def process_stats(pid: int) -> tuple[float, bool] | None:
    """Return the CPU time of a process's main thread in seconds, and whether it is runnable: it runs, waits for a core,
    or for a page of memory [proc(5), states R and D]. None if that cannot be read."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            ran_ns = int(file.read().split()[0])
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b") ")[2][:1]
    except (OSError, ValueError, IndexError):
        return None
    return ran_ns / 1e9, state in (b"R", b"D")


def _environment() -> dict[str, str]:
    """The environment of the fork server: without the configuration, which workers get by the control channel, and with
    the same import path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOKO_PRESENCE_")}
    return inherited | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
