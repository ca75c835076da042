"""Blocking work, such as reading files, in threads beside the event loop.

A file may be on a mount that hangs, where a read does not end and cannot be cancelled. The end of the process waits for
the threads of asyncio's own executor, but not for these.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], within_s: float) -> T:
    """Run `work` in a thread of its own; return its result or raise its exception. Errors: TimeoutError after
    `within_s` seconds, while the thread goes on; RuntimeError when no thread can be started."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():  # after the timeout
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, name="beside the loop", daemon=True).start()
    return await asyncio.wait_for(done, within_s)


class OneAtATime:
    """Runs `job` on request, one run at a time. Requests during a run cause one more run after it."""

    def __init__(self, job: Callable[[], Awaitable[None]]) -> None:
        self._job = job
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Request a run. Returns at once."""
        self._again = True
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._job()
        finally:
            self._task = None
