"""The control groups of this process, version 1 and 2, and the folders of their files [cgroups(7)]."""

import re
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """The folder of a control group, and its version: 1 or 2."""

    folder: Path
    version: int


def find(controller: str, cgroup: str, mountinfo: str) -> list[Group]:
    """The groups of a process that can have a limit of `controller` ("memory", "cpu"), the innermost first.

    `cgroup` and `mountinfo` are the texts of `/proc/PID/cgroup` and `/proc/PID/mountinfo` [cgroups(7), proc(5)]. The
    files of a group may be missing. Errors: ValueError when a text has another form."""
    paths: dict[int, str] = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths[2] = path
        elif controller in controllers.split(","):
            paths[1] = path
    found = []
    for line in mountinfo.splitlines():
        fields, _, kinds = line.partition(" - ")
        root, mount = (_unescaped(field) for field in fields.split()[3:5])
        kind, _, options = kinds.split(" ", 2)
        version = {"cgroup": 1, "cgroup2": 2}.get(kind, 0)
        if version not in paths or (version == 1 and controller not in options.split(",")):
            continue
        inner = Path(mount) / _below(root, paths[version])
        found += [Group(folder, version) for folder in (inner, *inner.parents) if folder.is_relative_to(mount)]
    return found


def own(controller: str) -> list[Group]:
    """`find` for this process; empty when the kernel's files cannot be read."""
    try:
        return find(controller, Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except (OSError, ValueError):
        return []


def _below(root: str, path: str) -> str:
    """`path` relative to `root`; empty when it is elsewhere, as in a container, which sees only its own group."""
    root = root.rstrip("/")
    return path[len(root) :].strip("/") if path == root or path.startswith(f"{root}/") else ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
