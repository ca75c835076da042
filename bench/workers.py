"""Measures the overhead and the scaling of several workers: `python -m bench.workers`, or `--only across`, `cost`,
`curve`, `overload`.

across  A cursor whose sender, room and receiver are at three workers, compared with a single worker, machine idle.
cost    20 rooms of 50 users at 20 Hz on one worker and on four: CPU time of the whole service per delivered cursor.
curve   Rooms of 20 and of 4 on 1, 2, 4 and 8 workers, for the sizing of a host.
overload  200 and 400 rooms of ten on four workers, more than they carry on two cores together with the generator:
        deliveries, disconnects, and the latencies of playback, control, typing and joins.

The cases alternate (A B, A B); the results are medians over the rounds. The generator needs a core of its own: on a
machine with two cores the workers share the rest, so latencies of `cost` and `curve` are those of a saturated machine.
"""

import argparse
import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import uvloop

from koko_presence.auth.hmac_jwt import issue_token
from koko_presence.cluster.placement import Peer, Ring, View, room_key

from .chaos import workers_of
from .crowd import Connection, encode, frame
from .figures import Result, middle, table
from .load import SECRET, koko_server, run_load

PORT = 18094
PAIRS = 8
ACROSS_HZ = 25.0


# --- across -----------------------------------------------------------------------------------------------------------


class Guest(Connection):
    """A client that joins one room and notes the arrival of cursors."""

    def __init__(self, user: str, on_cursor: Callable[[], None]) -> None:
        self.user, self.room, self._on_cursor = user, "", on_cursor
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        super().__init__(lambda: None, self._hear, lambda code: None)

    def enter(self, room: str) -> None:
        self.room = room
        self.send({"type": "auth", "token": issue_token(SECRET, user=self.user, now_s=int(time.time()))})
        self.send({"type": "join", "roomId": room, "roomType": "video"})

    def _hear(self, message: Any) -> None:
        if message.type == "joined" and not self.joined.done():
            self.joined.set_result(None)

    def data_received(self, data: bytes) -> None:
        if b'"cursor_moved"' in data:
            self._on_cursor()
        super().data_received(data)


def worker_at(local_port: int, pids: list[int]) -> int | None:
    """The index in `pids` of the process with the server side of the connection from `local_port`; None before it is
    accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(address.split(":")[1], 16) for address in fields[1:3])
        if (here, there) == (PORT, local_port):
            name = f"socket:[{fields[9]}]"
            for number, pid in enumerate(pids):
                if any(os.readlink(file) == name for file in Path(f"/proc/{pid}/fd").iterdir()):
                    return number
    return None


async def guest_at(slot: int | None, pids: list[int], user: str, on_cursor: Callable[[], None]) -> Guest:
    """Open a connection that the kernel has assigned to the worker of `slot`; to any worker if None."""
    while True:
        guest = Guest(user, on_cursor)
        await asyncio.get_running_loop().create_connection(lambda guest=guest: guest, "127.0.0.1", PORT)  # type: ignore[misc]
        while not guest.open:
            await asyncio.sleep(0.005)
        if slot is None or worker_at(guest.local_port, pids) == slot:
            return guest
        guest.transport.abort()


def room_of(slot: int, slots: int) -> str:
    """Return a room id that the worker of `slot` owns."""
    ring = Ring(View(epoch=1, peers=tuple(Peer(id=number, slot=number, address="") for number in range(slots))))
    while True:
        room = f"video_{random.randrange(10**9)}"
        if ring.owner(room_key(room)) == slot:
            return room


async def across(supervisor: int, slots: int, seconds: float, same: bool) -> list[float]:
    """Milliseconds from a sender's write to the receiver's read, one cursor at a time. `same` puts all three on one
    worker."""
    pids = workers_of(supervisor) if slots > 1 else [supervisor]
    pairs: list[Guest] = []
    found: list[float] = []
    sent_at = 0.0

    def note() -> None:
        found.append((time.perf_counter() - sent_at) * 1000.0)

    for number in range(PAIRS):
        owner, sender, receiver = (0, 0, 0) if same else random.sample(range(slots), 3)
        room = room_of(owner, slots)
        guests = [
            await guest_at(sender, pids, f"from{number}", lambda: None),
            await guest_at(receiver, pids, f"to{number}", note),
        ]
        for guest in guests:
            guest.enter(room)
            await guest.joined
        pairs.append(guests[0])
    await asyncio.sleep(0.5)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for guest in pairs:
            data = {"timestamp": 1.0, "x": round(random.random(), 3), "y": 0.5}
            cursor = frame(encode({"type": "cursor", "roomId": guest.room, "data": data}))
            sent_at = time.perf_counter()
            guest.transport.write(cursor)
            await asyncio.sleep(1.0 / ACROSS_HZ)
    return found


def show_across(rounds: int, seconds: float) -> None:
    cases = {
        "one worker": (1, True),
        "four workers, all three on one": (4, True),
        "four workers, all three apart": (4, False),
    }
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, (slots, same) in cases.items():
            with koko_server(PORT, None, server_workers=slots, operator_port=0, log_level="error") as pid:
                time.sleep(1.0)
                found = uvloop.run(across(pid, slots, seconds, same))
            rows[name].append((median(found), quantiles(found, n=100)[98]))
            print(f"across {number + 1}/{rounds}  {name:32} p50 {rows[name][-1][0]:.3f} ms  n {len(found)}", flush=True)
    lines = [[name, *(f"{median(row[at] for row in found):.3f}" for at in (0, 1))] for name, found in rows.items()]
    print("\n".join(table(["sender, room, receiver", "p50 ms", "p99 ms"], lines)))


# --- cost and curve ---------------------------------------------------------------------------------------------------


def measure(workers: int, rooms: int, users: int, hz: float, seconds: float) -> Result:
    with koko_server(PORT, None, server_workers=workers, operator_port=0, log_level="error") as pid:
        time.sleep(1.0)
        return run_load(
            PORT, pid, rooms=rooms, users=users, hz=hz, warmup_s=2.0, measure_s=seconds, core=None, options=[]
        )


def rounds_of(cases: dict[str, tuple[int, int, int, float]], rounds: int, seconds: float) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, (workers, rooms, users, hz) in cases.items():
            result = measure(workers, rooms, users, hz, seconds)
            found[name].append(result)
            print(
                f"{number + 1}/{rounds}  {name:34} {result['us_per_delivery']:.3f} us/delivery  "
                f"p99 {result['latency_ms']['p99']:6.2f} ms  delivered {result['ratio']:.3f}  "
                f"server {result['server_cores']:.2f} cores, generator {result['generator_cores']:.2f}",
                flush=True,
            )
    return found


def show_loads(cases: dict[str, tuple[int, int, int, float]], rounds: int, seconds: float) -> None:
    found = rounds_of(cases, rounds, seconds)
    first = next(iter(found.values()))
    lines = []
    for name, runs in found.items():
        ratio = median(a["us_per_delivery"] / b["us_per_delivery"] for a, b in zip(runs, first, strict=True))
        lines.append([
            name, f"{middle(runs, 'us_per_delivery'):.3f}", f"{ratio:.2f}", f"{middle(runs, 'latency_ms', 'p50'):.1f}",
            f"{middle(runs, 'latency_ms', 'p99'):.1f}", f"{middle(runs, 'ratio'):.3f}",
            f"{middle(runs, 'deliveries_per_s'):,.0f}", f"{middle(runs, 'server_cores'):.2f}",
            f"{middle(runs, 'bytes') / seconds / 1e6:.1f}",
        ])  # fmt: skip
    head = "load|us per delivery|to the first|p50 ms|p99 ms|delivered|deliveries/s|cores|MB/s"
    print("\n".join(table(head.split("|"), lines)))


def show_overload(seconds: float) -> None:
    """Print counts, and which kinds are served first; latencies are those of a saturated machine."""
    lines = []
    for rooms in (200, 400):
        with koko_server(PORT, None, server_workers=4, operator_port=0, log_level="error") as pid:
            time.sleep(1.0)
            run = run_load(
                PORT, pid, rooms=rooms, users=10, hz=20.0, warmup_s=2.0, measure_s=seconds, core=None, options=[],
                probed=True,
            )  # fmt: skip
        probe = run["probe"]
        kinds = (
            f"{quantiles(probe['ms'][kind], n=100)[98]:,.0f}" for kind in ("playback", "control", "typing", "join")
        )
        lost = ", ".join(f"{why} {count}" for why, count in probe["lost"].items()) or "nothing"
        lines.append([
            str(rooms), f"{rooms * 10 * 9 * 20:,}", f"{run['arrived_per_s']:,}", str(run["closed"]), lost, *kinds,
            f"{run['latency_ms']['p99']:,.0f}", f"{run['server_cores']:.2f}",
        ])  # fmt: skip
    head = "rooms|offered/s|delivered/s|closed|lost|playback p99 ms|control|typing|join|cursors|server's cores"
    print("\n".join(table(head.split("|"), lines)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("", "across", "cost", "curve", "overload"), default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    if arguments.only in ("", "across"):
        show_across(arguments.rounds, arguments.seconds)
    if arguments.only in ("", "cost"):
        cases = {f"{workers} workers, 20 rooms of 50": (workers, 20, 50, 20.0) for workers in (1, 4)}
        show_loads(cases, arguments.rounds, arguments.seconds)
    if arguments.only in ("", "curve"):
        curve = {f"{workers} workers, 20 rooms of 20": (workers, 20, 20, 20.0) for workers in (1, 2, 4, 8)}
        curve |= {f"{workers} workers, 100 rooms of 4": (workers, 100, 4, 10.0) for workers in (1, 2, 4, 8)}
        show_loads(curve, arguments.rounds, arguments.seconds)
    if arguments.only in ("", "overload"):
        show_overload(arguments.seconds)


if __name__ == "__main__":
    main()
