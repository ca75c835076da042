"""Maps rooms and users to their owners: a view of the workers, and a rendezvous hash over it.

Only the supervisor makes and numbers views (local_views.py has the exception); each worker receives all of them, in
order. A room or a user belongs to the slot with the highest score for its id, so when a slot is added or removed only
its own ids move [N-a]. A restarted worker takes its predecessor's slot under a new id, which is never reused.
"""

from hashlib import blake2b

from msgspec import Struct

_MASK = (1 << 64) - 1
MAX_CACHED = 100_000  # ids whose owner is cached


class Peer(Struct, frozen=True, kw_only=True):
    """One worker of a view. `address` is its mesh socket. A worker with `owns` False is leaving, and only an edge."""

    id: int
    slot: int
    address: str
    owns: bool = True


class View(Struct, frozen=True, kw_only=True):
    """The workers as of `epoch`."""

    epoch: int
    peers: tuple[Peer, ...]

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(peer.id for peer in self.peers)


def _score(key: int, slot: int) -> int:
    """Return splitmix64 of both: for each key the slots get different, evenly distributed scores."""
    mixed = (key + (slot + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def room_key(room_id: str) -> str:
    """Return the key of a room; a room and a user of the same id have different keys."""
    return f"r:{room_id}"


def user_key(user_id: str) -> str:
    """Return the key of a user."""
    return f"u:{user_id}"


class Ring:
    """The owners of one view. Immutable but for its cache; a new view makes a new ring."""

    __slots__ = ("_found", "_owners", "view")

    def __init__(self, view: View) -> None:
        self.view = view
        self._owners = {peer.slot: peer.id for peer in view.peers if peer.owns}
        self._found: dict[str, tuple[int, int]] = {}

    def owner(self, key: str) -> int:
        """Return the id of the worker that owns `key`. Errors: LookupError in a view without owners."""
        return self._best_two(key)[0]

    def backup_owner(self, key: str) -> int:
        """Return the backup owner of `key`, which owns it when the owner is gone; the owner itself when there is no
        other."""
        return self._best_two(key)[1]

    def _best_two(self, key: str) -> tuple[int, int]:
        found = self._found.get(key)
        if found is None:
            number = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
            ranked = sorted(self._owners, key=lambda slot: _score(number, slot), reverse=True)
            if not ranked:
                raise LookupError(f"no worker owns anything in view {self.view.epoch}")
            found = (self._owners[ranked[0]], self._owners[ranked[1] if len(ranked) > 1 else ranked[0]])
            if len(self._found) >= MAX_CACHED:
                self._found.clear()
            self._found[key] = found
        return found
