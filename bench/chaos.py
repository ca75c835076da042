"""Kills and replaces workers under load: `python -m bench.chaos --rounds 20`, or `--only rolling`.

Starts a server of four workers and many clients (crowd.py); every room has a controller and a running video. Each round
kills one worker with SIGKILL while controllers seek; its clients reconnect with their resume tokens after 50 to 800 ms,
except one in twenty, which stays away. Counted are user_left events of clients that reconnected, ghosts 6 s after the
kill, rooms that take longer than 300 ms to serve clients that stayed connected, jumps of the video, lost seeks and lost
control, present clients shown as disconnected, and events out of order or from two owners. Then a rolling reload under
the same load. Exit code 1 if a limit is exceeded.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import uvloop

from .crowd import Crowd, Watch
from .load import SECRET, koko_server

ROUND_S = 6.0  # the grace period of 5 s, plus 1 s
STAY_AWAY = 0.05
SEEKS_AT_S = (-0.002, 0.05, 0.2)  # relative to the kill
SERVE_BAR_S, JUMP_BAR_S = 0.3, 0.1
BARS = ("false_left", "ghosts", "not_resumed", "late_rooms", "jumps", "control", "seeks", "pale", "disorder")


def workers_of(supervisor: int) -> list[int]:
    """The pids of a supervisor's workers."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(child) for child in children if b"koko-presence worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def false_leaves(watch: Watch, crowd: Crowd) -> list[tuple[float, str, str]]:
    """The user_left events of sessions that are present and did not leave."""
    here = {client.session_id for client in crowd.clients if client.view is not None}
    return [left for left in watch.left if left[1] in here and left[2] != "left"]


async def probe_until(crowd: Crowd, end: float) -> None:
    """Send a probe between two connected clients of each room every 20 ms, until it arrives."""
    while time.monotonic() < end:
        for room in crowd.rooms:
            if room.id not in crowd.watch.served:
                here = [client for client in room.clients if client.view is not None and not client.lost_at]
                if len(here) > 1:
                    crowd.watch.asked.add(room.id)
                    crowd.probe(here[0], here[1])
        await asyncio.sleep(0.02)


async def kill_rounds(crowd: Crowd, supervisor: int, rounds: int) -> dict[str, float]:
    """Kill the workers one after the other; returns the sums and the worst values."""
    sums: dict[str, float] = dict.fromkeys(BARS, 0)
    slowest = jump = 0.0
    for number in range(rounds):
        workers = workers_of(supervisor)
        watch = crowd.watch = Watch()
        for client in crowd.clients:
            client.lost_at = 0.0
        others = [client for room in crowd.rooms for client in room.clients if client is not room.controller]
        tired = random.sample(others, round(len(others) * STAY_AWAY))
        for client in tired:
            client.returns = False
        loop = asyncio.get_running_loop()
        kill_at = loop.time() + 0.1
        sought = {at: random.sample(crowd.rooms, len(crowd.rooms) // 5) for at in SEEKS_AT_S}
        for at, rooms in sought.items():
            for room in rooms:
                loop.call_at(kill_at + at, crowd.seek, room)
        await asyncio.sleep(kill_at - loop.time())
        watch.probes_from = time.monotonic()
        os.kill(workers[number % len(workers)], signal.SIGKILL)
        await probe_until(crowd, watch.probes_from + 1.0)
        lost = [room for rooms in sought.values() for room in rooms if not room.has_sought]
        await asyncio.sleep(watch.probes_from + ROUND_S - time.monotonic())
        ghosts, missing, pale = crowd.differences()
        served = [at - watch.probes_from if at > watch.probes_from else at for at in watch.served.values()]
        slowest = max([slowest, *served])
        jump = max([jump, *(abs(jumped) for jumped, _ in watch.jumps)])
        row = {
            "false_left": len(false_leaves(watch, crowd)),
            "ghosts": len(ghosts) + len(missing),
            "not_resumed": len(watch.not_resumed),
            "late_rooms": sum(1 for one in served if one > SERVE_BAR_S) + len(watch.asked - watch.served.keys()),
            "jumps": sum(1 for jumped, _ in watch.jumps if abs(jumped) > JUMP_BAR_S),
            "control": len(watch.control_lost),
            "seeks": len(lost),
            "pale": len(pale),
            "disorder": len(watch.out_of_order) + len(watch.forks),
        }
        for name, value in row.items():
            sums[name] += value
        print(
            f"round {number + 1:2} cut {len(watch.cut):4} away for good {watch.stayed_away:2} "
            f"slowest room {max(served, default=0):.3f} s  {row}",
            flush=True,
        )
        for line in [*watch.control_lost[:3], *(f"{room}: {jumped:.1f} s" for jumped, room in watch.jumps[:3])]:
            print(f"         {line}", flush=True)
        await crowd.replace(tired)
    return sums | {"slowest_room_s": round(slowest, 3), "worst_jump_s": round(jump, 3)}


async def rolling(crowd: Crowd, supervisor: int, port: int) -> dict[str, float]:
    """Run one rolling reload with new connections all the time."""
    before, watch = set(workers_of(supervisor)), Watch()
    crowd.watch, crowd.jitter_s = watch, (0.0, 0.1)
    refused = tried = 0
    os.kill(supervisor, signal.SIGUSR2)
    end = time.monotonic() + 90.0
    while time.monotonic() < end and (before & set(workers_of(supervisor))):
        tried += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            refused += b" 200 " not in await asyncio.wait_for(reader.read(), 5)
            writer.close()
        except (OSError, TimeoutError):
            refused += 1
        await asyncio.sleep(0.02)
    await asyncio.sleep(ROUND_S)
    ghosts, missing, pale = crowd.differences()
    return {
        "tried": tried,
        "refused": refused + watch.failed_connects,
        "false_left": len(false_leaves(watch, crowd)),
        "ghosts": len(ghosts) + len(missing),
        "not_resumed": len(watch.not_resumed),
        "jumps": sum(1 for jumped, _ in watch.jumps if abs(jumped) > JUMP_BAR_S),
        "control": len(watch.control_lost),
        "pale": len(pale),
        "disorder": len(watch.out_of_order) + len(watch.forks),
        "replaced": len(before - set(workers_of(supervisor))),
    }


async def run(arguments: argparse.Namespace, supervisor: int) -> bool:
    crowd = Crowd(arguments.port, SECRET, rooms=arguments.rooms, people=arguments.people, hz=arguments.hz)
    print(f"{len(crowd.clients)} clients join {arguments.rooms} rooms", flush=True)
    await crowd.come()
    fine = True
    bars = (*BARS, "refused")
    if arguments.only in ("", "kill"):
        result = await kill_rounds(crowd, supervisor, arguments.rounds)
        print("kill   ", json.dumps(result), flush=True)
        fine = fine and not any(result.get(bar) for bar in bars)
    if arguments.only in ("", "rolling"):
        result = await rolling(crowd, supervisor, arguments.port)
        print("rolling", json.dumps(result), flush=True)
        fine = fine and not any(result.get(bar) for bar in bars)
    crowd.end()
    await asyncio.sleep(0.1)
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--people", type=int, default=20, help="clients per room")
    parser.add_argument("--hz", type=float, default=1.0, help="cursors per second and client")
    parser.add_argument("--rounds", type=int, default=20, help="number of workers killed")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only", choices=("", "kill", "rolling"), default="")
    parser.add_argument("--port", type=int, default=18090)
    arguments = parser.parse_args()
    with koko_server(arguments.port, None, server_workers=arguments.workers, operator_port=0) as supervisor:
        time.sleep(1.0)
        fine = uvloop.run(run(arguments, supervisor))
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
