"""How many cores this process may use: by its CPU affinity, and by the quota of its control groups."""

import os
from collections.abc import Iterable
from functools import cache

from . import control_groups
from .control_groups import Group


def quota_of(group: Group) -> float | None:
    """For how many cores' worth of time the group may run; None for no limit."""
    try:
        if group.version == 2:
            quota, period = (group.folder / "cpu.max").read_text().split()
        else:
            quota, period = ((group.folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def smallest_quota(groups: Iterable[Group]) -> float | None:
    """The quota that is met first; None for no limit."""
    return min((quota for group in groups if (quota := quota_of(group)) is not None), default=None)


@cache
def quota() -> float | None:
    """For how many cores' worth of time this process and those around it may run, as it was when this was first asked;
    None for no limit."""
    return smallest_quota(control_groups.own("cpu"))


def usable() -> int:
    """How many workers can each have a core of their own: at least one."""
    cores, allowed = len(os.sched_getaffinity(0)), quota()
    return cores if allowed is None else max(1, min(cores, int(allowed)))
