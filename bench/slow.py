"""How old is what a slow reader sees: plain, over TLS, and through nginx and Caddy as deploy/ sets them up?

python -m bench.slow                          60 s each, all four ways
python -m bench.slow --ways tls --seconds 20

A room of 20 that sends 320 cursors a second in all; six of its members have a receive buffer of 4096 bytes and read 1,
8 and 32 kB/s, two of each. The age is that of the newest cursor whenever a look at the socket (each 20 ms) brought one.
Pings are answered when they have been read, as every browser does. It is about the lengths of queues, so the load need
not be pinned away from the server.
"""

import argparse
import json
import os
import re
import selectors
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import PONG, TEXT, frame, handshake

from .figures import SLOW_HEAD, slow_rows, table
from .floods import DEPLOY, certificate, free_port, nginx
from .load import SECRET, koko_server, server_process

PORT = 18087
ROOM, PEOPLE, HZ = "video_1", 20, 16.0
SPEEDS = (1000, 1000, 8000, 8000, 32_000, 32_000)  # bytes a second
BUFFER_BYTES, LOOK_S, WARM_S = 4096, 0.02, 2.0
WAYS = ("plain", "tls", "nginx", "caddy")
_MOVED = re.compile(rb'"cursor_moved".{1,300}?"timestamp":([0-9.]+)[,}]', re.DOTALL)
_PING = re.compile(
    rb"\x89(?:\x00|\x02(..))", re.DOTALL
)  # the server's, without or with a number; JSON has no such byte


class Person:
    """One member: its socket, by itself or below TLS, and how many bytes a second it takes; 0 for all there are."""

    def __init__(self, number: int, port: int, context: ssl.SSLContext | None, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self.ages_ms: list[float] = []
        self.closed = False
        self._allowed = 0.0
        self._rest = b""
        self.sock = socket.socket()
        if bytes_per_s:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(10.0)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost") if context else None
        if self._tls is not None:
            self._shake_hands(self._tls)
        token = issue_token(SECRET, user=f"u{number}", ttl_s=3600, now_s=int(time.time()))
        for said, answer in (
            (handshake(), b"\r\n\r\n"),
            (say(type="auth", token=token), b"authenticated"),
            (say(type="join", roomId=ROOM, roomType="video"), b'"joined"'),
        ):
            self.send(said)
            got = b""
            while answer not in got:
                got += self._decrypt(self.sock.recv(65536))
            self._answer_pings(got)
        self.sock.setblocking(False)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65536))
        self.sock.sendall(self._outgoing.read())

    def send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        try:
            self.sock.sendall(data)
        except OSError:
            self.closed = True

    def _decrypt(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        self._incoming.write(data)
        found = b""
        try:
            while part := self._tls.read(65536):
                found += part
        except ssl.SSLWantReadError:
            pass
        return found

    def _answer_pings(self, data: bytes) -> None:
        for ping in _PING.finditer(data):
            self.send(frame(PONG, ping[1] or b""))

    def look(self, now: float, passed_s: float) -> None:
        """Take what may be taken, and note how old the newest of it is."""
        if self.closed:
            return
        self._allowed = min(self._allowed + self.bytes_per_s * passed_s, 2.0 * BUFFER_BYTES)
        size = int(self._allowed) if self.bytes_per_s else 1 << 20
        try:
            data = self.sock.recv(size) if size else b""
        except BlockingIOError:
            return
        except OSError:
            self.closed = True
            return
        self.closed = size > 0 and not data
        self._allowed -= len(data)
        said = self._decrypt(data)
        self._answer_pings(self._rest[-3:] + said)
        self._rest += said
        sent = [float(each) for each in _MOVED.findall(self._rest)]
        if sent:
            self.ages_ms.append((now - max(sent)) * 1000.0)
            self._rest = self._rest[-400:] if _MOVED.search(self._rest[-400:]) is None else b""


def say(**fields: object) -> bytes:
    return frame(TEXT, json.dumps(fields, separators=(",", ":")).encode())


def play(port: int, context: ssl.SSLContext | None, seconds: float) -> list[Person]:
    """Everybody moves, and the last ones read slowly."""
    speeds = (0,) * (PEOPLE - len(SPEEDS)) + SPEEDS
    people = [Person(number, port, context, speed) for number, speed in enumerate(speeds)]
    began = time.monotonic()
    sends = [began + number / (HZ * PEOPLE) for number in range(PEOPLE)]
    looked_at, warm = began, False
    with selectors.DefaultSelector():
        while (now := time.monotonic()) < began + WARM_S + seconds:
            for number, person in enumerate(people):
                if now >= sends[number] and not person.closed:
                    sends[number] += 1.0 / HZ
                    stamp = round(now - began, 4)
                    person.send(
                        say(type="cursor", roomId=ROOM, data={"timestamp": stamp, "x": number / PEOPLE, "y": 0.5})
                    )
            if now >= looked_at + LOOK_S:
                for person in people:
                    person.look(now - began, now - looked_at)
                looked_at = now
            if not warm and now >= began + WARM_S:
                warm = True
                for person in people:
                    person.ages_ms.clear()
            time.sleep(0.002)
    for person in people:
        person.sock.close()
    return people


@contextmanager
def caddy(folder: Path, server: int) -> Iterator[int]:
    """deploy/Caddyfile before the server, without TLS; yields its port."""
    port, config = free_port(), folder / "Caddyfile"
    site = (DEPLOY / "Caddyfile").read_text().replace("presence.example.com", f"http://127.0.0.1:{port}")
    site = site.replace("127.0.0.1:8080", f"127.0.0.1:{server}")
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
    with server_process(command, None, os.environ | {"XDG_DATA_HOME": str(folder)}, port):
        yield port


def measure(way: str, seconds: float, core: int | None) -> list[Person]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slow-")))
        settings: dict[str, object] = {}
        if way == "tls":
            cert, key = certificate(folder)
            settings = {"server_tls_cert": cert, "server_tls_key": key}
        stack.enter_context(koko_server(PORT, core, **settings))
        proxies = {"nginx": nginx, "caddy": caddy}
        port = stack.enter_context(proxies[way](folder, PORT)) if way in proxies else PORT
        context = None
        if way in ("tls", "nginx"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return play(port, context, seconds)


def rows(people: Sequence[Person]) -> list[list[str]]:
    """By speed; the fast ones first."""
    readers = [
        {"bytes_per_s": person.bytes_per_s, "ages_ms": person.ages_ms, "closed": person.closed} for person in people
    ]
    return slow_rows([{"slow": readers}])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.slow", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server-core", type=int, default=min(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    print("\n".join(table(["way", *SLOW_HEAD], [])), flush=True)
    for way in arguments.ways:
        for row in rows(measure(way, arguments.seconds, arguments.server_core)):
            print("| " + " | ".join([way, *row]) + " |", flush=True)


if __name__ == "__main__":
    main()
