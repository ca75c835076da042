"""A worker that stood still: what has become due meanwhile, and who is blamed for it [D4, D11]."""

import pytest

from koko_presence.server.hub import STALL_S, TICK_S, UNREAD_S
from koko_presence.server.session import Session
from tests.world import World


def stall(world: World, seconds: float) -> None:
    """No timer rings and nothing is read for so long; then the timers do."""
    world.timers.now += seconds
    world.timers.advance(0.002)


def test_who_was_not_read_while_the_worker_stood_still_is_not_silent() -> None:
    world = World()
    ann = world.person("ann")
    world.sleep(85.0)
    stall(world, 10.0)
    assert ann.closed is None
    ann.send(type="heartbeat")
    world.sleep(60.0)
    assert ann.closed is None


@pytest.mark.parametrize("length", [0.3, 0.7, 5.0])
def test_who_says_nothing_is_found_out_as_late_as_the_worker_stood_still_and_a_second_at_most(length: float) -> None:
    world = World()
    ann = world.person("ann")
    world.sleep(89.99)
    stall(world, length)
    assert ann.closed is None
    world.sleep(min(length, UNREAD_S) + 0.01)
    assert ann.closed is not None


def test_regression_a_worker_that_stands_still_now_and_then_still_finds_out_who_is_silent() -> None:
    """Each stall of more than a quarter of a second gave everybody one more second, so that with one in each second nobody
    was ever found to be silent, idle or lost."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    for number in range(100):
        world.sleep(0.6)
        stall(world, STALL_S + 0.1)
        if number % 20 == 0:
            bob.send(type="cursor", roomId="video_123", data={"timestamp": number})
    assert ann.closed is not None and bob.closed is None


def test_what_has_become_due_together_is_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    rung = []
    for number in range(20):
        world.person(f"user_{number}", room=f"video_{number}")

    def work(session: Session, now: float) -> None:
        rung.append(session)
        world.timers.now += TICK_S / 2

    monkeypatch.setattr(Session, "on_tick", work)
    stall(world, 200.0)
    assert 2 <= len(rung) <= 4
    world.sleep(1.0)
    assert len(rung) == 20
