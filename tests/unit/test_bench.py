"""The pure parts of bench.compare: ratios within a round, tables, the search for the highest load, the docs'
markers."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from bench import compare, figures, http, peers
from bench.compare import Bench, Contender, Load

PEER = Contender("peer", ("peer",))


def result(us: float = 1.0, p99: float = 2.0, ratio: float = 1.0, **more: Any) -> figures.Result:
    return {
        "us_per_delivery": us,
        "latency_ms": {"p50": p99 / 2, "p99": p99, "max": p99},
        "late_ms": {"p99": 0.1},
        "join_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0},
        "ratio": ratio,
        "bytes": 2000,
        "delivered": 10,
        "deliveries_per_s": 1000,
        "all_in_s": 1.5,
        "closed": 0,
        "server_rss_kib": 51200,
        "server_cores": 1.0,
        "generator_cores": 0.5,
        "other_cores": 0.0,
        "generator_saturated": False,
        "arrived_per_s": 1000,
        "updates_hz": {"count": 90, "min": 4.0, "p1": 5.0, "p50": 19.0},
        "advised_ms": {"p50": 50.0, "max": 50.0},
        "relief_ms": {"count": 0, "p99": -1.0},
        "relief_ratio": 1.0,
        **more,
    }


def row_of(lines: list[str], name: str) -> list[str]:
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {name}"))


# --- ratios and tables ----------------------------------------------------------------------------------------------


def test_a_ratio_compares_runs_of_one_round_only() -> None:
    ours, theirs = [result(1.0), result(2.0), result(3.0)], [result(2.0), result(4.0), result(3.0)]
    assert figures.ratios(ours, theirs) == [0.5, 0.5, 1.0]
    row = row_of(figures.ratio_table({"ours": ours, "peer": theirs}), "peer")
    assert row[1:3] == ["**0.50** (0.50 to 1.00)", "3.00"]


def test_a_round_in_which_nothing_arrived_gives_no_ratio() -> None:
    assert figures.ratios([result(1.0), result(1.0)], [result(0.0), result(4.0)]) == [0.25]
    row = row_of(figures.ratio_table({"ours": [result()], "peer": [result(0.0)]}), "peer")
    assert row[1] == "nothing delivered"


def test_ours_is_the_first_row_and_one() -> None:
    lines = figures.ratio_table({"ours": [result()], "peer": [result()]})
    assert row_of(lines, "ours")[1] == "1" and lines[1].count("---") == len(row_of(lines, "ours"))


@pytest.mark.parametrize(
    ("runs", "remark"),
    [
        ([result()], ""),
        ([result(ratio=0.9)], " (overloaded)"),
        ([result(p99=60.0)], " (overloaded)"),
        ([result(), result(p99=60.0), result()], ""),
        ([result(other_cores=0.5)], " (disturbed by other processes)"),
    ],
)
def test_a_misleading_row_has_a_remark(runs: list[figures.Result], remark: str) -> None:
    assert figures.remark(runs) == remark


def test_a_late_generator_is_named_in_table_and_progress() -> None:
    late = result(generator_saturated=True, late_ms={"p99": 9.0})
    assert figures.lateness([result(), late, late]) == "9.00 (saturated)"
    assert "GENERATOR SATURATED" in figures.progress(late) and "GENERATOR" not in figures.progress(result())
    assert "others took 0.40 of a core" in figures.progress(result(other_cores=0.4))


# --- the highest load -----------------------------------------------------------------------------------------------


def up_to(limit: float, tried: list[float], **broken: Any) -> Callable[[float], figures.Result]:
    """A server that sustains at most `limit` rooms."""

    def attempt(rooms: float) -> figures.Result:
        tried.append(rooms)
        return result(rooms=rooms) if rooms <= limit else result(rooms=rooms, **({"p99": 80.0} | broken))

    return attempt


@pytest.mark.parametrize("limit", [0.7, 1.0, 1.2, 5.0, 37.0])
def test_the_search_ends_close_below_the_limit(limit: float) -> None:
    tried: list[float] = []
    best, why = figures.search(up_to(limit, tried), 1.0, 1000.0)
    assert best is not None and limit / figures.CLOSE_ENOUGH <= best["rooms"] <= limit
    assert why.startswith("p99 80 ms") and len(tried) < 30


def test_what_fails_once_is_tried_again() -> None:
    failures = {2.0}

    def attempt(rooms: float) -> figures.Result:
        if rooms in failures:
            failures.remove(rooms)
            raise SystemExit("bench: the generator failed")
        return result(rooms=rooms, p99=80.0 if rooms > 3.0 else 1.0)

    best, _ = figures.search(attempt, 1.0, 1000.0)
    assert best is not None and 2.7 < best["rooms"] <= 3.0


def test_the_search_gives_up_on_a_server_that_holds_nothing_and_stops_at_the_most() -> None:
    assert figures.search(up_to(0.0, []), 1.0, 1000.0)[0] is None
    best, why = figures.search(up_to(1e9, []), 1.0, 24.0)
    assert best is not None and best["rooms"] == 24.0 and figures.is_lower_bound(best, why)


@pytest.mark.parametrize(
    ("broken", "reason", "foreign"),
    [
        ({"ratio": 0.9}, "delivered 0.900", False),
        ({"p99": 51.0}, "p99 51 ms", False),
        ({"p99": 51.0, "generator_cores": 0.99}, "the generator was full", True),
        ({"p99": 51.0, "other_cores": 0.6}, "other processes took 0.60", True),
        ({"generator_saturated": True, "late_ms": {"p99": 8.0}}, "the generator was late (8 ms)", True),
    ],
)
def test_the_reason_distinguishes_server_from_generator(broken: dict[str, Any], reason: str, foreign: bool) -> None:
    why = figures.complaint(result(**broken))
    assert why.startswith(reason) and figures.is_lower_bound(result(), why) is foreign


def test_a_part_of_a_room_is_a_slower_room() -> None:
    assert Load.of(0.5, 100, 20.0) == Load(1, 100, 10.0)
    assert Load.of(1.5, 100, 20.0) == Load(2, 100, 15.0)
    assert str(Load(1, 100, 20.0)) == "1 room of 100 users, 20 cursors/s each: 198,000 deliveries/s"


# --- overload -------------------------------------------------------------------------------------------------------


def test_a_row_whose_generator_is_full_is_void_and_no_best() -> None:
    full, good = result(generator_cores=0.91, arrived_per_s=9000), result(generator_cores=0.9, arrived_per_s=900)
    loads = [(150, {"ours": [good]}), (200, {"ours": [full, full]}), (250, {"ours": [full, result(arrived_per_s=810)]})]
    first, void, half = figures.overload_rows(loads)
    assert first[:4] == ["150", "ours", "900", "1.00"]
    assert void[:3] == ["200", "ours", "void: generator 0.91 busy"] and set(void[3:]) == {""}
    assert half[:4] == ["250", "ours (1 of 2 runs void)", "810", "0.90"]
    assert {len(first), len(void), len(half)} == {len(figures.OVERLOAD_HEAD)}


def test_each_server_has_a_best_of_its_own() -> None:
    rows = figures.overload_rows(
        [
            (150, {"ours": [result(arrived_per_s=500)], "peer": [result(arrived_per_s=1000)]}),
            (200, {"ours": [result(arrived_per_s=400)], "peer": [result(arrived_per_s=2000)]}),
        ]
    )
    assert [row[3] for row in rows] == ["1.00", "0.50", "0.80", "1.00"]


def test_what_the_probe_saw_is_pooled_over_the_rounds_that_count() -> None:
    def probed(generator_cores: float, lost: dict[str, int], *ms: float) -> figures.Result:
        return result(generator_cores=generator_cores, probe={"ms": {"playback": list(ms)}, "lost": lost})

    runs = [probed(0.5, {"control: TimeoutError": 1}, 1.0, 2.0), probed(0.95, {"x": 9}, 900.0), probed(0.5, {}, 3.0)]
    row = figures.probe_row(runs)
    assert row == ["2.0, 3.0 (3)", *["none (0)"] * 4, "1 control: TimeoutError"]
    assert figures.probe_row(runs[1:2]) == ["void", *[""] * len(figures.PROBED)] and len(row) == len(figures.PROBED) + 1


@pytest.mark.parametrize(("part", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(part: float, expected: float) -> None:
    assert figures.percentile([4.0, 2.0, 1.0, 3.0], part) == expected


def test_a_rate_limited_variant_is_a_server_of_its_own_and_only_ours_is_probed() -> None:
    seen: dict[str, tuple[bool, tuple[str, ...]]] = {}

    def run(contender: Contender, load: Load, seconds: float) -> figures.Result:
        seen[contender.name] = contender.probed, contender.options
        return result(probe={"ms": {}, "lost": {}})

    peers = [PEER, Contender("bun", ("bun",))]
    bench = Bench(run, peers, repeat=1, rooms=[3], extras=True, obey=True)
    lines = compare.overload(bench)
    assert seen == {
        "koko_presence": (True, ("relief=2",)),
        "koko_presence, clients obey": (True, ("obey=1", "relief=2")),
        "bun": (False, ()),
    }
    assert row_of(lines, "3 | bun") and [line for line in lines if line.startswith("At the same time")]


# --- slow readers ---------------------------------------------------------------------------------------------------


def test_slow_readers_are_pooled_by_speed() -> None:
    def run(*readers: tuple[int, list[float], int]) -> figures.Result:
        keys = ("bytes_per_s", "ages_ms", "closed")
        return result(slow=[dict(zip(keys, reader, strict=True)) for reader in readers])

    rows = figures.slow_rows([run((8000, [30.0, 10.0], 0), (1000, [], 1)), run((8000, [20.0], 1), (1000, [7.0], 0))])
    assert rows == [["1 kB/s", "7", "7", "1", "1 of 2"], ["8 kB/s", "20", "30", "3", "1 of 2"]]
    assert figures.slow_rows([run((1000, [], 1))]) == [["1 kB/s", "none", "none", "0", "1 of 1"]]


def test_slow_readers_are_measured_for_longer_and_beside_a_room_without_them() -> None:
    seen: dict[str, tuple[float, float]] = {}

    def run(contender: Contender, load: Load, seconds: float) -> figures.Result:
        seen[contender.name] = seconds, load.users * load.hz
        return result(slow=[{"bytes_per_s": 1000, "ages_ms": [9.0], "closed": 0}] if contender is compare.SLOW else [])

    lines = compare.slow(Bench(run, repeat=1, seconds=1.0))
    assert seen == {"all members read": (20.0, 320.0), "some members read slowly": (20.0, 320.0)}
    assert row_of(lines, "1 kB/s")


# --- the session ----------------------------------------------------------------------------------------------------


def test_the_servers_take_turns() -> None:
    turns: list[str] = []

    def run(contender: Contender, load: Load, seconds: float) -> figures.Result:
        turns.append(contender.name)
        return result()

    results = Bench(run, repeat=2).rounds(Load(1, 2, 3.0), [compare.OURS, PEER])
    assert turns == ["koko_presence", "peer"] * 2 and [len(runs) for runs in results.values()] == [2, 2]


def test_a_failed_or_disturbed_run_is_repeated_and_the_quieter_kept() -> None:
    def once(*outcomes: figures.Result | SystemExit) -> figures.Result:
        left = list(outcomes)

        def run(contender: Contender, load: Load, seconds: float) -> figures.Result:
            outcome = left.pop(0)
            if isinstance(outcome, SystemExit):
                raise outcome
            return outcome

        return Bench(run).once(PEER, Load(1, 2, 3.0), 1.0, "1/1")

    quiet, noisy, noisier = result(), result(other_cores=0.3), result(other_cores=0.4)
    assert once(quiet) is quiet
    assert once(noisy, quiet) is quiet and once(noisy, noisier) is noisy
    assert once(SystemExit("died"), quiet) is quiet and once(noisy, SystemExit("died")) is noisy
    with pytest.raises(SystemExit, match="twice"):
        once(SystemExit("once"), SystemExit("twice"))


@pytest.mark.parametrize("name", list(compare.SCENARIOS))
def test_every_scenario_makes_a_table(name: str) -> None:
    def run(contender: Contender, load: Load, seconds: float) -> figures.Result:
        return result(p99=60.0 if load.rooms > 200 and load.users > 2 else 2.0)

    lines = compare.SCENARIOS[name].measure(Bench(run, peers=[PEER], repeat=1, most_clients=20_000))
    tables = [list(rows) for is_table, rows in groupby(lines, lambda line: line.startswith("|")) if is_table]
    assert len(tables[0]) >= 3 and all(len({row.count("|") for row in rows}) == 1 for rows in tables)


def test_only_and_write_are_checked_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare.os, "sched_getaffinity", lambda pid: {0, 1})
    assert compare.arguments_of(["--only", "pairs,full"]).only == ["full", "pairs"]
    assert compare.arguments_of(["--peers", ""]).peers == []
    assert compare.arguments_of(["--only", "overload", "--rooms", "7,9"]).rooms == (7, 9)
    assert compare.arguments_of([]).rooms == compare.OVERLOAD_ROOMS
    for line, said in {
        "--only fulll": "there is no 'fulll'; choose from full, compact",
        "--only full --write": "--write replaces every table",
        "--server-core 1": "two different ones of the cores",
        "--repeat 0": "--repeat is at least 1",
        "--phases odd": "invalid choice: 'odd'",
        "--only full --extras": "belong to the scenario overload",
        "--only full --obey": "belong to the scenario overload",
        "--only overload --rooms x": "numbers with commas between them",
        "--only overload --rooms 0": "at least one room",
    }.items():
        with pytest.raises(SystemExit):
            compare.arguments_of(line.split())
        assert said in capsys.readouterr().err


def test_a_peer_that_cannot_be_had_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise peers.Missing("needs npm: apt-get install nodejs npm")

    monkeypatch.setitem(peers.PEERS, "bun", peers.Peer("bun", lambda: "Bun", missing))
    found, lines = compare.contenders(["bun", "picows"])
    assert [peer.name for peer in found] == ["picows"] and lines == [
        "bun is left out: needs npm: apt-get install nodejs npm"
    ]


# --- the documentation ----------------------------------------------------------------------------------------------


def test_the_tables_replace_what_stood_between_the_markers() -> None:
    text = f"before\n{figures.BEGINS}\nold\n{figures.ENDS}\nafter\n"
    once = figures.between_markers(text, "| new |\n")
    assert once == f"before\n{figures.BEGINS}\n\n| new |\n\n{figures.ENDS}\nafter\n"
    assert figures.between_markers(once, "| new |") == once


@pytest.mark.parametrize("text", ["", figures.BEGINS, figures.ENDS, f"{figures.ENDS}\n{figures.BEGINS}"])
def test_missing_markers_are_reported(text: str) -> None:
    with pytest.raises(SystemExit, match="lacks the lines"):
        figures.between_markers(text, "new")


# --- HTTP beside the cursors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p99", "saturated", "verdict"), [(19.9, False, "yes"), (20.0, False, "no"), (5.0, True, "yes, but")]
)
def test_the_cursors_have_to_stay_below_the_bar_beside_http(p99: float, saturated: bool, verdict: str) -> None:
    last = {"last_receiver_ms": {"p99": p99}}
    row = http.beside_row("cursors", result(p99=p99, generator_saturated=saturated, **last), None)
    assert row[-1].startswith(verdict) and row[2] == f"{p99:.2f}" and len(row) == 9
