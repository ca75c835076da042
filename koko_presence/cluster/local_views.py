"""By which view a worker goes: the supervisor's, or, where that says nothing of deaths, its own. Pure.

The supervisor takes a worker that has ended out of the view within milliseconds, unless it is stopped or gets no time.
Each worker knows for certain which of the others have ended (process_watch), so after PATIENCE_S it goes on without
them. All survivors see the same deaths, so they come to the same view, and its number is as many above the supervisor's
as it has fewer workers: as the supervisor's own would be, which publishes one for each. When two have seen a different
one first, their views of that moment have the same number; neither gets beyond the first stage of a change
(view_change.py) before it has seen the other death, too. A view of the supervisor that is not above the own one is what
it knew before.
"""

from .placement import Peer, View

PATIENCE_S = 1.0  # with the supervisor


class OwnViews:
    """The views of one worker."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._died: dict[int, float] = {}  # when, of those that are in the view
        self._left_out: set[int] = set()  # those that had ended, ever; ids are not used again

    def on_view(self, view: View) -> View | None:
        """The supervisor's view has come. Gives the one to go by from now on; None: nothing changes."""
        if self._view is not None and view.epoch <= self._view.epoch:
            return None
        self._view = view = without(view, self._left_out)
        self._died = {id: at for id, at in self._died.items() if id in view.ids}
        return view

    def on_death(self, id: int, now: float) -> None:
        """Worker `id` has certainly ended, at `now` in monotonic seconds."""
        if self._view is not None and id in self._view.ids:
            self._died.setdefault(id, now)

    @property
    def current(self) -> View | None:
        """The view to go by; None before the first one."""
        return self._view

    @property
    def due_at(self) -> float | None:
        """When `take_over` is to be called; None: there is no reason to."""
        return min(self._died.values()) + PATIENCE_S if self._died else None

    def take_over(self, now: float) -> View | None:
        """The supervisor's time is up: gives the view to go by from now on. All that have ended are left out of it,
        also such as have only just done so. None: it was not up, or there is nobody to be left out any more."""
        due_at = self.due_at
        if self._view is None or due_at is None or now < due_at:
            return None
        self._left_out |= self._died.keys()
        self._died.clear()
        self._view = without(self._view, self._left_out)
        return self._view


def without(view: View, dead: set[int]) -> View:
    """`view` without these workers. When nobody is left who owns anything, all do."""
    gone = view.ids & dead
    if not gone:
        return view
    peers = tuple(peer for peer in view.peers if peer.id not in gone)
    if not any(peer.owns for peer in peers):
        peers = tuple(Peer(id=peer.id, slot=peer.slot, address=peer.address) for peer in peers)
    return View(epoch=view.epoch + len(gone), peers=peers)
