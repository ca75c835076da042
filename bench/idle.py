"""Measures an idle server: start-up time, memory per idle joined connection, CPU time and wake-ups without traffic.

python -m bench.idle                  2,000 connections in rooms of 20
python -m bench.idle --users 500 --rooms-of 2
"""

import argparse
import json
import resource
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import TEXT, frame, handshake

from .load import SECRET, cpu_s, koko_server, rss_kib

PORT = 18085
WARM = 200  # connections before the first reading, so that shared buffers are allocated


def say(**fields: str) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


def join(number: int, room: int) -> socket.socket:
    """Connect a client that joins a room and then sends nothing."""
    sock = socket.create_connection(("127.0.0.1", PORT), 10)
    sock.sendall(handshake())
    sock.recv(1000)
    token = issue_token(SECRET, user=f"u{number}", name=f"User {number}", ttl_s=3600, now_s=int(time.time()))
    sock.sendall(say(type="auth", token=token))
    sock.recv(5000)
    sock.sendall(say(type="join", roomId=f"video_{room}", roomType="video"))
    sock.recv(100_000)
    return sock


def start_up_s() -> float:
    """Seconds from the command to the first accepted connection, the minimum of three."""
    least = 60.0
    for _ in range(3):
        began = time.perf_counter()
        environment = {"KOKO_PRESENCE_AUTH_SECRET": SECRET, "KOKO_PRESENCE_ACCESS_MODE": "allow_all"}
        environment["KOKO_PRESENCE_LOG_LEVEL"] = "warning"
        command = [sys.executable, "-m", "koko_presence", "serve", "--port", str(PORT)]
        process = subprocess.Popen(command, env=environment)
        while time.perf_counter() - began < 30.0:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", PORT), 0.2).close()
                least = min(least, time.perf_counter() - began)
                break
            time.sleep(0.001)
        process.terminate()
        process.wait(timeout=30)
    return least


def sleeps(pid: int) -> int:
    """The number of sleeps of all threads of a process so far [proc_pid_status(5)]."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--rooms-of", type=int, default=20, help="clients per room")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of the idle measurement")
    parser.add_argument("--server-core", type=int, default=0)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"start-up: {start_up_s():.2f} s from the command to the first connection", flush=True)
    with koko_server(PORT, arguments.server_core) as pid:
        base_kib = rss_kib(pid)
        people = [join(number, number // arguments.rooms_of) for number in range(WARM)]
        time.sleep(0.5)
        before_kib = rss_kib(pid)
        print(f"joining: {arguments.users} clients", flush=True)
        people += [join(WARM + n, (WARM + n) // arguments.rooms_of) for n in range(arguments.users)]
        time.sleep(0.5)
        each_kib = (rss_kib(pid) - before_kib) / arguments.users
        print(f"memory: {each_kib:.1f} KiB per idle joined connection; {base_kib / 1024:.0f} MiB without any")
        used_s, slept, began = cpu_s(pid), sleeps(pid), time.monotonic()
        time.sleep(arguments.seconds)
        passed_s = time.monotonic() - began
        share, wakes = (cpu_s(pid) - used_s) / passed_s, (sleeps(pid) - slept) / passed_s
        print(f"idle: {share:.2%} of a core and {wakes:.1f} wake-ups/s with {len(people)} connections")
        for sock in people:
            sock.close()


if __name__ == "__main__":
    main()
