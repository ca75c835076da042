"""Measures the memory of several workers, and how long a killed worker is missing.

python -m bench.replace                      four workers, each killed once
python -m bench.replace --workers 8 --kills 16

Memory is that of an idle server: resident (RSS), and proportional (PSS), in which shared pages count once in total. A
worker is missing from kill -9 until /readyz lists no missing worker.
"""

import argparse
import http.client
import os
import signal
import statistics
import time
from contextlib import closing, suppress
from pathlib import Path

from koko_presence.process.restart_backoff import STEADY_S

from .load import koko_server

PORT, OPERATOR_PORT = 18086, 18087


def processes(supervisor: int) -> dict[int, str]:
    """The supervisor and its children: pid and command line."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    pids = [supervisor, *map(int, children)]
    return {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip() for pid in pids}


def memory_mib(pid: int) -> dict[str, float]:
    """Memory figures of a process from the kernel [proc(5), smaps_rollup]."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) / 1024 for name, rest in (line.split(":") for line in lines)}


def whole() -> bool:
    """Whether every slot has its own worker."""
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", OPERATOR_PORT, timeout=5)) as asking:
        asking.request("GET", "/readyz")
        answer = asking.getresponse()
        return answer.status == 200 and b"missingWorkers" not in answer.read()
    return False


def wait(until: bool) -> float:
    """The time at which `whole` is true."""
    while whole() is not until:
        time.sleep(0.001)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replace")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, help="default: one per worker")
    parser.add_argument("--core", type=int, help="core of the whole server; default: any")
    options = parser.parse_args()
    began = time.perf_counter()
    with koko_server(PORT, options.core, server_workers=options.workers, operator_port=OPERATOR_PORT) as supervisor:
        print(f"start: {wait(True) - began:.2f} s")
        time.sleep(1.0)
        sums = [0.0, 0.0]
        for pid, command in processes(supervisor).items():
            found = memory_mib(pid)
            sums = [sums[0] + found["Rss"], sums[1] + found["Pss"]]
            print(f"{found['Rss']:8.1f} MiB RSS {found['Pss']:8.1f} MiB PSS  {command[-60:]}")
        print(f"{sums[0]:8.1f} MiB RSS {sums[1]:8.1f} MiB PSS  in all")
        missing = []
        for number in range(options.kills or options.workers):
            if number and number % options.workers == 0:
                time.sleep(STEADY_S + 0.5)  # a slot whose worker dies sooner is restarted after a pause
            there = processes(supervisor)
            victim = min(pid for pid, line in there.items() if pid != supervisor and "fork_server" not in line)
            killed_at = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            while victim in processes(supervisor):  # until the supervisor has noticed the death
                time.sleep(0.001)
            missing.append(wait(True) - killed_at)
            time.sleep(0.5)
    print(f"missing: median {statistics.median(missing):.3f} s, at most {max(missing):.3f} s, {len(missing)} kills")


if __name__ == "__main__":
    main()
