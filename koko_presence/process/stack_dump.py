"""Logs the stack of every thread of this process at SIGUSR1, also while its event loop hangs.

The signal handler is that of faulthandler, which is C code and needs neither the loop nor the interpreter lock. It
writes to a non-blocking pipe, since the reader of the log may have stalled. A thread reads the pipe and writes one log
line per thread, innermost call first, at any log level, since the operator has requested the dump.
"""

import contextlib
import faulthandler
import fcntl
import logging
import os
import re
import select
import signal
import threading
from collections.abc import Callable, Iterator

log = logging.getLogger("koko_presence.stacks")

PIPE_BYTES = 1 << 20
QUIET_MS = 100  # a dump is complete after a pause of this length
_NAME = "stack writer"
_HEAD = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\S+) in (.*)$', re.MULTILINE)


def read_dump(text: str) -> Iterator[tuple[int, str]]:
    """Parse a dump of faulthandler: yields the number of each thread and its calls, innermost first."""
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=False):
        part = text[head.end() : end]
        calls = [f"{name} ({file}:{line})" for file, line, name in _FRAME.findall(part)]
        yield int(head[1], 16), " < ".join(calls) or "no Python frame"


class StackWriter:
    """Handles SIGUSR1 for the lifetime of the process. `then` is called after each dump, in another thread."""

    def __init__(self) -> None:
        self.then: Callable[[], None] = lambda: None
        self._pipe, self._end = os.pipe()
        os.set_blocking(self._end, False)
        with contextlib.suppress(OSError):  # over the user's limit: the default of 64 KiB suffices mostly
            fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            threading.Thread(target=self._run, name=_NAME, daemon=True).start()
        except RuntimeError:
            log.warning("cannot start a thread: SIGUSR1 writes no stacks")

    def listen(self) -> None:
        """Register the signal handler."""
        faulthandler.register(signal.SIGUSR1, file=self._end, all_threads=True)

    def _run(self) -> None:
        while True:
            self._write(self._read().decode(errors="backslashreplace"))
            try:
                self.then()
            except Exception:
                log.exception("the stacks of the workers were not requested")

    def _read(self) -> bytes:
        """Wait for the next dump and return all of it."""
        ready = select.poll()
        ready.register(self._pipe, select.POLLIN)
        data = os.read(self._pipe, PIPE_BYTES)
        while ready.poll(QUIET_MS):
            data += os.read(self._pipe, PIPE_BYTES)
        return data

    def _write(self, text: str) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, calls in read_dump(text):
            name = names.get(ident, hex(ident))
            if name != _NAME:
                extra = {"thread_name": name, "stack": calls}
                log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "stack", (), None, extra=extra))


_writer: StackWriter | None = None


def listen(then: Callable[[], None] | None = None) -> None:
    """Write the stacks at each SIGUSR1 from now on, and then call `then` in another thread. May be called again."""
    global _writer
    if _writer is None:
        _writer = StackWriter()
    if then is not None:
        _writer.then = then
    _writer.listen()
