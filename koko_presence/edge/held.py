"""What a client has sent before its turn: raw messages, in order, and one budget of bytes for each connection.

Messages wait for the answer to `auth`, for the answer to a join, or, as calls at /trpc, for their own answer. Each of
these is a place; all of them share `MAX_BYTES`. A message is kept as the bytes that came and is decoded when it is its
turn: decoded, JSON takes up to thirty times as much memory. What does not fit is refused by its caller.
"""

MAX_BYTES = 64 * 1024  # of one connection, in all places together
MAX_MESSAGES = 64  # in one place
UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES = 16 * 1024, 16  # while it is not known who the client is [A2]
OVERHEAD_BYTES = 64  # what Python takes for a short message, its place in the list included

# the places of what waits for the answer to `auth`, messages of a session and calls at /trpc, and of what waits for
# joins because a change of privacy is among it; no room has such an id [C17]
OPENING, CALLS, BEHIND_JOINS = "", "\n", "\r"


class Held:
    """The messages of one connection that wait. Written by its Session, its Rooms and its TrpcSocket."""

    __slots__ = ("_places", "size")

    def __init__(self) -> None:
        self._places: dict[str, list[bytes]] = {}
        self.size = 0  # bytes, OVERHEAD_BYTES for each message included

    def add(self, place: str, raw: bytes, *, known: bool = True) -> bool:
        """Keep a message at the end of `place`; False when it does not fit. `known`: it is certain who has sent it."""
        size = len(raw) + OVERHEAD_BYTES
        max_bytes, max_messages = (MAX_BYTES, MAX_MESSAGES) if known else (UNKNOWN_MAX_BYTES, UNKNOWN_MAX_MESSAGES)
        messages = self._places.get(place, ())
        if self.size + size > max_bytes or len(messages) >= max_messages:
            return False
        self._places.setdefault(place, []).append(raw)
        self.size += size
        return True

    def take(self, place: str) -> list[bytes]:
        """The messages of `place`, the first one first; they are kept no longer."""
        messages = self._places.pop(place, [])
        self.size -= sum(map(len, messages)) + OVERHEAD_BYTES * len(messages)
        return messages

    def first(self, place: str) -> bytes | None:
        """The first message of `place`, which stays there; None when nothing waits in it."""
        messages = self._places.get(place)
        return messages[0] if messages else None

    def take_first(self, place: str) -> bytes:
        """The first message of `place`, which is kept no longer. Errors: KeyError when there is none."""
        messages = self._places[place]
        first = messages.pop(0)
        if not messages:
            del self._places[place]
        self.size -= len(first) + OVERHEAD_BYTES
        return first

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
