"""Tells the application's back end what has happened in rooms [M10]: batches, signed, tried again when they fail.

A room's owner only appends (`Webhooks` is its `webhook_events.Sink`); all else is done by a task of its own, later.
Told is what was answered with a status of 2xx. Written by itself alone.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from koko_presence.config.integrations import Webhooks as Options
from koko_presence.protocol.webhook_events import AnyHappening, happening_id

from . import signature
from .delivery_queue import WebhookQueue

log = logging.getLogger("koko_presence.webhooks")

MIN_PAUSE_S = 0.001
TELL_S = 10.0  # between two lines on events that were dropped

encode = msgspec.json.Encoder().encode


class Answer(Protocol):
    @property
    def status(self) -> int: ...


class Poster(Protocol):
    """What asks over HTTP, without following redirects and for a few seconds at most (auth/http_client.py)."""

    async def post(self, url: str, headers: Mapping[str, str] | None, body: bytes) -> Answer: ...


class Webhooks:
    """One worker's sender. Belongs to the loop on which it is made."""

    def __init__(
        self,
        options: Options,
        poster: Poster,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`clock` gives monotonic seconds, `wall` unix seconds."""
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
        self._told_drops, self._tell_at = 0, 0.0
        self._stopped = False

    @property
    def counts(self) -> dict[str, int]:
        """Events by what became of them: a key for each of metric_types.WEBHOOK_RESULTS."""
        queue = self._queue
        return {"delivered": queue.delivered, "given_up": queue.given_up, "dropped": queue.dropped}

    @property
    def waiting(self) -> int:
        """Events that are neither told nor given up."""
        return len(self._queue)

    def tell_drops(self, now: float) -> None:
        """Say how many events had no place, at most every TELL_S seconds; once a second, `now` in monotonic seconds."""
        dropped = self._queue.dropped - self._told_drops
        if dropped and now >= self._tell_at:
            self._told_drops, self._tell_at = self._queue.dropped, now + TELL_S
            log.warning(
                "%d events for the webhook were dropped: no more than %d may wait",
                dropped,
                self._queue.limit,
                extra={"events": dropped, "waiting": self.waiting},
            )

    def append(self, happening: AnyHappening, /) -> None:
        """Something has happened. Returns at once."""
        if self._stopped or happening.__struct_config__.tag not in self._kinds:
            return
        self._queue.put(happening, self._clock())
        self._plan()

    def shed(self) -> int:
        """Memory is short: drop what waits beyond a batch. Returns how many events that were, which the caller logs."""
        lost = self._queue.shed()
        self._told_drops += lost
        return lost

    def take_over(self, older: Sequence[AnyHappening]) -> None:
        """Tell what another worker has left, before what waits here."""
        if older and not self._stopped:
            self._queue.take_over(older, self._clock())
            self._plan()

    def take_waiting(self) -> list[AnyHappening]:
        """What waits, for another worker to tell. The batch that is under way is not among it."""
        return self._queue.take_waiting()

    async def take_rest(self, longest_s: float) -> list[AnyHappening]:
        """All that has not arrived, for another worker to tell, after waiting at most `longest_s` seconds for the batch
        that is under way. Nothing is told from here any more."""
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=max(0.0, longest_s))
        rest = self._queue.take_all()
        self.stop()
        return rest

    def reload(self, options: Options) -> None:
        """New address, secret, events and bounds; what waits is told there."""
        self._options = options
        self._kinds = frozenset(options.events)
        queue = self._queue
        queue.limit, queue.tries = options.queue_events, options.tries
        queue.batch_events, queue.batch_s = options.batch_events, options.batch_s

    async def finish(self, longest_s: float) -> None:
        """Tell what waits without collecting more, for at most `longest_s` seconds. What is left then is dropped, so
        that it is counted while the counters are still read."""
        self._hurry = True
        end = self._clock() + longest_s
        while self._queue and (left_s := end - self._clock()) > 0.0:
            if self._sending is None:
                if (due_at := self._queue.due_at(hurry=True)) is None or due_at >= end:
                    break  # it is not tried again before the end
                self._plan()
            await self._next_change(left_s)
        if self._queue:
            if self._sending is not None:
                self._sending.cancel()
            self._drop_rest()

    def stop(self) -> None:
        """Tell nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
        self._drop_rest()

    def _drop_rest(self) -> None:
        self.tell_drops(self._clock() + TELL_S)
        lost = self._queue.drop_all()
        self._told_drops += lost
        if lost:
            log.warning("events were not told by webhook before the end", extra={"events": lost})

    # --- one batch after the other --------------------------------------------------------------------------------

    def _plan(self) -> None:
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
            self._plan()
        elif due_at is not None:
            self._sending = self._loop.create_task(self._send())

    async def _send(self) -> None:
        why = ""
        try:
            why = await self._try(self._queue.take())
        except asyncio.CancelledError:
            return
        except Exception as error:  # whatever it was, the queue has to go on
            why = str(error) or type(error).__name__
            if isinstance(error, MemoryError):
                log.exception("no memory is left to tell the webhook")  # which ends the process: out_of_memory.py
        self._sending = None
        if not why:
            self._queue.told()
        elif self._queue.failed(self._clock()):
            log.error("events were given up: the webhook fails", extra={"why": why, "tries": self._options.tries})
        elif self._queue.failures == 1:
            log.warning("the webhook fails and is tried again", extra={"why": why})
        self._plan()

    async def _try(self, batch: Sequence[AnyHappening]) -> str:
        """Why it did not arrive; empty when it did."""
        body = encode({"id": happening_id("batch", *(event.id for event in batch)), "events": batch})
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
