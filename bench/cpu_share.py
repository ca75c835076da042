"""Limits processes to a share of one core, as on a machine that is too small or shared.

Uses a quota of a control group, version 2 or else 1. If no group can be created, the processes are stopped and
continued in slices; in between the kernel reports them as stopped, not as waiting for a core.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_S = 0.1  # of the quota; the kernel's default
SLICE_S = 0.01  # the running time of stopped processes per slice
MICROS = 1_000_000
V2, V1, STOPS = "cgroup v2, cpu.max", "cgroup v1, cpu.cfs_quota_us", "SIGSTOP and SIGCONT"


def tree(pid: int) -> list[int]:
    """The pids of a process and all its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


@contextmanager
def limited(pid: int, share: float, *, ways: tuple[str, ...] = (V2, V1, STOPS)) -> Iterator[str]:
    """Limit the process and all its descendants, including future ones, to `share` of a core in total. Yields the
    method, one of `ways`. Errors: OSError if none is available."""
    for way in ways:
        if way == STOPS:
            with _stopped(pid, share):
                yield way
            return
        group = _group(way, share)
        if group is None:
            continue
        before = {each: _place(way, each) for each in tree(pid)}
        try:
            _move(tree(pid), group)
            yield way
        finally:
            for each in tree(pid):
                with contextlib.suppress(OSError):
                    (before.get(each, before[pid]) / "cgroup.procs").write_text(str(each))
            _remove(group)
        return
    raise OSError(f"a share of a core cannot be had here by {' or '.join(ways)}")


def _group(way: str, share: float) -> Path | None:
    """Create a control group with the quota; None if that is impossible."""
    root = _root(way)
    if root is None:
        return None
    group = root / f"koko_share_{os.getpid()}_{time.monotonic_ns()}"
    quota, period = round(share * PERIOD_S * MICROS), round(PERIOD_S * MICROS)
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        if way == V2:
            (group / "cpu.max").write_text(f"{quota} {period}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError:  # the controller is not available
        _remove(group)
        return None
    return group


def _root(way: str) -> Path | None:
    """The mount point of this version of control groups."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if (way == V2 and kind == "cgroup2") or (way == V1 and kind == "cgroup" and "cpu" in options.split(",")):
            return Path(place)
    return None


def _place(way: str, pid: int) -> Path:
    """The current group of a process."""
    root = _root(way)
    assert root is not None
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" if way == V2 else "cpu" in controllers.split(","):
            return root / path.lstrip("/")
    return root


def _move(pids: list[int], group: Path) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def _remove(group: Path) -> None:
    for _ in range(100):  # the group is empty once the last process has moved
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.01)


@contextmanager
def _stopped(pid: int, share: float) -> Iterator[None]:
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            _signal_all(pid, signal.SIGCONT)
            time.sleep(SLICE_S)
            if share < 1.0:
                _signal_all(pid, signal.SIGSTOP)
                over.wait(SLICE_S / share - SLICE_S)

    thread = threading.Thread(target=alternate, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _signal_all(pid, signal.SIGCONT)


def _signal_all(pid: int, number: int, kill: Callable[[int, int], None] = os.kill) -> None:
    for each in tree(pid):
        with contextlib.suppress(ProcessLookupError):
            kill(each, number)
