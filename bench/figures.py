"""Evaluates results of bench.load: ratios, tables, and the search for the highest sustained load. Runs no process."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

BEGINS, ENDS = "<!-- bench.compare begins -->", "<!-- bench.compare ends -->"

# A load is sustained while nearly all cursors arrive in time and the generator itself is not late.
MIN_DELIVERED, MAX_P99_MS = 0.99, 50.0
FULL_CORE = 0.9
DISTURBED_CORES = 0.1  # the share of other processes and the host above which a run is disturbed
CLOSE_ENOUGH = 1.1  # the search ends when the failed load is at most 10 % above the sustained one

Result = dict[str, Any]


def progress(result: Result) -> str:
    if "us_per_delivery" not in result:
        return f"all joined after {result['all_in_s']:.2f} s  join p99 {result['join_ms']['p99']:.1f} ms"
    latency, late = result["latency_ms"], result["late_ms"]["p99"]
    return (
        f"{result['us_per_delivery']:6.2f} us/delivery  p50 {latency['p50']:6.2f}  p99 {latency['p99']:6.2f} ms"
        f"  {result['deliveries_per_s']:>9,}/s  delivered {result['ratio']:.3f}  generator late p99 {late:.2f} ms"
        f"{'  GENERATOR SATURATED' if result['generator_saturated'] else ''}"
        f"{f'  others took {others(result):.2f} of a core' if others(result) > DISTURBED_CORES else ''}"
    )


def others(result: Result) -> float:
    """Cores used by neither the server nor the generator; 0 if not measured."""
    return float(result.get("other_cores", 0.0))


def ratios(ours: Sequence[Result], theirs: Sequence[Result]) -> list[float]:
    """This server's CPU time per delivery over the peer's, per round; rounds without any delivery are left out."""
    pairs = [(mine["us_per_delivery"], other["us_per_delivery"]) for mine, other in zip(ours, theirs, strict=True)]
    return [mine / other for mine, other in pairs if mine > 0 and other > 0]


def middle(results: Sequence[Result], *path: str) -> float:
    """The median over the rounds of one figure, such as `latency_ms`, `p99`."""

    def figure(result: Any) -> float:
        for key in path:
            result = result[key]
        return float(result)

    return median(figure(result) for result in results)


def lateness(results: Sequence[Result]) -> str:
    saturated = any(result["generator_saturated"] for result in results)
    return f"{middle(results, 'late_ms', 'p99'):.2f}{' (saturated)' if saturated else ''}"


def remark(results: Sequence[Result]) -> str:
    """The restrictions of a row: an overloaded server appears cheaper than it is."""
    remarks = []
    if middle(results, "ratio") < MIN_DELIVERED or middle(results, "latency_ms", "p99") > MAX_P99_MS:
        remarks.append("overloaded")
    if median(map(others, results)) > DISTURBED_CORES:
        remarks.append("disturbed by other processes")
    return f" ({', '.join(remarks)})" if remarks else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Format a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def ratio_table(results: Mapping[str, list[Result]]) -> list[str]:
    """Compare the first of `results` with all others."""
    ours = next(iter(results.values()))
    rows = []
    for name, theirs in results.items():
        found = ratios(ours, theirs)
        ratio = f"**{median(found):.2f}** ({min(found):.2f} to {max(found):.2f})" if found else "nothing delivered"
        per_delivery = median(result["bytes"] / max(1, result["delivered"]) for result in theirs)
        rows.append([
            name + remark(theirs), "1" if theirs is ours else ratio, f"{middle(theirs, 'us_per_delivery'):.2f}",
            f"{middle(theirs, 'latency_ms', 'p50'):.2f}", f"{middle(theirs, 'latency_ms', 'p99'):.2f}",
            f"{middle(theirs, 'ratio'):.3f}", f"{per_delivery:.0f}", lateness(theirs),
        ])  # fmt: skip
    head = "server|ours / its|us per delivery|p50 ms|p99 ms|delivered|bytes per delivery|generator late p99 ms"
    return table(head.split("|"), rows)


def is_void(result: Result) -> bool:
    """Whether the run is invalid for the server, because the generator was saturated."""
    return float(result["generator_cores"]) > FULL_CORE


def percentile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that is not exceeded by `part` of all samples."""
    return sorted(samples)[max(0, math.ceil(len(samples) * part) - 1)]


SLOW_HEAD = ["speed", "age of the newest cursor, p50 ms", "max ms", "samples", "closed"]


def slow_rows(results: Sequence[Result]) -> list[list[str]]:
    """One row per speed, over all its readers and all runs: the age of the newest cursor at each arrival."""
    rows = []
    readers = [reader for result in results for reader in result.get("slow", ())]
    for speed in sorted({reader["bytes_per_s"] for reader in readers}):
        alike = [reader for reader in readers if reader["bytes_per_s"] == speed]
        ages = [age for reader in alike for age in reader["ages_ms"]]
        told = [f"{percentile(ages, 0.5):.0f}", f"{max(ages):.0f}"] if ages else ["none", "none"]
        cut = sum(reader["closed"] for reader in alike)
        rows.append([f"{speed / 1000:g} kB/s", *told, f"{len(ages)}", f"{cut} of {len(alike)}"])
    return rows


PROBED = ("playback", "control", "typing", "join", "connect")


def overload_rows(loads: Sequence[tuple[int, Mapping[str, Sequence[Result]]]]) -> list[list[str]]:
    """One row per number of rooms and server: the medians of its valid runs, or the reason why there is none. `of its
    best` is the ratio of deliveries/s to the highest value of the same server in any valid row."""
    best: dict[str, float] = {}
    for _, by_name in loads:
        for name, runs in by_name.items():
            if good := [run for run in runs if not is_void(run)]:
                best[name] = max(best.get(name, 0.0), middle(good, "arrived_per_s"))
    return [
        [str(rooms), *_overload_row(name, runs, best.get(name, 0.0))]
        for rooms, by_name in loads
        for name, runs in by_name.items()
    ]


OVERLOAD_HEAD = [
    "rooms", "server", "delivered/s", "of its best", "p50 ms", "p99 ms", "updates/s: least, median", "advised ms",
    "closed", "server's core", "generator's core", "generator late p99 ms", "at half the load: p99 ms, delivered",
]  # fmt: skip


def _overload_row(name: str, runs: Sequence[Result], best: float) -> list[str]:
    good = [run for run in runs if not is_void(run)]
    if not good:
        busy = f"{middle(runs, 'generator_cores'):.2f}" if runs else "none"
        why = f"void: generator {busy} busy" if runs else "void: no run ended well"
        return [name, why, *[""] * (len(OVERLOAD_HEAD) - 3)]
    if len(good) < len(runs):
        name += f" ({len(runs) - len(good)} of {len(runs)} runs void)"
    if median(map(others, good)) > DISTURBED_CORES:
        name += " (disturbed by other processes)"
    arrived = middle(good, "arrived_per_s")
    relieved = all(run["relief_ms"]["count"] for run in good)
    after = f"{middle(good, 'relief_ms', 'p99'):.1f}, {middle(good, 'relief_ratio'):.3f}" if relieved else ""
    return [
        name, f"{arrived:,.0f}", f"{arrived / best:.2f}" if best else "", f"{middle(good, 'latency_ms', 'p50'):.1f}",
        f"{middle(good, 'latency_ms', 'p99'):.1f}",
        f"{middle(good, 'updates_hz', 'min'):.1f}, {middle(good, 'updates_hz', 'p50'):.1f}",
        f"{middle(good, 'advised_ms', 'p50'):.0f}", f"{sum(run['closed'] for run in good)}",
        f"{middle(good, 'server_cores'):.2f}", f"{middle(good, 'generator_cores'):.2f}", lateness(good), after,
    ]  # fmt: skip


def probe_row(runs: Sequence[Result]) -> list[str]:
    """p50, p99 and number of samples of bench.probe over all valid runs, and the losses."""
    good = [run["probe"] for run in runs if not is_void(run)]
    if not good:
        return ["void", *[""] * len(PROBED)]
    cells = []
    for kind in PROBED:
        samples = [ms for probe in good for ms in probe["ms"].get(kind, ())]
        at = [f"{percentile(samples, part):.1f}" for part in (0.5, 0.99)] if samples else ["none"]
        cells.append(f"{', '.join(at)} ({len(samples)})")
    lost: Counter[str] = Counter()
    for probe in good:
        lost.update(probe["lost"])
    return [*cells, ", ".join(f"{count} {why}" for why, count in sorted(lost.items())) or "nothing"]


def complaint(result: Result) -> str:
    """The reason why the load was not sustained; empty if it was."""
    late, p99 = result["late_ms"]["p99"], result["latency_ms"]["p99"]
    if not result["generator_saturated"] and result["ratio"] >= MIN_DELIVERED and p99 <= MAX_P99_MS:
        return ""
    if result["generator_cores"] >= FULL_CORE:
        return f"the generator was full ({result['generator_cores']:.2f} of its core)"
    if others(result) > DISTURBED_CORES:
        return f"other processes took {others(result):.2f} of a core"
    if p99 > MAX_P99_MS:
        return f"p99 {p99:.0f} ms ({result['server_cores']:.2f} of the server's core)"
    if result["ratio"] < MIN_DELIVERED:
        return f"delivered {result['ratio']:.3f} ({result['server_cores']:.2f} of the server's core)"
    return f"the generator was late ({late:.0f} ms)"


def is_lower_bound(best: Result, why: str) -> bool:
    """Whether the search ended for a reason outside of the server."""
    foreign = why.startswith(("the generator", "other processes", "the most sockets"))
    return foreign or best["generator_cores"] >= FULL_CORE


def search(attempt: Callable[[float], Result], start: float, most: float) -> tuple[Result | None, str]:
    """Search for the highest sustained load; returns its run, and the reason why the next load failed. A failed load is
    tried twice."""
    best: Result | None = None
    held, failed, why = 0.0, math.inf, ""
    rooms = start
    while failed > held * CLOSE_ENOUGH:
        for _ in range(2):
            try:
                result = attempt(rooms)
                trouble = complaint(result)
            except SystemExit as error:
                trouble = str(error)
            if not trouble:
                held, best = rooms, result
                break
        else:
            failed, why = rooms, trouble
        if failed == math.inf:
            if rooms >= most:
                return best, "the most sockets that may be open here"
            rooms = min(most, held * 2)
        elif held == 0.0:
            rooms = failed / 2
            if rooms < start / 32:
                break
        else:
            rooms = math.sqrt(held * failed)
    return best, why


def between_markers(text: str, block: str) -> str:
    """Replace the text between the markers by `block`. Errors: SystemExit if the markers are missing."""
    before, begins, rest = text.partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not begins or not ends:
        raise SystemExit(f"bench: docs/performance.md lacks the lines to write between:\n  {BEGINS}\n  {ENDS}")
    return f"{before}{BEGINS}\n\n{block.strip()}\n\n{ENDS}{after}"
