"""The supervisor's cache for later workers: ordered by age, bounded in bytes, each kind with a bound of its own."""

import pytest

from koko_presence.auth import shared_cache
from koko_presence.auth.shared_cache import BATCH_BYTES, MAX_BYTES, CacheEntry, Kind, SharedCache
from koko_presence.process.control_channel import Share, Unpacker, pack

NOW_S = 1000.0


def entry(number: int, kind: Kind = "answer", size: int = 100, until_s: float = NOW_S + 30) -> CacheEntry:
    return CacheEntry(kind, f"{number}".encode(), until_s, b"x" * size)


def kept(cache: SharedCache, now_s: float = NOW_S) -> list[CacheEntry]:
    return [each for batch in cache.batches(now_s) for each in batch]


def test_the_newest_of_each_key_is_kept_until_it_has_ended() -> None:
    cache = SharedCache()
    for each in (entry(1, size=1), entry(2, until_s=NOW_S + 5), entry(1, size=2)):
        cache.put(each)
    assert kept(cache) == [entry(2, until_s=NOW_S + 5), entry(1, size=2)]
    assert kept(cache, NOW_S + 5) == [entry(1, size=2)]
    assert kept(cache, NOW_S + 30) == [] and cache.size_bytes() == 0


def test_a_refusal_and_an_answer_for_one_token_replace_each_other() -> None:
    cache = SharedCache()
    cache.put(entry(1))
    cache.put(entry(1, "refusal"))
    assert [each.kind for each in kept(cache)] == ["refusal"]
    cache.put(entry(1))
    assert [each.kind for each in kept(cache)] == ["answer"]


@pytest.mark.parametrize("kind", list(MAX_BYTES))
def test_it_is_bounded_in_bytes_and_the_oldest_go(kind: Kind) -> None:
    cache = SharedCache()
    cache.put(entry(-1, "keys", until_s=float("inf")))
    cache.put(entry(-2, "refusal"))
    for number in range(MAX_BYTES[kind] // 20_000):
        cache.put(entry(number, kind, 25_000))
    found = kept(cache)
    assert sum(each.size_bytes for each in found if each.kind == kind) <= MAX_BYTES[kind]
    assert cache.size_bytes() == sum(each.size_bytes for each in found)
    assert found[-1 if kind != "keys" else [each.kind for each in found].count("keys") - 1].key != b"0"
    assert {each.kind for each in found} >= {"keys", "refusal"}, "none at the cost of another kind"


def test_one_that_is_too_large_for_all_is_not_kept() -> None:
    cache = SharedCache()
    cache.put(entry(1, "keys", MAX_BYTES["keys"] + 1))
    assert kept(cache) == [] and cache.size_bytes() == 0


def test_it_is_transferred_in_portions() -> None:
    cache = SharedCache()
    for number in range(100):
        cache.put(entry(number, size=10_000))
    batches = cache.batches(NOW_S)
    assert len(batches) > 1 and all(sum(each.size_bytes for each in batch) < BATCH_BYTES + 20_000 for batch in batches)
    unpacker = Unpacker()
    heard = [
        each for batch in batches for message in unpacker.feed(pack(Share(entries=batch))) for each in message.entries
    ]
    assert heard == kept(cache) and len(heard) == 100
    assert shared_cache.SharedCache().batches(NOW_S) == []
