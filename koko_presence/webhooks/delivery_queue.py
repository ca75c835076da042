"""What is still to be told by webhook, in order and bounded: which batch is due when, and how often it is tried.

Pure: times are arguments, in monotonic seconds. One batch is under way at a time, and the next one waits until it is
told or given up: so nothing overtakes anything, in a room or between rooms.
"""

from collections.abc import Callable, Sequence

from koko_presence.protocol.webhook_events import AnyHappening

from .backlog import Backlog

RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


class WebhookQueue:
    """`chance` gives a random number from 0 to 1: of the longest pause before a try, which doubles each time, any part
    is as likely as any other, so that workers that failed together do not come back together."""

    def __init__(
        self, *, limit: int, batch_events: int, batch_s: float, tries: int, chance: Callable[[], float]
    ) -> None:
        """At most `limit` events wait; a batch has up to `batch_events`, which are collected for `batch_s` seconds, and
        is tried `tries` times."""
        self.limit, self.batch_events, self.batch_s, self.tries = limit, batch_events, batch_s, tries
        self._chance = chance
        self._waiting = Backlog()
        self._batch: tuple[AnyHappening, ...] = ()
        self._failures = 0
        self._again_at = 0.0
        self.delivered = self.given_up = self.dropped = 0  # events

    def __len__(self) -> int:
        """Events that are neither told nor given up."""
        return len(self._waiting) + len(self._batch)

    @property
    def failures(self) -> int:
        """How often the batch that is under way has failed."""
        return self._failures

    def put(self, happening: AnyHappening, now: float) -> None:
        """One more. When there is no place, the oldest goes of the person with the most: the counts of later ones are
        nearer to the truth, and who joins and leaves without end pushes nobody else's events out."""
        self._waiting.put(happening, now, self.limit)
        while len(self._waiting) > self.limit:
            self._waiting.drop()
            self.dropped += 1

    def take_waiting(self) -> list[AnyHappening]:
        """What waits, in order, for another worker to tell; not the batch that is under way."""
        return self._waiting.take_all()

    def take_all(self) -> list[AnyHappening]:
        """The batch that is under way and what waits, for another worker to tell."""
        batch = list(self._batch)
        self._end_batch()
        return batch + self._waiting.take_all()

    def take_over(self, older: Sequence[AnyHappening], now: float) -> None:
        """What another worker has left, before all that waits here."""
        newer = self._waiting.take_all()
        for happening in (*older, *newer):
            self.put(happening, now)

    def due_at(self, *, hurry: bool = False) -> float | None:
        """When a batch is to be tried; None when there is none. `hurry`: no time to collect more."""
        if self._batch:
            return self._again_at
        if not self._waiting:
            return None
        full = len(self._waiting) >= self.batch_events
        return self._waiting.since + (0.0 if full or hurry else self.batch_s)

    def take(self) -> Sequence[AnyHappening]:
        """The batch to try now: the one that failed, or a new one."""
        if not self._batch:
            count = min(self.batch_events, len(self._waiting))
            self._batch = tuple(self._waiting.take() for _ in range(count))
        return self._batch

    def told(self) -> None:
        """The batch has arrived."""
        self.delivered += len(self._batch)
        self._end_batch()

    def failed(self, now: float) -> bool:
        """It has not, as far as anybody knows. True when it was given up."""
        self._failures += 1
        if self._failures >= self.tries:
            self.given_up += len(self._batch)
            self._end_batch()
            return True
        longest_s = min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0 ** (self._failures - 1))
        self._again_at = now + longest_s * self._chance()
        return False

    def shed(self) -> int:
        """Memory is short: what waits is dropped, but for as much as one batch holds, which always waits a moment and
        is worth little memory. How many events that are."""
        count = max(0, len(self._waiting) - self.batch_events)
        for _ in range(count):
            self._waiting.drop()
        self.dropped += count
        return count

    def drop_all(self) -> int:
        """There is no time left for the rest. How many that are."""
        count = len(self)
        self.dropped += count
        self._waiting.clear()
        self._end_batch()
        return count

    def _end_batch(self) -> None:
        self._batch, self._failures = (), 0
