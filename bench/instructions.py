"""Counts the instructions of each hot function with valgrind and compares them with bench/instructions.json.

The count does not depend on the load or speed of the machine. Every function runs in a process of its own, forked from
one that has imported everything: n operations to warm up, then n, then 2n. The difference of the last two divided by n
is the count per operation, without start and end. This is repeated with several heap layouts; the minimum counts.

  python -m bench.instructions                                    compare; exit 1 if a count is more than 3 % higher
  python -m bench.instructions --annotate "echo in a room of 2"   the counts by C function
  python -m bench.instructions --accept "rows are cached"         store the present counts as baseline, with the reason

Counts are only comparable with the versions named in the baseline. With another interpreter, library or compiler the
table is printed with a warning, and nothing fails.
"""

import argparse
import gc
import json
import os
import platform
import random
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from .baselines import Baseline, Row, better, compare, reason, table, worse

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
AT_ONCE = 2  # concurrent counting processes
TRIES = 3
INSIDE = [sys.executable, "-m", "bench.instructions", "--inside"]

# Independent of the environment: its size moves the stack, and string hashes determine collisions. One memcpy variant
# for all processors, and freed blocks are reused first, independent of the rest of the heap.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3,-SSE4_2,-BMI2:"
    "glibc.malloc.tcache_max=65536:glibc.malloc.tcache_count=100",
}

Run = Callable[[int], object]


def hot() -> dict[str, tuple[Callable[[], Run], int]]:
    """By name: the function that makes the `run(n)` to count, and n."""
    from . import cases
    from .cases import PEOPLE, Batch, Rooms

    return {
        "unmasking of a cursor": (lambda: cases.unmask_cursor, 1000),
        "scan of a cursor": (lambda: cases.scan_cursor, 1000),
        "TokenBucket.take": (lambda: cases.take_token, 1000),
        "Coalescer.offer": (lambda: cases.offer_value, 1000),
        "CursorTemplate.make": (lambda: cases.make_cursor, 1000),
        "decode of a cursor": (lambda: cases.decode_cursor, 1000),
        "decode of typing": (lambda: partial(cases.decode_again, cases.TYPING), 1000),
        "decode of a heartbeat": (lambda: partial(cases.decode_again, cases.HEARTBEAT), 1000),
        "ten cursors to 2": (lambda: Batch(2).run, 200),
        "ten cursors to 10": (lambda: Batch(10).run, 200),
        "ten cursors to 100": (lambda: Batch(100).run, 100),
        "ten compact cursors to 100": (lambda: Batch(100, compact=True).run, 100),
        "seven frames in two reads": (lambda: Rooms(2).read_frames, 500),
        "echo in a room of 2": (lambda: Rooms(2).echo, 1000),
        "echo in a room of 100": (lambda: Rooms(PEOPLE).echo, 200),
        "snapshot of 100, nobody moved": (lambda: Rooms(PEOPLE).join_again, 5),
        "snapshot of 100, all moved": (lambda: Rooms(PEOPLE).join_after_moves, 5),
        "leave and join among 100": (lambda: Rooms(PEOPLE).leave_and_join, 5),
    }


# --- inside valgrind ----------------------------------------------------------------------------------------------


def mark() -> None:
    """Make valgrind write a part of its profile and reset its counts (--dump-before)."""
    os.getppid()


def count_all(seed: int, names: list[str]) -> None:
    """Measure each function in a fork; prints n and the pid per name, as JSON."""
    blocks = scattered(seed)
    functions = hot()
    gc.collect()
    gc.freeze()
    gc.disable()
    told: dict[str, tuple[int, int]] = {}
    for name in names:
        make, n = functions[name]
        pid = os.fork()
        if pid == 0:
            run = make()
            run(n)
            mark()
            run(n)
            mark()
            run(2 * n)
            mark()
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"instructions: {name} failed")
        told[name] = n, pid
    print(json.dumps(told))
    del blocks


def scattered(seed: int) -> list[object]:
    """Allocate blocks of all sizes and free every second one: the layout of later allocations depends on the seed.

    An operation that touches a new page of the allocator each time, has badly aligned strings for memcpy, or has
    colliding names in the attribute cache takes up to 4 % more than in another layout. This varies at random with every
    change of the program; the minimum over several layouts does not.
    """
    chance = random.Random(seed)
    blocks = [
        each
        for _ in range(chance.randrange(1000, 4000))
        for each in (bytes(int(40_000 ** chance.random())), object(), complex(0, 1))
    ]
    return chance.sample(blocks, len(blocks) // 2)


# --- around valgrind ----------------------------------------------------------------------------------------------


Parts = tuple[int, Path, Path]  # n, the profile of n operations, and that of 2n


@contextmanager
def profiles(names: list[str], tries: int = TRIES) -> Iterator[dict[str, list[Parts]]]:
    """The profiles of each try, by name."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("instructions: valgrind is missing. Type:  sudo apt-get install -y valgrind")
    _run([*INSIDE, "0"])  # imports only: creates the .pyc files
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        callgrind = [valgrind, "--quiet", "--tool=callgrind", "--dump-before=getppid"]
        commands = [
            [*callgrind, f"--callgrind-out-file={folder}/{seed}.%p", *INSIDE, str(seed), *names]
            for seed in range(tries)
        ]
        found: dict[str, list[Parts]] = {name: [] for name in names}
        for seed, said in enumerate(pool.map(_run, commands)):
            for name, (n, pid) in json.loads(said).items():
                found[name].append((n, Path(folder, f"{seed}.{pid}.2"), Path(folder, f"{seed}.{pid}.3")))
        yield found


def _run(command: list[str]) -> str:
    run = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{run.stdout}{run.stderr}\ninstructions: counting failed")
    return run.stdout


def total(profile: Path) -> int:
    """The instruction count of one part."""
    found = re.search(r"^totals: (\d+)", profile.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"instructions: {profile.name} has no total")
    return int(found[1])


def counts(names: list[str]) -> dict[str, float]:
    """Instructions per operation, the minimum of all tries."""
    with profiles(names) as found:
        return {
            name: round(min((total(double) - total(once)) / n for n, once, double in parts), 1)
            for name, parts in found.items()
        }


def by_function(profile: Path) -> Counter[str]:
    """Instructions of each C function without its callees. (callgrind_annotate fails for calls that began before the
    part.)"""
    names: dict[str, str] = {}
    took: Counter[str] = Counter()
    here, called = "", False
    for line in profile.read_text().splitlines():
        kind, _, rest = line.partition("=")
        if kind in ("fn", "cfn"):  # a name is given once, and by its number afterwards
            number, _, name = rest.partition(" ")
            names.setdefault(number, name)
            here = names[number] if kind == "fn" else here
        elif kind == "calls":
            called = True
        elif line[:1] in "+-*0123456789" and line:
            took[here] += 0 if called else int(line.split()[1])  # the line after `calls` is the cost of the callee
            called = False
    return took


def annotated(name: str) -> str:
    """The C functions with the instructions of one operation, the most expensive first."""
    with profiles([name], tries=1) as found:
        n, _, double = found[name][0]
        took = by_function(double)
    lines = [f"{instructions / (2 * n):12,.1f}  {function}" for function, instructions in took.most_common(40)]
    return "\n".join([f"{name}: {took.total() / (2 * n):,.1f} instructions, by C function", *lines])


def versions() -> dict[str, str]:
    """The versions that influence the counts."""
    compiler = os.environ.get("CC") or shutil.which("cc") or "cc"
    return {
        "python": " ".join([platform.python_version(), platform.python_compiler(), *_build_flags()]),
        **{package: version(package) for package in ("msgspec", "cython", "picows")},
        "cc": _first_line(compiler, "--version"),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": _first_line("valgrind", "--version"),
        "machine": platform.machine(),
    }


def _build_flags() -> list[str]:
    """The build options of the interpreter: --enable-optimizations changes the counts."""
    flags = shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or "")
    return sorted(flag for flag in flags if flag.startswith(("--enable-", "--with-")) and "/" not in flag)


def _first_line(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        return "none"


def verdict(before: Baseline, now: Baseline) -> tuple[bool, str]:
    """Whether the counts pass, and the report."""
    rows: list[Row] = compare(before.figures, now.figures)
    said = [table(rows, ",.1f", TOLERANCE)]
    other = {name for name, value in now.versions.items() if before.versions.get(name) != value}
    slower = worse(rows, TOLERANCE)
    if before.figures and other:
        said.append("instructions: WARNING: the baseline was counted with other versions; nothing is held against it:")
        said += [f"  {name}: {before.versions.get(name, '-')} -> {now.versions[name]}" for name in sorted(other)]
        return True, "\n".join(said)
    if slower:
        said.append(
            f"instructions: more than {TOLERANCE:.0%} above the baseline ({before.reason or 'none yet'}), or new."
        )
        said.append(f'Find the cause:  python -m bench.instructions --annotate "{slower[0].name}"')
        said.append('If it is worth its price, say so:  python -m bench.instructions --accept "why it is"')
    elif better(rows, TOLERANCE):
        said.append('instructions: fewer; keep it so:  python -m bench.instructions --accept "what was done"')
    return not slower, "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--accept", metavar="REASON", type=reason, help="store the present counts as baseline")
    choice.add_argument("--annotate", metavar="NAME", help="the instructions of one function by C function")
    choice.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        seed, *names = arguments.inside
        count_all(int(seed), names)
        return
    names = list(hot())
    if arguments.annotate:
        if arguments.annotate not in names:
            parser.error(f"the functions are: {', '.join(names)}")
        print(annotated(arguments.annotate))
        return
    before, now = Baseline.read(BASELINE), Baseline(counts(names), arguments.accept or "", versions())
    if arguments.accept:
        now.write(BASELINE)
        print(table(compare(before.figures, now.figures), ",.1f", TOLERANCE))
        return
    passes, said = verdict(before, now)
    print(said)
    raise SystemExit(0 if passes else 1)


if __name__ == "__main__":
    main()
