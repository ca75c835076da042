"""A process without a free descriptor: values read from /proc keep the last reading, and are read again afterwards."""

import builtins
import errno
import io
import os
from collections.abc import Callable
from typing import Any

import pytest

from koko_presence.admin.file_descriptors import Descriptors, allowed
from koko_presence.admin.memory import MemoryWatch
from koko_presence.admin.metrics_snapshot import Resident
from koko_presence.process.worker import CpuTimes


@pytest.fixture
def use_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after whose call no file can be opened."""

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def begin() -> None:
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", fail)
        monkeypatch.setattr(os, "listdir", fail)

    return begin


def test_memory_is_what_it_was(use_up: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    watch, resident = MemoryWatch(1 << 40), Resident()
    before, resident_bytes = watch.look(), resident.read_bytes()
    assert before.used > 0 and resident_bytes > before.used
    use_up()
    assert (watch.look(), resident.read_bytes()) == (before, resident_bytes)
    monkeypatch.undo()
    ballast = b"x" * (64 << 20)
    assert watch.look().used > before.used + len(ballast) // 2, "and is looked at again"


def test_the_wait_for_a_core_does_not_run_backwards(use_up: Callable[[], None]) -> None:
    cpu_times = CpuTimes()
    before = cpu_times()
    assert before[1] > 0.0
    use_up()
    ran_s, waited_s = cpu_times()
    assert ran_s > 0.0 and waited_s == before[1], "else a worker's load were negative, and a second later it were full"


def test_all_descriptors_are_used(use_up: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        st_size = 0  # as before Linux 6.2

    monkeypatch.setattr(os, "stat", lambda path: Old)
    use_up()
    assert Descriptors().used() == allowed()
