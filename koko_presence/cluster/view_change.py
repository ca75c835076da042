"""How workers go from one view to the next together: in three stages, each behind all that was sent before it.

1. QUIESCED: I send no more commands to owners that are not to be owners; what I have sent is before this.
2. TRANSFERRED (all have quiesced): what was mine and is not to be has been flushed, and its record given to the next.
3. SYNCED (all have transferred): I have told the next owners who is connected here.

When everybody has announced, the next owners put together what they were told and begin. A worker that does not answer
holds the others up for `PATIENCE_S` at most, once; what it says later is still understood. Pure: time is an argument.
"""

from collections.abc import Iterable

from .placement import Ring, View

QUIESCED, TRANSFERRED, SYNCED = 1, 2, 3
STABLE = 0
PATIENCE_S = 0.2


class ViewChange:
    """The stage of one worker on its way to the newest view. `stage` is the last that it has begun, STABLE between
    changes; `rings` are the views since it was steady, the first of them being the one that it leaves."""

    __slots__ = ("_done", "_given_up", "_me", "deadline", "rings", "stage")

    def __init__(self, me: int) -> None:
        self._me = me
        self._done: dict[int, dict[int, int]] = {}  # worker -> epoch -> stage that it has done
        self._given_up: set[int] = set()  # for this change: they did not answer in time
        self.rings: list[Ring] = []
        self.stage = STABLE
        self.deadline = 0.0

    @property
    def target(self) -> Ring:
        """The newest view's owners."""
        return self.rings[-1]

    @property
    def epoch(self) -> int:
        return self.rings[-1].view.epoch if self.rings else 0

    def begin(self, view: View, now: float) -> None:
        """A new view; a change that is under way begins again, with all that has moved meanwhile."""
        if not self.rings:  # newborn: what is there belongs to those who were there before
            others = tuple(peer for peer in view.peers if peer.id != self._me)
            if any(peer.owns for peer in others):
                self.rings.append(Ring(View(epoch=view.epoch - 1, peers=others)))
        self.rings.append(Ring(view))
        self._given_up.clear()
        self.enter(QUIESCED, now)

    def enter(self, stage: int, now: float) -> None:
        """Begin a stage, and wait anew."""
        self.stage = stage
        self.deadline = now + PATIENCE_S

    def moved(self, key: str) -> bool:
        """Has `key` had more than one owner in the views of this change?"""
        return len({ring.owner(key) for ring in self.rings}) > 1

    def note(self, worker: int, epoch: int, stage: int) -> None:
        """A worker says that it has done a stage. Who has begun with a later view has not done this one for that: it
        may never have told who is connected there."""
        done = self._done.get(worker, {})
        self._done[worker] = {known: each for known, each in done.items() if known >= self.epoch} | {epoch: stage}

    def is_ahead(self, worker: int) -> bool:
        """Does a worker go by a view that has not come here yet?"""
        return max(self._done.get(worker, ()), default=0) > self.epoch

    def missing(self) -> set[int]:
        """Those that have not done the present stage."""
        others = self.target.view.ids - self._given_up - {self._me}
        return {worker for worker in others if self._stage_of(worker) < self.stage}

    def may_go_on(self, now: float) -> bool:
        """Has everybody done the present stage? Who has not when the time is up is not waited for any more."""
        if self.stage == STABLE:
            return False
        missing = self.missing()
        if missing and now >= self.deadline:
            self._given_up |= missing
            return True
        return not missing

    def announced(self) -> set[int]:
        """The workers that have told who is connected with them, this one included."""
        return {worker for worker in self.target.view.ids if self._stage_of(worker) >= SYNCED} | {self._me}

    def _stage_of(self, worker: int) -> int:
        return self._done.get(worker, {}).get(self.epoch, STABLE)

    @property
    def gave_up(self) -> bool:
        """Was somebody not waited for?"""
        return bool(self._given_up)

    def settle(self) -> None:
        """The newest view is the only one."""
        del self.rings[:-1]
        self.stage = STABLE

    def forget(self, workers: Iterable[int]) -> None:
        """These workers are gone; their ids are not used again."""
        for worker in workers:
            self._done.pop(worker, None)
