"""Starting and watching processes, and what every process of ours asks of the system."""

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

RESERVED = 12  # descriptors: more than the socket pair and the pidfd that a start needs
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


def prepare() -> None:
    """To be called first: a reload that is asked for before anybody can listen must not end the server, nor must
    SIGUSR1, which writes stacks to the log; and every connection is a file, where the soft limit of 1024 is for
    programs that use select()."""
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    stack_dump.listen()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def go_first_for_memory(more: int = 200) -> None:
    """When the machine has no memory left the kernel is to end this process before its parent, which replaces it.
    `more` is added to the score that was inherited [proc(5), oom_score_adj]."""
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        path.write_text(str(min(1000, int(path.read_text()) + more)))


class Terminal:
    """The terminal at which the server was started, if at any. Closing its window sends SIGHUP, as an operator does for
    a reload; but nobody who closes it wants a server to go on that nobody sees. Make it before `prepare`: what nohup
    has started is to stay."""

    def __init__(self) -> None:
        self._had = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()

    @property
    def is_gone(self) -> bool:
        """Whether there was one, and its window is closed."""
        return self._had and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def start_fork_server(sock: int, supervisor: int) -> "subprocess.Popen[bytes]":
    """A new process that loads the program as it is installed now, and forks workers: `sock` is its end of the socket,
    under the same number there, `supervisor` whose children they are to be. Waits until the program's interpreter has
    been found, so it is for a thread. Errors: OSError."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "koko_presence.process.fork_server", str(sock), str(supervisor)],
        pass_fds=(sock,),
        stdin=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for the supervisor
    )


def adopt_orphans() -> None:
    """Processes whose parent ends become children of this one, if they descend from it. Errors: OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with(parent: int) -> None:
    """From now on this process is killed when its parent ends. If `parent` is not its parent any more, it ends now."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def set_title(title: str) -> None:
    """What ps, pgrep and systemctl show as this process's command line: it is written over the memory in which the
    kernel has put the arguments [proc(5), cmdline and arg_start]. Where that cannot be done nothing changes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        start, end = int(fields[45]), int(fields[46])  # 48 and 49 in the manual
        size = end - start
        if 0 < start < end:
            text = title.encode()[: size - 1]
            ctypes.memmove(start, text.ljust(size, b"\0"), size)


def reap_strangers(known: Container[int]) -> None:
    """Wait for children that have ended and are not `known` by their pid: orphans that became this process's."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid in known:  # its owner waits for it
                return
            os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:  # there is none, or the thread that has started it has just waited for it
            return


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Reserve:
    """A few descriptors that are kept for a start, given back for as long as the block lasts: whatever has used up the
    others, a worker that dies can be replaced. Taken at the beginning, so that a limit which is lowered later is above
    them."""

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


def vitals(pid: int) -> tuple[float, bool] | None:
    """How many seconds a process's main thread has run so far, and whether it wants to run now: it runs, waits for a
    core, or for a page of its memory [proc(5), states R and D]. None when nothing can be read of it."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            ran_ns = int(file.read().split()[0])
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b") ")[2][:1]
    except (OSError, ValueError, IndexError):
        return None
    return ran_ns / 1e9, state in (b"R", b"D")


def _environment() -> dict[str, str]:
    """What a worker inherits: nothing of the configuration, which comes by the channel, and the same import path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOKO_PRESENCE_")}
    return inherited | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
