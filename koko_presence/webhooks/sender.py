"""Delivers webhook events to the application's back end [M10]: in signed batches, retried when they fail.

A room's owner only appends events (`Webhooks` is its `webhook_events.Sink`); a task of `Webhooks` sends them later, one
batch after the other. A batch is delivered when it is answered with a status of 2xx. `Webhooks` is the only writer of
its state.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from koko_presence.config.integrations import Webhooks as Options
from koko_presence.protocol.webhook_events import AnyWebhookEvent, webhook_event_id

from . import signature
from .delivery_queue import WebhookQueue

log = logging.getLogger("koko_presence.webhooks")

MIN_PAUSE_S = 0.001
LOG_DROPS_EVERY_S = 10.0  # between two log lines about dropped events

encode = msgspec.json.Encoder().encode


class Answer(Protocol):
    @property
    def status(self) -> int: ...


class Poster(Protocol):
    """Sends HTTP requests, without following redirects and with a time-out of a few seconds (`auth.http_client`)."""

    async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer: ...


class Webhooks:
    """The sender of one worker. It belongs to the event loop on which it is made."""

    def __init__(
        self,
        options: Options,
        poster: Poster,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`clock` returns monotonic seconds, `wall` unix seconds, `chance` a random number from 0 to 1."""
        self._options = options
        self._kinds = frozenset(options.events)
        self._poster = poster
        self._clock, self._wall = clock, wall
        self._loop = asyncio.get_running_loop()
        self._queue = WebhookQueue(
            limit=options.queue_events,
            batch_events=options.batch_events,
            batch_s=options.batch_s,
            tries=options.tries,
            chance=chance,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._sending: asyncio.Task[None] | None = None
        self._hurry = False
        self._logged_drops, self._log_drops_at = 0, 0.0
        self._stopped = False

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of events by result, one key for each of `metric_types.WEBHOOK_RESULTS`."""
        queue = self._queue
        return {"delivered": queue.delivered, "given_up": queue.given_up, "dropped": queue.dropped}

    @property
    def waiting(self) -> int:
        """The number of events that are neither delivered nor given up."""
        return len(self._queue)

    def log_drops(self, now: float) -> None:
        """Log how many events were dropped since the last line, at most every `LOG_DROPS_EVERY_S` seconds. Called once
        a second; `now` is in monotonic seconds."""
        dropped = self._queue.dropped - self._logged_drops
        if dropped and now >= self._log_drops_at:
            self._logged_drops, self._log_drops_at = self._queue.dropped, now + LOG_DROPS_EVERY_S
            log.warning(
                "%d webhook events dropped: at most %d may wait",
                dropped,
                self._queue.limit,
                extra={"events": dropped, "waiting": self.waiting},
            )

    def append(self, event: AnyWebhookEvent, /) -> None:
        """Queue an event, if its type is configured, and return at once."""
        if self._stopped or event.__struct_config__.tag not in self._kinds:
            return
        self._queue.put(event, self._clock())
        self._schedule()

    def shed(self) -> int:
        """Memory is short: drop the waiting events beyond one batch. Returns how many, for the caller to log."""
        lost = self._queue.shed()
        self._logged_drops += lost
        return lost

    def take_over(self, older: Sequence[AnyWebhookEvent]) -> None:
        """Deliver the undelivered events of another worker, before those that wait here."""
        if older and not self._stopped:
            self._queue.take_over(older, self._clock())
            self._schedule()

    def take_waiting(self) -> list[AnyWebhookEvent]:
        """Remove and return the waiting events, for another worker. The batch in delivery is not included."""
        return self._queue.take_waiting()

    async def take_rest(self, longest_s: float) -> list[AnyWebhookEvent]:
        """Wait at most `longest_s` seconds for the batch in delivery, stop, and return all undelivered events for
        another worker."""
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=max(0.0, longest_s))
        rest = self._queue.take_all()
        self.stop()
        return rest

    def reload(self, options: Options) -> None:
        """Use a new address, secret, event types and limits; events that wait are sent to the new address."""
        self._options = options
        self._kinds = frozenset(options.events)
        queue = self._queue
        queue.limit, queue.tries = options.queue_events, options.tries
        queue.batch_events, queue.batch_s = options.batch_events, options.batch_s

    async def finish(self, longest_s: float) -> None:
        """Deliver the waiting events without collecting more, for at most `longest_s` seconds. The rest is dropped
        then, so that it is counted before the last scrape."""
        self._hurry = True
        end = self._clock() + longest_s
        while self._queue and (left_s := end - self._clock()) > 0.0:
            if self._sending is None:
                if (due_at := self._queue.due_at(hurry=True)) is None or due_at >= end:
                    break  # no retry is due before the end
                self._schedule()
            await self._next_change(left_s)
        if self._queue:
            if self._sending is not None:
                self._sending.cancel()
            self._drop_rest()

    def stop(self) -> None:
        """Stop sending and drop all undelivered events."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self._drop_rest()

    def _drop_rest(self) -> None:
        self.log_drops(self._clock() + LOG_DROPS_EVERY_S)
        lost = self._queue.drop_all()
        self._logged_drops += lost
        if lost:
            log.warning("webhook events dropped at shutdown", extra={"events": lost})

    # --- one batch after the other --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        due_at = self._queue.due_at(hurry=self._hurry)
        if self._stopped or self._sending is not None or due_at is None:
            return
        rings_at = max(due_at, self._clock() + MIN_PAUSE_S)
        if self._timer is not None:
            if rings_at >= self._rings_at:
                return
            self._timer.cancel()
        self._rings_at = rings_at
        self._timer = self._loop.call_later(rings_at - self._clock(), self._ring)

    def _ring(self) -> None:
        self._timer = None
        due_at = self._queue.due_at(hurry=self._hurry)
        if due_at is not None and due_at > self._clock() + MIN_PAUSE_S:
            self._schedule()
        elif due_at is not None:
            self._sending = self._loop.create_task(self._send())

    async def _send(self) -> None:
        why = ""
        try:
            why = await self._try(self._queue.take())
        except asyncio.CancelledError:
            return
        except Exception as error:  # no error may stop the queue
            why = str(error) or type(error).__name__
            if isinstance(error, MemoryError):
                log.exception("webhook delivery failed: out of memory")  # `config.out_of_memory` ends the process
        self._sending = None
        if not why:
            self._queue.succeeded()
        elif self._queue.failed(self._clock()):
            log.error("webhook events given up: delivery failed", extra={"why": why, "tries": self._options.tries})
        elif self._queue.failures == 1:
            log.warning("webhook delivery failed, will be retried", extra={"why": why})
        self._schedule()

    async def _try(self, batch: Sequence[AnyWebhookEvent]) -> str:
        """Send a batch and return why it was not acknowledged; an empty text when it was."""
        body = encode({"id": webhook_event_id("batch", *(event.id for event in batch)), "events": batch})
        headers = {
            "content-type": "application/json",
            signature.HEADER: signature.sign(self._options.secret, body, self._wall()),
        }
        answer = await self._poster.post(self._options.url, headers, body)
        return "" if 200 <= answer.status < 300 else f"it answers with status {answer.status}"

    async def _next_change(self, longest_s: float) -> None:
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=longest_s)
        else:
            await asyncio.sleep(min(longest_s, 0.02))
