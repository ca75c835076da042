"""The pure parts of bench.compare: ratios within a round, tables, the search for the highest load, the docs' markers."""

from collections.abc import Callable
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
def test_a_row_that_misleads_says_so(runs: list[figures.Result], remark: str) -> None:
    assert figures.remark(runs) == remark


def test_a_late_generator_is_named_in_table_and_progress() -> None:
    late = result(generator_saturated=True, late_ms={"p99": 9.0})
    assert figures.lateness([result(), late, late]) == "9.00 (saturated)"
    assert "GENERATOR SATURATED" in figures.progress(late) and "GENERATOR" not in figures.progress(result())
    assert "others took 0.40 of a core" in figures.progress(result(other_cores=0.4))


# --- the highest load -----------------------------------------------------------------------------------------------


def up_to(limit: float, tried: list[float], **broken: Any) -> Callable[[float], figures.Result]:
    """A server that holds `limit` rooms."""

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
def test_the_reason_tells_server_from_generator(broken: dict[str, Any], reason: str, foreign: bool) -> None:
    why = figures.complaint(result(**broken))
    assert why.startswith(reason) and figures.is_lower_bound(result(), why) is foreign


def test_a_part_of_a_room_is_a_slower_room() -> None:
    assert Load.of(0.5, 100, 20.0) == Load(1, 100, 10.0)
    assert Load.of(1.5, 100, 20.0) == Load(2, 100, 15.0)
    assert str(Load(1, 100, 20.0)) == "1 room of 100 users, 20 cursors/s each: 198,000 deliveries/s"


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
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) >= 3 and len({row.count("|") for row in rows}) == 1


def test_only_and_write_are_checked_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare.os, "sched_getaffinity", lambda pid: {0, 1})
    assert compare.arguments_of(["--only", "pairs,full"]).only == ["full", "pairs"]
    assert compare.arguments_of(["--peers", ""]).peers == []
    for line in (["--only", "fulll"], ["--only", "full", "--write"], ["--server-core", "1"], ["--repeat", "0"]):
        with pytest.raises(SystemExit):
            compare.arguments_of(line)
    assert "there is no 'fulll'; choose from full, compact" in capsys.readouterr().err


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
def test_missing_markers_are_told(text: str) -> None:
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
