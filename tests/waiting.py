"""Waiting for a condition. The bound only ends a wait for a condition that never holds: no test judges by it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE_S = 120.0  # far above the duration of any one event while every core is busy

T = TypeVar("T")


async def until(condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """Run the event loop until `condition` is true and return its value. Errors: AssertionError after `within_s`
    seconds."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it has not come true within {within_s:.0f} s"
        await asyncio.sleep(0.005)
    return value


def wait_until(condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The same without an event loop, for the effects of other processes and threads. Errors: AssertionError."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it has not come true within {within_s:.0f} s"
        time.sleep(0.005)
    return value


def is_running(pid: int | str) -> bool:
    """Whether a process with that pid exists and is no zombie. It may end during the check."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
