"""Measures HTTP calls, and their effect on cursors: `python -m bench.http`.

1. presence.getActive on a room of 100, as many requests as one worker answers, by 400 different users.
2. A full room of cursors only, then with 1,000 such requests a second in addition: the p99 of the cursors has to stay
   below 20 ms.

Prints two tables for docs/performance.md. The generators are pinned to the cores without the server; a row states if
they, or other processes, disturbed the measurement.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from .figures import Result, remark, table
from .load import cpu_s, koko_server, run_load, write_tokens

PORT = 18_087
CALLERS = 400  # the limit is 50 calls a second per user
BAR_MS = 20.0
# the users of loadgen.c are u0 to u99; the callers follow
FULL_ROOM = {"roomId": "video_0", "roomType": "video"}
SETTINGS = {"limits_max_sessions_per_user": 100}


def get_active(room: dict[str, str]) -> str:
    return f"/trpc/presence.getActive?input={quote(json.dumps(room))}"


def http_load(
    tokens: Path, room: dict[str, str], seconds: float, cores: Sequence[int], *, rate: float = 0.0, port: int = PORT
) -> Result:
    """Send requests for `seconds` from a separate process. Errors: SystemExit if it fails or a status is not 200."""
    pinned = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    command = [sys.executable, "-m", "bench.http_load", str(port), get_active(room), str(tokens), str(seconds), "32"]
    done = subprocess.run([*pinned, *command, str(rate)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit("bench: the HTTP generator failed")
    result: Result = json.loads(done.stdout)
    if set(result["statuses"]) != {"200"}:
        raise SystemExit(f"bench: not every answer was 200: {result['statuses']}")
    return result


async def fill(tokens: Sequence[str], room: dict[str, str], port: int = PORT) -> None:
    """Join all users to `room` over HTTP; it stays full for 90 s."""
    async with aiohttp.ClientSession() as http:
        for token in tokens:
            headers = {"authorization": f"Bearer {token}"}
            url = f"http://127.0.0.1:{port}/trpc/presence.join"
            async with http.post(url, json=room, headers=headers) as answer:
                if answer.status != 200:
                    raise SystemExit(f"bench: join was refused: {await answer.text()}")


def callers(folder: Path) -> Path:
    """Write the tokens of the callers, who are not in the room, to a file."""
    all_tokens = folder / "all_tokens"
    write_tokens(all_tokens, 100 + CALLERS)
    found = folder / "callers"
    found.write_text("\n".join(all_tokens.read_text().split()[100:]))
    return found


def measure_alone(tokens: Path, seconds: float, server_core: int, cores: Sequence[int]) -> Result:
    """Measure getActive on a room of 100, at the highest rate."""
    room = {"roomId": "video_busy", "roomType": "video"}
    with koko_server(PORT, server_core, **SETTINGS) as pid:
        members = (tokens.parent / "all_tokens").read_text().split()[:100]
        asyncio.run(fill(members, room))
        http_load(tokens, room, 0.5, cores)
        before, began = cpu_s(pid), time.monotonic()
        result = http_load(tokens, room, seconds, cores)
        result["server_cores"] = (cpu_s(pid) - before) / (time.monotonic() - began)
    return result


def measure_beside(
    tokens: Path, rate: float, seconds: float, server_core: int, cores: Sequence[int]
) -> tuple[Result, Result | None]:
    """Measure a full room of cursors with `rate` requests a second in addition, or none if that is 0."""
    beside: dict[str, Any] = {}

    def go() -> None:
        time.sleep(1.5)  # until all have joined and the measurement has begun
        beside.update(http_load(tokens, FULL_ROOM, seconds + 1.0, cores, rate=rate))

    with koko_server(PORT, server_core, **SETTINGS) as pid:
        thread = threading.Thread(target=go)
        if rate:
            thread.start()
        result = run_load(
            PORT, pid, rooms=1, users=100, hz=20, warmup_s=2.0, measure_s=seconds, core=cores[0] if cores else None,
            options=[],
        )  # fmt: skip
        if rate:
            thread.join()
    return result, beside or None


def alone_row(result: Result) -> list[str]:
    latency = result["latency_ms"]
    return [
        "getActive, room of 100", f"{result['requests_per_s']:,}", f"{latency['p50']:.2f}", f"{latency['p99']:.2f}",
        f"{result['server_cores']:.2f}",
    ]  # fmt: skip


def beside_row(name: str, result: Result, beside: Result | None) -> list[str]:
    """The figures of the cursors and of the concurrent requests."""
    p99 = result["latency_ms"]["p99"]
    verdict = "yes" if p99 < BAR_MS else "no"
    if result["generator_saturated"]:
        verdict += ", but the generator was late"
    return [
        name + remark([result]), f"{result['latency_ms']['p50']:.2f}", f"{p99:.2f}",
        f"{result['last_receiver_ms']['p99']:.2f}", f"{result['ratio']:.4f}", f"{result['server_cores']:.2f}",
        f"{beside['requests_per_s']:,}" if beside else "", f"{beside['latency_ms']['p99']:.2f}" if beside else "",
        verdict,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests per second with the cursors")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per measurement")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the raw results")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0) - {arguments.server_core}) or [arguments.server_core]
    with tempfile.TemporaryDirectory() as folder:
        tokens = callers(Path(folder))
        alone = measure_alone(tokens, arguments.seconds, arguments.server_core, cores)
        quiet, _ = measure_beside(tokens, 0.0, arguments.seconds, arguments.server_core, cores)
        busy, beside = measure_beside(tokens, arguments.rate, arguments.seconds, arguments.server_core, cores)
    if arguments.json:
        print(json.dumps({"alone": alone, "quiet": quiet, "busy": busy, "beside": beside}))
        return
    head = ["call", "requests/s", "p50 ms", "p99 ms", "server cores"]
    print("\n".join(table(head, [alone_row(alone)])), end="\n\n")
    head = ["room of 100 at 20 Hz", "p50 ms", "p99 ms", "last receiver p99 ms", "delivered", "server cores"]
    head += ["HTTP/s", "HTTP p99 ms", f"p99 < {BAR_MS:.0f} ms"]
    rows = [beside_row("cursors only", quiet, None), beside_row("cursors and HTTP", busy, beside)]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    main()
