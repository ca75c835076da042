"""How much memory there is for further workers beside those that run."""

from collections.abc import Iterable
from pathlib import Path

PAGE_BYTES = 4096
WORKER_BYTES = 64 << 20  # what a worker needs at least
KEPT = 0.1  # of the memory, for everything else

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def how_many_more(pids: Iterable[int]) -> int:
    """How many workers may be started now beside those with the `pids`, at least one: each comes to need as much as the
    largest of these, which give theirs back only when they end. A thousand where nothing is known of the memory."""
    largest = max((resident_bytes(pid) for pid in pids), default=0)
    available = available_bytes()
    return 1000 if available is None else max(1, available // max(WORKER_BYTES, largest))


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use; 0 when that cannot be read."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def available_bytes() -> int | None:
    """What may still be used: of the machine, or of this process's control group when that allows less. None when
    neither says."""
    found = [each for each in (_of_machine(), _of_group()) if each is not None]
    return min(found) if found else None


def _of_machine() -> int | None:
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return max(0, int(available - KEPT * total))


def _of_group() -> int | None:
    for limit_file, usage_file in _group_files():
        try:
            limit, usage = limit_file.read_text().strip(), int(usage_file.read_text())
        except (OSError, ValueError):
            continue
        if not limit.isdecimal() or int(limit) >= 1 << 60:  # "max", or version 1's way to say so
            return None
        return max(0, int(int(limit) * (1.0 - KEPT)) - usage)
    return None


def _group_files() -> Iterable[tuple[Path, Path]]:
    """Limit and usage of this process's memory group, version 2 first [cgroups(7)]."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        group = path.strip("/")
        if not controllers:
            yield CGROUP / group / "memory.max", CGROUP / group / "memory.current"
            yield CGROUP / "memory.max", CGROUP / "memory.current"  # in a namespace of its own
        elif "memory" in controllers.split(","):
            for base in (CGROUP / "memory" / group, CGROUP / "memory"):
                yield base / "memory.limit_in_bytes", base / "memory.usage_in_bytes"
