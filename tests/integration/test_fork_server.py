"""The fork server, the process that has loaded the program and forks the workers: replacements while the program's
files are changed or missing, and failures of the fork server itself."""

import os
import re
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.integration.test_supervisor import Service, service
from tests.waiting import wait_until

LIBRARIES = [
    *("aiofastnet", "aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "attrs", "cryptography", "frozenlist", "idna"),
    *("jwt", "msgspec", "multidict", "picows", "propcache", "python_socks", "typing_extensions.py", "uvloop", "yarl"),
    *("_cffi_backend*.so", "*.dist-info"),
]
ENDED = "the fork server ended"


def children(it: Service) -> dict[str, list[int]]:
    """The supervisor's children by the last word of the command line that ps shows: a worker's slot, or "server"."""
    found: dict[str, list[int]] = {"server": []}
    for pid in Path(f"/proc/{it.process.pid}/task/{it.process.pid}/children").read_text().split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except FileNotFoundError:
            continue  # it has ended meanwhile
        if b"koko_presence.process.fork_server" in words:
            found["server"].append(int(pid))
        else:
            found.setdefault(words[-1].decode(), []).append(int(pid))
    return found


def fork_server(it: Service) -> int:
    """The pid of the only fork server. There are two while the program is loaded anew, until the previous one has
    ended."""
    wait_until(lambda: len(children(it)["server"]) == 1)
    return children(it)["server"][0]


def started(it: Service) -> dict[str, float]:
    """Start of each worker by slot, in Unix seconds, from the metrics."""
    found = re.findall(
        r'^koko_presence_worker_start_time_seconds{worker="(.*)"} (\S+)$', it.ask("/metrics")[1], re.MULTILINE
    )
    return {slot: float(value) for slot, value in found}


@contextmanager
def installed(workers: int = 2) -> Iterator[Service]:
    """A server whose program and libraries are all in one folder, like a virtual environment that can be removed."""
    packages = Path(aiohttp.__file__).parents[1]
    libraries = [path for name in LIBRARIES for path in packages.glob(name)]
    command = [_bare_python(), "-P", "-m", "koko_presence"]
    with service(workers=workers, own_program=True, libraries=libraries, command=command) as it:
        it.up()
        yield it


def _bare_python() -> str:
    """The interpreter outside of the tests' virtual environment."""
    return str(Path(sys.executable).resolve())


def test_a_worker_is_replaced_while_the_program_and_its_libraries_are_away() -> None:
    with installed() as it:
        program = it.folder / "program"
        program.rename(program.with_name("away"))
        for id in (1, 2, 3):
            os.kill(it.pid(id), signal.SIGKILL)
            wait_until(lambda id=id: it.log("worker started", id=id + 2))
            wait_until(it.whole)
        it.connect().sock.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{it.port}/sdk/presence.js") as answer:
            assert b"export" in answer.read(), "what was read from files is there, too"
        assert len(it.log("a worker died")) == 3, "each replacement has begun at the first try"


@pytest.mark.long
def test_a_half_overwritten_program_stops_neither_a_replacement_nor_a_rolling_reload() -> None:
    with installed() as it:
        program = it.folder / "program" / "koko_presence"
        for path in program.rglob("*.py"):
            path.write_text("half of a")
        shutil.rmtree(program / "cluster")
        os.kill(it.pid(1), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)
        it.signal(signal.SIGUSR2)
        it.wait("the new workers run the previous program: the program could not be loaded")
        it.wait("every worker was replaced")
        wait_until(it.whole)


@pytest.mark.long
def test_a_rolling_reload_runs_the_program_as_it_is_now_and_a_replacement_the_one_that_was_loaded() -> None:
    with installed() as it:
        source = it.folder / "program" / "koko_presence" / "process" / "worker_process.py"
        source.write_text(source.read_text().replace("connections that the descriptor limit allows", "the new version"))
        os.kill(it.pid(1), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)
        assert it.log("the new version") == []
        before = fork_server(it)
        it.signal(signal.SIGUSR2)
        it.wait("every worker was replaced")
        assert {line["worker"] for line in it.log("the new version")} == {0, 1}
        assert fork_server(it) != before


@pytest.mark.long
def test_a_rolling_reload_whose_workers_cannot_begin_goes_back_to_the_program_from_before() -> None:
    with installed() as it:
        source = it.folder / "program" / "koko_presence" / "process" / "worker_process.py"
        source.write_text(source.read_text().replace("    async def _get_ready", "    async def _was_get_ready"))
        before = fork_server(it)
        it.signal(signal.SIGUSR2)
        it.wait("rolling reload cancelled")
        wait_until(lambda: children(it)["server"] == [before])
        os.kill(it.pid(1), signal.SIGKILL)
        wait_until(it.whole)
        wait_until(lambda: len(children(it)) == 3)  # and the workers that could not begin have been reaped


def test_a_fork_server_that_dies_ends_no_worker_and_is_started_again_when_needed() -> None:
    with service(workers=2) as it:
        it.up()
        first = fork_server(it)
        os.kill(first, signal.SIGKILL)
        it.wait(ENDED)
        assert it.whole() and len(it.alive()) == 2
        told = started(it)
        os.kill(it.pid(2), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)
        assert started(it)["0"] == told["0"] and started(it)["1"] > told["1"], "a worker's start, not the program's"
        assert fork_server(it) != first and len(it.log("a worker died")) == 1


@pytest.mark.long
def test_a_fork_server_that_hangs_is_replaced() -> None:
    with service(workers=2) as it:
        it.up()
        first = fork_server(it)
        os.kill(first, signal.SIGSTOP)
        os.kill(it.pid(2), signal.SIGKILL)
        it.wait(ENDED)
        wait_until(it.whole)
        assert fork_server(it) != first


def test_workers_are_the_supervisors_children_and_named_by_their_slot() -> None:
    with service(workers=3) as it:
        it.up()
        found = children(it)
        assert {name: len(pids) for name, pids in found.items()} == {"server": 1} | {
            f"koko-presence worker {slot}": 1 for slot in range(3)
        }
        assert [found[f"koko-presence worker {slot}"][0] for slot in range(3)] == [it.pid(id) for id in (1, 2, 3)]
        os.kill(it.pid(1), signal.SIGUSR1)
        os.kill(fork_server(it), signal.SIGUSR1)
        it.wait("stack", id=1)
        it.signal(signal.SIGTERM)
        assert it.process.wait() == 0 and it.log("a worker died") == []


AUDIT_HOOK = """
import os, sys

out = os.open(os.environ["OPENED_IN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(event, args):
    if event in ("open", "import") and args[0] is not None:
        os.write(out, f"{os.getpid()} {event} {args[0]}\\n".encode())

sys.addaudithook(note)
"""


def test_a_worker_that_is_forked_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a forked worker loads later may have been removed by an upgrade. An audit hook records the files and
    modules that each process opens and imports."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT_HOOK)
    opened = tmp_path / "opened"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OPENED_IN", str(opened))
    with service(workers=2, server="demo = true") as it:
        it.up()
        it.connect().sock.close()
        lines = [line.split(" ", 2) for line in opened.read_text().splitlines()]
        workers = {str(it.pid(id)) for id in (1, 2)}
        said = {(event, what) for pid, event, what in lines if pid in workers}
        fine = ("/proc/", "/sys/", "/dev/")
        assert sorted(what for event, what in said if not what.startswith(fine)) == []
