"""Workers die while the supervisor is stopped; the remaining ones continue without it."""

import asyncio
import os
import signal
import time

import pytest

from tests.integration.conftest import Run
from tests.integration.people import Crowd, crowd
from tests.integration.test_supervisor import SECRET, Service, service
from tests.waiting import PATIENCE_S, until

OUT_AT_MOST_S = 3.0


async def all_hear_all(people: Crowd) -> None:
    """Send broadcasts until every client has received one of every other client in its room."""
    heard: set[tuple[str, str]] = set()
    undo = [
        person.room.on("broadcast", lambda event, name=person.name: heard.add((name, event.user_id)))
        for person in people.people
    ]
    wanted = {
        (one.name, other.name)
        for one in people.people
        for other in people.people
        if one.room.id == other.room.id and one is not other
    }
    async with asyncio.timeout(PATIENCE_S):
        while not wanted <= heard:
            deaf = {speaker for _, speaker in wanted - heard}
            said = [person.room.broadcast({"hello": 1}) for person in people.people if person.name in deaf]
            await asyncio.gather(*said, return_exceptions=True)
            await asyncio.sleep(0.05)
    for each in undo:
        each()


async def kill_all_but(it: Service, survivors: set[int], workers: int, people: Crowd) -> None:
    """Stop the supervisor, kill all workers but `survivors` at once, and wait until all clients have resumed. Then
    continue the supervisor and assert that no client is disconnected again."""
    it.signal(signal.SIGSTOP)
    died_at = time.monotonic()
    for id in set(range(1, workers + 1)) - survivors:
        os.kill(it.pid(id), signal.SIGKILL)
    await until(lambda: any(person.cut for person in people.people))
    await until(lambda: people.all_here)
    await all_hear_all(people)
    heard_after_s = time.monotonic() - died_at
    assert people.longest_out_s <= OUT_AT_MOST_S and heard_after_s <= OUT_AT_MOST_S + 1.0
    assert people.heard("user_left") == []
    cuts = people.cuts
    assert set(cuts) <= {0, 1}
    it.signal(signal.SIGCONT)
    while not await asyncio.to_thread(it.whole):
        await asyncio.sleep(0.05)
    await all_hear_all(people)
    assert people.all_here and people.cuts == cuts, "the supervisor's word takes nobody out"
    assert people.heard("user_left") == []
    assert {line["id"] for line in it.log("a worker died")} == set(range(1, workers + 1)) - survivors


@pytest.mark.long
@pytest.mark.parametrize(("workers", "survivors"), [(2, {2}), (3, {1}), (3, {3}), (4, {2, 3}), (5, {1, 4, 5})])
def test_survivors_take_over_while_the_supervisor_is_stopped(run: Run, workers: int, survivors: set[int]) -> None:
    """With three workers of which two died, 8 clients could not connect and 5 received nothing while the supervisor was
    stopped."""

    async def test(it: Service) -> None:
        async with crowd(it.port, SECRET, 24, per_room=6) as people:
            await kill_all_but(it, survivors, workers, people)

    with service(workers=workers) as it:
        it.up()
        run(test(it))


@pytest.mark.long
def test_one_worker_after_the_other_dies_while_the_supervisor_is_stopped(run: Run) -> None:
    async def test(it: Service) -> None:
        async with crowd(it.port, SECRET, 24, per_room=6) as people:
            it.signal(signal.SIGSTOP)
            for id in (1, 2):
                os.kill(it.pid(id), signal.SIGKILL)
                await until(lambda id=id: len(it.log("the supervisor sent no new view")) >= (2 if id == 1 else 3))
                await until(lambda: people.all_here)
                await all_hear_all(people)
            it.signal(signal.SIGCONT)
            while not await asyncio.to_thread(it.whole):
                await asyncio.sleep(0.05)
            await all_hear_all(people)
            assert people.all_here and people.heard("user_left") == [] and max(people.cuts) <= 2

    with service(workers=3) as it:
        it.up()
        run(test(it))
