"""What is looked up at a scrape: the longest turn of the loop."""

from collections.abc import Callable
from typing import Any

from koko_presence.ops.collect import BEGIN_S, LAG_SLOT_S, LAG_SLOTS, QUIET_S, TURN_S, TurnCpu


class Loop:
    """A loop of which the test turns the hands."""

    def __init__(self) -> None:
        self.now = 50.0
        self.delays: list[float] = []
        self.ring: Callable[[], None] = lambda: None
        self.cancelled = False

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.delays.append(delay)
        self.ring = callback
        return self

    def cancel(self) -> None:
        self.cancelled = True


def test_the_longest_turn_is_told_for_a_minute_in_cpu_time() -> None:
    loop: Any = Loop()
    cpu = [7.0]
    turn = TurnCpu(loop, lambda: cpu[0])

    def pass_time(wall_s: float, cpu_s: float) -> None:
        loop.now += wall_s
        cpu[0] += cpu_s
        loop.ring()

    pass_time(BEGIN_S / 2, 0.4)
    assert turn.longest_s == 0.0, "it has only begun"
    pass_time(BEGIN_S, 0.001)
    pass_time(5.0, 0.012)
    assert abs(turn.longest_s - 0.012) < 1e-9, "however long others have had the core"
    assert loop.delays[-1] == TURN_S, "it is busy: every turn is looked at"
    for _ in range(30):
        pass_time(0.0012, 0.001)
        assert loop.delays[-1] == TURN_S, "many short turns are no long one"
    pass_time(0.001, 0.0001)
    assert loop.delays[-1] == QUIET_S and abs(turn.longest_s - 0.012) < 1e-9
    for _ in range(LAG_SLOTS):
        pass_time(LAG_SLOT_S, 0.002)
    assert abs(turn.longest_s - 0.002) < 1e-9
    turn.stop()
    assert loop.cancelled
