"""Who holds which session over HTTP, as far as this worker has been told: for asking again whether they may [M2, N12].

A lease is at no edge, and its owners know no token. The worker that answered its last join or heartbeat keeps whose it
was for as long as it can live without another one. Written by the procedures alone.
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
    """At most one entry per lease; what has run out goes when something is added.

    All but `of` takes constant time. Hence OrderedDict: a dict steps over what is gone to find its first entry.
    """

    def __init__(self) -> None:
        self._leases: OrderedDict[str, tuple[Lease, float]] = OrderedDict()  # and until when, the longest ago first

    def __len__(self) -> int:
        return len(self._leases)

    def renewed(self, lease: Lease, until: float, now: float) -> None:
        """The lease lives until monotonic second `until`, unless it is renewed again."""
        self._leases.pop(lease.session_id, None)
        self._leases[lease.session_id] = (lease, until)
        while self._leases and next(iter(self._leases.values()))[1] <= now:
            self._leases.popitem(last=False)

    def __contains__(self, session_id: str) -> bool:
        """Has this worker been told of the lease?"""
        return session_id in self._leases

    def ended(self, session_id: str) -> None:
        """It was left, or taken away."""
        self._leases.pop(session_id, None)

    def of(self, user_id: str | None, room_id: str | None, now: float) -> Iterator[Lease]:
        """The leases that live at `now`, of this user, in this room, or both; None is any."""
        for lease, until in list(self._leases.values()):
            if until > now and user_id in (None, lease.identity.user_id) and room_id in (None, lease.room_id):
                yield lease
