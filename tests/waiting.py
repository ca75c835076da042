"""Waiting for something that must come true. The bound only ends a wait for what never comes: no test judges by it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE_S = 120.0  # far above what any one event takes when every core is busy with something else

T = TypeVar("T")


async def until(condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The first true value of `condition`, while the loop turns. Errors: AssertionError after `within_s` seconds."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it has not come true within {within_s:.0f} s"
        await asyncio.sleep(0.005)
    return value


def wait_until(condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The same without a loop: for what other processes and threads do."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it has not come true within {within_s:.0f} s"
        time.sleep(0.005)
    return value


def is_running(pid: int | str) -> bool:
    """Whether a process has that pid, other than as a zombie. It may end while it is looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
