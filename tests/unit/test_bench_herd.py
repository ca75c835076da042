"""A server with a share of a core: how the share is enforced, and what counts as a missed target."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import cpu_share
from bench.cpu_share import STOPS, V1, V2, limited, tree
from bench.herd import BARS, missed
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.bench

QUOTAS = {V2: "cpu.max", V1: "cpu.cfs_quota_us"}
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
child.wait()
"""


@pytest.fixture
def family() -> Iterator[int]:
    """A process with one child."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
        members = tree(parent.pid)
        yield parent.pid
        for pid in members:
            os.kill(pid, 9)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_for(states: set[str], pids: list[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not {state_of(pid) for pid in pids} <= states:
        assert time.monotonic() < end, f"{[state_of(pid) for pid in pids]} and not {states}"
        time.sleep(0.001)


def test_a_process_and_its_children_stop_and_go_on(family: int) -> None:
    pids = tree(family)
    assert len(pids) == 2
    with limited(family, 0.05, ways=(STOPS,)) as way:
        assert way == STOPS
        wait_for({"T"}, pids)
        wait_for({"S", "R"}, pids)
    wait_for({"S", "R"}, pids)


def test_a_control_group_has_the_quota_and_is_gone_afterwards(family: int) -> None:
    """With the control groups version of this machine; without a usable one, the processes are stopped and
    continued."""
    with limited(family, 0.25) as way:
        if way == STOPS:
            return
        (group,) = {cpu_share._place(way, pid) for pid in tree(family)}
        assert group.name.startswith("koko_share_")
        assert (group / QUOTAS[way]).read_text().split()[0] == "25000"
    assert not group.exists() and group not in {cpu_share._place(way, pid) for pid in tree(family)}


def result(**changes: Any) -> dict[str, Any]:
    fine = {
        "people": 9, "in": 9, "all_in_s": 1.0, "others_p99_s": 0.1, "workers_died": 0, "not_resumed": 0, "others_cut": 0,
        "false_left": 0, "ghosts": 0,
    }  # fmt: skip
    return fine | changes


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"workers_died": 1}, ["workers_died"]),
        ({"not_resumed": 3}, ["not_resumed"]),
        ({"in": 8, "all_in_s": float("inf")}, ["all_in_s", "in"]),
        ({"all_in_s": 10.1}, ["all_in_s"]),
        ({"others_p99_s": 0.51}, ["others_p99_s"]),
        ({"ghosts": 1, "false_left": 1, "others_cut": 1}, ["others_cut", "false_left", "ghosts"]),
    ],
)
def test_each_bar_can_be_missed(changes: dict[str, Any], wrong: list[str]) -> None:
    assert missed(result(**changes), BARS[0.5]) == wrong
