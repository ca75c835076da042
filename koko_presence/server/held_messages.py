"""Holds messages of one connection that cannot be handled yet, in order, within one budget of bytes.

Messages wait for the answer to `auth` (a queue of the `Session`), for the answer to a join (one of each
`RoomMembership`), behind a change of privacy that waits for joins (one of `Memberships`), or, as calls at /trpc, for
the session to open (one of the `TrpcSocket`). All queues of a connection share the `MAX_BYTES` of one `HeldBytes`. Of
messages with the same key only the newest is held [L3]. A message is held as the bytes received and decoded when it is
handled: decoded, JSON takes up to thirty times as much memory. The caller refuses a message that does not fit.
"""

from typing import NamedTuple

MAX_BYTES = 64 * 1024  # of one connection, in all queues together
MAX_MESSAGES = 64  # in one queue without a key, and as many with one
UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES = 16 * 1024, 16  # while the client is not authenticated [A2]
OVERHEAD_BYTES = 64  # memory that Python uses for a short message besides its bytes, its list entry included
KEY_BYTES = 128  # the same for a short key


class Newest(NamedTuple):
    """A held message that a newer one with the same key replaces."""

    key: str
    raw: bytes


class HeldBytes:
    """The bytes that one connection's held messages, and its calls in execution, use. Written by its queues and its
    `TrpcSocket`."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0  # OVERHEAD_BYTES for each message included

    def add(self, change: int) -> None:
        """Count `change` bytes more, or fewer when it is negative."""
        self.size += change

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


class HeldQueue:
    """Held messages that wait for the same event, oldest first."""

    __slots__ = ("_budget", "_messages")

    def __init__(self, budget: HeldBytes) -> None:
        self._budget = budget
        self._messages: list[bytes | Newest] = []

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, raw: bytes, *, known: bool = True, key: str = "") -> bool:
        """Append a message; an earlier one with the same `key` is dropped. Returns False, and changes nothing, when it
        does not fit. `known`: the client is authenticated."""
        max_bytes, max_messages = (MAX_BYTES, MAX_MESSAGES) if known else (UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES)
        message: bytes | Newest = Newest(key, raw) if key else raw
        earlier = self._find(key)
        of_its_kind = sum(isinstance(each, Newest) == bool(key) for each in self._messages)
        change = _cost(message) - (0 if earlier is None else _cost(earlier))
        if self._budget.size + change > max_bytes or of_its_kind - (earlier is not None) >= max_messages:
            return False
        if earlier is not None:
            self._messages.remove(earlier)
        self._messages.append(message)
        self._budget.add(change)
        return True

    def has(self, key: str) -> bool:
        """True when a message with this key is held."""
        return self._find(key) is not None

    def _find(self, key: str) -> Newest | None:
        if not key:
            return None
        return next((each for each in self._messages if isinstance(each, Newest) and each.key == key), None)

    def take(self) -> list[bytes]:
        """Remove and return all messages, oldest first."""
        messages, self._messages = self._messages, []
        self._budget.add(-sum(map(_cost, messages)))
        return [_raw(each) for each in messages]

    def first(self) -> bytes:
        """The oldest message, which stays. Errors: IndexError when there is none."""
        return _raw(self._messages[0])

    def take_first(self) -> bytes:
        """Remove and return the oldest message. Errors: IndexError when there is none."""
        first = self._messages.pop(0)
        self._budget.add(-_cost(first))
        return _raw(first)


def _raw(message: bytes | Newest) -> bytes:
    return message.raw if isinstance(message, Newest) else message


def _cost(message: bytes | Newest) -> int:
    """Memory of a held message in bytes: its payload, its key and Python's overhead."""
    if isinstance(message, Newest):
        return len(message.raw) + OVERHEAD_BYTES + len(message.key) + KEY_BYTES
    return len(message) + OVERHEAD_BYTES
