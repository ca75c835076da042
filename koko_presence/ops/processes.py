"""Starting worker processes, and what every process of ours asks of the system."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import stacks

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


def prepare() -> None:
    """To be called first: a reload that is asked for before anybody can listen must not end the server, nor must
    SIGUSR1, which writes stacks to the log; and every connection is a file, where the soft limit of 1024 is for
    programs that use select()."""
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    stacks.listen()
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


def start_worker(channel: int, listening: Sequence[int]) -> "subprocess.Popen[bytes]":
    """A new worker process that has the descriptors given, under the same numbers. Errors: OSError."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "koko_presence.worker_process", str(channel)],
        pass_fds=(channel, *listening),
        stdin=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is for the supervisor
    )


def _environment() -> dict[str, str]:
    """What a worker inherits: nothing of the configuration, which comes by the channel, and the same import path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOKO_PRESENCE_")}
    return inherited | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
