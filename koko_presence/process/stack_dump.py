"""SIGUSR1 writes what every thread of this process is doing to the log, also when its event loop hangs.

The signal's handler is faulthandler's, which is C and needs neither the loop nor the interpreter's lock. It writes to a
pipe of ours that never blocks, since a log's reader may stand; a thread reads the pipe and makes log lines of it, one
for each thread of the process, the innermost call first. The level of the log does not matter: they were asked for.
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
QUIET_MS = 100  # after so long without more a dump is complete
_NAME = "stack writer"
_HEAD = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\S+) in (.*)$', re.MULTILINE)


def read_dump(text: str) -> Iterator[tuple[int, str]]:
    """Of faulthandler's dump each thread's number and its calls, the innermost first."""
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=False):
        part = text[head.end() : end]
        calls = [f"{name} ({file}:{line})" for file, line, name in _FRAME.findall(part)]
        yield int(head[1], 16), " < ".join(calls) or "no Python frame"


class StackWriter:
    """Listens to SIGUSR1 for as long as the process lives. `then` is called after each dump, in another thread."""

    def __init__(self) -> None:
        self.then: Callable[[], None] = lambda: None
        self._pipe, self._end = os.pipe()
        os.set_blocking(self._end, False)
        with contextlib.suppress(OSError):  # this user has as many pages in pipes as one may: 64 KiB do for most
            fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            threading.Thread(target=self._run, name=_NAME, daemon=True).start()
        except RuntimeError:
            log.warning("no thread is to be had, so SIGUSR1 writes no stacks")

    def listen(self) -> None:
        """Take the signal from now on."""
        faulthandler.register(signal.SIGUSR1, file=self._end, all_threads=True)

    def _run(self) -> None:
        while True:
            self._write(self._read().decode(errors="backslashreplace"))
            try:
                self.then()
            except Exception:
                log.exception("the other processes were not asked for their stacks")

    def _read(self) -> bytes:
        """The next dump, whole."""
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
    """Write the stacks at SIGUSR1 from now on, and then call `then`, in another thread. May be called again."""
    global _writer
    if _writer is None:
        _writer = StackWriter()
    if then is not None:
        _writer.then = then
    _writer.listen()
