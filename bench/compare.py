"""Our server and its peers under the same load, in turns on the same cores: `python -m bench.compare`.

A host drifts, so no figure of one minute is held against one of another: the servers take turns (A B C D, A B C D),
every run has a fresh process, and what counts is the ratio within a round, of which the median over the rounds is told.
A ratio is our server's CPU per delivered cursor divided by the peer's: below 1 ours is cheaper. The peers (bench/peers)
check nothing, limit nothing and remember nothing; ours does all of that besides.
"""

import argparse
import math
import os
import platform
import re
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from . import figures
from .figures import Result, lateness, middle, table
from .load import koko_server, run_load, server_process
from .peers import PEERS, Missing

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "performance.md"
SEARCH_S = 2.0
OVERLOAD_ROOMS = (150, 200, 250, 300, 400, 600)
RELIEF_S = 2.0
SLOW_S = 20.0  # measured: a slow reader falls behind by more and more until the server does something about it
SLOW_BYTES_PER_S = (1000, 1000, 8000, 8000, 32000, 32000)

EXAMPLES = """
scenarios:
{scenarios}
peers (bun and node_ws come from npm on first use; one that cannot be had is left out, and the output says why):
{peers}
examples:
  python -m bench.compare --only pairs --repeat 2          one question, two rounds, about a minute
  python -m bench.compare --only full,light --peers bun    against Bun alone
  python -m bench.compare --only overload --peers bun --extras --obey    above capacity, 20 minutes
  python -m bench.compare --write                          everything, about an hour, into docs/performance.md

Nothing else should run on the two cores meanwhile. "generator late" is loadgen's own lateness: where it is marked
saturated, latencies and peaks are the generator's, not the server's.
"""


@dataclass(frozen=True)
class Load:
    rooms: int
    users: int
    hz: float

    @classmethod
    def of(cls, rooms: float, users: int, hz: float) -> "Load":
        """Also for a part of a room: one room more, all of them a little slower."""
        whole = math.ceil(rooms)
        return cls(whole, users, hz * rooms / whole)

    def __str__(self) -> str:
        rooms = "1 room" if self.rooms == 1 else f"{self.rooms} rooms"
        offered = self.rooms * self.users * (self.users - 1) * self.hz
        return f"{rooms} of {self.users} users, {self.hz:g} cursors/s each: {offered:,.0f} deliveries/s"


@dataclass(frozen=True)
class Contender:
    """A server in the comparison; without a command it is ours. `options` are the generator's; with `probed`
    bench.probe runs beside it. Measured is after `warmup_s` seconds."""

    name: str
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    probed: bool = False
    warmup_s: float = 1.0


OURS = Contender("koko_presence")
COMPACT = Contender("koko_presence, compact cursors", options=("caps=cursors",))
STOPPED = Contender("one member stops reading", options=("stop=1",))
# the advised interval grows by at most 5 % each 0.1 s: to its highest in less than 3 s
OBEDIENT = Contender("koko_presence, clients obey", options=("obey=1",), warmup_s=5.0)
SLOW = Contender("some members read slowly", options=(f"slow={','.join(map(str, SLOW_BYTES_PER_S))}",))
STORM = Contender("koko_presence, storm", options=("storm=1",))

Run = Callable[[Contender, Load, float], Result]


@dataclass
class Bench:
    """What the scenarios share. `run` measures one server under one load for some seconds."""

    run: Run
    peers: Sequence[Contender] = ()
    repeat: int = 3
    seconds: float = 5.0
    most_clients: int = 900
    label: str = ""
    rooms: Sequence[int] = OVERLOAD_ROOMS  # of the scenario overload
    extras: bool = False
    obey: bool = False

    def once(self, contender: Contender, load: Load, seconds: float, turn: str) -> Result:
        """One run with its progress line. One that fails or is disturbed is tried again, and the quieter one kept."""
        tries: list[Result] = []
        for last in (False, True):
            try:
                tries.append(self.run(contender, load, seconds))
            except SystemExit as error:
                if last and not tries:
                    raise
                print(f"{self.label} {turn}  {contender.name:30}  {error}", flush=True)
                continue
            print(f"{self.label} {turn}  {contender.name:30}  {figures.progress(tries[-1])}", flush=True)
            if figures.others(tries[-1]) <= figures.DISTURBED_CORES:
                break
        return min(tries, key=figures.others)

    def rounds(self, load: Load, contenders: Sequence[Contender]) -> dict[str, list[Result]]:
        """In turns: every contender once per round, so that all of a round see about the same machine."""
        results: dict[str, list[Result]] = {contender.name: [] for contender in contenders}
        for number in range(1, self.repeat + 1):
            for contender in contenders:
                result = self.once(contender, load, self.seconds, f"{number}/{self.repeat}")
                results[contender.name].append(result)
        return results


# --- scenarios ------------------------------------------------------------------------------------------------------


def versus(bench: Bench, load: Load, *ours: Contender) -> list[str]:
    return [f"{load}.", "", *figures.ratio_table(bench.rounds(load, [*ours, *bench.peers]))]


def peak(bench: Bench, users: int, start: float) -> list[str]:
    rows = []
    seconds = min(SEARCH_S, bench.seconds)
    for contender in (OURS, *bench.peers):

        def attempt(rooms: float, contender: Contender = contender) -> Result:
            return bench.once(contender, Load.of(rooms, users, 20.0), seconds, f"{rooms:7.2f} rooms")

        best, why = figures.search(attempt, start, bench.most_clients // users)
        if best is None:
            rows.append([contender.name, "nothing sustained", "", "", "", why])
            continue
        least = "at least " if figures.is_lower_bound(best, why) else ""
        rows.append([
            contender.name, f"{least}{best['deliveries_per_s']:,}", f"{best['us_per_delivery']:.2f}",
            f"{best['latency_ms']['p99']:.1f}", f"{best['generator_cores']:.2f}", why,
        ])  # fmt: skip
    head = "server|deliveries/s sustained|us per delivery there|p99 ms there|generator's core there|the next step up"
    text = (
        f"Rooms of {users} users, 20 cursors/s each, more and more of them until fewer than "
        f"{figures.MIN_DELIVERED:.0%} arrive, p99 is over {figures.MAX_P99_MS:.0f} ms or the generator is late. One "
        f"search each, {seconds:g} s a step."
    )
    return [text, "", *table(head.split("|"), rows)]


def stopped(bench: Bench) -> list[str]:
    load = Load(1, 100, 20.0)
    results = bench.rounds(load, [Contender("everybody reads"), STOPPED])
    rows = [
        [
            name, f"{middle(runs, 'latency_ms', 'p50'):.2f}", f"{middle(runs, 'latency_ms', 'p99'):.2f}",
            f"{middle(runs, 'latency_ms', 'max'):.2f}", f"{middle(runs, 'ratio'):.3f}",
            f"{middle(runs, 'server_rss_kib') / 1024:.1f}", f"{middle(runs, 'closed'):.0f}", lateness(runs),
        ]
        for name, runs in results.items()
    ]  # fmt: skip
    head = "|p50 ms of the others|p99 ms|max ms|delivered to the others|server MiB|closed|generator late p99 ms"
    return [f"Our server alone. {load}.", "", *table(head.split("|"), rows)]


def slow(bench: Bench) -> list[str]:
    """How old is what a slow reader gets, and what does it cost the fast ones of its room?"""
    load, bench = Load(1, 20, 16.0), replace(bench, seconds=max(SLOW_S, bench.seconds))
    results = bench.rounds(load, [Contender("everybody reads"), SLOW])
    fast = [
        [
            name, f"{middle(runs, 'latency_ms', 'p50'):.2f}", f"{middle(runs, 'latency_ms', 'p99'):.2f}",
            f"{middle(runs, 'latency_ms', 'max'):.2f}", f"{middle(runs, 'ratio'):.3f}",
            f"{middle(runs, 'server_rss_kib') / 1024:.1f}", lateness(runs),
        ]
        for name, runs in results.items()
    ]  # fmt: skip
    head = "|p50 ms of the fast ones|p99 ms|max ms|delivered to them|server MiB|generator late p99 ms"
    text = (
        f"Our server alone. {load}. In the second row the last {len(SLOW_BYTES_PER_S)} read so slowly, with a receive "
        f"buffer of 4096 bytes, and send as the others do; {bench.seconds:g} s a run."
    )
    about = (
        "The age of the newest cursor at each look (every 20 ms) that brought a slow reader one, over all of its speed "
        "and all rounds; `cut` is how many the server closed."
    )
    return [
        text, "", *table(head.split("|"), fast), "", about, "",
        *table(figures.SLOW_HEAD, figures.slow_rows(results[SLOW.name])),
    ]  # fmt: skip


def storm(bench: Bench) -> list[str]:
    runs = bench.rounds(Load(20, 100, 20.0), [STORM])[STORM.name]
    keys = ("p50", "p99", "max")
    row = [f"{middle(runs, 'all_in_s'):.2f}", *(f"{middle(runs, 'join_ms', key):.1f}" for key in keys)]
    text = (
        "Our server alone. 2,000 people connect, authenticate and join 20 rooms at once, each seeing the others come."
    )
    return [text, "", *table(["all in, s", "join p50 ms", "p99 ms", "max ms"], [row])]


def overload(bench: Bench) -> list[str]:
    """Each load in turns, the loads one after the other. With `extras` ours is probed, and the load halved after it.

    Of the peers Bun alone where it is among them: the others are full long before.
    """
    ours = [OURS, OBEDIENT] if bench.obey else [OURS]
    if bench.extras:
        ours = [replace(each, options=(*each.options, f"relief={RELIEF_S:g}"), probed=True) for each in ours]
    peers = [peer for peer in bench.peers if peer.name == "bun"] or bench.peers
    loads = [(rooms, bench.rounds(Load(rooms, 10, 20.0), [*ours, *peers])) for rooms in bench.rooms]
    text = (
        "Rooms of 10 users, 20 cursors/s each: 1,800 deliveries/s offered per room. `delivered/s` counts what is read "
        "within the measurement, whenever it was sent; `of its best`: against the same server's highest. `updates/s`: "
        "how often each receiver sees each sender move. A row whose generator is over "
        f"{figures.FULL_CORE:.0%} busy is void. Clients that obey are measured from {OBEDIENT.warmup_s:g} s on, when "
        "the advised interval has settled."
    )
    lines = [text, "", *table(figures.OVERLOAD_HEAD, figures.overload_rows(loads))]
    if bench.extras:
        text = (
            "Beside it, in quiet rooms of two and for newcomers: p50, p99 ms (samples). `join` is from the message to "
            "`joined`, `newcomer` from the connect."
        )
        rows = [
            [str(rooms), each.name, *figures.probe_row(by_name[each.name])] for rooms, by_name in loads for each in ours
        ]
        lines += ["", text, "", *table(["rooms", "server", *figures.PROBED, "lost"], rows)]
    return lines


@dataclass(frozen=True)
class Scenario:
    about: str
    measure: Callable[[Bench], list[str]]


FULL = Load(1, 100, 20.0)
SCENARIOS = {
    "full": Scenario("a full room", lambda bench: versus(bench, FULL, OURS)),
    "compact": Scenario("a full room with compact cursors", lambda bench: versus(bench, FULL, COMPACT, OURS)),
    "light": Scenario("rooms of ten", lambda bench: versus(bench, Load(10, 10, 20.0), OURS)),
    "pairs": Scenario("rooms of two", lambda bench: versus(bench, Load(500, 2, 10.0), OURS)),
    "many_full": Scenario("the most full rooms", lambda bench: peak(bench, 100, 1.0)),
    "many_small": Scenario("the most rooms of ten", lambda bench: peak(bench, 10, 32.0)),
    "stopped": Scenario("one member stops reading", stopped),
    "slow": Scenario("some members read slowly", slow),
    "overload": Scenario("rooms of ten, more than a core carries", overload),
    "storm": Scenario("everybody comes at once", storm),
}


# --- the session ----------------------------------------------------------------------------------------------------


def measure(
    contender: Contender, load: Load, seconds: float, *, server_core: int, load_core: int, phases: str = "random"
) -> Result:
    """A fresh process of the server, one run of the generator. Errors: SystemExit with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    if contender.command:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        server = server_process([*contender.command, str(port)], server_core, env, port)
    else:
        server = koko_server(port, server_core)
    with server as pid:
        return run_load(
            port, pid, rooms=load.rooms, users=load.users, hz=load.hz, warmup_s=contender.warmup_s, measure_s=seconds,
            core=load_core, options=[f"phases={phases}", *contender.options], probed=contender.probed,
        )  # fmt: skip


def environment(peers: Sequence[str], repeat: int, seconds: float, phases: str) -> str:
    """The machine, the versions and the method, as one paragraph."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    ours = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "picows", "msgspec"))
    against = "; ".join(PEERS[name].about() for name in peers) or "nobody"
    machine = f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores"
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {system}. Ours: koko_presence {version('koko-presence')} ({ours}). "
        f"Against: {against}. Over loopback, server and generator pinned to a core each, servers in turns, "
        f"{repeat} rounds of {seconds:g} s after 1 s of warm-up, {phases} phases; medians over the rounds. "
        "`ours / its` is the CPU per delivery within a round, lowest to highest in brackets; below 1 ours is cheaper. "
        "The peers check, limit and remember nothing."
    )


def contenders(names: Sequence[str]) -> tuple[list[Contender], list[str]]:
    """The peers that can be had here, and a line for each that cannot."""
    found, missing = [], []
    for name in names:
        try:
            found.append(Contender(name, tuple(PEERS[name].command())))
        except Missing as error:
            missing.append(f"{name} is left out: {error}")
            print(f"bench: {missing[-1]}", flush=True)
    return found, missing


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads `a,b` on the command line, in the order of `known`."""

    def read(text: str) -> list[str]:
        wanted = [name for name in text.split(",") if name]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(known)}")
        return [name for name in known if name in wanted]

    return read


def numbers(text: str) -> tuple[int, ...]:
    """Reads `150,200` on the command line."""
    try:
        found = tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError("numbers with commas between them, such as 150,200") from None
    if min(found) < 1:
        raise argparse.ArgumentTypeError("at least one room")
    return found


def arguments_of(line: Sequence[str] | None) -> argparse.Namespace:
    scenarios = "".join(f"  {name:12} {scenario.about}\n" for name, scenario in SCENARIOS.items())
    peers = "".join(f"  {name}\n" for name in PEERS)
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, epilog=EXAMPLES.format(scenarios=scenarios, peers=peers),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    every = list(SCENARIOS)
    parser.add_argument("--only", type=names_of(SCENARIOS), default=every, metavar="A,B", help="only these scenarios")
    parser.add_argument("--peers", type=names_of(PEERS), default=list(PEERS), metavar="A,B", help='"" for none')
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (3)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="measured in each run (5)")
    parser.add_argument(
        "--phases",
        choices=["even", "random"],
        default="random",
        help="when each of them sends: evenly spaced, or anyhow",
    )
    parser.add_argument(
        "--rooms", type=numbers, default=None, metavar="N,N", help="overload: these numbers of rooms of ten"
    )
    parser.add_argument(
        "--extras", action="store_true",
        help="overload: playback, control, typing and joins beside it, and 2 s after the load has fallen to half",
    )  # fmt: skip
    parser.add_argument("--obey", action="store_true", help="overload: also clients that obey the advised interval")
    parser.add_argument("--server-core", type=int, default=0, metavar="CORE", help="where the servers run (0)")
    parser.add_argument("--load-core", type=int, default=1, metavar="CORE", help="where the generator runs (1)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    arguments = parser.parse_args(line)
    if arguments.repeat < 1 or arguments.seconds <= 0:
        parser.error("--repeat is at least 1, --seconds more than 0")
    if "overload" not in arguments.only and (arguments.rooms or arguments.extras or arguments.obey):
        parser.error("--rooms, --extras and --obey belong to the scenario overload")
    arguments.rooms = arguments.rooms or OVERLOAD_ROOMS
    if arguments.write and arguments.only != every:
        parser.error("--write replaces every table, so it wants every scenario: leave out --only")
    cores = {arguments.server_core, arguments.load_core}
    if len(cores) < 2 or not cores <= os.sched_getaffinity(0):
        usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        parser.error(f"--server-core and --load-core are two different ones of the cores usable here: {usable}")
    return arguments


def main(line: Sequence[str] | None = None) -> None:
    arguments = arguments_of(line)
    if arguments.write:
        figures.between_markers(DOCS.read_text(), "")  # now rather than after half an hour
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # the servers inherit it
    peers, missing = contenders(arguments.peers)
    run = partial(
        measure, server_core=arguments.server_core, load_core=arguments.load_core, phases=arguments.phases
    )  # fmt: skip
    bench = Bench(
        run, peers, arguments.repeat, arguments.seconds, most_clients=max(100, most_files - 500), rooms=arguments.rooms,
        extras=arguments.extras, obey=arguments.obey,
    )  # fmt: skip

    blocks = [environment([peer.name for peer in peers], bench.repeat, bench.seconds, arguments.phases), *missing]
    failed = []
    for name in arguments.only:
        bench.label = name
        try:
            lines = SCENARIOS[name].measure(bench)
        except SystemExit as error:
            print(f"bench: {name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        blocks.append("\n".join([f"### {SCENARIOS[name].about} (`--only {name}`)", "", *lines]))
        print(f"\n{blocks[-1]}\n", flush=True)
    print(blocks[0])
    if failed:
        raise SystemExit(f"bench: failed: {', '.join(failed)}{'; nothing is written' if arguments.write else ''}")
    if arguments.write:
        DOCS.write_text(figures.between_markers(DOCS.read_text(), "\n\n".join(blocks)))
        print("bench: written to docs/performance.md")


if __name__ == "__main__":
    main()
