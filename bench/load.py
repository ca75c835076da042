"""Runs rooms of cursors against a real server: `python -m bench.load --rooms 1 --users 100 --hz 20`.

Starts the server pinned to one core and the generator (loadgen.c, compiled on first use) pinned to another, and prints
latency percentiles, the delivered ratio, join latency, and the server's CPU time per delivered frame from /proc.
Latency is measured from the send of a cursor to its receipt at each receiver, and to its last receiver.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from koko_presence.auth.hmac_jwt import issue_token

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
SECRET = "only for load tests, never anywhere else"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def generator() -> Path:
    """Return the compiled load generator, compiling it if its source is newer."""
    source, binary = HERE / "loadgen.c", BUILD / "loadgen"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("bench: needs a C compiler: apt-get install gcc libc6-dev")
        BUILD.mkdir(exist_ok=True)
        subprocess.run([compiler, "-O2", "-o", binary, source, "-lm"], check=True)
    return binary


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children so far, user and system, in the nanosecond resolution of the
    scheduler."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1e9
        children = (task / "children").read_text().split()
        total += sum(cpu_s(int(child)) for child in children)
    return total


def rss_kib(pid: int) -> int:
    """Resident memory of a process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def machine_cpu_s() -> float:
    """CPU seconds of the whole machine so far, including time taken by the host."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


@contextmanager
def koko_server(port: int, core: int | None, **settings: Any) -> Iterator[int]:
    """Run this server in a process of its own; yields its pid once it accepts connections. Keys of `settings` are
    SECTION_KEY."""
    env = os.environ | {
        "KOKO_PRESENCE_AUTH_SECRET": SECRET,
        "KOKO_PRESENCE_ACCESS_MODE": "allow_all",
        "KOKO_PRESENCE_LOG_LEVEL": "warning",
        "KOKO_PRESENCE_OPERATOR_PORT": "0",
        **{f"KOKO_PRESENCE_{key.upper()}": str(value) for key, value in settings.items()},
    }
    command = [sys.executable, "-m", "koko_presence", "serve", "--port", str(port)]
    with server_process(command, core, env, port) as pid:
        yield pid


@contextmanager
def server_process(command: list[str], core: int | None, env: dict[str, str], port: int) -> Iterator[int]:
    """Run the process of any server, pinned; it is ended with SIGTERM."""
    pinned = command if core is None else ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(pinned, env=env)
    try:
        _wait_for_port(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    import socket

    for _ in range(600):  # half a minute, for a busy machine
        if process.poll() is not None:
            raise SystemExit(f"bench: the server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("bench: the server does not answer")


def write_tokens(path: Path, count: int) -> None:
    """Write one token per line for users u0, u1, ..."""
    now = int(time.time())
    with path.open("w") as file:
        for number in range(count):
            token = issue_token(SECRET, user=f"u{number}", name=f"User {number}", ttl_s=3600, now_s=now)
            file.write(token + "\n")


class Probe:
    """bench.probe during a load, on the generator's core. Its process ends with the `with` block."""

    def __init__(self, port: int, core: int | None) -> None:
        command = [sys.executable, "-m", "bench.probe", str(port)]
        pinned = command if core is None else ["taskset", "-c", str(core), *command]
        env = os.environ | {"KOKO_PRESENCE_AUTH_SECRET": SECRET}
        self._process = subprocess.Popen(
            pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=HERE.parent
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def ready(self) -> None:
        """Wait until its clients have joined. Errors: SystemExit."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit("bench: the probe beside the load failed")

    def tell(self) -> None:
        """Begin the measurement; the second call ends it."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def samples(self) -> dict[str, Any]:
        """Read `ms` and `lost` by kind, after the end of the measurement. Errors: SystemExit."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit("bench: the probe beside the load failed")
        return dict(json.loads(said))


def run_load(
    port: int, pid: int, *, rooms: int, users: int, hz: float, warmup_s: float, measure_s: float, core: int | None,
    options: list[str], probed: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run the generator once against a running server. Returns its JSON with the server's CPU time and memory, and with
    the samples of bench.probe as `probe` if that runs as well; then `generator_cores` is the sum of both."""
    with Probe(port, core) if probed else nullcontext() as probe:
        if probe is not None:
            probe.ready()
        result = _run_load(port, pid, rooms, users, hz, warmup_s, measure_s, core, options, probe)
        if probe is not None:
            result["probe"] = probe.samples()
        return result


def _run_load(
    port: int, pid: int, rooms: int, users: int, hz: float, warmup_s: float, measure_s: float, core: int | None,
    options: list[str], probe: Probe | None,
) -> dict[str, Any]:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        write_tokens(tokens, rooms * users)
        command = [
            str(generator()), "127.0.0.1", str(port), str(rooms), str(users), str(hz), str(warmup_s), str(measure_s),
            str(tokens), *options,
        ]  # fmt: skip
        pinned = command if core is None else ["taskset", "-c", str(core), *command]
        process = subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        marks: dict[str, tuple[float, float, float, float]] = {}
        memory_kib = 0
        result: dict[str, Any] = {}
        for line in process.stdout:
            said = json.loads(line)
            if len(said) == 1:
                mark = next(iter(said))
                if probe is not None and mark in ("from", "to"):
                    probe.tell()
                load_cpu_s = cpu_s(process.pid) + (cpu_s(probe.pid) if probe is not None else 0.0)
                marks[mark] = (cpu_s(pid), time.monotonic(), load_cpu_s, machine_cpu_s())
                memory_kib = rss_kib(pid)  # while all clients are connected
            else:
                result = said
        if process.wait() != 0 or not result:
            raise SystemExit("bench: the generator failed")
        if "from" in marks:
            used_s, wall_s, load_s, all_s = (
                after - before for before, after in zip(marks["from"], marks["to"], strict=True)
            )
            result["server_cores"] = round(used_s / wall_s, 4)
            result["generator_cores"] = round(load_s / wall_s, 4)
            result["other_cores"] = round(max(0.0, all_s - used_s - load_s) / wall_s, 4)
            result["us_per_delivery"] = round(used_s * 1e6 / max(1, result["delivered"]), 4)
            result["deliveries_per_s"] = round(result["delivered"] / wall_s)
            result["arrived_per_s"] = round(result["arrived"] / wall_s)
        result["server_rss_kib"] = memory_kib or rss_kib(pid)
        result["generator_saturated"] = result["late_ms"]["p99"] > 5.0
        return result


def show(result: dict[str, Any]) -> None:
    """Print the main figures, one per line."""
    for name in ("latency_ms", "last_receiver_ms", "join_ms", "typing_ms", "playback_ms", "late_ms"):
        row = result[name]
        if row["count"]:
            figures = "  ".join(f"{key} {row[key]:8.2f}" for key in ("p50", "p90", "p99", "p999", "max"))
            print(f"{name:17} {figures}  ({row['count']} samples)")
    keys = ["ratio", "deliveries_per_s", "us_per_delivery", "server_cores", "generator_cores", "other_cores"]
    keys += ["server_rss_kib", "all_in_s", "closed"]
    print("  ".join(f"{key} {result[key]}" for key in keys if key in result))
    if result["generator_saturated"]:
        print("The generator itself was late (late_ms) and adds to the latencies above. Use fewer users or cores.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=1)
    parser.add_argument("--users", type=int, default=100, help="users per room")
    parser.add_argument("--hz", type=float, default=20.0, help="cursors per second and user")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before the measurement")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds measured")
    parser.add_argument("--extras", action="store_true", help="typing and playback in room 0 as well")
    parser.add_argument(
        "--probe", action="store_true", help="run bench.probe during the load: small quiet rooms, and joins"
    )
    parser.add_argument(
        "--phases", choices=["even", "random"], default="random", help="send times of the clients (random)"
    )
    parser.add_argument("--obey", action="store_true", help="obey the interval advised by the server")
    parser.add_argument("--compact", action="store_true", help="request compact cursors")
    parser.add_argument("--stop", type=int, default=0, help="members of room 0 that stop reading")
    parser.add_argument(
        "--slow",
        default="",
        metavar="N,N",
        help="one of the last members of room 0 per number reads N bytes per second",
    )
    parser.add_argument("--storm", action="store_true", help="measure all clients joining at once")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION_KEY=VALUE", help="server settings")
    parser.add_argument("--json", action="store_true", help="print the raw result")
    arguments = parser.parse_args()
    options = ["extras=1"] * arguments.extras + ["caps=cursors"] * arguments.compact + ["storm=1"] * arguments.storm
    options += [f"stop={arguments.stop}"] if arguments.stop else []
    options += [f"slow={arguments.slow}"] if arguments.slow else []
    options += [f"phases={arguments.phases}"] + ["obey=1"] * arguments.obey
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    with koko_server(arguments.port, arguments.server_core, **settings) as pid:
        result = run_load(
            arguments.port, pid, rooms=arguments.rooms, users=arguments.users, hz=arguments.hz,
            warmup_s=arguments.warmup, measure_s=arguments.seconds, core=arguments.load_core, options=options,
            probed=arguments.probe,
        )  # fmt: skip
    print(json.dumps(result)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
