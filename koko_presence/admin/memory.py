"""Reads the memory use and limit of a process, and derives the level of memory pressure.

Three limits apply: `memory.max` of the process's control groups, version 2; its counterpart of version 1; and
`server.memory_bytes` of the configuration, of which each worker may use an equal part. The one with the highest share
of use counts. The page cache is subtracted from a control group's use, because the kernel reclaims it before it kills a
process. `Pressure` and `MemoryWatch` are the only writers of their state.
"""

import contextlib
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from koko_presence.config import control_groups
from koko_presence.config.control_groups import Group

SHED_SHARE = 0.85  # of the limit: waiting webhook events are dropped and slow receivers disconnected
REFUSE_SHARE = 0.90  # new connections are refused
EASE_SHARE = 0.03  # a level ends when the share is so much below its threshold
CACHE_MATTERS_SHARE = 0.75  # below that the page cache is not read, which takes the kernel longer

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_BYTES = 1 << 60  # version 1 uses a number near 2^63 for no limit


class Use(NamedTuple):
    """Used bytes and their limit; 0 for no limit."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        return self.used / self.limit if self.limit else 0.0


class Level(IntEnum):
    """The level of memory pressure: `SHED` drops data that can be lost, `REFUSE` also refuses new connections."""

    ENOUGH = 0
    SHED = 1
    REFUSE = 2


class Pressure:
    """Derives the level from the share of use, with hysteresis. Pure."""

    def __init__(self) -> None:
        self.level = Level.ENOUGH

    def update(self, share: float) -> Level:
        """Return the level when `share` of the limit is used."""
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
    """Return the use of a control group without reclaimable page cache; None when it has no limit or is not
    readable."""
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
    """Return the control groups of this process that have a memory controller, the innermost first."""
    return [group for group in control_groups.own("memory") if (group.folder / FILES[group.version][0]).exists()]


def private_bytes(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes, without files and shared memory. Pages unchanged since the
    fork, some 30 MiB, count in full, although all workers share them. Errors: OSError when there is no such process."""
    resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * _PAGE_BYTES


class MemoryWatch:
    """Reads the memory use of this process. `part_bytes` is its part of the configured limit; 0 for no limit."""

    def __init__(self, part_bytes: int = 0) -> None:
        self.part_bytes = part_bytes
        self._groups = own_groups()
        self._last = Use(0, 0)

    def look(self) -> Use:
        """Return the use with the highest share of its limit; without any limit, the use of this process. When it
        cannot be read, as without a free descriptor, return the last one."""
        with contextlib.suppress(OSError):
            self._last = max(self._uses(), key=lambda use: use.share)
        return self._last

    def _uses(self) -> Iterator[Use]:
        yield Use(private_bytes(), self.part_bytes)
        for group in self._groups:
            use = use_of(group)
            if use is not None:
                yield use
