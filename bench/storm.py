"""Measures whether a reconnect storm delays connected clients: `python -m bench.storm`

Some clients send cursors in room video_0; meanwhile 2,000 others connect, authenticate and join 20 rooms, including
video_0. Prints the duration of the storm, the cursor latencies of the connected clients during it, and overflows of the
kernel's listen queue.
"""

import argparse
import resource
import threading
import time
from pathlib import Path
from typing import Any

from .load import koko_server, run_load

PORT = 18086


def listen_overflows() -> int:
    """The number of connections dropped by the kernel because of a full accept queue, since its start."""
    names, values = (
        line.split()[1:] for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")
    )
    return int(values[names.index("ListenOverflows")])


def percentiles(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {row[name]:.1f}" for name in ("p50", "p99", "max"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=20, help="rooms that the storm joins")
    parser.add_argument("--users", type=int, default=100, help="clients per room")
    parser.add_argument("--there", type=int, default=10, help="clients that are in the first room before")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found: dict[str, Any] = {}
    with koko_server(PORT, arguments.server_core) as pid:

        def run(name: str, *options: str, rooms: int, users: int, measure_s: float) -> None:
            found[name] = run_load(
                PORT, pid, rooms=rooms, users=users, hz=20, warmup_s=1.0, measure_s=measure_s,
                core=arguments.load_core, options=list(options),
            )  # fmt: skip

        before = listen_overflows()
        there = threading.Thread(
            target=run, args=("there",), kwargs={"rooms": 1, "users": arguments.there, "measure_s": 5.0}
        )
        there.start()
        time.sleep(2.5)
        run("crowd", "storm=1", rooms=arguments.rooms, users=arguments.users, measure_s=1.0)
        there.join()
    crowd = found["crowd"]
    print(f"{crowd['clients']} clients: all joined after {crowd['all_in_s']:.2f} s")
    print(f"join ms: {percentiles(crowd['join_ms'])}")
    print(f"cursors of the {arguments.there} connected before, ms: {percentiles(found['there']['latency_ms'])}")
    print(f"listen queue overflows: {listen_overflows() - before}")


if __name__ == "__main__":
    main()
