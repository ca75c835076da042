"""Coordinates the workers' change from one view to the next in three stages. A worker reports a stage to each other
worker after all that it sent before.

1. QUIESCED: the worker sends no more commands to owners that lose the key; those it sent precede this message.
2. TRANSFERRED (all have quiesced): the worker has flushed the rooms that it gives up, and sent their records to the
   next owners. It has sent the records of what it keeps to the next backup owners.
3. SYNCED (all have transferred): the worker has sent the next owners which sessions are connected to it.

When all have reported SYNCED, the next owners restore the rooms and users and begin. A worker that does not answer
delays the others by at most `PATIENCE_S`, once; its late messages are still handled. Written by `OwnershipTransfer`,
through these methods. Pure: time is an argument.
"""

from collections.abc import Iterable

from .placement import Ring, View

QUIESCED, TRANSFERRED, SYNCED = 1, 2, 3
STABLE = 0
PATIENCE_S = 0.2


class ViewChange:
    """The stage of one worker on its way to the newest view. `stage` is the one it is in, STABLE between changes;
    `rings` are the views since it was last stable, beginning with the one that it leaves."""

    __slots__ = (
        "_done",
        "_given_up_since_begin",
        "_me",
        "_missing_since_stable",
        "_released",
        "deadline",
        "rings",
        "stage",
    )

    def __init__(self, me: int) -> None:
        self._me = me
        self._done: dict[int, dict[int, int]] = {}  # worker -> epoch -> last stage that it has reported
        self._given_up_since_begin: set[int] = set()  # they did not answer in time since `begin`
        self._missing_since_stable: set[int] = set()  # given up, or gone, since this worker was last stable
        self._released = 0  # how many of `rings` there were when this worker last gave up its keys
        self.rings: list[Ring] = []
        self.stage = STABLE
        self.deadline = 0.0

    @property
    def target(self) -> Ring:
        """The owners of the newest view."""
        return self.rings[-1]

    @property
    def epoch(self) -> int:
        return self.rings[-1].view.epoch if self.rings else 0

    def begin(self, view: View, now: float) -> None:
        """Begin the change to a new view. A change that is under way begins again, with all keys that have moved since
        it began."""
        if not self.rings:  # a new worker: the keys belong to those that were there before
            others = tuple(peer for peer in view.peers if peer.id != self._me)
            if any(peer.owns for peer in others):
                self.rings.append(Ring(View(epoch=view.epoch - 1, peers=others)))
        self.rings.append(Ring(view))
        self._given_up_since_begin.clear()
        self.enter(QUIESCED, now)

    def enter(self, stage: int, now: float) -> None:
        """Enter a stage and set its deadline."""
        self.stage = stage
        self.deadline = now + PATIENCE_S

    def moved(self, key: str) -> bool:
        """Return whether `key` has more than one owner in the views of this change."""
        return _moves(key, self.rings)

    def release(self) -> None:
        """Record that this worker has given up its keys that have moved so far in this change."""
        self._released = len(self.rings)

    def has_released(self, key: str) -> bool:
        """Return whether `key` had moved when this worker last gave up keys in this change. When a later view makes the
        change begin again, also a key that moves back to this worker is given up until the change is over."""
        return _moves(key, self.rings[: self._released])

    def note(self, worker: int, epoch: int, stage: int) -> None:
        """Record that a worker has finished a stage. A worker that has begun with a later view has not finished this
        stage for the earlier one: it may never have reported its sessions."""
        done = self._done.get(worker, {})
        self._done[worker] = {known: each for known, each in done.items() if known >= self.epoch} | {epoch: stage}

    def is_ahead(self, worker: int) -> bool:
        """Return whether a worker follows a view that has not arrived here."""
        return max(self._done.get(worker, ()), default=0) > self.epoch

    def missing(self) -> set[int]:
        """Return the workers that have not finished the present stage."""
        others = self.target.view.ids - self._given_up_since_begin - {self._me}
        return {worker for worker in others if self._stage_of(worker) < self.stage}

    def may_advance(self, now: float) -> bool:
        """Return whether all workers have finished the present stage, or its deadline has passed; then the missing ones
        are to be given up."""
        return self.stage != STABLE and (now >= self.deadline or not self.missing())

    def give_up_missing(self) -> None:
        """Give up the workers that have not finished the present stage, for this change."""
        missing = self.missing()
        self._given_up_since_begin |= missing
        self._missing_since_stable |= missing

    def reporting_edges(self) -> set[int]:
        """Return the workers that have reported which sessions are connected to them, this one included."""
        return {worker for worker in self.target.view.ids if self._stage_of(worker) >= SYNCED} | {self._me}

    def _stage_of(self, worker: int) -> int:
        return self._done.get(worker, {}).get(self.epoch, STABLE)

    @property
    def gave_up(self) -> bool:
        """Whether any worker was given up in this change."""
        return bool(self._given_up_since_begin)

    def may_have_missed(self, key: str) -> bool:
        """Return whether a previous owner of `key` was given up here in this change, or was lost during it: its last
        messages may arrive after the change, or never."""
        return self.moved(key) and any(ring.owner(key) in self._missing_since_stable for ring in self.rings[:-1])

    def settle(self) -> None:
        """End the change: only the newest view is kept."""
        del self.rings[:-1]
        self._missing_since_stable.clear()
        self._released = 0
        self.stage = STABLE

    def forget(self, workers: Iterable[int]) -> None:
        """Drop workers that are gone; their ids are not reused."""
        for worker in workers:
            self._done.pop(worker, None)
            if self.stage != STABLE:
                self._missing_since_stable.add(worker)


def _moves(key: str, rings: list[Ring]) -> bool:
    """Return whether `key` has more than one owner in `rings`."""
    return len({ring.owner(key) for ring in rings}) > 1
