"""Merges the counters of all workers into one text for Prometheus (exposition format 0.0.4).

Workers are summed: a user is counted by its owner and a session by the worker to which it is connected, so that none is
counted twice. Only families that distinguish workers have the label `worker`, the number of its slot. docs/metrics.md
describes every family. `CounterAggregator` is the only writer of the sums of stopped workers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from koko_presence.protocol.metric_types import BOUNDS_S, Counters, CounterTotals, Histogram, MainCounts

PREFIX = "koko_presence_"

Labels = tuple[tuple[str, str], ...]
Values = Mapping[Labels, "float | Histogram"]
Sample = tuple[str, Labels, float]  # suffix of the family's name, labels, value
Type = Literal["counter", "gauge", "histogram"]

decode_counters = msgspec.msgpack.Decoder(Counters).decode


class Family(NamedTuple):
    """One metric family. `read` returns a worker's values by their labels; `join` merges the values of all workers.
    With `join` None every worker has its own sample with the label `worker`."""

    name: str
    type: Type
    help: str
    read: Callable[[Counters], Values | Histogram]
    join: Callable[[list[float]], float] | None = sum


def _one(read: Callable[[Counters], float]) -> Callable[[Counters], Values | Histogram]:
    return lambda counters: {(): read(counters)}


def _by(label: str, read: Callable[[Counters], Mapping[str, float]]) -> Callable[[Counters], Values | Histogram]:
    return lambda counters: {((label, key),): value for key, value in read(counters).items()}


def _drops(counters: Counters) -> Values:
    return {
        (("type", type_), ("reason", reason)): count
        for type_, reasons in counters.totals.dropped.items()
        for reason, count in reasons.items()
    }


def _upstream_requests(counters: Counters) -> Values:
    return {
        (("upstream", upstream), ("result", result)): count
        for upstream, results in counters.totals.upstream_requests.items()
        for result, count in results.items()
    }


FAMILIES = (
    Family(
        "connections",
        "gauge",
        "Open WebSockets and event streams, with or without a session.",
        _one(lambda c: c.connections),
    ),
    Family(
        "sessions",
        "gauge",
        "Connected sessions, counted by the worker to which they are connected.",
        _one(lambda c: c.sessions),
    ),
    Family(
        "users",
        "gauge",
        "Users with a session, connected or in its grace period, counted by their owner.",
        _one(lambda c: c.users),
    ),
    Family(
        "rooms",
        "gauge",
        "Rooms by type, counted by their owner.",
        _by("type", lambda c: c.rooms),
    ),
    Family("room_members_max", "gauge", "Sessions in the largest room.", _one(lambda c: c.room_members_max), max),
    Family(
        "connections_accepted_total",
        "counter",
        "Completed WebSocket handshakes.",
        _one(lambda c: c.totals.accepted),
    ),
    Family(
        "max_connections",
        "gauge",
        "Connections of any kind that the worker may have by its descriptor limit.",
        _one(lambda c: c.connections_allowed),
        None,
    ),
    Family(
        "connections_refused_total",
        "counter",
        "New connections answered with 403, 404, 408, 426, 431 or 503, and connections closed without reading.",
        _one(lambda c: c.totals.turned_away),
    ),
    Family(
        "connections_given_up_total",
        "counter",
        "Connections that the client closed before the worker served them.",
        _one(lambda c: c.totals.given_up),
    ),
    Family(
        "address_refusals_total",
        "counter",
        "Refusals of addresses that have reached a limit, by limit.",
        _by("limit", lambda c: c.totals.limited),
    ),
    Family(
        "joins_total",
        "counter",
        "Joins answered with a snapshot, including repeated ones.",
        _one(lambda c: c.totals.joins),
    ),
    Family("auth_total", "counter", "Answers to auth, by result.", _by("result", lambda c: c.totals.auth)),
    Family(
        "disconnects_total",
        "counter",
        "Closed WebSocket connections, by close code; 1006 without a close code.",
        _by("code", lambda c: c.totals.disconnects),
    ),
    Family(
        "messages_received_total",
        "counter",
        "Messages from clients, by type.",
        _by("type", lambda c: c.totals.received),
    ),
    Family(
        "messages_sent_total",
        "counter",
        "Messages to clients, by type, counted per receiver; a row of compact cursors counts as one.",
        _by("type", lambda c: c.totals.sent),
    ),
    Family(
        "messages_dropped_total",
        "counter",
        "Messages of clients that were refused or superseded by a newer one, by type and reason.",
        _drops,
    ),
    Family(
        "fanout_bytes_total",
        "counter",
        "Bytes of messages written to the sockets of clients.",
        _one(lambda c: c.totals.fanout_bytes),
    ),
    Family(
        "flushes_total",
        "counter",
        "Flushes: the collected events of a room, sent together.",
        _one(lambda c: c.totals.flushes),
    ),
    Family(
        "broadcast_duration_seconds",
        "histogram",
        "Seconds from the first event of a flush to the write to its last local receiver, or to the other workers.",
        lambda c: c.totals.broadcast,
    ),
    Family(
        "join_duration_seconds",
        "histogram",
        "Seconds from a join to its snapshot, without the time of the authoriser.",
        lambda c: c.totals.join,
    ),
    Family(
        "join_access_duration_seconds",
        "histogram",
        "Seconds for which joins waited for the authoriser.",
        lambda c: c.totals.join_access,
    ),
    Family(
        "upstream_requests_total",
        "counter",
        "Requests to other servers, by server and result; skipped: not sent.",
        _upstream_requests,
    ),
    Family(
        "upstream_request_duration_seconds",
        "histogram",
        "Durations of requests to other servers, answered or not.",
        lambda c: {(("upstream", name),): found for name, found in c.totals.upstream_durations.items()},
    ),
    Family(
        "access_breaker_open",
        "gauge",
        "Workers whose circuit breaker for access checks is open.",
        _one(lambda c: c.access_breaker_open),
    ),
    Family("send_queue_bytes", "gauge", "Bytes queued for clients.", _one(lambda c: c.send_queue_bytes)),
    Family(
        "slow_receivers",
        "gauge",
        "Sessions that get only the newest cursors: bytes are queued, or a pong behind a proxy is 3 s late.",
        _one(lambda c: c.slow_receivers),
    ),
    Family(
        "shard_forwards_total",
        "counter",
        "Commands and cursors sent to another worker.",
        _one(lambda c: c.totals.forwards),
        None,
    ),
    Family("mesh_bytes_total", "counter", "Bytes written to other workers.", _one(lambda c: c.totals.mesh_bytes)),
    Family(
        "webhook_events_total",
        "counter",
        "Webhook events by result; dropped: queue full, memory short, or undelivered at shutdown.",
        _by("result", lambda c: c.totals.webhooks),
    ),
    Family("webhook_queue_events", "gauge", "Undelivered webhook events.", _one(lambda c: c.webhook_queue)),
    Family(
        "view_epoch",
        "gauge",
        "Epoch of the newest view; 0 with a single worker.",
        _one(lambda c: c.view_epoch),
        max,
    ),
    Family(
        "recovering",
        "gauge",
        "1 while a view change transfers rooms and users.",
        _one(lambda c: c.recovering),
        max,
    ),
    Family(
        "load_ratio",
        "gauge",
        "Share of the last half second with traffic in which the worker ran or waited for a core.",
        _one(lambda c: c.load),
        None,
    ),
    Family(
        "overloaded",
        "gauge",
        "1 while the core is full with the longest windows: cursors are merged and clients asked to send less often.",
        _one(lambda c: c.overloaded),
        None,
    ),
    Family(
        "entry_wait_seconds",
        "gauge",
        "The longest time for which a new connection may have waited for the worker so far.",
        _one(lambda c: c.entry_wait_s),
        None,
    ),
    Family(
        "flush_window_seconds",
        "gauge",
        "The present flush window of busy rooms.",
        _one(lambda c: c.flush_window_s),
        None,
    ),
    Family(
        "advised_interval_seconds",
        "gauge",
        "The interval at which clients are asked to send cursors, by the load of the worker.",
        _one(lambda c: c.advised_interval_s),
        None,
    ),
    Family(
        "loop_lag_seconds",
        "histogram",
        "Lateness of an event loop timer, ten times a second.",
        lambda c: c.totals.lag,
        None,
    ),
    Family(
        "loop_lag_max_seconds", "gauge", "The longest loop lag of the last minute.", _one(lambda c: c.lag_max_s), None
    ),
    Family(
        "turn_cpu_max_seconds",
        "gauge",
        "CPU time of the longest event loop iteration of the last minute.",
        _one(lambda c: c.iteration_cpu_max_s),
        None,
    ),
    Family("cpu_seconds_total", "counter", "CPU time of the worker.", _one(lambda c: c.cpu_s), None),
    Family("resident_memory_bytes", "gauge", "Resident memory of the worker.", _one(lambda c: c.resident_bytes), None),
    Family(
        "memory_used_bytes",
        "gauge",
        "Memory use that counts against memory_limit_bytes: of the worker, or of its control group.",
        _one(lambda c: c.memory_bytes),
        None,
    ),
    Family(
        "memory_limit_bytes",
        "gauge",
        "The nearest memory limit, of the configuration or a control group; 0 for none.",
        _one(lambda c: c.memory_limit_bytes),
        None,
    ),
    Family("open_descriptors", "gauge", "Open file descriptors of the process.", _one(lambda c: c.descriptors), None),
    Family(
        "max_descriptors",
        "gauge",
        "Limit of open file descriptors of the process.",
        _one(lambda c: c.descriptors_allowed),
        None,
    ),
    Family(
        "log_lines_lost_total",
        "counter",
        "Log lines lost in all processes: the queue was full, or the write failed.",
        _one(lambda c: c.totals.log_lines_lost),
    ),
    Family(
        "worker_start_time_seconds",
        "gauge",
        "Start of the worker, in seconds since 1970.",
        _one(lambda c: c.started_s),
        None,
    ),
)


class CounterAggregator:
    """Keeps the counters of stopped workers, and the last ones of workers that do not answer.

    To Prometheus a sum that falls is a counter that was reset, and its whole value an increase. Therefore no part of a
    sum is ever removed. The supervisor has one aggregator for its lifetime.
    """

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}
        self._gone: Any = {}
        self._any: Counters | None = None

    def add(self, worker: str, counters: Counters) -> None:
        """Store the counters of a worker. With another start time than before they are those of a new process."""
        before = self._last.get(worker)
        if before is not None and before.started_s != counters.started_s:
            self._gone = plus(self._gone, msgspec.to_builtins(before.totals))
        self._last[worker] = self._any = counters

    def add_snapshot(self, worker: str, data: bytes) -> None:
        """Store the encoded counters that a worker sends before it stops."""
        self.add(worker, decode_counters(data))

    def end(self, worker: str) -> None:
        """This worker has stopped and is not replaced under this id: keep its last counters in the sum."""
        last = self._last.pop(worker, None)
        if last is not None:
            self._gone = plus(self._gone, msgspec.to_builtins(last.totals))

    def all(self) -> list[Counters]:
        """Return the counters of all workers so far; those of stopped ones are merged into one."""
        known = list(self._last.values())
        if self._gone and self._any is not None:
            known.append(msgspec.structs.replace(self._any, totals=msgspec.convert(self._gone, CounterTotals)))
        return known


def plus(a: Any, b: Any) -> Any:
    """Add two counts, or all counts of two structures of the same shape; a missing one is 0."""
    if isinstance(a or b, dict):
        a, b = a or {}, b or {}
        return {key: plus(a.get(key), b.get(key)) for key in {**a, **b}}
    if isinstance(a or b, list):
        return [x + y for x, y in zip(a, b, strict=True)] if a and b else a or b
    return (a or 0) + (b or 0)


def render(
    snapshots: Sequence[tuple[str, bytes | None]],
    *,
    restarts: int = 0,
    missing: int = 0,
    aggregator: CounterAggregator | None = None,
    ids: Mapping[str, str] | None = None,
    leaving: Mapping[str, bytes] | None = None,
    main: MainCounts | None = None,
) -> str:
    """Return the text. `snapshots` has the slot of each worker with its encoded counters, None for no answer;
    `restarts` is the number of replaced workers, `missing` that of slots without a serving worker; `main` are the
    counters of the main process. With several workers `aggregator` is the same one at every scrape, `ids` maps a slot
    to its worker's id, and `leaving` has the encoded counters, by id, of workers that still drain beside their
    successor."""
    aggregator, ids = aggregator or CounterAggregator(), ids or {}
    workers = [(worker, decode_counters(data)) for worker, data in snapshots if data]
    going = [(id, decode_counters(data)) for id, data in (leaving or {}).items()]
    for worker, counters in workers:
        aggregator.add(ids.get(worker, worker), counters)
    for id, counters in going:
        aggregator.add(id, counters)
    builds: list[Sample] = [("", tuple(c.versions.items()), 1.0) for _, c in workers]
    up: list[Sample] = [("", (("worker", worker),), float(bool(data))) for worker, data in snapshots]
    main = main or MainCounts()
    reported: list[Sample] = [
        ("", (("worker", slot),), count)
        for slot, count in {**dict.fromkeys(dict(snapshots), 0), **main.reported}.items()
    ]
    jumps: list[Sample] = [("", (), main.clock_jumps)]
    lines = [
        *_text("build_info", "gauge", "The running versions.", list(dict.fromkeys(builds))),
        *_text("worker_up", "gauge", "1 when the worker answers.", up),
        *_text(
            "worker_restarts_total", "counter", "Workers that died or hung and were replaced.", [("", (), restarts)]
        ),
        *_text("worker_reports_total", "counter", "Reports of other workers that this one is unreachable.", reported),
        *_text("clock_jumps_total", "counter", "Steps of the wall clock by half a second or more.", jumps),
        *_text(
            "workers_missing", "gauge", "Slots whose worker does not serve; others cover them.", [("", (), missing)]
        ),
    ]
    ever = [("", counters) for counters in aggregator.all()]
    of_main = _of_main(main)
    for family in FAMILIES:
        grows = family.type != "gauge" and family.join is not None
        now = workers if family.join is None else [*workers, *going]
        samples = _samples(family, ever if grows else now)
        if family.name in of_main:
            samples = iter(_summed((*samples, *of_main[family.name])))
        lines += _text(family.name, family.type, family.help, samples)
    return "\n".join(lines) + "\n"


def _of_main(main: MainCounts) -> dict[str, list[Sample]]:
    """Return the supervisor's own samples of families that workers have too, by family."""
    if not main.descriptors_allowed:
        return {}
    supervisor: Labels = (("worker", "supervisor"),)
    return {
        "open_descriptors": [("", supervisor, main.descriptors)],
        "max_descriptors": [("", supervisor, main.descriptors_allowed)],
        "log_lines_lost_total": [("", (), main.log_lines_lost)],
        "webhook_events_total": [("", (("result", "dropped"),), main.events_dropped)],
    }


def _summed(samples: Iterable[Sample]) -> list[Sample]:
    """Add the samples with the same suffix and labels."""
    found: dict[tuple[str, Labels], float] = {}
    for end, labels, value in samples:
        found[end, labels] = found.get((end, labels), 0.0) + value
    return [(end, labels, value) for (end, labels), value in found.items()]


def _samples(family: Family, workers: Sequence[tuple[str, Counters]]) -> Iterator[Sample]:
    histograms: dict[Labels, list[Histogram]] = {}
    numbers: dict[Labels, list[float]] = {}
    for worker, counters in workers:
        own: Labels = () if family.join is not None else (("worker", worker),)
        found = family.read(counters)
        for labels, value in ({(): found} if isinstance(found, Histogram) else found).items():
            if isinstance(value, Histogram):
                histograms.setdefault((*labels, *own), []).append(value)
            else:
                numbers.setdefault((*labels, *own), []).append(value)
    for labels, values in numbers.items():
        yield "", labels, (family.join or sum)(values)
    for labels, same in histograms.items():
        yield from _histogram(labels, same)


def _histogram(labels: Labels, histograms: list[Histogram]) -> Iterator[Sample]:
    count = 0
    for i, bound in enumerate((*BOUNDS_S, float("inf"))):
        count += sum(histogram.buckets[i] for histogram in histograms)
        yield "_bucket", (*labels, ("le", _number(bound))), count
    yield "_sum", labels, sum(histogram.sum_s for histogram in histograms)
    yield "_count", labels, count


def _text(name: str, type_: Type, help_: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {_escaped(help_)}"
    yield f"# TYPE {PREFIX}{name} {type_}"
    for end, labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(text, quote=True)}"' for label, text in labels)
        yield f"{PREFIX}{name}{end}{f'{{{shown}}}' if shown else ''} {_number(value)}"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
