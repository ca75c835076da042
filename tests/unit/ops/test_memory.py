"""How near memory is to its limit, as the kernel's files say it, and what follows from that."""

from pathlib import Path

import pytest

from koko_presence.ops.memory import Group, Level, MemoryWatch, Pressure, Use, find_groups, use_of

V2 = "33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "34 24 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory"
V1_CPU = "35 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"


def folders(cgroup: str, *mounts: str) -> list[tuple[str, int]]:
    return [(str(group.folder), group.version) for group in find_groups(cgroup, "\n".join([OTHER, *mounts]))]


def test_a_service_of_systemd_is_in_its_own_group_and_in_those_around_it() -> None:
    found = folders("0::/system.slice/koko.service\n", V2)
    assert found == [
        ("/sys/fs/cgroup/system.slice/koko.service", 2),
        ("/sys/fs/cgroup/system.slice", 2),
        ("/sys/fs/cgroup", 2),
    ]


def test_version_1_is_the_group_of_the_memory_controller() -> None:
    found = folders("5:cpu,cpuacct:/a\n4:memory:/b/c\n1:name=systemd:/d\n0::/e\n", V1_CPU, V1)
    assert found == [
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


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_version_2_leaves_the_page_cache_out_once_it_matters(tmp_path: Path) -> None:
    group = Group(tmp_path, 2)
    write(tmp_path, memory__max="1000", memory__current="700")
    assert use_of(group) == (700, 1000)
    write(tmp_path, memory__current="950", memory__stat="anon 400\ninactive_file 300\nactive_file 50\nfile 380")
    assert use_of(group) == (600, 1000)
    write(tmp_path, memory__max="max")
    assert use_of(group) is None


def test_version_1_has_other_names_for_the_same(tmp_path: Path) -> None:
    group = Group(tmp_path, 1)
    stat = "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 50"
    write(tmp_path, memory__limit_in_bytes="1000", memory__usage_in_bytes="900", memory__stat=stat)
    assert use_of(group) == (750, 1000)
    write(tmp_path, memory__limit_in_bytes="9223372036854771712")
    assert use_of(group) is None, "that is no limit"


@pytest.mark.parametrize("text", ["", "many", "0", "-1"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    assert use_of(Group(tmp_path / "nowhere", 2)) is None
    write(tmp_path, memory__max=text, memory__current="5")
    assert use_of(Group(tmp_path, 2)) is None


def test_the_limit_that_is_nearest_counts(tmp_path: Path) -> None:
    watch = MemoryWatch()
    watch._groups = [Group(tmp_path, 2)]
    write(tmp_path, memory__max="1000", memory__current="500")
    assert watch.look() == (500, 1000)
    watch.part_bytes = 1
    assert watch.look().limit == 1 and watch.look().used > 1_000_000, "what this process has for itself"
    watch._groups, watch.part_bytes = [], 0
    assert watch.look().limit == 0 and watch.look().share == 0.0


def test_what_is_done_follows_from_the_share_and_does_not_flutter() -> None:
    pressure = Pressure()
    said = [
        (0.50, Level.ENOUGH),
        (0.849, Level.ENOUGH),
        (0.85, Level.SHED),
        (0.83, Level.SHED),
        (0.90, Level.REFUSE),
        (0.88, Level.REFUSE),
        (0.871, Level.REFUSE),
        (0.86, Level.SHED),
        (0.82, Level.ENOUGH),
        (0.84, Level.ENOUGH),
        (1.20, Level.REFUSE),
        (0.10, Level.ENOUGH),
    ]
    assert [pressure.update(share) for share, _ in said] == [level for _, level in said]


def test_no_limit_is_never_near() -> None:
    assert Pressure().update(Use(1 << 60, 0).share) is Level.ENOUGH
