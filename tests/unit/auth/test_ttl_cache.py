"""Answers cached for a while: their expiry, their number, one request at a time."""

import asyncio

import pytest

from koko_presence.auth.ttl_cache import CachedValue, TtlCache


def test_an_answer_ends_at_its_time() -> None:
    cache: TtlCache[str, str] = TtlCache(10)
    cache.put("a", "x", 5.0)
    assert cache.get("a", 4.9) == "x"
    assert cache.get("a", 5.0) is None and len(cache) == 0


def test_the_one_not_wanted_for_longest_goes_first() -> None:
    cache: TtlCache[int, str] = TtlCache(3)
    for key in (1, 2, 3):
        cache.put(key, "x", 9.0)
    cache.get(1, 0.0)
    cache.put(4, "x", 9.0)
    assert [key for key in (1, 2, 3, 4) if cache.get(key, 0.0)] == [1, 3, 4]


def test_an_invalidated_value_is_requested_again() -> None:
    cache: TtlCache[str, str] = TtlCache(10)
    for key in ("ann/1", "ann/2", "ben/1"):
        cache.put(key, "x", 9.0)
    cache.forget(lambda key: key.startswith("ann/"))
    assert [cache.get(key, 0.0) for key in ("ann/1", "ann/2", "ben/1")] == [None, None, "x"]
    cache.forget()
    assert len(cache) == 0


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.answer: asyncio.Future[CachedValue[str]] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> CachedValue[str]:
        self.times += 1
        return await asyncio.shield(self.answer)


def test_many_callers_make_one_request_and_a_cancelled_caller_does_not_cancel_it() -> None:
    async def test() -> None:
        cache: TtlCache[str, str] = TtlCache(10)
        asked = Asked()
        waiting = [asyncio.ensure_future(cache.get_or_fetch("a", 0.0, asked)) for _ in range(100)]
        await asyncio.sleep(0)
        waiting.pop(0).cancel()  # it was the first, for which the request was sent
        await asyncio.sleep(0)
        asked.answer.set_result(CachedValue("x", 5.0))
        assert await asyncio.gather(*waiting) == ["x"] * 99
        assert await cache.get_or_fetch("a", 1.0, asked) == "x" and asked.times == 1
        asked.answer = asyncio.get_running_loop().create_future()
        asked.answer.set_result(CachedValue("y", 9.0))
        assert await cache.get_or_fetch("a", 5.0, asked) == "y" and asked.times == 2

    asyncio.run(test())


def test_a_failure_is_reported_to_all_waiting_callers_and_is_not_cached() -> None:
    async def test() -> None:
        cache: TtlCache[str, str] = TtlCache(10)
        asked = Asked()
        waiting = [asyncio.ensure_future(cache.get_or_fetch("a", 0.0, asked)) for _ in range(3)]
        await asyncio.sleep(0)
        asked.answer.set_exception(OSError("down"))
        assert all(isinstance(failed, OSError) for failed in await asyncio.gather(*waiting, return_exceptions=True))
        asked.answer = asyncio.get_running_loop().create_future()
        asked.answer.set_result(CachedValue("x", 5.0))
        assert await cache.get_or_fetch("a", 0.0, asked) == "x" and asked.times == 2

    asyncio.run(test())


def test_a_failure_without_waiting_callers_is_not_reported_by_the_loop() -> None:
    async def test() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        cache: TtlCache[str, str] = TtlCache(10)
        asked = Asked()
        waiting = asyncio.ensure_future(cache.get_or_fetch("a", 0.0, asked))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        asked.answer.set_exception(OSError("down"))
        for _ in range(5):
            await asyncio.sleep(0)
        del asked, waiting, cache
        assert complaints == []

    asyncio.run(test())


def test_an_answer_pending_at_its_invalidation_is_returned_and_not_cached() -> None:
    async def test() -> None:
        cache: TtlCache[str, str] = TtlCache(10)
        asked = Asked()
        waiting = asyncio.ensure_future(cache.get_or_fetch("a", 0.0, asked))
        await asyncio.sleep(0)
        cache.forget()
        asked.answer.set_result(CachedValue("old", 99.0))
        assert await waiting == "old"
        assert cache.get("a", 0.0) is None

    asyncio.run(test())


def test_what_is_given_up_is_cancelled() -> None:
    async def test() -> None:
        cache: TtlCache[str, str] = TtlCache(10)
        waiting = asyncio.ensure_future(cache.get_or_fetch("a", 0.0, Asked()))
        await asyncio.sleep(0)
        cache.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(test())
