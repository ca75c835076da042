"""HTTP requests that wait for nothing are begun a few at a time, in order."""

import asyncio

import uvloop

from koko_presence.server.http.request_turns import REQUESTS_A_TURN, RequestTurns


def test_a_crowd_is_let_through_a_few_in_a_turn_and_in_order() -> None:
    begun: dict[int, int] = {}
    order: list[int] = []
    turn = 0

    async def one(turns: RequestTurns, number: int) -> None:
        await turns.wait()
        begun[turn] = begun.get(turn, 0) + 1
        order.append(number)

    async def test() -> None:
        nonlocal turn
        turns = RequestTurns()
        tasks = [asyncio.ensure_future(one(turns, number)) for number in range(10 * REQUESTS_A_TURN)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            turn += 1

    uvloop.run(test())
    assert order == list(range(10 * REQUESTS_A_TURN))
    assert max(begun.values()) <= 2 * REQUESTS_A_TURN, "two turns of the loop may lie between two of ours"
    assert len(begun) >= 5


def test_one_connection_that_never_suspends_has_no_more_than_its_turn() -> None:
    async def test() -> None:
        turns, answered, seen = RequestTurns(), 0, []

        async def pipelined() -> None:
            nonlocal answered
            for _ in range(5 * REQUESTS_A_TURN):
                await turns.wait()
                answered += 1

        task = asyncio.ensure_future(pipelined())
        while not task.done():
            await asyncio.sleep(0)
            seen.append(answered)
        steps = [later - earlier for earlier, later in zip([0, *seen], seen, strict=False)]
        assert answered == 5 * REQUESTS_A_TURN and max(steps) <= 2 * REQUESTS_A_TURN

    uvloop.run(test())


def test_a_connection_that_is_gone_takes_no_place() -> None:
    async def test() -> None:
        turns = RequestTurns()
        for _ in range(REQUESTS_A_TURN):
            await turns.wait()
        gone = [asyncio.ensure_future(turns.wait()) for _ in range(3 * REQUESTS_A_TURN)]
        last = asyncio.ensure_future(turns.wait())
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in gone])
        async with asyncio.timeout(5):
            await last
        assert sum(task.cancelled() for task in gone) >= REQUESTS_A_TURN

    uvloop.run(test())
