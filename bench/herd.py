"""A crowd loses its connections and comes back at once to a server that has a share of a core: `python -m bench.herd`

2,000 people are in rooms of 20; in ten of the rooms two more say something to each other twice a second. Then the
server gets the share (cpu_share.py says how), and the 2,000 are cut off in the same moment. They come back as the SDK
does: at once with jitter, with their resume token, giving up an attempt after 15 s, with growing pauses between
attempts. Counted are workers that died, how long it took until all were in and resumed, sessions that were lost, people
who were shown as gone, what the twenty others noticed, and ghosts at the end. Exit 1 when a bar is missed.
"""

import argparse
import asyncio
import json
import math
import os
import random
import resource
import time
from typing import Any

import uvloop

from .chaos import false_leaves, workers_of
from .cpu_share import limited
from .crowd import REFUSED, Client, Connection, Crowd, Message, Room, Watch, monotonic, read_told
from .load import SECRET, koko_server

PATIENCE_S = 15.0  # of the SDK: handshake and `authenticated` together
FIRST_S, LONGEST_S = 0.25, 20.0  # its pauses: full jitter, doubled at each attempt
STABLE_S = 5.0
TALKING_ROOMS, TALK_HZ = 10, 2.0
CALM_S = 8.0  # the grace of 5 s and more, for ghosts
BARS = {0.5: (10.0, 0.5), 0.25: (20.0, 1.0), 0.1: (60.0, 3.0)}  # share -> all in within, p99 of the others


class Returner(Client):
    """A client that comes back as the SDK does."""

    attempts = 0
    online_at = math.inf
    patience: asyncio.TimerHandle | None = None
    again: asyncio.TimerHandle | None = None

    def connect(self) -> None:
        self.attempts += 1
        self.patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up)
        super().connect()

    def _give_up(self) -> None:
        self.herd.gave_up += 1
        connection = self.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        else:
            self._come_later(0)

    @property
    def herd(self) -> "Herd":
        assert isinstance(self.crowd, Herd)
        return self.crowd

    def _stop_patience(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def _on_authenticated(self, message: Message) -> None:
        self._stop_patience()
        self.online_at = monotonic()
        super()._on_authenticated(message)

    def _on_joined(self, message: Message) -> None:
        super()._on_joined(message)
        self.herd.in_at[self.user] = monotonic()

    def _on_error(self, message: Message) -> None:
        if message.code == "RATE_LIMITED" and self.view is None:
            self.herd.sent_away += 1
            wait_s = message.retry_after_ms / 1000.0 * (1.0 + random.random())
            self.again = asyncio.get_running_loop().call_later(wait_s, self.ask_snapshot)

    def _on_broadcast(self, message: Message) -> None:
        self.herd.heard(read_told(message.data).at)

    def _on_lost(self, connection: Connection, code: int) -> None:
        if connection is not self.connection:
            return
        self.view = self.connection = None
        self._stop_patience()
        if self.again is not None:
            self.again.cancel()
        if self.crowd.over:
            return
        self.herd.watch.cut.append((self.user, code))
        if monotonic() - self.online_at >= STABLE_S:
            self.attempts = 0
        self.online_at = math.inf
        self._come_later(code)

    def _come_later(self, code: int) -> None:
        wait_s = random.random() * min(LONGEST_S, FIRST_S * 2.0**self.attempts)
        if code == REFUSED:
            self.herd.refused += 1
            wait_s += LONGEST_S * (1.0 + random.random()) / 2.0
        asyncio.get_running_loop().call_later(wait_s, self._return)

    _HANDLERS = Client._HANDLERS | {
        "authenticated": _on_authenticated,
        "joined": _on_joined,
        "error": _on_error,
        "broadcast": _on_broadcast,
    }


class Herd(Crowd):
    """The crowd, and the few who stay."""

    def __init__(self, port: int, *, rooms: int, people: int) -> None:
        super().__init__(port, SECRET, rooms=rooms, people=people, hz=0.0)
        self.talkers = [(self.make(room), self.make(room)) for room in self.rooms[:TALKING_ROOMS]]
        self.staying = {client.user for pair in self.talkers for client in pair}
        self.begin()

    def begin(self) -> None:
        """Nothing has been noticed yet."""
        self.watch = Watch()
        self.in_at: dict[str, float] = {}
        self.latencies: list[float] = []
        self.unheard: dict[float, None] = {}
        self.gave_up = self.sent_away = self.refused = 0

    def make(self, room: Room) -> Client:
        self._made += 1
        return Returner(self, f"user_{self._made}", room, compact=False)

    @property
    def returners(self) -> list[Client]:
        return [client for client in self.clients if client.user not in self.staying]

    def heard(self, at: float) -> None:
        """A client that stays has heard what was sent at `at`."""
        if at in self.unheard:
            del self.unheard[at]
            self.latencies.append(monotonic() - at)

    async def talk(self) -> None:
        """Those who stay talk to each other until this is cancelled."""
        while True:
            for first, second in self.talkers:
                for sender, receiver in ((first, second), (second, first)):
                    at = monotonic()
                    self.unheard[at] = None
                    data = {"type": "probe", "at": at}
                    sender.send({"type": "broadcast", "to": [receiver.user], "data": data})
                    await asyncio.sleep(1.0 / TALK_HZ / 2 / len(self.talkers))

    def cut(self) -> None:
        """All but those who stay lose their connection."""
        for client in self.returners:
            assert client.connection is not None
            client.connection.transport.abort()


async def play(herd: Herd, pid: int, share: float, longest_s: float) -> dict[str, Any]:
    """Cut the crowd off and wait until it is back, for `longest_s` at most."""
    before = workers_of(pid)
    herd.begin()
    with limited(pid, share) as way:
        talking = asyncio.ensure_future(herd.talk())
        await asyncio.sleep(1.0)
        herd.latencies.clear()
        cut_at = monotonic()
        herd.cut()
        people = {client.user for client in herd.returners}
        while monotonic() < cut_at + longest_s and not people <= herd.in_at.keys():
            await asyncio.sleep(0.01)
        back_at = max(herd.in_at.values(), default=math.inf) if people <= herd.in_at.keys() else math.inf
        now = monotonic()
        talking.cancel()
        latencies = sorted([*herd.latencies, *(now - at for at in herd.unheard)])  # who has not heard it yet waits on
        died = len(set(before) - set(workers_of(pid)))
        watch = herd.watch
        result: dict[str, Any] = {
            "share": share,
            "by": way,
            "people": len(people),
            "in": len(people & herd.in_at.keys()),
            "all_in_s": round(back_at - cut_at, 2),
            "median_in_s": _median_s(herd, cut_at),
            "workers_died": died,
            "not_resumed": len(watch.not_resumed),
            "others_p99_s": round(latencies[math.ceil(0.99 * len(latencies)) - 1], 3) if latencies else math.inf,
            "others_max_s": round(latencies[-1], 3) if latencies else math.inf,
            "others_cut": len({user for user, _ in watch.cut} & herd.staying),
            "gave_up": herd.gave_up,
            "refused": herd.refused,
            "sent_away": herd.sent_away,
        }
    end = monotonic() + 60.0
    while monotonic() < end and any(client.view is None for client in herd.clients):
        await asyncio.sleep(0.05)
    await asyncio.sleep(CALM_S)
    ghosts, missing, pale = herd.differences()
    return result | {
        "false_left": len(false_leaves(watch, herd)), "ghosts": len(ghosts), "missing": len(missing) + len(pale)
    }  # fmt: skip


def _median_s(herd: Herd, cut_at: float) -> float:
    times = sorted(herd.in_at.values())
    return round(times[len(times) // 2] - cut_at, 2) if times else math.inf


def missed(result: dict[str, Any], bar: tuple[float, float] | None) -> list[str]:
    """Which bars this missed; without `bar` those that do not depend on the share."""
    found = [name for name in ("workers_died", "not_resumed", "others_cut", "false_left", "ghosts") if result[name]]
    if bar is not None:
        found += ["all_in_s"] * (result["all_in_s"] > bar[0]) + ["others_p99_s"] * (result["others_p99_s"] > bar[1])
    return found + ["in"] * (result["in"] < result["people"])


async def run(arguments: argparse.Namespace, pid: int) -> bool:
    herd = Herd(arguments.port, rooms=arguments.rooms, people=arguments.people)
    print(f"{len(herd.clients)} people come into {arguments.rooms} rooms", flush=True)
    await herd.come()
    fine = True
    for share in arguments.shares:
        bar = BARS.get(share)
        result = await play(herd, pid, share, 2.0 * bar[0] if bar else arguments.longest)
        wrong = missed(result, bar)
        print(json.dumps(result), f"MISSED: {', '.join(wrong)}" if wrong else "fine", flush=True)
        fine = fine and not wrong
    herd.end()
    await asyncio.sleep(0.1)
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--people", type=int, default=20, help="per room")
    parser.add_argument("--shares", default="0.5,0.25,0.1", help="of a core, for the whole server")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds for a share that has no bar")
    parser.add_argument("--workers", type=int, default=1, help="1 is what a server with less than a core is to run")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--port", type=int, default=18091)
    arguments = parser.parse_args()
    arguments.shares = [float(share) for share in arguments.shares.split(",")]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with koko_server(arguments.port, arguments.server_core, server_workers=arguments.workers) as pid:
        os.sched_setaffinity(0, {arguments.load_core})
        time.sleep(1.0)
        fine = uvloop.run(run(arguments, pid))
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
