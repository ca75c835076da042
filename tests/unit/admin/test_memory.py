"""How close memory is to its limit, as the kernel's files state it, and the actions that follow."""

from pathlib import Path

import pytest

from koko_presence.admin.memory import Level, MemoryWatch, Pressure, Use, use_of
from koko_presence.config.control_groups import Group


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
