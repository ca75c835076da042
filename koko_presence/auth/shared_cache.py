"""Caches the answers of other servers for workers that start later: entries with an expiry, bounded in bytes.

The supervisor holds the cache and does not decode the values; `SharedCache` is the only writer of its state. Pure:
times are arguments in unix seconds, because entries expire with tokens.
"""

from collections import OrderedDict
from typing import Literal

from msgspec import Struct

Kind = Literal["keys", "answer", "refusal"]

# The size of an entry is that of its key and value plus this overhead. A kind never evicts entries of another: keys are
# few and large, and an attacker could want refusals to be evicted.
OVERHEAD_BYTES = 200
MAX_BYTES: dict[Kind, int] = {"keys": 512 << 10, "answer": 8 << 20, "refusal": 2 << 20}
BATCH_BYTES = 256 << 10


class CacheEntry(Struct, array_like=True):
    """An encoded `value`, valid until unix second `until_s`; a newer entry with the same key replaces it."""

    kind: Kind
    key: bytes
    until_s: float
    value: bytes

    @property
    def size_bytes(self) -> int:
        """The entry's size in bytes."""
        return len(self.key) + len(self.value) + OVERHEAD_BYTES


class SharedCache:
    """The newest entries of each kind, up to `MAX_BYTES`. Only its methods write its state."""

    def __init__(self) -> None:
        self._entries: dict[Kind, OrderedDict[bytes, CacheEntry]] = {kind: OrderedDict() for kind in MAX_BYTES}
        self._bytes: dict[Kind, int] = dict.fromkeys(MAX_BYTES, 0)

    def put(self, entry: CacheEntry) -> None:
        """Store an entry as the newest of its kind and evict the oldest above `MAX_BYTES`. An answer removes a refusal
        with the same key, and the other way round."""
        self._drop(entry.kind, entry.key)
        if entry.kind != "keys":
            self._drop("refusal" if entry.kind == "answer" else "answer", entry.key)
        entries = self._entries[entry.kind]
        entries[entry.key] = entry
        self._bytes[entry.kind] += entry.size_bytes
        while self._bytes[entry.kind] > MAX_BYTES[entry.kind]:
            self._drop(entry.kind, next(iter(entries)))

    def batches(self, now_s: float) -> list[list[CacheEntry]]:
        """Return all entries that are valid at unix second `now_s`, of each kind the oldest first, in batches of about
        `BATCH_BYTES`. Expired entries are removed."""
        batches: list[list[CacheEntry]] = []
        size = BATCH_BYTES
        for kind, entries in self._entries.items():
            for key in [key for key, entry in entries.items() if entry.until_s <= now_s]:
                self._drop(kind, key)
            for entry in entries.values():
                if size >= BATCH_BYTES:
                    batches.append([])
                    size = 0
                batches[-1].append(entry)
                size += entry.size_bytes
        return batches

    def size_bytes(self) -> int:
        """Return the size of all entries in bytes."""
        return sum(self._bytes.values())

    def _drop(self, kind: Kind, key: bytes) -> None:
        entry = self._entries[kind].pop(key, None)
        if entry is not None:
            self._bytes[kind] -= entry.size_bytes
