"""Requests by number: the answer, a refusal, the end of the time, the end of the process."""

import asyncio
import time

import pytest

from koko_presence.server.request_tracker import RequestTracker


def run(story) -> None:  # type: ignore[no-untyped-def]
    async def play() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(story(RequestTracker[str, int](loop, time.monotonic, 0.02)), 5.0)

    asyncio.run(play())


def test_each_request_gets_the_answer_with_its_number() -> None:
    async def story(tracker: RequestTracker[str, int]) -> None:
        sent: list[int] = []
        first = asyncio.ensure_future(tracker.request("a", sent.append))
        second = asyncio.ensure_future(tracker.request("b", sent.append))
        await asyncio.sleep(0)
        assert sent == [1, 2] and list(tracker) == tracker.unanswered() == ["a", "b"] and tracker.find(2) == "b"
        tracker.answer(2, 20)
        assert list(tracker) == ["a", "b"] and tracker.unanswered() == ["a"], "its answer is not handled yet"
        tracker.answer(2, 21)  # a second answer
        tracker.refuse(1, KeyError("no"))
        assert await second == 20
        with pytest.raises(KeyError):
            await first
        assert len(tracker) == 0 and tracker.find(1) is None
        tracker.answer(1, 10)  # to a request that has ended

    run(story)


def test_an_answer_may_come_while_the_request_is_sent() -> None:
    async def story(tracker: RequestTracker[str, int]) -> None:
        assert await tracker.request("a", lambda number: tracker.answer(number, 7)) == 7

    run(story)


def test_a_request_that_cannot_be_sent_is_not_kept() -> None:
    async def story(tracker: RequestTracker[str, int]) -> None:
        with pytest.raises(ZeroDivisionError):
            await tracker.request("a", lambda number: 1 // 0)  # type: ignore[arg-type, return-value]
        assert len(tracker) == 0

    run(story)


def test_without_an_answer_a_request_ends_in_time_and_those_after_it_later() -> None:
    async def story(tracker: RequestTracker[str, int]) -> None:
        began = time.monotonic()
        first = asyncio.ensure_future(tracker.request("a", lambda number: None))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(tracker.request("b", lambda number: None))
        with pytest.raises(TimeoutError):
            await first
        assert time.monotonic() - began >= 0.02 and not second.done()
        with pytest.raises(TimeoutError):
            await second

    run(story)


def test_at_the_end_of_the_process_all_fail() -> None:
    async def story(tracker: RequestTracker[str, int]) -> None:
        waiting = asyncio.ensure_future(tracker.request("a", lambda number: None))
        await asyncio.sleep(0)
        tracker.stop(KeyError("the end"))
        with pytest.raises(KeyError):
            await waiting

    run(story)
