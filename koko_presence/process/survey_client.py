"""The supervisor's side of the operator port: queries the workers and aggregates their answers.

Counters are added up in one `CounterAggregator`, so that counts of ended workers stay in the totals. Survey requests
are answered by the workers that are present. `OperatorQueries` writes its own state.
"""

import time
from collections.abc import Callable, Mapping

from koko_presence.admin.metrics import CounterAggregator, render
from koko_presence.admin.stats import Stats, stats
from koko_presence.cluster.bus import Timers
from koko_presence.protocol import survey
from koko_presence.protocol.metric_types import MainCounts

from . import control_channel
from .control_channel import FINAL_SNAPSHOT, Channel, Snapshot, SnapshotRequest
from .fleet import Fleet
from .worker_queries import Questions


class OperatorQueries:
    """Queries the workers of `fleet`; `channels` returns the channel of each process by the worker's id. `timers` are
    the event loop's."""

    def __init__(
        self,
        fleet: Fleet,
        channels: Callable[[], Mapping[int, Channel]],
        timers: Timers,
        main: Callable[[], MainCounts] = MainCounts,
    ) -> None:
        """`main` returns the counts of the supervisor itself."""
        self._fleet, self._channels, self._main = fleet, channels, main
        self._aggregator = CounterAggregator()
        self._questions = Questions(timers)

    # --- answers of the workers -----------------------------------------------------------------------------------

    def on_snapshot(self, id: int, snapshot: Snapshot) -> None:
        """Record a worker's counters: the answer to a request, or the final counters of a drained worker."""
        if snapshot.number == FINAL_SNAPSHOT:
            self._aggregator.add_snapshot(str(id), snapshot.counters)
        else:
            self._questions.on_answer(id, snapshot.number, snapshot.counters)

    def on_answer(self, id: int, answer: control_channel.Answer) -> None:
        """Record a worker's answer to a survey request."""
        self._questions.on_answer(id, answer.number, answer.answer)

    def on_gone(self, id: int) -> None:
        """Move the counters of a worker that has ended to the totals."""
        self._aggregator.end(str(id))

    # --- requests of the operator port ----------------------------------------------------------------------------

    async def metrics(self) -> str:
        """The metrics in the text format of Prometheus. A worker without an answer within a second counts as
        missing."""
        snapshots, ids, leaving = await self._scrape()
        missing = len(self._fleet.missing(time.monotonic()))
        return render(
            snapshots,
            restarts=self._fleet.deaths,
            missing=missing,
            aggregator=self._aggregator,
            ids=ids,
            leaving=leaving,
            main=self._main(),
        )

    async def stats(self) -> Stats:
        """The metrics as one document."""
        snapshots, ids, leaving = await self._scrape()
        unready = self._fleet.unready(time.monotonic())
        return stats(
            snapshots,
            restarts=self._fleet.deaths,
            aggregator=self._aggregator,
            ids=ids,
            leaving=leaving,
            unready=unready,
        )

    async def _scrape(self) -> tuple[list[tuple[str, bytes | None]], dict[str, str], dict[str, bytes]]:
        owners = {slot: self._fleet.owner(slot) for slot in range(self._fleet.slots)}
        ids = {str(slot): str(owner.id) for slot, owner in owners.items() if owner is not None}
        sends = {id: channel.send for id, channel in self._present().items()}
        answers = await self._questions.query(sends, lambda number: SnapshotRequest(number=number))
        there = self._channels()
        answered = {str(id): answer for id, answer in answers.items() if id in there}
        return [(str(slot), answered.pop(ids.get(str(slot), ""), None)) for slot in owners], ids, answered

    async def run_survey(self, request: survey.AnySurveyRequest) -> survey.Answers:
        """Send a survey request to every worker that may hold connections, including those that are being replaced. The
        slot of a worker that does not answer within a second is missing, as is a slot without an owner."""
        body = survey.encode(request)
        slots = {id: self._fleet.members[id].slot for id in self._present()}
        sends = {id: channel.send for id, channel in self._present().items()}
        answers = await self._questions.query(sends, lambda number: control_channel.Query(number=number, request=body))
        missing = {slot for id, slot in slots.items() if not answers.get(id)}
        missing |= {slot for slot in range(self._fleet.slots) if self._fleet.owner(slot) is None}
        found = [survey.decode_answer(answer) for answer in answers.values() if answer]
        return survey.Answers(found=found, missing=sorted(missing))

    def _present(self) -> dict[int, Channel]:
        return {id: channel for id, channel in self._channels().items() if self._fleet.present(id)}
