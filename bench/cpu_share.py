"""A share of one core for some processes, as a machine has it that is too small, or shared with others.

By a control group with a quota, of version 2 or else 1; where none can be made, by stopping the processes and letting
them go on, in slices: then the kernel shows them as stopped, and not as waiting for a core, in between.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PERIOD_S = 0.1  # of a quota; the kernel's own
SLICE_S = 0.01  # for which stopped processes run at a time
MICROS = 1_000_000
V2, V1, STOPS = "cgroup v2, cpu.max", "cgroup v1, cpu.cfs_quota_us", "SIGSTOP and SIGCONT"


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


@contextmanager
def limited(pid: int, share: float, *, ways: tuple[str, ...] = (V2, V1, STOPS)) -> Iterator[str]:
    """The process and all below it, also those that it starts meanwhile, have `share` of a core together. Yields in
    which of `ways` that is done. Errors: OSError when there is none."""
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
    """A control group of its own with the quota; None where there is none to be had."""
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
    except OSError:  # a controller that is not there
        _remove(group)
        return None
    return group


def _root(way: str) -> Path | None:
    """Where groups of this way are mounted, as they are seen here."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if (way == V2 and kind == "cgroup2") or (way == V1 and kind == "cgroup" and "cpu" in options.split(",")):
            return Path(place)
    return None


def _place(way: str, pid: int) -> Path:
    """The group in which the process is now."""
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
    for _ in range(100):  # it is empty once the last process has been moved
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
