"""How much memory there is, how much of it is used, and what a worker does about it when that comes near.

Three limits are looked at: `memory.max` of the control groups that this process is in, version 2; its counterpart of
version 1; and `server.memory_bytes` of the configuration, of which each worker may use an equal part. The nearest one
counts. Of a control group's use its page cache is left out, which the kernel takes back before it kills anybody.
"""

import contextlib
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from koko_presence.config import control_groups
from koko_presence.config.control_groups import Group

SHED_SHARE = 0.85  # of the limit: what waits for webhooks and slow receivers is let go
REFUSE_SHARE = 0.90  # newcomers are refused
EASE_SHARE = 0.03  # so far below either it is over
CACHE_MATTERS_SHARE = 0.75  # below that the page cache is not looked at, which takes the kernel longer

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_BYTES = 1 << 60  # version 1 has a number near 2^63 for none


class Use(NamedTuple):
    """Bytes used, and how many there may be; 0 for no limit."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 0.0


class Level(IntEnum):
    """What is done about memory: nothing; shed what can be done without; and refuse newcomers too."""

    ENOUGH = 0
    SHED = 1
    REFUSE = 2


class Pressure:
    """The level that follows from what is used. Pure."""

    def __init__(self) -> None:
        self.level = Level.ENOUGH

    def update(self, share: float) -> Level:
        """`share` of the limit is used now."""
        for level, begins in ((Level.REFUSE, REFUSE_SHARE), (Level.SHED, SHED_SHARE)):
            if share >= begins or (self.level >= level and share > begins - EASE_SHARE):
                self.level = level
                return level
        self.level = Level.ENOUGH
        return self.level


FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    2: ("memory.max", "memory.current", ("inactive_file", "active_file")),
}


def use_of(group: Group) -> Use | None:
    """What the group's processes use, without what the kernel would take back first; None when it has no limit."""
    limit_file, used_file, cached = FILES[group.version]
    try:
        limit = (group.folder / limit_file).read_text().strip()
        if not limit.isdecimal() or not 0 < int(limit) < _UNLIMITED_BYTES:
            return None
        use = Use(int((group.folder / used_file).read_text()), int(limit))
        if use.share >= CACHE_MATTERS_SHARE:
            stat = dict(line.split() for line in (group.folder / "memory.stat").read_text().splitlines())
            use = Use(max(0, use.used - sum(int(stat.get(name, 0)) for name in cached)), use.limit)
    except (OSError, ValueError):
        return None
    return use


def own_groups() -> list[Group]:
    """The groups of this process that have the files of a memory controller, the innermost first."""
    return [group for group in control_groups.own("memory") if (group.folder / FILES[group.version][0]).exists()]


def private_bytes(pid: int | str = "self") -> int:
    """Memory of one process that is in RAM, without files and shared memory. What it has not changed since it was
    forked counts in full, though it is there once for all workers: some 30 MiB. Errors: OSError when there is no such
    process."""
    resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * _PAGE_BYTES


class MemoryWatch:
    """Reads how this process stands. `part_bytes` is its part of the configuration's limit, 0 for none."""

    def __init__(self, part_bytes: int = 0) -> None:
        self.part_bytes = part_bytes
        self._groups = own_groups()
        self._last = Use(0, 0)

    def look(self) -> Use:
        """The use that is nearest to its limit; without any limit, what the process uses. Where nothing can be read, as
        without a free descriptor, it is what it was."""
        with contextlib.suppress(OSError):
            self._last = max(self._uses(), key=lambda use: use.share)
        return self._last

    def _uses(self) -> Iterator[Use]:
        yield Use(private_bytes(), self.part_bytes)
        for group in self._groups:
            use = use_of(group)
            if use is not None:
                yield use
