"""The end of a worker that has no memory left.

After a MemoryError nothing is certain any more: a callback has stopped in the middle, and the next one may too, or the
process dies of a signal in code that does not expect it. Others take over what a worker had, if it ends at once.
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
    """Ends the process when a MemoryError comes to the log, or to the loop's exception handler: each `except Exception`
    of ours logs what it has caught as an error, and what nobody has caught comes to the loop."""

    def __init__(self, end: Callable[[], NoReturn]) -> None:
        super().__init__(logging.ERROR)
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], MemoryError):
            self._end()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        if isinstance(context.get("exception"), MemoryError):
            self._end()
        loop.default_exception_handler(context)


def end_now() -> NoReturn:
    """End this process, with a line if there is room for it; nothing here needs more memory than there is."""
    room = select.poll()
    room.register(2, select.POLLOUT)
    if room.poll(0):  # in a pipe: for 4 KiB
        with contextlib.suppress(OSError):
            os.write(2, LINE)
    os._exit(EXIT_NO_MEMORY)


def end_when_exhausted(loop: asyncio.AbstractEventLoop, end: Callable[[], NoReturn] = end_now) -> EndWithoutMemory:
    """From now on; logs.configure leaves it in its place."""
    watch = EndWithoutMemory(end)
    loop.set_exception_handler(watch.on_loop_error)
    logging.getLogger().handlers.insert(0, watch)
    return watch
