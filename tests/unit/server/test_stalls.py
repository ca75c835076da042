"""A worker that stood still: overdue timers, and which clients count as silent [D4, D11]."""

import pytest

from koko_presence.server.hub import STALL_S, TICK_S, UNREAD_S
from koko_presence.server.session import Session
from tests.world import World


def stall(world: World, seconds: float) -> None:
    """Let `seconds` pass without timers and reads; then run the timers."""
    world.timers.now += seconds
    world.timers.advance(0.002)


def test_a_client_that_was_not_read_during_a_stop_of_its_worker_is_not_silent() -> None:
    world = World()
    ann = world.person("ann")
    world.sleep(85.0)
    stall(world, 10.0)
    assert ann.closed is None
    ann.send(type="heartbeat")
    world.sleep(60.0)
    assert ann.closed is None


@pytest.mark.parametrize("length", [0.3, 0.7, 5.0])
def test_a_silent_client_is_found_later_by_the_stop_of_its_worker_and_a_second_at_most(length: float) -> None:
    world = World()
    ann = world.person("ann")
    world.sleep(89.99)
    stall(world, length)
    assert ann.closed is None
    world.sleep(min(length, UNREAD_S) + 0.01)
    assert ann.closed is not None


def test_regression_a_worker_with_frequent_stalls_still_finds_silent_clients() -> None:
    """Silent clients are found in spite of frequent stalls. Each stall of more than a quarter of a second extended
    every deadline by a second, so that with one stall in each second no client was ever found silent, idle or lost."""
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
