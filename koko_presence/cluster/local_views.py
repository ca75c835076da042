"""Decides which view a worker follows: the supervisor's, or its own when the supervisor does not remove dead workers.
`OwnViews` is pure; `TakeOverTimer` calls it in time.

The supervisor removes a worker that has ended from the view within milliseconds, unless it is stopped or gets no CPU
time. Each worker detects for certain which other processes have ended (process_watch), so after `PATIENCE_S` it
continues without them. All survivors detect the same deaths, so they reach the same view: its epoch is the supervisor's
plus the number of removed workers, which is the epoch that the supervisor would reach with one view for each death.
When two workers detect different deaths first, their views of that moment have the same epoch; neither gets beyond the
first stage of a view change (view_change.py) before it has detected the other death, too. A view of the supervisor
whose epoch is not above the present one is outdated and ignored.
"""

from collections.abc import Callable

from .bus import Alarm, Timers
from .placement import Peer, View

PATIENCE_S = 1.0  # for the supervisor


class OwnViews:
    """The view of one worker. Written by its `Worker` and `TakeOverTimer` only, through these methods."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._died: dict[int, float] = {}  # time of death of workers that are in the view
        self._left_out: set[int] = set()  # all workers that were ever removed here; ids are not reused

    def on_view(self, view: View) -> View | None:
        """Take the supervisor's view. Return the view to follow from now on; None: nothing changes."""
        if self._view is not None and view.epoch <= self._view.epoch:
            return None
        self._view = view = without(view, self._left_out)
        self._died = {id: at for id, at in self._died.items() if id in view.ids}
        return view

    def on_death(self, id: int, now: float) -> None:
        """Record that the process of worker `id` has ended, at monotonic second `now`."""
        if self._view is not None and id in self._view.ids:
            self._died.setdefault(id, now)

    @property
    def current(self) -> View | None:
        """The view to follow; None before the first one."""
        return self._view

    @property
    def due_at(self) -> float | None:
        """The monotonic second at which `take_over` is to be called; None: not at all."""
        return min(self._died.values()) + PATIENCE_S if self._died else None

    def take_over(self, now: float) -> View | None:
        """Remove all ended workers, including those that have just ended, when the supervisor has not done so in time.
        Return the view to follow from now on; None when it is not time yet, or there is no worker to remove."""
        due_at = self.due_at
        if self._view is None or due_at is None or now < due_at:
            return None
        self._left_out |= self._died.keys()
        self._died.clear()
        self._view = without(self._view, self._left_out)
        return self._view


class TakeOverTimer:
    """Calls `on_take_over(before, view)` when the supervisor has not removed ended workers in time: `view` is to be
    followed instead of `before`. `clock` returns monotonic seconds."""

    def __init__(
        self, views: OwnViews, timers: Timers, clock: Callable[[], float], on_take_over: Callable[[View, View], None]
    ) -> None:
        self._views, self._clock, self._on_take_over = views, clock, on_take_over
        self._alarm = Alarm(timers, clock, self._ring)

    def on_death(self, id: int) -> None:
        """Record that the process of worker `id` has ended."""
        self._views.on_death(id, self._clock())
        self._alarm.schedule(self._views.due_at)

    def stop(self) -> None:
        """Stop the timer."""
        self._alarm.stop()

    def _ring(self) -> None:
        before, view = self._views.current, self._views.take_over(self._clock())
        self._alarm.schedule(self._views.due_at)  # the loop may have called early
        if before is not None and view is not None:
            self._on_take_over(before, view)


def without(view: View, dead: set[int]) -> View:
    """Return `view` without these workers. When no worker that owns is left, all that are left do."""
    gone = view.ids & dead
    if not gone:
        return view
    peers = tuple(peer for peer in view.peers if peer.id not in gone)
    if not any(peer.owns for peer in peers):
        peers = tuple(Peer(id=peer.id, slot=peer.slot, address=peer.address) for peer in peers)
    return View(epoch=view.epoch + len(gone), peers=peers)
