"""Measures the effect of floods from unauthenticated clients on other users: `python -m bench.floods`

The server runs with two workers on one core. On another core run the flood and, with a higher priority, two users who
send cursors to each other every 50 ms while others join ten times a second. Each row is one kind of flood with a number
of sockets: worker restarts, failed connections and joins of the users, the longest loop iteration in CPU time,
latencies of cursors and joins, and the rates of sends and connects of the flood. Loopback only; every run is bounded in
time.

Limits: no restart, no failure, no loop iteration above 20 ms, p99 of cursors below 30 ms and of joins below 100 ms.
"""

import argparse
import json
import multiprocessing
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from koko_presence.auth.hmac_jwt import issue_token

from .load import SECRET, server_process

DEPLOY = Path(__file__).parents[1] / "deploy"
WAYS = ("plain", "tls", "trpc", "nginx")
SOCKETS = (4, 100)
SERVER_CORE, FLOOD_CORE = 0, 1
PERSONS_ADDRESS = "127.0.0.2"  # differs from the flood's address, since nginx.conf limits requests per address
PIECE = 60_000  # bytes per send of a continuous flood
BAR_TURN_MS, BAR_CURSOR_MS, BAR_JOIN_MS = 20.0, 30.0, 100.0

CONTINUATION, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Encode a client frame with a mask of zeros."""
    size = len(payload)
    flag = 128 if masked else 0
    length = bytes([size | flag]) if size < 126 else bytes([126 | flag]) + size.to_bytes(2, "big")
    return bytes([(128 if fin else 0) | rsv << 4 | opcode]) + length + (b"\0\0\0\0" if masked else b"") + payload


def upgrade(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


# --- the flood ----------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """One kind of flood. `first` is sent once after the handshake, `then` repeatedly. `upgrades` is false for plain
    HTTP, `step` is the number of bytes per send. Without `then` the connection ends after `first`."""

    first: bytes = b""
    then: bytes = b""
    upgrades: bool = True
    step: int = PIECE


def many(piece: bytes) -> bytes:
    return piece * (PIECE // len(piece))


_STRANGERS_TEXT = frame(TEXT, b'{"type":"heartbeat"}')
KINDS: dict[str, Callable[[str], Kind]] = {
    "pings": lambda path: Kind(then=many(frame(PING))),
    "pongs": lambda path: Kind(then=many(frame(PONG))),
    "empty texts": lambda path: Kind(then=many(frame(TEXT))),
    "one-byte fragments": lambda path: Kind(
        first=frame(TEXT, b"a", fin=False), then=many(frame(CONTINUATION, b"a", fin=False))
    ),
    "unmasked, reconnect": lambda path: Kind(first=frame(TEXT, b"hi", masked=False)),
    "reserved, reconnect": lambda path: Kind(first=frame(TEXT, b"hi", rsv=4)),
    "half handshakes": lambda path: Kind(first=upgrade(path)[:-2], upgrades=False),
    "heads in pieces": lambda path: Kind(
        then=f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + b"x-filler: abcdefgh\r\n" * 780,
        upgrades=False,
        step=1,
    ),
    "frames after close": lambda path: Kind(
        first=frame(CLOSE, b"\x03\xe8") + many(_STRANGERS_TEXT), then=many(frame(PING))
    ),
    "frames after our close": lambda path: Kind(first=_STRANGERS_TEXT * 20, then=many(frame(PING))),
}


class Flooder:
    """One socket of the flood. `move` performs all non-blocking work once."""

    def __init__(
        self, port: int, path: str, kind: Kind, tls: ssl.SSLContext | None, epoll: select.epoll,
        by_fd: "dict[int, Flooder]",
    ) -> None:  # fmt: skip
        self._port, self._path, self._kind, self._tls, self._epoll = port, path, kind, tls, epoll
        self._by_fd = by_fd
        self.sent_bytes = self.sends = self.cuts = self.connects = 0
        self.sock: socket.socket = socket.socket()
        self.connect()

    def connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # close without TIME_WAIT, or the ports would be exhausted
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self._port))
        self.connects += 1
        self.sock = sock if self._tls is None else self._tls.wrap_socket(sock, do_handshake_on_connect=False)
        self._greeted = self._tls is None
        self._waiting = self._kind.upgrades  # for the response to the handshake
        self._out = upgrade(self._path) if self._kind.upgrades else self._kind.first or self._kind.then
        self._by_fd[self.sock.fileno()] = self
        self._epoll.register(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def cut(self) -> None:
        self.cuts += 1
        self._by_fd.pop(self.sock.fileno(), None)
        self.sock.close()
        self.connect()

    def move(self, events: int) -> None:
        try:
            if not self._greeted:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self._greeted = True
            if events & ~select.EPOLLOUT:
                self._read()
            if events & select.EPOLLOUT:
                self._write()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (OSError, EOFError):
            self.cut()

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        if self._waiting and b"\r\n\r\n" in data:
            self._waiting, self._out = False, self._kind.first or self._kind.then

    def _write(self) -> None:
        if self._out:
            sent = self.sock.send(self._out[: self._kind.step])
            self.sends += 1
            self.sent_bytes += sent
            self._out = self._out[sent:]
        if self._out or self._waiting:
            return
        if not self._kind.upgrades:
            self.cut()
        elif self._kind.then:
            self._out = self._kind.then
        else:  # until the server closes
            self._epoll.modify(self.sock.fileno(), select.EPOLLIN)


def flood(port: int, path: str, name: str, sockets: int, secure: bool, seconds: float, told: Any) -> None:
    """The process of the flood."""
    os.sched_setaffinity(0, {FLOOD_CORE})
    os.nice(10)
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    epoll = select.epoll()
    by_fd: dict[int, Flooder] = {}
    flooders = [Flooder(port, path, KINDS[name](path), context, epoll, by_fd) for _ in range(sockets)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for fd, events in epoll.poll(0.05):
            if fd in by_fd:
                by_fd[fd].move(events)
    told.put(
        {
            "sends": sum(one.sends for one in flooders),
            "bytes": sum(one.sent_bytes for one in flooders),
            "connects": sum(one.connects for one in flooders),
        }
    )


# --- the users ----------------------------------------------------------------------------------------------------


class Person:
    """A blocking WebSocket client of the presence protocol."""

    def __init__(self, port: int, secure: bool, user: str) -> None:
        self.sock: socket.socket = socket.create_connection(("127.0.0.1", port), 10.0, (PERSONS_ADDRESS, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        self._buffer = b""
        self.sock.sendall(upgrade("/presence"))
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
        self.say(type="auth", token=issue_token(SECRET, user=user, name=user, ttl_s=3600, now_s=int(time.time())))
        self.hear("authenticated")

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def say(self, **message: Any) -> None:
        self.sock.sendall(frame(TEXT, json.dumps(message).encode()))

    def hear(self, *types: str) -> dict[str, Any]:
        """Wait for the next message of one of these types."""
        while True:
            opcode, payload = self._frame()
            if opcode == PING:
                self.sock.sendall(frame(PONG, payload))
            elif opcode == CLOSE:
                raise EOFError(payload)
            elif opcode == TEXT:
                message: dict[str, Any] = json.loads(payload)
                if message["type"] in types:
                    return message

    def _frame(self) -> tuple[int, bytes]:
        while True:
            if len(self._buffer) >= 2:
                size, at = self._buffer[1] & 127, 2
                if size == 126:
                    size, at = int.from_bytes(self._buffer[2:4], "big"), 4
                elif size == 127:
                    size, at = int.from_bytes(self._buffer[2:10], "big"), 10
                if len(self._buffer) >= at + size:
                    opcode, payload = self._buffer[0] & 15, self._buffer[at : at + size]
                    self._buffer = self._buffer[at + size :]
                    return opcode, payload
            self._fill()

    def close(self) -> None:
        with suppress(OSError):
            self.sock.sendall(frame(CLOSE, b"\x03\xe8"))
        self.sock.close()


class Witnesses:
    """Two users who send cursors, and users who join and leave."""

    def __init__(self, port: int, secure: bool) -> None:
        self._port, self._secure = port, secure
        self.cursors_ms: list[float] = []
        self.joins_ms: list[float] = []
        self.arrivals_ms: list[float] = []
        self.sent = self.failed = 0
        self._times: dict[int, float] = {}
        self._over = False
        self._ann, self._bob = Person(port, secure, "ann"), Person(port, secure, "bob")
        for person in (self._ann, self._bob):
            person.say(type="join", roomId="video_1", roomType="video")
            person.hear("joined")
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._hear, self._come)]
        for thread in self._threads:
            thread.start()

    def watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.sent += 1
            self._times[self.sent] = time.monotonic()
            try:
                self._ann.say(type="cursor", roomId="video_1", data={"timestamp": self.sent})
            except OSError:
                self.failed += 1
                return
            time.sleep(0.05)

    def end(self) -> None:
        time.sleep(0.3)
        self._over = True
        self._ann.close()
        self._bob.close()

    def _hear(self) -> None:
        try:
            while True:
                number = round(self._bob.hear("cursor_moved")["data"].get("timestamp", 0))
                if number in self._times:
                    self.cursors_ms.append((time.monotonic() - self._times.pop(number)) * 1e3)
        except (OSError, EOFError, ValueError):
            self.failed += not self._over

    def _come(self) -> None:
        number = 0
        while not self._over:
            number += 1
            began = time.monotonic()
            try:
                person = Person(self._port, self._secure, f"guest{number}")
                asked = time.monotonic()
                person.say(type="join", roomId="video_2", roomType="video")
                person.hear("joined")
                now = time.monotonic()
                self.joins_ms.append((now - asked) * 1e3)
                self.arrivals_ms.append((now - began) * 1e3)
                person.close()
            except (OSError, EOFError):
                self.failed += not self._over
            time.sleep(max(0.0, began + 0.1 - time.monotonic()))


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))] if values else float("inf")


# --- one row ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@contextmanager
def nginx(folder: Path, server: int) -> Iterator[int]:
    """Run deploy/nginx.conf in front of the server, on the core of the flood; yields its port."""
    port, (cert, key) = free_port(), certificate(folder)
    site = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        ("/etc/ssl/presence.example.com/fullchain.pem", str(cert)),
        ("/etc/ssl/presence.example.com/privkey.pem", str(key)),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{server}"),
    ):
        site = site.replace(old, new)
    temp = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; daemon off; error_log {folder}/errors; events {{ worker_connections 4096; }} "
        f"http {{ access_log off; {temp} include {folder}/site.conf; }}"
    )
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with server_process(command, FLOOD_CORE, dict(os.environ), port):
        yield port


def metrics(operator: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{operator}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def values(text: str, name: str) -> list[float]:
    return [float(found) for found in re.findall(rf"^koko_presence_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)]


def measure(way: str, name: str, sockets: int, seconds: float) -> dict[str, Any]:
    """Measure one row with a fresh server, so that its longest loop iteration belongs to this flood."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koko-floods-")))
        port, operator = free_port(), free_port()
        env = os.environ | {
            "KOKO_PRESENCE_AUTH_SECRET": SECRET,
            "KOKO_PRESENCE_ACCESS_MODE": "allow_all",
            "KOKO_PRESENCE_LOG_LEVEL": "error",
            "KOKO_PRESENCE_SERVER_WORKERS": "2",
            "KOKO_PRESENCE_SERVER_RUNTIME_DIR": str(folder / "run"),
            "KOKO_PRESENCE_OPERATOR_PORT": str(operator),
        }
        if way == "tls":
            cert, key = certificate(folder)
            env |= {"KOKO_PRESENCE_SERVER_TLS_CERT": str(cert), "KOKO_PRESENCE_SERVER_TLS_KEY": str(key)}
        command = [sys.executable, "-m", "koko_presence", "serve", "--port", str(port)]
        stack.enter_context(server_process(command, SERVER_CORE, env, port))
        door = stack.enter_context(nginx(folder, port)) if way == "nginx" else port
        secure = way in ("tls", "nginx")
        os.sched_setaffinity(0, {FLOOD_CORE})
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        witnesses = Witnesses(door, secure)
        time.sleep(1.2)  # loop iterations of a worker's first second are not counted
        fork = multiprocessing.get_context("fork")
        told: Any = fork.Queue()
        path = "/trpc" if way == "trpc" else "/presence"
        process = fork.Process(target=_flood_after_nice, args=(door, path, name, sockets, secure, seconds, told))
        process.start()
        witnesses.watch(seconds)
        sent = told.get(timeout=10)
        process.join()
        text = metrics(operator)
        witnesses.end()
        return {
            "way": way,
            "flood": name,
            "sockets": sockets,
            "restarts": int(sum(values(text, "worker_restarts_total"))),
            "turn_ms": max(values(text, "turn_cpu_max_seconds"), default=0.0) * 1e3,
            "cursors": f"{len(witnesses.cursors_ms)}/{witnesses.sent}",
            "cursor_p99_ms": p99(witnesses.cursors_ms),
            "joins": len(witnesses.joins_ms),
            "join_p99_ms": p99(witnesses.joins_ms),
            "arrival_p99_ms": p99(witnesses.arrivals_ms),
            "failed": witnesses.failed,
            **sent,
        }


def _flood_after_nice(*args: Any) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    flood(*args)


def holds(row: dict[str, Any]) -> bool:
    """Whether the row is within all limits."""
    return bool(
        not row["restarts"]
        and not row["failed"]
        and row["turn_ms"] <= BAR_TURN_MS
        and row["cursor_p99_ms"] < BAR_CURSOR_MS
        and row["join_p99_ms"] < BAR_JOIN_MS
    )


HEAD = (
    "| way | flood | sockets | restarts | failures | longest iteration, CPU ms | cursors p99 ms | join p99 ms "
    "| arrival p99 ms | sends/s | connects/s | |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: dict[str, Any], seconds: float) -> str:
    return (
        f"| {row['way']} | {row['flood']} | {row['sockets']} | {row['restarts']} | {row['failed']} "
        f"| {row['turn_ms']:.1f} | {row['cursor_p99_ms']:.1f} | {row['join_p99_ms']:.1f} | {row['arrival_p99_ms']:.1f} "
        f"| {row['sends'] / seconds:,.0f} | {row['connects'] / seconds:,.0f} "
        f"| {'' if holds(row) else 'above a limit'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--sockets", nargs="+", type=int, default=SOCKETS)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    print(HEAD)
    for way in arguments.ways:
        for name in arguments.kinds:
            for sockets in arguments.sockets:
                print(line(measure(way, name, sockets, arguments.seconds), arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
