"""Stores the identities behind HTTP sessions that this worker has served, for repeating their access checks [M2, N12].

A lease has no edge, and its owners hold no token. The worker that answered the last join or heartbeat of a lease keeps
the caller's identity until the lease ends unless renewed. Written by `Procedures` only.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from koko_presence.auth.identity import Identity


class Lease(NamedTuple):
    session_id: str
    room_id: str
    identity: Identity


class Leaseholders:
    """The leases that this worker has served, one entry each, ordered by their end. Expired entries are removed when
    one is added.

    All operations but `of` take constant time (amortised). Hence OrderedDict: a dict scans over removed entries to find
    its first one.
    """

    def __init__(self) -> None:
        self._leases: OrderedDict[str, tuple[Lease, float]] = OrderedDict()  # with their ends, the earliest first

    def __len__(self) -> int:
        return len(self._leases)

    def renewed(self, lease: Lease, until: float, now: float) -> None:
        """Record that the lease lasts until monotonic second `until`."""
        self._leases.pop(lease.session_id, None)
        self._leases[lease.session_id] = (lease, until)
        while self._leases and next(iter(self._leases.values()))[1] <= now:
            self._leases.popitem(last=False)

    def __contains__(self, session_id: str) -> bool:
        """True when this worker has an entry of the lease."""
        return session_id in self._leases

    def ended(self, session_id: str) -> None:
        """Remove the lease: its session has left, or was ended by an access check."""
        self._leases.pop(session_id, None)

    def of(self, user_id: str | None, room_id: str | None, now: float) -> Iterator[Lease]:
        """The leases that are not expired at `now`, of this user, in this room, or both; None matches any."""
        for lease, until in list(self._leases.values()):
            if until > now and user_id in (None, lease.identity.user_id) and room_id in (None, lease.room_id):
                yield lease
