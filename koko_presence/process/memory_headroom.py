"""Computes how many further workers fit into memory beside those that run. Reads /proc and control groups; keeps no
state.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from koko_presence.admin.memory import own_groups, private_bytes, use_of

WORKER_BYTES = 64 << 20  # the least that a worker needs
RESERVED_SHARE = 0.1  # the share of the memory kept free for everything else

MEMINFO = Path("/proc/meminfo")


def how_many_more(pids: Iterable[int]) -> int:
    """Return how many workers may be started now beside those with the `pids`, at least one.

    Each is assumed to need as much as the largest of these, which free their memory only when they end. Returns 1000 if
    the memory is unknown."""
    largest = WORKER_BYTES
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):  # the process has just ended
            largest = max(largest, private_bytes(pid))
    available = available_bytes()
    return 1000 if available is None else max(1, available // largest)


def available_bytes() -> int | None:
    """Return the bytes still available: of the machine, or of this process's control groups if those allow less. None
    if neither can be read."""
    limits = [use for group in own_groups() if (use := use_of(group)) is not None]
    found = [max(0, int((1.0 - RESERVED_SHARE) * use.limit) - use.used) for use in limits]
    machine = _of_machine()
    return min(found if machine is None else [machine, *found], default=None)


def _of_machine() -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return max(0, int(available - RESERVED_SHARE * total))
