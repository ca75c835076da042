"""Compares clients that watch rooms without being in them with as many members of the same rooms, and with connections
that do neither: memory of the server for each, and its CPU time while users enter and leave the rooms.

python -m bench.watching                     2,000 clients, 200 rooms, 20 changes a second
python -m bench.watching --changes 160       each room changes nearly every second, as often as summaries are sent

The members send a cursor in `--cursor-s` seconds each; watchers have nothing to send. Watchers either have the same
list of all rooms, as people who look at the same page, or each a list of its own, which lacks two rooms.
"""

import argparse
import itertools
import json
import resource
import selectors
import socket
import time
from collections.abc import Callable

from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import TEXT, frame, handshake

from .load import SECRET, cpu_s, koko_server, rss_kib

PORT = 18086
WARM = 50  # clients before the first reading of the memory, so that shared buffers are allocated
SETTLE_S = 2.0


def say(**fields: object) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


def connect(user: str) -> socket.socket:
    """Return an authenticated connection."""
    sock = socket.create_connection(("127.0.0.1", PORT), 10)
    sock.sendall(handshake())
    sock.recv(1000)
    token = issue_token(SECRET, user=user, name=f"User {user}", ttl_s=3600, now_s=int(time.time()))
    sock.sendall(say(type="auth", token=token))
    sock.recv(5000)
    return sock


class Readers:
    """Reads all connections and counts the bytes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.received_bytes = 0

    def add(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)

    def read_for(self, seconds: float) -> None:
        """Read what comes during so many seconds."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0.0:
            for key, _ in self._selector.select(left_s):
                received = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not received:
                    raise SystemExit("bench: the server has closed a connection")
                self.received_bytes += len(received)


def measure(options: argparse.Namespace, start: Callable[[socket.socket, int], None], cursor_s: float) -> str:
    """Return a row of the table for clients that `start` has made watchers or members."""
    with koko_server(PORT, options.server_core, limits_max_users_per_room=1000) as pid:
        readers = Readers()
        clients: list[socket.socket] = []

        def add(count: int) -> None:
            for number in range(len(clients), len(clients) + count):
                sock = connect(f"c{number}")
                readers.add(sock)
                start(sock, number)
                clients.append(sock)
                readers.read_for(0.002)
            readers.read_for(SETTLE_S)

        add(WARM)
        before_kib = rss_kib(pid)
        add(options.clients)
        each_kib = (rss_kib(pid) - before_kib) / options.clients
        actors = [connect(f"a{room}") for room in range(options.rooms)]  # last: none is silent for long
        for sock in actors:
            readers.add(sock)
        senders = itertools.cycle(enumerate(clients))
        inside = [False] * options.rooms
        used_s, began, read_bytes = cpu_s(pid), time.monotonic(), readers.received_bytes
        changes = cursors = 0
        while (passed_s := time.monotonic() - began) < options.seconds:
            while changes < passed_s * options.changes:
                room = changes % options.rooms
                inside[room] = not inside[room]
                kind = "join" if inside[room] else "leave"
                actors[room].sendall(say(type=kind, roomId=f"project_{room}"))
                changes += 1
            while cursor_s and cursors < passed_s * len(clients) / cursor_s:
                number, sock = next(senders)
                point = {"x": cursors % 1000 / 1000, "y": 0.5}
                sock.sendall(say(type="cursor", roomId=f"project_{number % options.rooms}", data=point))
                cursors += 1
            readers.read_for(0.01)
        share = (cpu_s(pid) - used_s) / passed_s
        sent = (readers.received_bytes - read_bytes) / passed_s / 1e6
        for sock in (*clients, *actors):
            sock.close()
        return f"{each_kib:.1f} KiB | {share:.1%} | {sent:.2f} MB/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--changes", type=float, default=20.0, help="joins and leaves a second, in all rooms together")
    parser.add_argument("--cursor-s", type=float, default=1.0, help="seconds between two cursors of a member")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--server-core", type=int, default=0)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room_ids = [f"project_{room}" for room in range(options.rooms)]
    watch = say(type="watch", rooms=room_ids)
    pairs = list(itertools.islice(itertools.combinations(room_ids, 2), options.clients + WARM))

    def watch_own(sock: socket.socket, number: int) -> None:
        sock.sendall(say(type="watch", rooms=[room for room in room_ids if room not in pairs[number % len(pairs)]]))

    def join(sock: socket.socket, number: int) -> None:
        sock.sendall(say(type="join", roomId=f"project_{number % options.rooms}"))

    print(f"{options.clients} clients, {options.rooms} rooms, {options.changes:g} changes a second")
    print("| clients | memory of each | server | sent |\n|---|---|---|---|", flush=True)
    rows = {
        "connections, in no room": (lambda sock, number: None, 0.0),
        f"watchers of {options.rooms} rooms": (lambda sock, number: sock.sendall(watch), 0.0),
        f"watchers of {options.rooms - 2} rooms, each others": (watch_own, 0.0),
        "members, without a cursor": (join, 0.0),
        f"members, a cursor each {options.cursor_s:g} s": (join, options.cursor_s),
    }
    for name, (start, cursor_s) in rows.items():
        print(f"| {name} | {measure(options, start, cursor_s)} |", flush=True)


if __name__ == "__main__":
    main()
