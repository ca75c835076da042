"""Merges the counters of all workers into one JSON document, the counterpart of /metrics in the server API [M10]."""

import time
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Annotated

import msgspec
from msgspec import Meta

from koko_presence.protocol.metric_types import BOUNDS_S, Counters, CounterTotals, Histogram
from koko_presence.protocol.models import Wire

from .metrics import CounterAggregator, decode_counters, plus

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class HistogramRow(Wire, omit_defaults=False, kw_only=True):
    """A histogram of durations: counts per bound of `boundsSeconds`, and last the count above all bounds."""

    buckets: list[Count]
    sum_seconds: Seconds


class WorkerRow(Wire, omit_defaults=False, kw_only=True):
    """One worker. For a worker that does not answer, `up` is false and all but `slot` is zero."""

    slot: Count
    up: bool
    started_at: Annotated[float, Meta(description="Unix seconds.")] = 0.0
    connections: Count = 0
    sessions: Count = 0
    rooms: Count = 0
    cpu_seconds: Seconds = 0.0
    resident_bytes: Count = 0
    loop_lag_max_seconds: Annotated[float, Meta(ge=0, description="The longest of the last minute.")] = 0.0
    loop_lag: HistogramRow | None = None
    forwards: Count = 0


class Totals(Wire, omit_defaults=False, kw_only=True):
    """Counts since the service started, including those of stopped workers. Rates are differences of two answers."""

    connections_accepted: Count
    connections_refused: Count
    joins: Count
    auth: dict[str, Count]
    disconnects: dict[str, Count]
    received: dict[str, Count]
    sent: dict[str, Count]
    dropped: dict[str, dict[str, Count]]
    fanout_bytes: Count
    flushes: Count
    forwards: Count
    mesh_bytes: Count
    broadcast: HistogramRow
    join: HistogramRow


class Stats(Wire, omit_defaults=False, kw_only=True):
    """The state and counters of the whole service at one time."""

    at: Annotated[float, Meta(description="Unix seconds.")]
    ready: bool
    reason: Annotated[str, Meta(description="Why it is not ready; empty when it is.")]
    versions: dict[str, str]
    connections: Count
    sessions: Count
    users: Count
    rooms: dict[str, Count]
    room_members_max: Count
    send_queue_bytes: Count
    slow_receivers: Count
    recovering: bool
    view_epoch: Count
    restarts: Count
    bounds_seconds: list[float]
    totals: Totals
    workers: list[WorkerRow]
    missing: list[Count]


def stats(
    snapshots: Sequence[tuple[str, bytes | None]],
    *,
    restarts: int = 0,
    aggregator: CounterAggregator | None = None,
    ids: Mapping[str, str] | None = None,
    leaving: Mapping[str, bytes] | None = None,
    unready: str = "",
) -> Stats:
    """Return the document. The arguments are those of `metrics.render`; `unready` is why the service is not ready."""
    aggregator, ids = aggregator or CounterAggregator(), ids or {}
    workers = {slot: decode_counters(data) if data else None for slot, data in snapshots}
    going = {id: decode_counters(data) for id, data in (leaving or {}).items()}
    there = [*(counters for counters in workers.values() if counters is not None), *going.values()]
    for slot, counters in workers.items():
        if counters is not None:
            aggregator.add(ids.get(slot, slot), counters)
    for id, counters in going.items():
        aggregator.add(id, counters)
    rooms: dict[str, int] = {}
    for each in there:
        rooms = plus(rooms, each.rooms)
    return Stats(
        at=time.time(),
        ready=not unready,
        reason=unready,
        versions=there[0].versions if there else {},
        connections=sum(each.connections for each in there),
        sessions=sum(each.sessions for each in there),
        users=sum(each.users for each in there),
        rooms=rooms,
        room_members_max=max((each.room_members_max for each in there), default=0),
        send_queue_bytes=sum(each.send_queue_bytes for each in there),
        slow_receivers=sum(each.slow_receivers for each in there),
        recovering=any(each.recovering for each in there),
        view_epoch=max((each.view_epoch for each in there), default=0),
        restarts=restarts,
        bounds_seconds=list(BOUNDS_S),
        totals=_totals(aggregator),
        workers=[_worker(int(slot), counters) for slot, counters in workers.items()],
        missing=sorted(int(slot) for slot, counters in workers.items() if counters is None),
    )


def _totals(aggregator: CounterAggregator) -> Totals:
    nothing = Histogram(buckets=[0] * (len(BOUNDS_S) + 1), sum_s=0.0)
    empty = CounterTotals(
        accepted=0, turned_away=0, joins=0, auth={}, disconnects={}, received={}, sent={}, dropped={}, fanout_bytes=0,
        flushes=0, forwards=0, mesh_bytes=0, broadcast=nothing, join=nothing, lag=nothing,
    )  # fmt: skip
    all_of_them = [msgspec.to_builtins(each.totals) for each in aggregator.all()]
    sum_ = msgspec.convert(reduce(plus, all_of_them, msgspec.to_builtins(empty)), CounterTotals)
    return Totals(
        connections_accepted=sum_.accepted,
        connections_refused=sum_.turned_away,
        joins=sum_.joins,
        auth=sum_.auth,
        disconnects=sum_.disconnects,
        received=sum_.received,
        sent=sum_.sent,
        dropped=sum_.dropped,
        fanout_bytes=sum_.fanout_bytes,
        flushes=sum_.flushes,
        forwards=sum_.forwards,
        mesh_bytes=sum_.mesh_bytes,
        broadcast=_histogram(sum_.broadcast),
        join=_histogram(sum_.join),
    )


def _histogram(histogram: Histogram) -> HistogramRow:
    return HistogramRow(buckets=histogram.buckets, sum_seconds=histogram.sum_s)


def _worker(slot: int, counters: Counters | None) -> WorkerRow:
    if counters is None:
        return WorkerRow(slot=slot, up=False)
    return WorkerRow(
        slot=slot,
        up=True,
        started_at=counters.started_s,
        connections=counters.connections,
        sessions=counters.sessions,
        rooms=sum(counters.rooms.values()),
        cpu_seconds=counters.cpu_s,
        resident_bytes=counters.resident_bytes,
        loop_lag_max_seconds=max(0.0, counters.lag_max_s),
        loop_lag=_histogram(counters.totals.lag),
        forwards=counters.totals.forwards,
    )
