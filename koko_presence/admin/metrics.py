"""The counters of all workers as one text for Prometheus (exposition format 0.0.4).

Workers are summed: a user is counted by the worker that owns them and a session by the one it is connected to, so
nobody is counted twice. What tells workers apart, and nothing else, has a label `worker`, the number of its slot.
docs/metrics.md says what every family is for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from koko_presence.protocol.metric_types import BOUNDS_S, Counters, Histogram, MainCounts, Tallies

PREFIX = "koko_presence_"

Labels = tuple[tuple[str, str], ...]
Values = Mapping[Labels, "float | Histogram"]
Sample = tuple[str, Labels, float]  # what comes behind the family's name, labels, value
Type = Literal["counter", "gauge", "histogram"]

decode_counters = msgspec.msgpack.Decoder(Counters).decode


class Family(NamedTuple):
    """One family: `read` gives a worker's values by their labels, `join` makes one of the values of all workers; with
    `join` None every worker has its own, under its label."""

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
        for type_, reasons in counters.tallies.dropped.items()
        for reason, count in reasons.items()
    }


def _upstream_requests(counters: Counters) -> Values:
    return {
        (("upstream", upstream), ("result", result)): count
        for upstream, results in counters.tallies.upstream_requests.items()
        for result, count in results.items()
    }


FAMILIES = (
    Family(
        "connections", "gauge", "Open WebSocket connections, with or without a session.", _one(lambda c: c.connections)
    ),
    Family(
        "sessions",
        "gauge",
        "Sessions that are connected, counted by the worker they are connected to.",
        _one(lambda c: c.sessions),
    ),
    Family(
        "users",
        "gauge",
        "Users with a session, connected or in its grace, counted by the worker that owns them.",
        _one(lambda c: c.users),
    ),
    Family(
        "rooms",
        "gauge",
        "Rooms that exist, by type, counted by the worker that owns them.",
        _by("type", lambda c: c.rooms),
    ),
    Family(
        "room_members_max", "gauge", "Sessions in the room that has the most.", _one(lambda c: c.room_members_max), max
    ),
    Family(
        "connections_accepted_total",
        "counter",
        "WebSocket handshakes that were completed.",
        _one(lambda c: c.tallies.accepted),
    ),
    Family(
        "max_connections",
        "gauge",
        "Connections of any kind that the descriptor limit allows the worker.",
        _one(lambda c: c.connections_allowed),
        None,
    ),
    Family(
        "connections_refused_total",
        "counter",
        "Requests answered with 403, 404, 408, 426, 431 or 503 at the door, and connections closed unread.",
        _one(lambda c: c.tallies.turned_away),
    ),
    Family(
        "connections_given_up_total",
        "counter",
        "Connections that the client had closed before the worker came to serve them.",
        _one(lambda c: c.tallies.given_up),
    ),
    Family(
        "address_refusals_total",
        "counter",
        "What was refused to addresses that had as much of it as they may, by limit.",
        _by("limit", lambda c: c.tallies.limited),
    ),
    Family(
        "joins_total", "counter", "Joins answered with a snapshot, repeated ones too.", _one(lambda c: c.tallies.joins)
    ),
    Family("auth_total", "counter", "Answers to auth, by result.", _by("result", lambda c: c.tallies.auth)),
    Family(
        "disconnects_total",
        "counter",
        "WebSocket connections that ended, by close code; 1006 without any.",
        _by("code", lambda c: c.tallies.disconnects),
    ),
    Family(
        "messages_received_total",
        "counter",
        "Messages from clients, by type.",
        _by("type", lambda c: c.tallies.received),
    ),
    Family(
        "messages_sent_total",
        "counter",
        "Messages to clients, by type, one for each that gets it; a compact cursor counts as one.",
        _by("type", lambda c: c.tallies.sent),
    ),
    Family(
        "messages_dropped_total",
        "counter",
        "Messages of clients, by type, that were refused or replaced by a newer one, by reason.",
        _drops,
    ),
    Family(
        "fanout_bytes_total",
        "counter",
        "Bytes of messages given to the sockets of clients.",
        _one(lambda c: c.tallies.fanout_bytes),
    ),
    Family(
        "flushes_total",
        "counter",
        "Flushes: what a room had for its members, sent in one go.",
        _one(lambda c: c.tallies.flushes),
    ),
    Family(
        "broadcast_duration_seconds",
        "histogram",
        "From the first event of a flush to the write to its last receiver here, or to the other workers.",
        lambda c: c.tallies.broadcast,
    ),
    Family(
        "join_duration_seconds",
        "histogram",
        "From a join to its snapshot, less the time that the authoriser took.",
        lambda c: c.tallies.join,
    ),
    Family(
        "join_access_duration_seconds",
        "histogram",
        "How long joins waited for the authoriser.",
        lambda c: c.tallies.join_access,
    ),
    Family(
        "upstream_requests_total",
        "counter",
        "Requests to the servers that are asked or told, by result; skipped: not sent.",
        _upstream_requests,
    ),
    Family(
        "upstream_request_duration_seconds",
        "histogram",
        "How long requests to the servers that are asked or told took, answered or not.",
        lambda c: {(("upstream", name),): found for name, found in c.tallies.upstream_durations.items()},
    ),
    Family(
        "access_breaker_open",
        "gauge",
        "Workers that do not ask who may enter, since nobody answers.",
        _one(lambda c: c.access_breaker_open),
    ),
    Family("send_queue_bytes", "gauge", "Bytes that wait for clients to read.", _one(lambda c: c.send_queue_bytes)),
    Family(
        "slow_receivers",
        "gauge",
        "Sessions for which so much waits that only the newest cursors are kept.",
        _one(lambda c: c.slow_receivers),
    ),
    Family(
        "shard_forwards_total",
        "counter",
        "Commands and cursors that went to another worker.",
        _one(lambda c: c.tallies.forwards),
        None,
    ),
    Family("mesh_bytes_total", "counter", "Bytes written to other workers.", _one(lambda c: c.tallies.mesh_bytes)),
    Family(
        "webhook_events_total",
        "counter",
        "Events for the webhook, by what became of them; dropped: there was no place or no time for them.",
        _by("result", lambda c: c.tallies.webhooks),
    ),
    Family("webhook_queue_events", "gauge", "Events that wait for the webhook.", _one(lambda c: c.webhook_queue)),
    Family(
        "view_epoch",
        "gauge",
        "Number of the newest view of the workers; 0 with a single worker.",
        _one(lambda c: c.view_epoch),
        max,
    ),
    Family(
        "recovering",
        "gauge",
        "Whether rooms and users are on their way to other workers.",
        _one(lambda c: c.recovering),
        max,
    ),
    Family(
        "load_ratio",
        "gauge",
        "Share of the last half second with traffic in which the worker ran, or waited for a core.",
        _one(lambda c: c.load),
        None,
    ),
    Family(
        "overloaded",
        "gauge",
        "Whether the core is full with the longest windows: cursors are merged, clients asked to send less often.",
        _one(lambda c: c.overloaded),
        None,
    ),
    Family(
        "entry_wait_seconds",
        "gauge",
        "For how long a connecting client may have waited by now for the worker.",
        _one(lambda c: c.entry_wait_s),
        None,
    ),
    Family(
        "flush_window_seconds",
        "gauge",
        "How long busy rooms collect at present.",
        _one(lambda c: c.flush_window_s),
        None,
    ),
    Family(
        "advised_interval_seconds",
        "gauge",
        "How often clients are asked to send cursors, as far as the worker's load goes.",
        _one(lambda c: c.advised_interval_s),
        None,
    ),
    Family(
        "loop_lag_seconds",
        "histogram",
        "How late the event loop is for a timer, ten times a second.",
        lambda c: c.tallies.lag,
        None,
    ),
    Family(
        "loop_lag_max_seconds", "gauge", "The longest of these in the last minute.", _one(lambda c: c.lag_max_s), None
    ),
    Family(
        "turn_cpu_max_seconds",
        "gauge",
        "CPU time of the event loop's longest turn in the last minute.",
        _one(lambda c: c.turn_cpu_max_s),
        None,
    ),
    Family("cpu_seconds_total", "counter", "CPU time of the worker.", _one(lambda c: c.cpu_s), None),
    Family(
        "resident_memory_bytes", "gauge", "Memory of the worker that is in RAM.", _one(lambda c: c.resident_bytes), None
    ),
    Family(
        "memory_used_bytes",
        "gauge",
        "Memory that counts against memory_limit_bytes: of the worker, or of all that share a control group's limit.",
        _one(lambda c: c.memory_bytes),
        None,
    ),
    Family(
        "memory_limit_bytes",
        "gauge",
        "The limit that is nearest to being reached, of the configuration or a control group; 0 for none.",
        _one(lambda c: c.memory_limit_bytes),
        None,
    ),
    Family(
        "open_descriptors", "gauge", "File descriptors that the process has open.", _one(lambda c: c.descriptors), None
    ),
    Family("max_descriptors", "gauge", "How many it may have open.", _one(lambda c: c.descriptors_allowed), None),
    Family(
        "log_lines_lost_total",
        "counter",
        "Log lines for which there was no room, or that could not be written, in all processes.",
        _one(lambda c: c.tallies.log_lines_lost),
    ),
    Family(
        "worker_start_time_seconds",
        "gauge",
        "When the worker began, in seconds since 1970.",
        _one(lambda c: c.started_s),
        None,
    ),
)


class CounterAggregator:
    """What was counted by workers that are gone, or do not answer just now.

    A sum that falls looks to Prometheus like a counter that began anew, and then all of it like an increase: so nothing
    that was ever in a sum leaves it. One for as long as the supervisor lives.
    """

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}
        self._gone: Any = {}
        self._any: Counters | None = None

    def add(self, worker: str, counters: Counters) -> None:
        """A worker has answered; with another start than before it is a new one in the same place."""
        before = self._last.get(worker)
        if before is not None and before.started_s != counters.started_s:
            self._gone = plus(self._gone, msgspec.to_builtins(before.tallies))
        self._last[worker] = self._any = counters

    def hear(self, worker: str, data: bytes) -> None:
        """What a worker says before it goes."""
        self.add(worker, decode_counters(data))

    def end(self, worker: str) -> None:
        """This worker is gone for good."""
        last = self._last.pop(worker, None)
        if last is not None:
            self._gone = plus(self._gone, msgspec.to_builtins(last.tallies))

    def all(self) -> list[Counters]:
        """Counters of all workers that ever were, the gone ones as one."""
        known = list(self._last.values())
        if self._gone and self._any is not None:
            known.append(msgspec.structs.replace(self._any, tallies=msgspec.convert(self._gone, Tallies)))
        return known


def plus(a: Any, b: Any) -> Any:
    """The sum of two counts, or of all that is counted in two of the same shape."""
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
    ledger: CounterAggregator | None = None,
    ids: Mapping[str, str] | None = None,
    leaving: Mapping[str, bytes] | None = None,
    main: MainCounts | None = None,
) -> str:
    """The text. `snapshots` has the slot of each worker and what its `snapshot` gave, None for no answer; `restarts` is
    how many workers had to be replaced, `missing` for how many slots there is none; `main` is what the main process
    counts itself. With several workers `ledger` is
    the same one at every scrape, `ids` names a slot's worker in it, and `leaving` has those, by id, that still drain
    beside their slot's next worker."""
    ledger, ids = ledger or CounterAggregator(), ids or {}
    workers = [(worker, decode_counters(data)) for worker, data in snapshots if data]
    going = [(id, decode_counters(data)) for id, data in (leaving or {}).items()]
    for worker, counters in workers:
        ledger.add(ids.get(worker, worker), counters)
    for id, counters in going:
        ledger.add(id, counters)
    builds: list[Sample] = [("", tuple(c.versions.items()), 1.0) for _, c in workers]
    up: list[Sample] = [("", (("worker", worker),), float(bool(data))) for worker, data in snapshots]
    main = main or MainCounts()
    reported: list[Sample] = [
        ("", (("worker", slot),), count)
        for slot, count in {**dict.fromkeys(dict(snapshots), 0), **main.reported}.items()
    ]
    jumps: list[Sample] = [("", (), main.clock_jumps)]
    lines = [
        *_text("build_info", "gauge", "The versions that run.", list(dict.fromkeys(builds))),
        *_text("worker_up", "gauge", "Whether the worker answers.", up),
        *_text(
            "worker_restarts_total", "counter", "Workers that died or hung and were replaced.", [("", (), restarts)]
        ),
        *_text("worker_reports_total", "counter", "How often another worker could not reach this one.", reported),
        *_text("clock_jumps_total", "counter", "How often the clock was set by half a second or more.", jumps),
        *_text("workers_missing", "gauge", "Workers that do not serve; others stand in for them.", [("", (), missing)]),
    ]
    ever = [("", counters) for counters in ledger.all()]
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
    """What the supervisor counts of itself as the workers do, by family."""
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
    """One sample for each place and set of labels."""
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
