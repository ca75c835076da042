"""The Prometheus text: as Prometheus's own parser reads it, sums over workers, and exact counts."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from koko_presence._fastpath.counters import counters as counter_set
from koko_presence.admin.metrics import FAMILIES, CounterAggregator, render
from koko_presence.admin.upstream_metrics import Upstreams
from koko_presence.protocol import metric_types
from koko_presence.protocol.metric_types import BOUNDS_S, Counters, CounterTotals, Histogram, MainCounts
from tests.world import Client, World

DOCS = Path(__file__).parents[3] / "docs"


def histogram(**of: int) -> Histogram:
    """A histogram with counts by bucket number, as b3=2."""
    buckets = [of.get(f"b{i}", 0) for i in range(len(BOUNDS_S) + 1)]
    return Histogram(buckets=buckets, sum_s=0.25 * sum(buckets))


def counters(**changes: Any) -> Counters:
    """The counters of a worker that has counted every kind of event."""
    totals: dict[str, Any] = {
        "accepted": 5,
        "turned_away": 2,
        "joins": 4,
        "auth": {"accepted": 4, "refused": 1},
        "disconnects": {"1000": 1, "4413": 2},
        "received": {"cursor": 100, "invalid": 3},
        "sent": {"cursor_moved": 400, "error": 2},
        "dropped": {"cursor": {"superseded": 7, "slow_receiver": 1}},
        "fanout_bytes": 10_000,
        "flushes": 50,
        "forwards": 9,
        "mesh_bytes": 300,
        "webhooks": {"delivered": 20, "given_up": 4, "dropped": 1},
        "log_lines_lost": 3,
        "limited": {"connections": 3, "unauthenticated": 1, "requests": 8, "questions": 2},
        "upstream_requests": {"access": {"answered": 7, "timeout": 1}, "jwks": {"answered": 2}},
        "upstream_durations": {"access": histogram(b4=7, b13=1), "jwks": histogram(b9=2)},
        "broadcast": histogram(b0=3, b5=1, b16=1),
        "join": histogram(b2=4),
        "join_access": histogram(b4=3),
        "lag": histogram(b1=10),
    }
    gauges: dict[str, Any] = {
        "versions": {"version": "1.0", "python": "3", "picows": "2", "uvloop": "0"},
        "connections": 3,
        "sessions": 2,
        "users": 2,
        "rooms": {"video": 1, "project": 0},
        "room_members_max": 2,
        "send_queue_bytes": 77,
        "slow_receivers": 1,
        "lag_max_s": 0.5,
        "iteration_cpu_max_s": 0.012,
        "cpu_s": 1.25,
        "resident_bytes": 60_000_000,
        "started_s": 1_736_937_000.5,
        "webhook_queue": 6,
        "connections_allowed": 1000,
        "descriptors": 20,
        "descriptors_allowed": 1256,
        "memory_bytes": 50_000_000,
        "memory_limit_bytes": 1_000_000_000,
        "view_epoch": 3,
        "recovering": False,
    }
    for name, value in changes.items():
        (totals if name in totals else gauges)[name] = value
    return Counters(totals=CounterTotals(**totals), **gauges)


def told(
    *workers: Counters | None, aggregator: CounterAggregator | None = None, main: MainCounts | None = None
) -> dict[str, Metric]:
    """Return the families of the text by name, as Prometheus reads it."""
    snapshots = [(str(i), None if each is None else msgspec.msgpack.encode(each)) for i, each in enumerate(workers)]
    families = text_string_to_metric_families(render(snapshots, restarts=6, aggregator=aggregator, main=main))
    return {family.name.removeprefix("koko_presence_"): family for family in families}


def value(families: dict[str, Metric], name: str, /, **labels: str) -> float:
    (found,) = (
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == f"koko_presence_{name}" and sample.labels == labels
    )
    return found


# --- the text -----------------------------------------------------------------------------------------------------


def test_every_family_has_a_help_a_type_and_a_name_in_base_units() -> None:
    units = {"seconds", "bytes", "total"}
    for name, family in told(counters()).items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name) and family.documentation and family.samples, name
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            assert sample.name.startswith("koko_presence_")
            assert sample.name.endswith("_total") == (family.type == "counter")
        assert not re.search(r"_(ms|s|kb|mb|percent|count|sum)$", name), "base units, and no end that means something"
        if family.type == "histogram" or name.endswith(("_duration", "_lag", "_max")):
            assert name.rsplit("_", 1)[1] in units or name == "room_members_max"


def test_histograms_grow_with_their_bounds_and_end_with_the_count() -> None:
    for family in told(counters(), counters()).values():
        if family.type != "histogram":
            continue
        by_labels: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        totals: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in family.samples:
            labels = tuple(sorted((name, text) for name, text in sample.labels.items() if name != "le"))
            if sample.name.endswith("_bucket"):
                by_labels.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                totals[labels] = sample.value
        assert by_labels.keys() == totals.keys()
        for labels, buckets in by_labels.items():
            assert [bound for bound, _ in buckets] == [*BOUNDS_S, float("inf")]
            assert sorted(count for _, count in buckets) == [count for _, count in buckets]
            assert buckets[-1][1] == totals[labels] > 0
    families = told(counters())
    assert value(families, "broadcast_duration_seconds_bucket", le="0.0001") == 3
    assert value(families, "broadcast_duration_seconds_bucket", le="10") == 4
    assert value(families, "broadcast_duration_seconds_count") == 5
    assert value(families, "broadcast_duration_seconds_sum") == 1.25
    assert value(families, "upstream_request_duration_seconds_count", upstream="access") == 8
    assert value(families, "upstream_request_duration_seconds_bucket", upstream="access", le="1") == 7


def test_workers_are_summed_and_listed_separately_only_where_it_matters() -> None:
    families = told(counters(), counters(room_members_max=9, recovering=True, view_epoch=4), None)
    assert value(families, "connections") == 6
    assert value(families, "rooms", type="video") == 2
    assert value(families, "messages_sent_total", type="cursor_moved") == 800
    assert value(families, "messages_dropped_total", type="cursor", reason="superseded") == 14
    assert value(families, "upstream_requests_total", upstream="access", result="answered") == 14
    assert value(families, "upstream_request_duration_seconds_count", upstream="jwks") == 4
    assert value(families, "room_members_max") == 9
    assert (value(families, "recovering"), value(families, "view_epoch")) == (1, 4)
    assert value(families, "worker_restarts_total") == 6
    assert [value(families, "worker_up", worker=worker) for worker in "012"] == [1, 1, 0]
    assert value(families, "cpu_seconds_total", worker="1") == 1.25
    assert value(families, "worker_start_time_seconds", worker="0") == 1_736_937_000.5
    assert value(families, "build_info", version="1.0", python="3", picows="2", uvloop="0") == 1
    labelled = {name for name, each in families.items() if any("worker" in s.labels for s in each.samples)}
    assert labelled == {
        "worker_up", "loop_lag_seconds", "loop_lag_max_seconds", "cpu_seconds", "resident_memory_bytes",
        "worker_start_time_seconds", "shard_forwards", "turn_cpu_max_seconds", "load_ratio", "overloaded",
        "entry_wait_seconds",
        "flush_window_seconds", "advised_interval_seconds", "max_connections", "open_descriptors", "max_descriptors",
        "memory_used_bytes", "memory_limit_bytes", "worker_reports",
    }  # fmt: skip


def test_what_the_supervisor_counts_of_itself_stands_beside_what_workers_do() -> None:
    main = MainCounts(
        clock_jumps=2, reported={"0": 0, "1": 5}, log_lines_lost=37, descriptors=9, descriptors_allowed=100,
        events_dropped=11,
    )  # fmt: skip
    families = told(counters(), counters(), main=main)
    assert value(families, "clock_jumps_total") == 2
    assert [value(families, "worker_reports_total", worker=slot) for slot in "01"] == [0, 5]
    assert value(families, "log_lines_lost_total") == 43
    of_workers = value(told(counters(), counters()), "webhook_events_total", result="dropped")
    assert value(families, "webhook_events_total", result="dropped") == of_workers + 11
    used = [value(families, "open_descriptors", worker=worker) for worker in ("0", "1", "supervisor")]
    most = [value(families, "max_descriptors", worker=worker) for worker in ("0", "1", "supervisor")]
    assert (used, most) == ([20, 20, 9], [1256, 1256, 100])


def test_labels_come_from_tables() -> None:
    allowed = {
        "type": {*metric_types.RECEIVED_TYPES, *metric_types.SENT_TYPES, *metric_types.ROOM_TYPES},
        "reason": set(metric_types.DROP_REASONS),
        "result": {*metric_types.AUTH_RESULTS, *metric_types.UPSTREAM_RESULTS},
        "upstream": set(metric_types.UPSTREAMS),
        "code": {*metric_types.CLOSE_CODES, metric_types.OTHER},
        "worker": {"0"},
    }
    read = counter_set.read()
    read.upstream_requests = {name: upstream.results for name, upstream in Upstreams().items()}
    for family in told(msgspec.structs.replace(counters(), totals=read)).values():
        for sample in family.samples:
            for label, text in sample.labels.items():
                assert family.name.endswith("build_info") or label == "le" or text in allowed[label], (
                    family.name,
                    text,
                )


def test_a_label_is_escaped() -> None:
    odd = 'a\\b "c"\nd'
    families = told(counters(versions={"version": odd, "python": "", "picows": "", "uvloop": ""}))
    assert families["build_info"].samples[0].labels["version"] == odd


def test_a_text_without_any_worker_answering() -> None:
    families = told(None, None)
    assert [value(families, "worker_up", worker=worker) for worker in "01"] == [0, 0]
    assert {name.removesuffix("_total") for name in names_in_code()} == set(families), "families are there, if empty"


# --- workers that start and end -------------------------------------------------------------------------------------


def test_a_sum_never_falls() -> None:
    aggregator, joins = CounterAggregator(), []
    for workers in (
        (counters(joins=10), counters(joins=20)),
        (counters(joins=11), None),  # it does not answer in time
        (counters(joins=12), counters(joins=1, started_s=2.0)),  # replaced
        (counters(joins=12), counters(joins=3, started_s=2.0)),
        (None, counters(joins=2, started_s=3.0)),  # and once more
    ):
        families = told(*workers, aggregator=aggregator)
        joins.append(value(families, "joins_total"))
    assert joins == [30, 31, 33, 35, 37]
    assert value(families, "broadcast_duration_seconds_count") == 5 * 4, "four workers there have been"
    assert value(families, "messages_dropped_total", type="cursor", reason="superseded") == 7 * 4
    assert value(families, "upstream_request_duration_seconds_count", upstream="access") == 8 * 4
    assert value(families, "connections") == 3, "but a gauge is of those who are there"


# --- what is counted ----------------------------------------------------------------------------------------------


def difference(before: CounterTotals, after: CounterTotals) -> dict[str, Any]:
    """Return the differences between two readings, without zeros."""

    def less(a: Any, b: Any) -> Any:
        if isinstance(b, dict):
            found = {key: less(a.get(key, {} if isinstance(each, dict) else 0), each) for key, each in b.items()}
            return {key: each for key, each in found.items() if each}
        return [y - x for x, y in zip(a, b, strict=True)] if isinstance(b, list) else b - a

    found: dict[str, Any] = less(msgspec.to_builtins(before), msgspec.to_builtins(after))
    return found


def got(*clients: Client) -> Counter[str]:
    """Return how many messages of each type the clients have received; the cursors of a compact message one by one."""
    found: Counter[str] = Counter()
    for message in (message for client in clients for message in client.got):
        if message["type"] == "cursors":
            found["cursor_moved"] += len(message["data"])
        else:
            found[message["type"]] += 1
    return found


def cursor(number: float, room: str = "video_123") -> dict[str, Any]:
    return {"type": "cursor", "roomId": room, "data": {"timestamp": number, "x": 0.5, "y": 0.5}}


@pytest.mark.parametrize("workers", [1, 4])
def test_what_every_client_gets_is_counted_to_the_last_message(workers: int) -> None:
    before = counter_set.read()
    world = World(workers=workers)
    people = [world.client().auth(f"user_{i}", caps=["cursors"] if i % 3 == 0 else []).join() for i in range(7)]
    for step in range(40):
        for i, person in enumerate(people[: 1 + step % 7]):  # flushes of one cursor, and of many
            person.post(cursor(step + i / 10))
        if step % 5 == 0:
            people[step % 7].post(type="broadcast", roomId="video_123", data={"n": step}, id=step)
            people[3].post(type="typing", roomId="video_123", data={"isTyping": step % 2 == 0})
            people[2].post(type="selection", roomId="video_123", data={"startTime": 1, "endTime": step})
            people[1].post(type="broadcast", roomId="video_123", data={}, to=["user_0", "user_4", "nobody"])
            people[4].post(type="leave", roomId="elsewhere")
            people[5].post(type="privacy", data={"invisible": step % 10 == 0})
        world.sleep(0.06)
    people[6].send(type="leave", roomId="video_123")
    world.sleep(1.0)
    found = difference(before, counter_set.read())
    assert found["sent"] == got(*people)
    assert found["sent"]["cursor_moved"] > 500 and "other" not in found["sent"]
    assert found["received"]["cursor"] == sum(1 + step % 7 for step in range(40))
    assert found["dropped"]["leave"] == {"not_in_room": 8}
    assert found["joins"] == found["received"]["join"] == 7 and found["auth"] == {"accepted": 7}
    assert sum(found["broadcast"]["buckets"]) == found["flushes"] > 40
    assert sum(found["broadcast"]["buckets"][:8]) == found["flushes"], "nothing waits longer than a window"


def test_cursors_that_come_too_fast_are_counted_as_superseded_by_the_last_one() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    before = counter_set.read()
    for number in range(10):
        ann.post(cursor(number))
    world.sleep(0.3)
    found = difference(before, counter_set.read())
    assert found["received"] == {"cursor": 10}
    assert found["dropped"]["cursor"]["superseded"] == 10 - found["sent"]["cursor_moved"]
    assert bob.last("cursor_moved")["data"]["timestamp"] == 9


def test_what_a_slow_receiver_misses_is_dropped_and_not_sent() -> None:
    world = World()
    ann, bob, cat = (world.person(user) for user in ("ann", "bob", "cat"))
    before, at = counter_set.read(), got(ann, bob, cat)
    bob.unsent_bytes = 66 * 1024
    for number in range(6):  # the first of them finds bob slow; of the rest he receives the last
        ann.send(cursor(number))
        world.sleep(0.1)
    bob.unsent_bytes = 0
    bob.session.on_writable()
    world.settle()
    found = difference(before, counter_set.read())
    assert found["dropped"] == {"cursor": {"slow_receiver": 4}}
    assert found["sent"] == got(ann, bob, cat) - at == {"cursor_moved": 6 + 2}


def test_unknown_message_types_are_counted_without_their_names() -> None:
    world = World()
    ann = world.person("ann")
    before = counter_set.read()
    for data in (b"{", b'{"type":"drop table"}', b'{"type":"cursor","roomId":"video_123"}', b'{"type":7}'):
        ann.post(data)
    ann.session.on_binary(b"")
    stranger = world.client()
    stranger.post(cursor(1))
    stranger.post(type="auth", token="bad")
    found = difference(before, counter_set.read())
    assert found["received"] == {"invalid": 4, "cursor": 2, "auth": 1}
    assert found["auth"] == {"refused": 1}
    assert found["dropped"] == {
        "invalid": {"invalid_json": 1, "unknown_type": 1, "invalid_message": 1, "binary_not_supported": 1},
        "cursor": {"invalid_data": 1, "unauthenticated": 1},
    }


def test_refusals_of_owners_are_counted_by_their_reason() -> None:
    world = World(max_users_per_room=1)
    ann, bob = world.person("ann"), world.person("bob")
    before = counter_set.read()
    bob.send(type="join", roomId="video_123", roomType="video")
    bob.send(type="join", roomId="brand_new")
    ann.send(type="control_grant", roomId="video_123", data={"toUserId": "nobody"})
    assert difference(before, counter_set.read())["dropped"] == {
        "join": {"room_full": 1, "invalid_message": 1},
        "control_grant": {ann.last("error")["code"].lower(): 1},
    }


def test_every_event_and_reply_has_a_name() -> None:
    text = (DOCS / "protocol.md").read_text()
    sent = (
        set(re.findall(r'"type": ?"([a-z_]+)"', text))
        - set(metric_types.RECEIVED_TYPES)
        - {"cursors", "video", "reaction"}
    )
    assert sent <= {*metric_types.SENT_TYPES}, "a new one belongs into SENT_TYPES"


# --- the document -------------------------------------------------------------------------------------------------


def names_in_code() -> set[str]:
    others = {"build_info", "worker_up", "worker_restarts_total", "worker_reports_total", "clock_jumps_total"}
    return others | {"workers_missing"} | {family.name for family in FAMILIES}


def test_the_document_names_every_family_and_no_other() -> None:
    rows = re.findall(r"^\| `koko_presence_([a-z_]+)", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names_in_code())


def test_the_rules_of_the_document_use_families_that_exist() -> None:
    text = (DOCS / "metrics.md").read_text()
    ends = ("_bucket", "_sum", "_count")
    known = names_in_code() | {f.name + end for f in FAMILIES if f.type == "histogram" for end in ends}
    asked = set(re.findall(r"koko_presence_([a-z_]+)", text))
    assert asked <= known, asked - known
