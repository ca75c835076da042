"""What one worker has been told by others outside, kept for the workers to come: entries with an age, bounded in bytes.

The supervisor keeps it and does not look inside. Pure; unix seconds, since entries speak of the ends of tokens.
"""

from collections import OrderedDict
from typing import Literal

from msgspec import Struct

Kind = Literal["keys", "answer", "refusal"]

# An entry counts with its key and value and this much for the rest. One kind never pushes out another: keys are few and
# large, and an attacker could want refusals to be forgotten.
OVERHEAD_BYTES = 200
MAX_BYTES: dict[Kind, int] = {"keys": 512 << 10, "answer": 8 << 20, "refusal": 2 << 20}
BATCH_BYTES = 256 << 10


class CacheEntry(Struct, array_like=True):
    """`value` is of use until unix second `until_s`; a newer one with the same key takes its place."""

    kind: Kind
    key: bytes
    until_s: float
    value: bytes

    @property
    def size_bytes(self) -> int:
        """What it costs to keep it."""
        return len(self.key) + len(self.value) + OVERHEAD_BYTES


class SharedCache:
    """Of each kind the newest entries, up to MAX_BYTES. Written by its owner alone."""

    def __init__(self) -> None:
        self._entries: dict[Kind, OrderedDict[bytes, CacheEntry]] = {kind: OrderedDict() for kind in MAX_BYTES}
        self._bytes: dict[Kind, int] = dict.fromkeys(MAX_BYTES, 0)

    def put(self, entry: CacheEntry) -> None:
        """Keep an entry, as the newest of its kind; the oldest go when there is no room. An answer ends a refusal with
        the same key, and the other way round."""
        self._drop(entry.kind, entry.key)
        if entry.kind != "keys":
            self._drop("refusal" if entry.kind == "answer" else "answer", entry.key)
        entries = self._entries[entry.kind]
        entries[entry.key] = entry
        self._bytes[entry.kind] += entry.size_bytes
        while self._bytes[entry.kind] > MAX_BYTES[entry.kind]:
            self._drop(entry.kind, next(iter(entries)))

    def batches(self, now_s: float) -> list[list[CacheEntry]]:
        """All that counts at unix second `now_s`, the oldest first, in portions of about BATCH_BYTES; what has ended is
        forgotten."""
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
        """What all of it costs."""
        return sum(self._bytes.values())

    def _drop(self, kind: Kind, key: bytes) -> None:
        entry = self._entries[kind].pop(key, None)
        if entry is not None:
            self._bytes[kind] -= entry.size_bytes
