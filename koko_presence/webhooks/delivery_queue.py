"""Schedules undelivered webhook events: a bounded queue, batches, and the times of their tries.

Pure: times are arguments, in monotonic seconds; `WebhookQueue` is the only writer of its state. One batch is in
delivery at a time, and the next one waits until it is delivered or given up, so that all events keep their order,
within a room and between rooms.
"""

from collections.abc import Callable, Sequence

from koko_presence.protocol.webhook_events import AnyWebhookEvent

from .backlog import Backlog

RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


class WebhookQueue:
    """The queue of one worker. `chance` returns a random number from 0 to 1. The pause before a retry is that part of
    the longest pause, which doubles with each failure (full jitter), so that workers that fail together do not retry
    together."""

    def __init__(
        self, *, limit: int, batch_events: int, batch_s: float, tries: int, chance: Callable[[], float]
    ) -> None:
        """At most `limit` events wait. A batch has up to `batch_events`, collected for `batch_s` seconds, and is given
        up after `tries` failures."""
        self.limit, self.batch_events, self.batch_s, self.tries = limit, batch_events, batch_s, tries
        self._chance = chance
        self._waiting = Backlog()
        self._batch: tuple[AnyWebhookEvent, ...] = ()
        self._failures = 0
        self._again_at = 0.0
        self.delivered = self.given_up = self.dropped = 0  # events

    def __len__(self) -> int:
        """The number of events that are neither delivered nor given up."""
        return len(self._waiting) + len(self._batch)

    @property
    def failures(self) -> int:
        """The number of failed tries of the batch in delivery."""
        return self._failures

    def put(self, event: AnyWebhookEvent, now: float) -> None:
        """Append an event. Above `limit` the oldest event of the user with the most events is dropped: later events
        have newer counts, and a user who joins and leaves repeatedly causes no loss of other users' events."""
        self._waiting.put(event, now, self.limit)
        while len(self._waiting) > self.limit:
            self._waiting.drop()
            self.dropped += 1

    def take_waiting(self) -> list[AnyWebhookEvent]:
        """Remove and return the waiting events, in order, for another worker; not the batch in delivery."""
        return self._waiting.take_all()

    def take_all(self) -> list[AnyWebhookEvent]:
        """Remove and return the batch in delivery and the waiting events, in order, for another worker."""
        batch = list(self._batch)
        self._end_batch()
        return batch + self._waiting.take_all()

    def take_over(self, older: Sequence[AnyWebhookEvent], now: float) -> None:
        """Put the events of another worker before all that wait here."""
        newer = self._waiting.take_all()
        for event in (*older, *newer):
            self.put(event, now)

    def due_at(self, *, hurry: bool = False) -> float | None:
        """Return the monotonic second at which a batch is to be sent, None when there is no event. `hurry`: do not wait
        to collect more."""
        if self._batch:
            return self._again_at
        if not self._waiting:
            return None
        full = len(self._waiting) >= self.batch_events
        return self._waiting.since + (0.0 if full or hurry else self.batch_s)

    def take(self) -> Sequence[AnyWebhookEvent]:
        """Return the batch to send now: the one that has failed, or a new one."""
        if not self._batch:
            count = min(self.batch_events, len(self._waiting))
            self._batch = tuple(self._waiting.take() for _ in range(count))
        return self._batch

    def succeeded(self) -> None:
        """The batch was delivered."""
        self.delivered += len(self._batch)
        self._end_batch()

    def failed(self, now: float) -> bool:
        """The batch was not acknowledged: schedule a retry. Returns True when the batch is given up instead."""
        self._failures += 1
        if self._failures >= self.tries:
            self.given_up += len(self._batch)
            self._end_batch()
            return True
        longest_s = min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0 ** (self._failures - 1))
        self._again_at = now + longest_s * self._chance()
        return False

    def shed(self) -> int:
        """Memory is short: drop the waiting events but for the size of one batch, and return how many were dropped. One
        batch needs little memory and waits only briefly."""
        count = max(0, len(self._waiting) - self.batch_events)
        for _ in range(count):
            self._waiting.drop()
        self.dropped += count
        return count

    def drop_all(self) -> int:
        """Drop the batch in delivery and all waiting events, and return how many."""
        count = len(self)
        self.dropped += count
        self._waiting.clear()
        self._end_batch()
        return count

    def _end_batch(self) -> None:
        self._batch, self._failures = (), 0
