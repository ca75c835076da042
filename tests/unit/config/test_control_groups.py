"""The control groups of a process, from the kernel's files as they are on hosts and in containers."""

import pytest

from koko_presence.config import control_groups

V2 = "33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "34 24 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory"
V1_CPU = "35 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"


def folders(cgroup: str, *mounts: str, controller: str = "memory") -> list[tuple[str, int]]:
    found = control_groups.find(controller, cgroup, "\n".join([OTHER, *mounts]))
    return [(str(group.folder), group.version) for group in found]


def test_a_service_of_systemd_is_in_its_own_group_and_in_those_around_it() -> None:
    found = folders("0::/system.slice/koko.service\n", V2)
    assert found == [
        ("/sys/fs/cgroup/system.slice/koko.service", 2),
        ("/sys/fs/cgroup/system.slice", 2),
        ("/sys/fs/cgroup", 2),
    ]


def test_version_1_is_the_group_of_the_controller() -> None:
    cgroup = "5:cpu,cpuacct:/a\n4:memory:/b/c\n1:name=systemd:/d\n0::/e\n"
    assert folders(cgroup, V1_CPU, V1, controller="cpu") == [("/sys/fs/cgroup/cpu/a", 1), ("/sys/fs/cgroup/cpu", 1)]
    assert folders(cgroup, V1_CPU, V1) == [
        ("/sys/fs/cgroup/memory/b/c", 1),
        ("/sys/fs/cgroup/memory/b", 1),
        ("/sys/fs/cgroup/memory", 1),
    ]


def test_where_both_versions_are_mounted_both_are_looked_at() -> None:
    mounts = (V1, V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "))
    assert folders("4:memory:/\n0::/\n", *mounts) == [("/sys/fs/cgroup/memory", 1), ("/sys/fs/cgroup/unified", 2)]


@pytest.mark.parametrize(
    ("cgroup", "root", "folder"),
    [
        ("4:memory:/docker/abc", "/docker/abc", "/sys/fs/cgroup/memory"),  # the container's own group is mounted
        ("4:memory:/docker/abc/in", "/docker/abc", "/sys/fs/cgroup/memory/in"),
        ("4:memory:/docker/abc", "/docker/ab", "/sys/fs/cgroup/memory"),  # of another name: elsewhere
        ("4:memory:/../other", "/", "/sys/fs/cgroup/memory/../other"),
        ("4:memory:/", "/", "/sys/fs/cgroup/memory"),
    ],
)
def test_what_is_mounted_may_be_a_part_of_the_tree(cgroup: str, root: str, folder: str) -> None:
    assert folders(cgroup, V1.replace(" / ", f" {root} "))[0] == (folder, 1)


def test_paths_with_a_blank_are_written_in_octal() -> None:
    assert folders("0::/", V2.replace("/sys/fs/cgroup", r"/my\040groups"))[0] == ("/my groups", 2)
