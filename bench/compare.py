"""Compares this server with its peers under the same load, in turn on the same cores: `python -m bench.compare`.

The speed of a host drifts, so figures of different minutes are not comparable. The servers alternate (A B C D, A B C
D), each run in a fresh process; the result is the ratio within a round, of which the median over the rounds is
reported. A ratio is the CPU time of this server per delivered cursor divided by that of the peer: below 1 this server
is cheaper. The peers (bench/peers) check, limit and store nothing; this server does all of that.
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
SLOW_S = 20.0  # measured: the delay of a slow reader grows until the server limits it
SLOW_BYTES_PER_S = (1000, 1000, 8000, 8000, 32000, 32000)

EXAMPLES = """
scenarios:
{scenarios}
peers (bun and node_ws are installed by npm on first use; an unavailable one is left out, with the reason):
{peers}
examples:
  python -m bench.compare --only pairs --repeat 2          one scenario, two rounds, about a minute
  python -m bench.compare --only full,light --peers bun    against Bun alone
  python -m bench.compare --only overload --peers bun --extras --obey    above capacity, 20 minutes
  python -m bench.compare --write                          everything, about an hour, into docs/performance.md

No other process should run on the two cores meanwhile. "generator late" is the delay of loadgen itself: if it is marked
as saturated, latencies and peaks are those of the generator, not of the server.
"""


@dataclass(frozen=True)
class Load:
    rooms: int
    users: int
    hz: float

    @classmethod
    def of(cls, rooms: float, users: int, hz: float) -> "Load":
        """Create a load that may include a fraction of a room: rounded up to whole rooms, with a lower rate for all."""
        whole = math.ceil(rooms)
        return cls(whole, users, hz * rooms / whole)

    def __str__(self) -> str:
        rooms = "1 room" if self.rooms == 1 else f"{self.rooms} rooms"
        offered = self.rooms * self.users * (self.users - 1) * self.hz
        return f"{rooms} of {self.users} users, {self.hz:g} cursors/s each: {offered:,.0f} deliveries/s"


@dataclass(frozen=True)
class Contender:
    """A server in the comparison; without a command it is this server. `options` are passed to the generator; with
    `probed` bench.probe runs at the same time. The measurement starts after `warmup_s` seconds."""

    name: str
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    probed: bool = False
    warmup_s: float = 1.0


OURS = Contender("koko_presence")
COMPACT = Contender("koko_presence, compact cursors", options=("caps=cursors",))
STOPPED = Contender("one member stops reading", options=("stop=1",))
# the advised interval grows by at most 5 % per 0.1 s: it reaches its maximum in less than 3 s
OBEDIENT = Contender("koko_presence, clients obey", options=("obey=1",), warmup_s=5.0)
SLOW = Contender("some members read slowly", options=(f"slow={','.join(map(str, SLOW_BYTES_PER_S))}",))
STORM = Contender("koko_presence, storm", options=("storm=1",))

Run = Callable[[Contender, Load, float], Result]


@dataclass
class Bench:
    """The parameters shared by the scenarios. `run` measures one server under one load for some seconds."""

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
        """Run once and print a progress line. A failed or disturbed run is repeated once; the less disturbed one
        counts."""
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
        """Run every server once per round, so that all runs of a round see similar conditions."""
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
    head = "server|deliveries/s sustained|us per delivery there|p99 ms there|generator's core there|next step"
    text = (
        f"Rooms of {users} users, 20 cursors/s each. The number of rooms rises until fewer than "
        f"{figures.MIN_DELIVERED:.0%} arrive, p99 is over {figures.MAX_P99_MS:.0f} ms or the generator is late. One "
        f"search for each server, {seconds:g} s a step."
    )
    return [text, "", *table(head.split("|"), rows)]


def stopped(bench: Bench) -> list[str]:
    load = Load(1, 100, 20.0)
    results = bench.rounds(load, [Contender("all members read"), STOPPED])
    rows = [
        [
            name, f"{middle(runs, 'latency_ms', 'p50'):.2f}", f"{middle(runs, 'latency_ms', 'p99'):.2f}",
            f"{middle(runs, 'latency_ms', 'max'):.2f}", f"{middle(runs, 'ratio'):.3f}",
            f"{middle(runs, 'server_rss_kib') / 1024:.1f}", f"{middle(runs, 'closed'):.0f}", lateness(runs),
        ]
        for name, runs in results.items()
    ]  # fmt: skip
    head = "|p50 ms of the others|p99 ms|max ms|delivered to the others|server MiB|closed|generator late p99 ms"
    return [f"This server only. {load}.", "", *table(head.split("|"), rows)]


def slow(bench: Bench) -> list[str]:
    """Measure the age of what slow readers get, and the effect on the fast readers of their room."""
    load, bench = Load(1, 20, 16.0), replace(bench, seconds=max(SLOW_S, bench.seconds))
    results = bench.rounds(load, [Contender("all members read"), SLOW])
    fast = [
        [
            name, f"{middle(runs, 'latency_ms', 'p50'):.2f}", f"{middle(runs, 'latency_ms', 'p99'):.2f}",
            f"{middle(runs, 'latency_ms', 'max'):.2f}", f"{middle(runs, 'ratio'):.3f}",
            f"{middle(runs, 'server_rss_kib') / 1024:.1f}", lateness(runs),
        ]
        for name, runs in results.items()
    ]  # fmt: skip
    head = "|p50 ms of the fast readers|p99 ms|max ms|delivered to them|server MiB|generator late p99 ms"
    text = (
        f"This server only. {load}. In the second row the last {len(SLOW_BYTES_PER_S)} members read at the speeds "
        f"below, with a receive buffer of 4096 bytes, and send like the others; {bench.seconds:g} s a run."
    )
    about = (
        "The age of the newest cursor whenever a read (every 20 ms) returned one, over all readers of a speed and all "
        "rounds; `closed`: readers that the server disconnected."
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
        "This server only. 2,000 clients connect, authenticate and join 20 rooms at once; each receives the joins of "
        "the others."
    )
    return [text, "", *table(["all joined, s", "join p50 ms", "p99 ms", "max ms"], [row])]


def overload(bench: Bench) -> list[str]:
    """Run each load in turn with all servers. With `extras` this server is probed, and the load is halved afterwards.

    Of the peers only Bun is measured if it is among them: the others are saturated at far lower loads.
    """
    ours = [OURS, OBEDIENT] if bench.obey else [OURS]
    if bench.extras:
        ours = [replace(each, options=(*each.options, f"relief={RELIEF_S:g}"), probed=True) for each in ours]
    peers = [peer for peer in bench.peers if peer.name == "bun"] or bench.peers
    loads = [(rooms, bench.rounds(Load(rooms, 10, 20.0), [*ours, *peers])) for rooms in bench.rooms]
    text = (
        "Rooms of 10 users, 20 cursors/s each: 1,800 deliveries/s offered per room. `delivered/s` counts what is read "
        "within the measurement, whenever it was sent; `of its best`: ratio to the same server's highest. `updates/s`: "
        "cursors of each sender that each receiver gets. A row whose generator is over "
        f"{figures.FULL_CORE:.0%} busy is void. Clients that obey are measured from {OBEDIENT.warmup_s:g} s on, when "
        "the advised interval has settled."
    )
    lines = [text, "", *table(figures.OVERLOAD_HEAD, figures.overload_rows(loads))]
    if bench.extras:
        text = (
            "At the same time, in quiet rooms of two and for new clients: p50, p99 ms (samples). `join` is from the "
            "message to `joined`, `connect` from the start of the connection to the same."
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
    "storm": Scenario("all clients connect at once", storm),
}


# --- the session ----------------------------------------------------------------------------------------------------


def measure(
    contender: Contender, load: Load, seconds: float, *, server_core: int, load_core: int, phases: str = "random"
) -> Result:
    """Start a fresh server process and run the generator once. Errors: SystemExit with the reason."""
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
    """Describe the machine, the versions and the method in one paragraph."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    ours = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "picows", "msgspec"))
    against = "; ".join(PEERS[name].about() for name in peers) or "no peer"
    machine = f"{model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores"
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {system}. Ours: koko_presence {version('koko-presence')} ({ours}). "
        f"Against: {against}. Over loopback, server and generator pinned to a core each, servers alternating, "
        f"{repeat} rounds of {seconds:g} s after 1 s of warm-up, {phases} phases; medians over the rounds. "
        "`ours / its` is the CPU per delivery within a round, lowest to highest in brackets; below 1 ours is cheaper. "
        "The peers check, limit and store nothing."
    )


def contenders(names: Sequence[str]) -> tuple[list[Contender], list[str]]:
    """The peers available on this machine, and a line for each that is not."""
    found, missing = [], []
    for name in names:
        try:
            found.append(Contender(name, tuple(PEERS[name].command())))
        except Missing as error:
            missing.append(f"{name} is left out: {error}")
            print(f"bench: {missing[-1]}", flush=True)
    return found, missing


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Parse `a,b` for argparse; the result is in the order of `known`."""

    def read(text: str) -> list[str]:
        wanted = [name for name in text.split(",") if name]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(known)}")
        return [name for name in known if name in wanted]

    return read


def numbers(text: str) -> tuple[int, ...]:
    """Parse `150,200` for argparse."""
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
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="seconds measured per run (5)")
    parser.add_argument(
        "--phases",
        choices=["even", "random"],
        default="random",
        help="send times of the clients: evenly spaced or random",
    )
    parser.add_argument("--rooms", type=numbers, default=None, metavar="N,N", help="overload: numbers of rooms of ten")
    parser.add_argument(
        "--extras", action="store_true",
        help="overload: also measure playback, control, typing and joins, and 2 s at half the load",
    )  # fmt: skip
    parser.add_argument("--obey", action="store_true", help="overload: also clients that obey the advised interval")
    parser.add_argument("--server-core", type=int, default=0, metavar="CORE", help="core of the servers (0)")
    parser.add_argument("--load-core", type=int, default=1, metavar="CORE", help="core of the generator (1)")
    parser.add_argument("--write", action="store_true", help="write the tables to docs/performance.md")
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
        figures.between_markers(DOCS.read_text(), "")  # fail now rather than after half an hour
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # inherited by the servers
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
