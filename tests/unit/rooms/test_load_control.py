"""The flush window follows the worker's load, and does not oscillate [L4]."""

import pytest

from koko_presence.protocol.limits import Limits
from koko_presence.rooms.load_control import FULL, FlushWindowController

SAMPLE_S = 0.1


class Worker:
    """A core on which writing costs `write_s` per flush, `rooms` rooms flush at each window, reading costs 5 ms a
    second and room at 20 Hz, and `base` is the rest."""

    def __init__(
        self, rooms: int, write_s: float = 0.0005, base: float = 0.1, obeys: bool = False, **limits: float
    ) -> None:
        self.obeys = obeys
        self.window_controller = FlushWindowController(Limits(**limits), 0.0, 0.0)  # type: ignore[arg-type]
        self.rooms, self.write_s, self.base = rooms, write_s, base
        self.now = self.cpu_s = 0.0

    def run(self, seconds: float) -> list[float]:
        """Return the window after each sample, in ms."""
        windows = []
        for _ in range(round(seconds / SAMPLE_S)):
            reading = self.rooms * 0.005 * (50.0 / self.window_controller.advised_ms if self.obeys else 1.0)
            load = min(
                1.0, self.base + reading + self.rooms * self.write_s / max(0.001, self.window_controller.window_s)
            )
            self.now += SAMPLE_S
            self.cpu_s += load * SAMPLE_S
            self.window_controller.judge(self.now, self.cpu_s)
            windows.append(self.window_controller.window_s * 1000)
        return windows


def test_a_worker_with_time_to_spare_keeps_the_short_window() -> None:
    assert set(Worker(rooms=3).run(10)) == {5.0}


def test_a_worker_that_fills_up_waits_longer_up_to_the_ceiling() -> None:
    assert Worker(rooms=20).run(3)[-1] == 16.0
    assert Worker(rooms=30, flush_ceiling_ms=25).run(3)[-1] == 25.0
    assert set(Worker(rooms=30, flush_ceiling_ms=0).run(3)) == {0.0}, "a ceiling of 0 switches the window off"
    assert set(Worker(rooms=2, flush_ceiling_ms=2).run(3)) == {2.0}, "the ceiling bounds the window"
    assert set(Worker(rooms=30, flush_window_ms=0).run(3)) == {0.0}, "0 switches the window off"


def test_a_fully_loaded_worker_flushes_at_30_hz_and_advises_lower_rates() -> None:
    worker = Worker(rooms=60)
    windows = worker.run(10)
    assert windows[-1] == max(windows) == pytest.approx(1000 / 30)
    assert (
        worker.window_controller.overloaded and worker.window_controller.full and worker.window_controller.load > FULL
    )
    assert worker.window_controller.advised_ms == 200, "five updates a second are left to everybody"


def test_overload_ends_within_two_seconds_of_half_the_load() -> None:
    worker = Worker(rooms=60)
    worker.run(10)
    worker.rooms = 10
    worker.run(2)
    assert not worker.window_controller.overloaded and worker.window_controller.window_s <= 0.016
    worker.run(2)
    assert worker.window_controller.advised_ms == 50 and worker.window_controller.window_s < 0.014


@pytest.mark.parametrize("rooms", range(20, 120, 3))
@pytest.mark.parametrize("obeys", [False, True])
def test_the_advice_settles_and_does_not_swing(rooms: int, obeys: bool) -> None:
    worker = Worker(rooms=rooms, obeys=obeys)
    worker.run(30)
    advised = []
    for _ in range(100):
        worker.run(0.1)
        advised.append(worker.window_controller.advised_ms)
    assert len(set(advised)) == 1


@pytest.mark.parametrize("rooms", range(1, 30))
def test_it_settles_and_does_not_swing(rooms: int) -> None:
    assert len(set(Worker(rooms=rooms).run(20)[-100:])) == 1


def test_the_window_shrinks_again_when_the_load_is_gone() -> None:
    worker = Worker(rooms=30)
    worker.run(3)
    worker.rooms = 1
    assert worker.run(3)[-1] == 5.0


def test_new_limits_hold_at_once() -> None:
    worker = Worker(rooms=20)
    worker.run(3)
    worker.window_controller.set_limits(Limits(flush_ceiling_ms=8))
    assert worker.window_controller.window_s == 0.008
