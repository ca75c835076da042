"""The number of cores for workers: with "auto" a container with half a core does not get a worker for each CPU of its
host."""

import os
from pathlib import Path

import pytest

from koko_presence.config import checks, cpu_cores
from koko_presence.config.control_groups import Group
from koko_presence.config.schema import Config, Server


def v2(folder: Path, text: str) -> Group:
    folder.mkdir(exist_ok=True)
    (folder / "cpu.max").write_text(f"{text}\n")
    return Group(folder, 2)


def v1(folder: Path, quota: str, period: str) -> Group:
    folder.mkdir(exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    return Group(folder, 1)


def test_a_quota_is_read_in_both_versions(tmp_path: Path) -> None:
    assert cpu_cores.quota_of(v2(tmp_path / "a", "150000 100000")) == 1.5
    assert cpu_cores.quota_of(v2(tmp_path / "b", "max 100000")) is None
    assert cpu_cores.quota_of(v1(tmp_path / "c", "50000", "100000")) == 0.5
    assert cpu_cores.quota_of(v1(tmp_path / "d", "-1", "100000")) is None


@pytest.mark.parametrize("text", ["", "max", "100000", "1 0", "0 100000", "1 2 3"])
def test_what_cannot_be_read_is_no_quota(tmp_path: Path, text: str) -> None:
    assert cpu_cores.quota_of(v2(tmp_path / "a", text)) is None
    assert cpu_cores.quota_of(Group(tmp_path / "nowhere", 2)) is None
    assert cpu_cores.quota_of(Group(tmp_path / "nowhere", 1)) is None


def test_of_the_groups_around_it_the_smallest_quota_counts(tmp_path: Path) -> None:
    inner, outer = v2(tmp_path / "a", "400000 100000"), v2(tmp_path / "b", "200000 100000")
    assert cpu_cores.smallest_quota([inner, outer]) == 2.0
    assert cpu_cores.smallest_quota([]) is None


@pytest.mark.parametrize(
    ("quota", "affinity", "workers"), [(None, 8, 8), (0.1, 8, 1), (1.9, 8, 1), (2.5, 8, 2), (16.0, 8, 8)]
)
def test_auto_is_as_many_workers_as_have_a_core_each(
    quota: float | None, affinity: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_cores, "quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    assert Server(workers="auto").worker_count == workers


@pytest.mark.parametrize(
    ("quota", "workers", "fewer"),
    [(None, 64, ""), (0.1, 1, ""), (2.0, 2, ""), (0.1, 2, "1 serves"), (2.5, 3, "2 serve")],
)
def test_more_workers_than_cores_are_warned_of(
    quota: float | None, workers: int, fewer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_cores, "quota", lambda: quota)
    found = [line for line in checks.warnings(Config(server=Server(workers=workers))) if "the time of" in line]
    assert bool(found) == bool(fewer)
    assert all(line.startswith(f"server.workers: is {workers}") and fewer in line for line in found)
