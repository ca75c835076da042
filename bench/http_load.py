"""Sends HTTP requests to a running server: `python -m bench.http_load PORT PATH TOKENS_FILE SECONDS [CONNECTIONS]
[RATE]`.

Runs as a process of its own for bench.http. Each keep-alive connection has one pending request, of the next user in the
file. With a rate, requests start on a fixed schedule and their latency counts from the scheduled time, so that a late
server does not reduce the load; without one, a connection sends its next request after each response. Prints one JSON
object.
"""

import json
import socket
import sys
import time
from collections import Counter, deque
from itertools import cycle
from pathlib import Path
from select import EPOLLIN, epoll
from typing import Any


class Asking:
    """One connection and its pending response."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self.head = b""
        self.owed = 0

    def take(self) -> int:
        """Read from the socket; returns the status once the response is complete, else 0. Errors: EOFError if the
        server has closed."""
        data = self.sock.recv(262_144)
        if not data:
            raise EOFError("the server closed a connection")
        if self.owed:
            self.owed -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return 0
            size = int(self.head[:end].lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.owed = end + 4 + size - len(self.head)
        if self.owed > 0:
            return 0
        status, self.head, self.owed = int(self.head[9:12]), b"", 0
        return status


def percentile(values: list[float], part: float) -> float:
    """A percentile of sorted values; 0 without values."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def ask(port: int, path: str, tokens: list[str], seconds: float, connections: int, rate: float) -> dict[str, Any]:
    """Send requests for `seconds`. `rate` is in requests per second, 0 for no limit."""
    requests = cycle(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for token in tokens
    )
    idle = deque(Asking(port) for _ in range(connections))
    by_fd = {each.sock.fileno(): each for each in idle}
    poll = epoll()
    for fd in by_fd:
        poll.register(fd, EPOLLIN)
    took: list[float] = []
    late: list[float] = []
    statuses: Counter[int] = Counter()
    begin = time.perf_counter()
    end, due = begin + seconds, begin
    while (now := time.perf_counter()) < end or len(idle) < connections:
        while idle and now < end and due <= now:
            asking = idle.popleft()
            asking.began = due if rate else now
            late.append(now - due if rate else 0.0)
            asking.sock.sendall(next(requests))
            due = due + 1 / rate if rate else now
        wait = max(0.0, due - now) if idle and rate else 0.05
        for fd, _ in poll.poll(min(wait, max(0.001, end + 5.0 - now))):
            asking = by_fd[fd]
            if status := asking.take():
                took.append(time.perf_counter() - asking.began)
                statuses[status] += 1
                idle.append(asking)
        if now > end + 5.0:
            raise SystemExit("bench: the server does not answer")
    took.sort()
    late.sort()
    return {
        "requests": len(took),
        "requests_per_s": round(len(took) / (time.perf_counter() - begin)),
        "statuses": {str(status): count for status, count in statuses.items()},
        "latency_ms": {
            f"p{name}": round(percentile(took, part) * 1e3, 3) for name, part in (("50", 0.5), ("99", 0.99))
        },
        "late_ms": {"p99": round(percentile(late, 0.99) * 1e3, 3)},
    }


def main() -> None:
    port, path, file, seconds, *more = sys.argv[1:]
    connections, rate = int(more[0]) if more else 32, float(more[1]) if len(more) > 1 else 0.0
    print(json.dumps(ask(int(port), path, Path(file).read_text().split(), float(seconds), connections, rate)))


if __name__ == "__main__":
    main()
