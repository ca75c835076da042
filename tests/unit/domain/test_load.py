"""The window follows the worker's load, and does not swing [L4]."""

import pytest

from koko_presence.domain.load import Governor
from koko_presence.limits import Limits

SAMPLE_S = 0.1


class Worker:
    """A core on which writing costs `write_s` per flush, `rooms` rooms flush at each window, and `base` is the rest."""

    def __init__(self, rooms: int, write_s: float = 0.0005, base: float = 0.1, **limits: float) -> None:
        self.governor = Governor(Limits(**limits), 0.0, 0.0)  # type: ignore[arg-type]
        self.rooms, self.write_s, self.base = rooms, write_s, base
        self.now = self.cpu_s = 0.0

    def run(self, seconds: float) -> list[float]:
        """The window after each sample, in ms."""
        windows = []
        for _ in range(round(seconds / SAMPLE_S)):
            load = min(1.0, self.base + self.rooms * self.write_s / max(0.001, self.governor.window_s))
            self.now += SAMPLE_S
            self.cpu_s += load * SAMPLE_S
            self.governor.judge(self.now, self.cpu_s)
            windows.append(self.governor.window_s * 1000)
        return windows


def test_a_worker_with_time_to_spare_keeps_the_short_window() -> None:
    assert set(Worker(rooms=3).run(10)) == {5.0}


def test_a_worker_that_fills_up_waits_longer_up_to_one_display_frame() -> None:
    assert Worker(rooms=30).run(3)[-1] == 16.0
    assert Worker(rooms=50, flush_ceiling_ms=25).run(3)[-1] == 25.0
    assert set(Worker(rooms=30, flush_ceiling_ms=0).run(3)) == {0.0}, "the ceiling bounds the window"
    assert set(Worker(rooms=30, flush_ceiling_ms=2).run(3)) == {2.0}
    assert set(Worker(rooms=30, flush_window_ms=0).run(3)) == {0.0}, "0 switches the window off"


@pytest.mark.parametrize("rooms", range(1, 30))
def test_it_settles_and_does_not_swing(rooms: int) -> None:
    assert len(set(Worker(rooms=rooms).run(20)[-100:])) == 1


def test_the_window_shrinks_again_when_the_load_is_gone() -> None:
    worker = Worker(rooms=30)
    worker.run(3)
    worker.rooms = 1
    assert worker.run(3)[-1] == 5.0


def test_new_limits_hold_at_once() -> None:
    worker = Worker(rooms=30)
    worker.run(3)
    worker.governor.set_limits(Limits(flush_ceiling_ms=8))
    assert worker.governor.window_s == 0.008
