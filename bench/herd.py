"""Measures a reconnect storm at a server that has a share of a core: `python -m bench.herd`

2,000 clients are in rooms of 20; in ten of the rooms two more clients exchange messages twice a second. Then the server
is limited to the share (see cpu_share.py), and the 2,000 connections are cut at once. The clients reconnect as the SDK
does: at once with jitter, with their resume token, with a timeout of 15 s per attempt and growing pauses between
attempts. Reported are worker deaths, the time until all clients have resumed and joined, lost sessions, clients that
others saw leave, latencies and disconnects of the twenty others, and ghosts at the end. Exit code 1 if a limit is
exceeded.
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

PATIENCE_S = 15.0  # of the SDK: for handshake and `authenticated` together
FIRST_S, LONGEST_S = 0.25, 20.0  # its pauses: full jitter, doubled per attempt
STABLE_S = 5.0
TALKING_ROOMS, TALK_HZ = 10, 2.0
CALM_S = 8.0  # longer than the grace period of 5 s, for ghosts
BARS = {0.5: (10.0, 0.5), 0.25: (20.0, 1.0), 0.1: (60.0, 3.0)}  # share -> seconds until all are in, p99 of the others


class Returner(Client):
    """A client that reconnects as the SDK does."""

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
    """All clients, including the few that stay connected."""

    def __init__(self, port: int, *, rooms: int, people: int) -> None:
        super().__init__(port, SECRET, rooms=rooms, people=people, hz=0.0)
        self.talkers = [(self.make(room), self.make(room)) for room in self.rooms[:TALKING_ROOMS]]
        self.staying = {client.user for pair in self.talkers for client in pair}
        self.begin()

    def begin(self) -> None:
        """Reset all observations."""
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
        """A client that stays has received the message sent at `at`."""
        if at in self.unheard:
            del self.unheard[at]
            self.latencies.append(monotonic() - at)

    async def talk(self) -> None:
        """Exchange messages between the clients that stay, until cancelled."""
        while True:
            for first, second in self.talkers:
                for sender, receiver in ((first, second), (second, first)):
                    at = monotonic()
                    self.unheard[at] = None
                    data = {"type": "probe", "at": at}
                    sender.send({"type": "broadcast", "to": [receiver.user], "data": data})
                    await asyncio.sleep(1.0 / TALK_HZ / 2 / len(self.talkers))

    def cut(self) -> None:
        """Cut the connections of all clients but those that stay."""
        for client in self.returners:
            assert client.connection is not None
            client.connection.transport.abort()


async def play(herd: Herd, pid: int, share: float, longest_s: float) -> dict[str, Any]:
    """Cut the connections and wait until the clients are back, for at most `longest_s`."""
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
        latencies = sorted([*herd.latencies, *(now - at for at in herd.unheard)])  # pending: their age
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
    """The exceeded limits; without `bar` only those that do not depend on the share."""
    found = [name for name in ("workers_died", "not_resumed", "others_cut", "false_left", "ghosts") if result[name]]
    if bar is not None:
        found += ["all_in_s"] * (result["all_in_s"] > bar[0]) + ["others_p99_s"] * (result["others_p99_s"] > bar[1])
    return found + ["in"] * (result["in"] < result["people"])


async def run(arguments: argparse.Namespace, pid: int) -> bool:
    herd = Herd(arguments.port, rooms=arguments.rooms, people=arguments.people)
    print(f"{len(herd.clients)} clients join {arguments.rooms} rooms", flush=True)
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
    parser.add_argument("--people", type=int, default=20, help="clients per room")
    parser.add_argument("--shares", default="0.5,0.25,0.1", help="shares of a core for the whole server")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds for a share without limits")
    parser.add_argument("--workers", type=int, default=1, help="a server with less than a core should run 1")
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
