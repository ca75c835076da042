"""HTTP requests that wait for nothing are started a few per loop iteration, in order."""

import asyncio

import uvloop

from koko_presence.server.http.request_scheduler import REQUESTS_PER_ITERATION, RequestScheduler


def test_many_requests_start_a_few_per_loop_iteration_and_in_order() -> None:
    begun: dict[int, int] = {}
    order: list[int] = []
    iteration = 0

    async def one(scheduler: RequestScheduler, number: int) -> None:
        await scheduler.wait()
        begun[iteration] = begun.get(iteration, 0) + 1
        order.append(number)

    async def test() -> None:
        nonlocal iteration
        scheduler = RequestScheduler()
        tasks = [asyncio.ensure_future(one(scheduler, number)) for number in range(10 * REQUESTS_PER_ITERATION)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            iteration += 1

    uvloop.run(test())
    assert order == list(range(10 * REQUESTS_PER_ITERATION))
    assert max(begun.values()) <= 2 * REQUESTS_PER_ITERATION, "two turns of the loop may lie between two of ours"
    assert len(begun) >= 5


def test_one_connection_that_never_suspends_gets_no_more_than_its_share() -> None:
    async def test() -> None:
        scheduler, answered, seen = RequestScheduler(), 0, []

        async def pipelined() -> None:
            nonlocal answered
            for _ in range(5 * REQUESTS_PER_ITERATION):
                await scheduler.wait()
                answered += 1

        task = asyncio.ensure_future(pipelined())
        while not task.done():
            await asyncio.sleep(0)
            seen.append(answered)
        steps = [later - earlier for earlier, later in zip([0, *seen], seen, strict=False)]
        assert answered == 5 * REQUESTS_PER_ITERATION and max(steps) <= 2 * REQUESTS_PER_ITERATION

    uvloop.run(test())


def test_a_connection_that_is_gone_takes_no_place() -> None:
    async def test() -> None:
        scheduler = RequestScheduler()
        for _ in range(REQUESTS_PER_ITERATION):
            await scheduler.wait()
        gone = [asyncio.ensure_future(scheduler.wait()) for _ in range(3 * REQUESTS_PER_ITERATION)]
        last = asyncio.ensure_future(scheduler.wait())
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in gone])
        async with asyncio.timeout(5):
            await last
        assert sum(task.cancelled() for task in gone) >= REQUESTS_PER_ITERATION

    uvloop.run(test())
