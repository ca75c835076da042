"""The number of cores that this process may use, by its CPU affinity and the quota of its control groups."""

import os
from collections.abc import Iterable
from functools import cache

from . import control_groups
from .control_groups import Group


def quota_of(group: Group) -> float | None:
    """CPU time that the group may use, in cores; None when it has no limit."""
    try:
        if group.version == 2:
            quota, period = (group.folder / "cpu.max").read_text().split()
        else:
            quota, period = ((group.folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" means no limit
        return None


def smallest_quota(groups: Iterable[Group]) -> float | None:
    """The smallest quota of `groups`, in cores; None when there is no limit."""
    return min((quota for group in groups if (quota := quota_of(group)) is not None), default=None)


@cache
def quota() -> float | None:
    """CPU time that the control groups of this process allow, in cores, as it was at the first call; None when there is
    no limit."""
    return smallest_quota(control_groups.own("cpu"))


def usable() -> int:
    """The number of workers that can each have a core of their own, at least 1."""
    cores, allowed = len(os.sched_getaffinity(0)), quota()
    return cores if allowed is None else max(1, min(cores, int(allowed)))
