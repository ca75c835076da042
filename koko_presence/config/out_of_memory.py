"""End a worker that has no memory left.

After a MemoryError the state of the process is undefined: a callback has stopped in the middle, the next one may too,
or a signal ends the process in code that does not expect it. When the worker ends at once, other workers take over.
"""

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import Callable
from typing import Any, NoReturn

EXIT_NO_MEMORY = 71  # EX_OSERR [sysexits.h]
LINE = b'{"level":"critical","logger":"koko_presence.memory","msg":"no memory is left: this process ends"}\n'


class EndWithoutMemory(logging.Handler):
    """Calls `end` when a MemoryError reaches the log or the loop's exception handler. Each `except Exception` of this
    package logs its exception as an error, and an exception that is not caught reaches the loop."""

    def __init__(self, end: Callable[[], NoReturn]) -> None:
        super().__init__(logging.ERROR)
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], MemoryError):
            self._end()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The exception handler of the loop."""
        if isinstance(context.get("exception"), MemoryError):
            self._end()
        loop.default_exception_handler(context)


def end_now() -> NoReturn:
    """End this process with EXIT_NO_MEMORY, after a log line if stderr takes it at once. Allocates next to nothing."""
    room = select.poll()
    room.register(2, select.POLLOUT)
    if room.poll(0):  # a pipe then takes 4 KiB
        with contextlib.suppress(OSError):
            os.write(2, LINE)
    os._exit(EXIT_NO_MEMORY)


def end_when_exhausted(loop: asyncio.AbstractEventLoop, end: Callable[[], NoReturn] = end_now) -> EndWithoutMemory:
    """Install an EndWithoutMemory in `loop` and in the log, where logs.configure keeps it."""
    watch = EndWithoutMemory(end)
    loop.set_exception_handler(watch.on_loop_error)
    logging.getLogger().handlers.insert(0, watch)
    return watch
