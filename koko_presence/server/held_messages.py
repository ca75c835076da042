"""What a client has sent before its turn: raw messages, in order, and one budget of bytes for each connection.

Messages wait for the answer to `auth`, for the answer to a join, or, as calls at /trpc, for their own answer. Each of
these is a place; all of them share `MAX_BYTES`. Of messages with the same key only the newest waits [L3]. A message is
kept as the bytes that came and is decoded when it is its turn: decoded, JSON takes up to thirty times as much memory.
What does not fit is refused by its caller.
"""

from typing import NamedTuple

MAX_BYTES = 64 * 1024  # of one connection, in all places together
MAX_MESSAGES = 64  # in one place, and as many with a key
UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES = 16 * 1024, 16  # while it is not known who the client is [A2]
OVERHEAD_BYTES = 64  # what Python takes for a short message, its place in the list included
KEY_BYTES = 128  # and for a short key

# the places of what waits for the answer to `auth`, messages of a session and calls at /trpc, and of what waits for
# joins because a change of privacy is among it; no room has such an id [C17]
OPENING, CALLS, BEHIND_JOINS = "", "\n", "\r"


class Newest(NamedTuple):
    """A message that is kept until a newer one with its key comes."""

    key: str
    raw: bytes


class HeldMessages:
    """The messages of one connection that wait. Written by its Session, its Memberships and its TrpcSocket."""

    __slots__ = ("_places", "size")

    def __init__(self) -> None:
        self._places: dict[str, list[bytes | Newest]] = {}
        self.size = 0  # bytes, OVERHEAD_BYTES for each message included

    def add(self, place: str, raw: bytes, *, known: bool = True, key: str = "") -> bool:
        """Keep a message at the end of `place`; False when it does not fit. `known`: it is certain who has sent it.
        When it fits, an earlier one with the same `key` in the place is kept no longer."""
        max_bytes, max_messages = (MAX_BYTES, MAX_MESSAGES) if known else (UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES)
        messages = self._places.get(place, [])
        message: bytes | Newest = Newest(key, raw) if key else raw
        earlier = self._find(place, key)
        of_its_kind = sum(isinstance(each, Newest) == bool(key) for each in messages)
        size = self.size + _cost(message) - (0 if earlier is None else _cost(earlier))
        if size > max_bytes or of_its_kind - (earlier is not None) >= max_messages:
            return False
        if earlier is not None:
            messages.remove(earlier)
        messages.append(message)
        self._places[place] = messages
        self.size = size
        return True

    def has(self, place: str, key: str) -> bool:
        """Does a message with this key wait in `place`?"""
        return self._find(place, key) is not None

    def _find(self, place: str, key: str) -> Newest | None:
        if not key:
            return None
        waiting = self._places.get(place, ())
        return next((each for each in waiting if isinstance(each, Newest) and each.key == key), None)

    def take(self, place: str) -> list[bytes]:
        """The messages of `place`, the first one first; they are kept no longer."""
        messages = self._places.pop(place, [])
        self.size -= sum(map(_cost, messages))
        return [_raw(each) for each in messages]

    def first(self, place: str) -> bytes | None:
        """The first message of `place`, which stays there; None when nothing waits in it."""
        messages = self._places.get(place)
        return _raw(messages[0]) if messages else None

    def take_first(self, place: str) -> bytes:
        """The first message of `place`, which is kept no longer. Errors: KeyError when there is none."""
        messages = self._places[place]
        first = messages.pop(0)
        if not messages:
            del self._places[place]
        self.size -= _cost(first)
        return _raw(first)

    def reserve(self, size: int) -> bool:
        """Count `size` bytes that somebody else keeps, until `release`; False when they do not fit. What is larger than
        the budget fits when nothing else waits."""
        size += OVERHEAD_BYTES
        if self.size and self.size + size > MAX_BYTES:
            return False
        self.size += size
        return True

    def release(self, size: int) -> None:
        """Count `size` bytes that were reserved no longer."""
        self.size -= size + OVERHEAD_BYTES

    def clear(self) -> None:
        """The connection is gone."""
        for place in list(self._places):
            self.take(place)


def _raw(message: bytes | Newest) -> bytes:
    return message.raw if isinstance(message, Newest) else message


def _cost(message: bytes | Newest) -> int:
    """Bytes of a message, and of what Python takes beside."""
    if isinstance(message, Newest):
        return len(message.raw) + OVERHEAD_BYTES + len(message.key) + KEY_BYTES
    return len(message) + OVERHEAD_BYTES
