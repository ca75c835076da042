"""Measures memory left after connections have closed: resident memory over many visits, and what refused and idle
sockets hold.

python -m bench.visits                10 rounds of 2,000 clients in rooms of 20, 1,000 bad frames, full buffers
python -m bench.visits --rounds 4 --people 500
"""

import argparse
import json
import os
import resource
import time
from contextlib import suppress

from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import CLOSE, PONG, TEXT, RawSocket, frame

from .load import SECRET, koko_server, rss_kib

PORT = 18086
SETTLED_ROUNDS = 3  # by then all shared buffers and tables have reached their size
BAD_FRAME = b"\x83\x80\0\0\0\0"  # opcode 3 is undefined
BEHIND_BYTES = 1_000_000
FULL_BYTES = 5_000_000


class Visitor(RawSocket):
    """A client with a socket."""

    def say(self, **message: object) -> None:
        self.send(frame(TEXT, json.dumps(message).encode()))

    def hear(self, type_: str) -> None:
        while json.loads(self.read_frame().payload).get("type") != type_:
            pass

    def enter(self, user: str, room: str) -> None:
        self.upgrade()
        token = issue_token(SECRET, user=user, name=f"Name of {user}", ttl_s=3600, now_s=int(time.time()))
        self.say(type="auth", token=token)
        self.hear("authenticated")
        self.say(type="join", roomId=room, roomType="video")
        self.hear("joined")


def settle(pid: int, sockets: int) -> None:
    """Wait until the server has at most `sockets` open descriptors. Errors: SystemExit if that does not happen."""
    for _ in range(600):
        if len(os.listdir(f"/proc/{pid}/fd")) <= sockets:
            return
        time.sleep(0.05)
    raise SystemExit("bench: the server keeps sockets of disconnected clients")


def visit(number: int, people: int, rooms_of: int) -> None:
    """Let `people` clients connect, join, send a cursor, and close."""
    crowd = []
    for n in range(people):
        each = Visitor(PORT)
        each.enter(f"u{number}-{n}", f"video_{number}-{n // rooms_of}")
        each.say(type="cursor", roomId=f"video_{number}-{n // rooms_of}", data={"timestamp": 1.5, "x": 0.25, "y": 0.5})
        crowd.append(each)
    for each in crowd:
        each.send(frame(CLOSE, b"\x03\xe8"))
        each.read_close()
        each.sock.close()


def come_and_go(pid: int, rounds: int, people: int, rooms_of: int) -> None:
    sockets = len(os.listdir(f"/proc/{pid}/fd"))
    sizes = []
    for number in range(rounds):
        visit(number, people, rooms_of)
        settle(pid, sockets)
        time.sleep(1.0)
        sizes.append(rss_kib(pid))
        print(f"round {number + 1}: {people} clients joined and left, {sizes[-1] / 1024:.1f} MiB", flush=True)
    later = sizes[SETTLED_ROUNDS - 1 :]
    if len(later) > 1:
        grown = (later[-1] - later[0]) * 1024 / (people * (len(later) - 1))
        print(f"visits: {grown:.0f} bytes per visit after round {SETTLED_ROUNDS}")


def bad_frames(pid: int, count: int) -> None:
    sockets, before_kib = len(os.listdir(f"/proc/{pid}/fd")), rss_kib(pid)
    for _ in range(count):
        with Visitor(PORT) as each:
            each.upgrade()
            with suppress(OSError):
                each.send(BAD_FRAME + bytes(BEHIND_BYTES))
    settle(pid, sockets)
    print(
        f"bad frames: {(rss_kib(pid) - before_kib) / 1024:+.1f} MiB after {count}, {BEHIND_BYTES:,} bytes behind each"
    )


def full_buffers(pid: int, count: int) -> None:
    """Measure what idle connections hold after sending much data."""
    crowd = [Visitor(PORT) for _ in range(count)]
    for n, each in enumerate(crowd):
        each.enter(f"full{n}", f"video_full{n}")
    before_kib = rss_kib(pid)
    pongs = frame(PONG, bytes(125)) * (FULL_BYTES // 131)
    for each in crowd:
        with suppress(OSError, EOFError):
            each.sock.settimeout(20.0)
            each.send(pongs)
            each.say(type="heartbeat", status="active")
            each.hear("pong")
    each_kib = (rss_kib(pid) - before_kib) / count
    print(f"read buffers: {each_kib:+.1f} KiB per connection after {FULL_BYTES:,} bytes of pongs from each of {count}")
    for each in crowd:
        each.sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--people", type=int, default=2000, help="clients per round")
    parser.add_argument("--rooms-of", type=int, default=20, help="clients per room")
    parser.add_argument("--bad-frames", type=int, default=1000)
    parser.add_argument("--full", type=int, default=40, help="connections that send 5 MB each")
    parser.add_argument("--server-core", type=int, default=0)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with koko_server(PORT, arguments.server_core, limits_room_linger_s=0) as pid:
        print(f"start: {rss_kib(pid) / 1024:.1f} MiB")
        come_and_go(pid, arguments.rounds, arguments.people, arguments.rooms_of)
        bad_frames(pid, arguments.bad_frames)
        full_buffers(pid, arguments.full)


if __name__ == "__main__":
    main()
