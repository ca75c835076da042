"""Holds messages of one connection that cannot be handled yet, in order, within one budget of bytes.

Messages wait for the answer to `auth`, for the answer to a join, or, as calls at /trpc, for the session to open. Each
of these has a queue; all queues share `MAX_BYTES`. Of messages with the same key only the newest is held
[L3]. A message is held as the bytes received and decoded when it is handled: decoded, JSON takes up to thirty times as
much memory. `HeldMessages` is written by the connection's `Session`, `Memberships` and `TrpcSocket`; the caller refuses
a message that does not fit.
"""

from typing import NamedTuple

MAX_BYTES = 64 * 1024  # of one connection, in all queues together
MAX_MESSAGES = 64  # in one queue without a key, and as many with one
UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES = 16 * 1024, 16  # while the client is not authenticated [A2]
OVERHEAD_BYTES = 64  # memory that Python uses for a short message besides its bytes, its list entry included
KEY_BYTES = 128  # the same for a short key

# Names of queues; those of rooms are room ids, and no room has one of these [C17]. OPENING: messages of a session that
# wait for the answer to `auth`; CALLS: calls at /trpc that wait for the session; BEHIND_JOINS: a change of privacy that
# waits for joins, and the messages after it.
OPENING, CALLS, BEHIND_JOINS = "", "\n", "\r"


class Newest(NamedTuple):
    """A held message that a newer one with the same key replaces."""

    key: str
    raw: bytes


class HeldMessages:
    """The held messages of one connection. Written by its `Session`, its `Memberships` and its `TrpcSocket`."""

    __slots__ = ("_queues", "size")

    def __init__(self) -> None:
        self._queues: dict[str, list[bytes | Newest]] = {}
        self.size = 0  # bytes, OVERHEAD_BYTES for each message included

    def add(self, queue: str, raw: bytes, *, known: bool = True, key: str = "") -> bool:
        """Append a message to `queue`; an earlier one with the same `key` there is dropped. Returns False, and changes
        nothing, when it does not fit. `known`: the client is authenticated."""
        max_bytes, max_messages = (MAX_BYTES, MAX_MESSAGES) if known else (UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES)
        messages = self._queues.get(queue, [])
        message: bytes | Newest = Newest(key, raw) if key else raw
        earlier = self._find(queue, key)
        of_its_kind = sum(isinstance(each, Newest) == bool(key) for each in messages)
        size = self.size + _cost(message) - (0 if earlier is None else _cost(earlier))
        if size > max_bytes or of_its_kind - (earlier is not None) >= max_messages:
            return False
        if earlier is not None:
            messages.remove(earlier)
        messages.append(message)
        self._queues[queue] = messages
        self.size = size
        return True

    def has(self, queue: str, key: str) -> bool:
        """True when a message with this key is held in `queue`."""
        return self._find(queue, key) is not None

    def _find(self, queue: str, key: str) -> Newest | None:
        if not key:
            return None
        waiting = self._queues.get(queue, ())
        return next((each for each in waiting if isinstance(each, Newest) and each.key == key), None)

    def take(self, queue: str) -> list[bytes]:
        """Remove and return the messages of `queue`, oldest first."""
        messages = self._queues.pop(queue, [])
        self.size -= sum(map(_cost, messages))
        return [_raw(each) for each in messages]

    def first(self, queue: str) -> bytes | None:
        """The oldest message of `queue`, which stays there; None when the queue is empty."""
        messages = self._queues.get(queue)
        return _raw(messages[0]) if messages else None

    def take_first(self, queue: str) -> bytes:
        """Remove and return the oldest message of `queue`. Errors: KeyError when the queue is empty."""
        messages = self._queues[queue]
        first = messages.pop(0)
        if not messages:
            del self._queues[queue]
        self.size -= _cost(first)
        return _raw(first)

    def reserve(self, size: int) -> bool:
        """Count `size` bytes that the caller holds, until `release`. Returns False when they do not fit. A message
        larger than the budget fits when nothing else is counted."""
        size += OVERHEAD_BYTES
        if self.size and self.size + size > MAX_BYTES:
            return False
        self.size += size
        return True

    def release(self, size: int) -> None:
        """Uncount `size` bytes that were reserved."""
        self.size -= size + OVERHEAD_BYTES

    def clear(self) -> None:
        """Drop all messages; the connection is closed."""
        for queue in list(self._queues):
            self.take(queue)


def _raw(message: bytes | Newest) -> bytes:
    return message.raw if isinstance(message, Newest) else message


def _cost(message: bytes | Newest) -> int:
    """Memory of a held message in bytes: its payload, its key and Python's overhead."""
    if isinstance(message, Newest):
        return len(message.raw) + OVERHEAD_BYTES + len(message.key) + KEY_BYTES
    return len(message) + OVERHEAD_BYTES
