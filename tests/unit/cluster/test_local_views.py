"""The view of a worker when other workers have ended and the supervisor has not published it."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from koko_presence.cluster.local_views import PATIENCE_S, OwnViews, TakeOverTimer, without
from koko_presence.cluster.placement import Peer, View
from koko_presence.cluster.process_watch import ProcessWatch
from tests.waiting import until
from tests.world import FakeHandle, FakeTimers, World


def view(epoch: int, *ids: int, leaving: tuple[int, ...] = ()) -> View:
    peers = tuple(Peer(id=id, slot=id - 1, address=f"w{id}", owns=id not in leaving) for id in ids)
    return View(epoch=epoch, peers=peers)


def test_the_supervisor_is_given_time() -> None:
    views = OwnViews()
    assert views.on_view(view(5, 1, 2, 3)) == view(5, 1, 2, 3) and views.due_at is None
    views.on_death(2, 10.0)
    assert views.due_at == 10.0 + PATIENCE_S and views.take_over(10.0 + PATIENCE_S / 2) is None
    assert views.on_view(view(6, 1, 3)) == view(6, 1, 3)
    assert views.due_at is None and views.take_over(100.0) is None


def test_after_that_the_dead_are_left_out_with_the_numbers_that_the_supervisor_would_have_used() -> None:
    views = OwnViews()
    views.on_view(view(5, 1, 2, 3))
    views.on_death(2, 10.0)
    views.on_death(3, 10.9)
    views.on_death(9, 10.9)  # of no view
    assert views.take_over(10.0 + PATIENCE_S) == view(7, 1), "also those that have only just ended"
    assert views.due_at is None
    for epoch, ids in ((6, (1, 3)), (7, (1,))):  # it resumes, and makes the same views
        assert views.on_view(view(epoch, *ids)) is None
    assert views.on_view(view(8, 1, 4)) == view(8, 1, 4)


class EarlyTimers(FakeTimers):
    """An event loop that calls up to 5 ms early: it counts from its cached time, which is older than the clock's after a
    long callback."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeHandle:
        return super().call_later(delay - min(0.005, delay / 2), callback)


def test_a_loop_that_calls_early_does_not_end_the_wait_for_the_supervisor() -> None:
    """A worker continued without the dead ones only when its timer came late; else its clients waited for ever."""
    timers = EarlyTimers()
    views, taken = OwnViews(), []
    timer = TakeOverTimer(views, timers, timers.clock, lambda before, after: taken.append((before, after)))
    views.on_view(view(5, 1, 2, 3))
    timer.on_death(2)
    timers.advance(PATIENCE_S / 2)
    timer.on_death(3)
    timers.advance(PATIENCE_S / 2 - 0.001)
    assert taken == []
    timers.advance(0.002)
    assert taken == [(view(5, 1, 2, 3), view(7, 1))]
    timers.advance(10.0)
    assert len(taken) == 1
    views.on_view(view(8, 1, 4))
    timer.on_death(4)
    timer.stop()
    timers.advance(10.0)
    assert len(taken) == 1


def test_survivors_that_see_deaths_in_another_order_come_to_the_same_view() -> None:
    one, other = OwnViews(), OwnViews()
    for views, first, second in ((one, 2, 3), (other, 3, 2)):
        views.on_view(view(5, 1, 2, 3, 4))
        views.on_death(first, 0.0)
        assert views.take_over(PATIENCE_S) is not None
        views.on_death(second, PATIENCE_S)
    assert one.take_over(9.0) == other.take_over(9.0) == view(7, 1, 4)


def test_a_view_that_still_lists_a_removed_worker_is_corrected() -> None:
    views = OwnViews()
    views.on_view(view(5, 1, 2))
    views.on_death(2, 0.0)
    assert views.take_over(PATIENCE_S) == view(6, 1)
    assert views.on_view(view(7, 1, 2, 3)) == view(8, 1, 3)
    assert views.on_view(view(8, 1, 3)) is None


def test_the_last_remaining_workers_own_everything_even_while_leaving() -> None:
    assert without(view(3, 1, 2, 3, leaving=(1, 2)), {3}) == view(4, 1, 2)
    assert without(view(3, 1, 2, 3, leaving=(1,)), {3}) == view(4, 1, 2, leaving=(1,))


def test_two_of_four_die_unpublished_and_rooms_continue_with_the_survivors() -> None:
    """The survivors learn of the deaths in different orders, on a fake clock; the views are applied as in worker.py."""
    world = World(workers=4)
    people = [world.person(f"u{number}", f"video_{number % 3}") for number in range(12)]
    views = {number: OwnViews() for number in world.nodes}
    for number, node in world.nodes.items():
        views[number].on_view(node.bus.transfer.target)  # type: ignore[union-attr]
    for number in (1, 2):
        world.nodes[number].dead = True
        del world.nodes[number]
    for survivor, order in ((3, (1, 2)), (4, (2, 1))):
        for number in order:
            views[survivor].on_death(number, world.now)
            found = views[survivor].take_over(world.now + PATIENCE_S)
            world.nodes[survivor].bus.on_view(found, world.now)  # type: ignore[union-attr]
    world.sleep(0.3)
    for person in people:
        person.take()
    # connections are accepted by the workers in rotation
    left = {number: person for number, person in enumerate(people) if (number + 1) % 4 + 1 in world.nodes}
    assert len(left) == 6
    for number, person in left.items():
        person.send(type="broadcast", roomId=f"video_{number % 3}", data={"by": number})
    world.settle()
    for number, person in left.items():
        said = {message["data"]["by"] for message in person.take("broadcast")}
        assert said == {other for other in left if other % 3 == number % 3 and other != number}


PEER = """
import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("listens", flush=True)
server.accept()
sys.stdin.read()
"""


def test_the_end_of_a_process_is_reported_once_and_a_lost_connection_is_none(tmp_path: Path) -> None:
    async def test() -> None:
        address = str(tmp_path / "s")
        command = [sys.executable, "-c", PEER, address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
            assert peer.stdout is not None and peer.stdout.readline() == b"listens\n"
            ended = []
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(address)
                watch = ProcessWatch(sock, lambda: ended.append(1))
                closed = ProcessWatch(sock, lambda: ended.append(2))
                closed.close()
                closed.close()
            await asyncio.sleep(0.02)
            assert ended == [] and len(os.listdir("/proc/self/fd")) > 3
            peer.kill()
            await until(lambda: ended == [1])
            watch.close()

    uvloop.run(test())


def test_nothing_is_watched_without_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        def none_left(pid: int) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "pidfd_open", none_left)
        one, other = socket.socketpair()
        with one, other, pytest.raises(OSError, match="Too many open files"):
            ProcessWatch(one, lambda: None)

    uvloop.run(test())
