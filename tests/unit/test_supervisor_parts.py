"""The parts around the supervisor: its folder, what a reload may change, the channel to a worker."""

import asyncio
import errno
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvloop

from koko_presence.admin.main_process_watch import MainWatch
from koko_presence.config import reload
from koko_presence.config.background_io import OneAtATime
from koko_presence.config.control_groups import Group
from koko_presence.config.reload import AT_RESTART, AT_ROLLING, read_again, settle
from koko_presence.config.schema import Auth, Config, ConfigError, Operator, Server
from koko_presence.process import control_channel, memory_headroom, supervisor
from koko_presence.process.control_channel import Beat, Begin, Channel, Failed, Ready, Unpacker, pack
from koko_presence.process.os_process import Reserve, process_stats
from koko_presence.process.runtime_folder import (
    NoServer,
    RuntimeFault,
    RuntimeFolder,
    cannot_serve,
    find_server,
    runtime_dir,
)
from koko_presence.process.worker_process import Member
from koko_presence.protocol.limits import Limits
from tests.waiting import PATIENCE_S, until, wait_until

# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="koko") as path:  # pytest's own paths are too long for sockets
        yield Path(path) / "run"


def test_the_folder_is_where_the_configuration_or_systemd_says_else_by_user_and_port() -> None:
    config = Config(server=Server(runtime_dir="/run/a"))
    assert runtime_dir(config, 1, {"RUNTIME_DIRECTORY": "/run/b"}) == Path("/run/a")
    assert runtime_dir(Config(), 1, {"RUNTIME_DIRECTORY": "/run/b:/run/c"}) == Path("/run/b")
    assert runtime_dir(Config(), 8123, {}) == Path(tempfile.gettempdir()) / f"koko-presence-{os.getuid()}-8123"


def test_the_folder_is_made_private_cleared_of_old_sockets_and_removed_at_the_end(place: Path) -> None:
    old = os.umask(0)
    try:
        folder = RuntimeFolder(place, 2)
    finally:
        os.umask(old)
    assert place.stat().st_mode & 0o777 == 0o700 and (place / "supervisor.pid").stat().st_mode & 0o777 == 0o600
    assert find_server(place) == (os.getpid(), 2)
    (place / "w7.sock").touch()
    folder.forget(str(place / "w7.sock"))
    (place / "w8.sock").touch()
    folder.close()
    assert not place.exists()


def test_without_any_writable_folder_the_error_names_what_is_missing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(RuntimeFault, match=r"no temporary folder is writable: No usable .*: set server.runtime_dir"):
        runtime_dir(Config(), 1, {})
    with pytest.raises(RuntimeFault, match=r"/proc/nowhere cannot be used: .*: set server.runtime_dir"):
        RuntimeFolder(Path("/proc/nowhere"), 1)

    def full(fd: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "truncate", full)
    with pytest.raises(RuntimeFault, match=r"cannot be written to: No space left on device: set server.runtime_dir"):
        RuntimeFolder(place, 1)


def test_a_folder_that_was_there_stays_and_stale_sockets_go(place: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "w1.sock").touch()
    folder = RuntimeFolder(place, 2)
    assert [path.name for path in place.iterdir()] == ["supervisor.pid"]
    folder.close()
    assert list(place.iterdir()) == []
    with pytest.raises(NoServer, match="no server runs"):
        find_server(place)


def test_a_folder_that_was_removed_is_made_again_and_found_by_it(place: Path) -> None:
    folder = RuntimeFolder(place, 2)
    address = str(place / "w1.sock")
    Path(address).touch()
    assert not folder.mend() and not folder.lacks(address)
    shutil.rmtree(place)
    assert folder.mend() and not folder.mend() and folder.lacks(address)
    assert find_server(place) == (os.getpid(), 2) and place.stat().st_mode & 0o777 == 0o700
    (place / "supervisor.pid").unlink()
    assert folder.mend() and find_server(place).pid == os.getpid()
    shutil.rmtree(place)
    place.touch()
    with pytest.raises(RuntimeFault, match="is not a directory"):
        folder.mend()
    place.unlink()
    assert folder.mend()
    folder.close()
    assert not place.exists()


def test_one_folder_belongs_to_one_server(place: Path) -> None:
    first = RuntimeFolder(place, 2)
    with pytest.raises(RuntimeFault, match="another koko-presence uses"):
        RuntimeFolder(place, 2)
    assert find_server(place).pid == os.getpid()
    first.close()


def test_a_server_that_has_only_just_locked_its_folder_is_not_there_yet(place: Path) -> None:
    """A server that has only just locked its folder counts as not running. It was an IndexError."""
    folder = RuntimeFolder(place, 2)
    os.truncate(place / "supervisor.pid", 0)
    with pytest.raises(NoServer, match="is still starting"):
        find_server(place)
    folder.close()


def test_a_folder_that_is_not_ours_alone_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir()
    place.chmod(0o750)
    with pytest.raises(RuntimeFault, match="open to other users"):
        RuntimeFolder(place, 2)
    place.chmod(0o700)
    link = place.parent / "link"
    link.symlink_to(place)
    with pytest.raises(RuntimeFault, match="is not a directory"):
        RuntimeFolder(link, 2)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(RuntimeFault, match="belongs to another user"):
        RuntimeFolder(place, 2)


def test_a_path_that_no_socket_can_have_or_that_cannot_be_made_is_refused(place: Path) -> None:
    with pytest.raises(RuntimeFault, match="too long"):
        RuntimeFolder(place / ("x" * 100), 2)
    with pytest.raises(RuntimeFault, match="cannot be used: No such file"):
        RuntimeFolder(place / "a" / "b", 2)


# --- reloading --------------------------------------------------------------------------------------------------------

OLD = Config(auth=Auth(secret="s" * 40))
NEW = Config(
    server=Server(port=1, workers=3, origins=("https://a.example",), demo=True),
    operator=Operator(port=2, api_key="k" * 40),
    auth=Auth(secret="t" * 40),
    limits=Limits(max_users_per_room=7),
)


def test_a_reload_takes_what_it_can_and_names_the_rest() -> None:
    config, held = settle(OLD, NEW, rolling=False)
    assert held == ["server.port", "server.workers", "server.demo", "operator.port"]
    assert (config.server.port, config.server.demo, config.operator.port) == (8080, False, 9080)
    assert (config.server.origins, config.limits, config.secrets) == (NEW.server.origins, NEW.limits, NEW.secrets)


def test_new_workers_take_more() -> None:
    config, held = settle(OLD, NEW, rolling=True)
    assert config.server.demo and held == ["server.port", "server.workers", "operator.port"]


def test_nothing_changed_is_nothing_held() -> None:
    assert settle(OLD, OLD, rolling=False) == (OLD, [])


def test_the_tables_name_keys_that_exist() -> None:
    from koko_presence.config.schema import keys

    assert {key.dotted for key in keys()} >= AT_RESTART | AT_ROLLING


def test_faults_are_logged_and_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Config:
        raise ConfigError(["limits.x: no such key", "log.level: no"])

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(read_again(broken, lambda: OLD, rolling=False)) is None
        assert [line.getMessage() for line in caplog.records] == [
            "configuration not reloaded: limits.x: no such key",
            "configuration not reloaded: log.level: no",
        ]
        caplog.clear()
        asyncio.run(read_again(lambda: NEW, lambda: OLD, rolling=False))
    told = [line.getMessage() for line in caplog.records]
    assert "server.port has changed, which takes a restart; the old value stays" in told
    assert "server.demo has changed, which takes koko-presence reload --rolling; the old value stays" in told
    running = {line.__dict__["key"]: line.__dict__["running"] for line in caplog.records}
    assert running["operator.port"] == str(OLD.operator.port) != str(NEW.operator.port)


def test_a_configuration_that_cannot_be_read_in_time_changes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "READ_WITHIN_S", 0.02)
    over = threading.Event()

    def hang() -> Config:
        over.wait(PATIENCE_S)
        return NEW

    assert asyncio.run(read_again(hang, lambda: OLD, rolling=False)) is None
    over.set()
    assert "its files could not be read within" in caplog.text


def test_a_job_requested_while_it_runs_runs_once_more() -> None:
    async def test() -> None:
        ran, go_on = 0, asyncio.Event()

        async def job() -> None:
            nonlocal ran
            ran += 1
            await go_on.wait()

        jobs = OneAtATime(job)
        for _ in range(5):
            jobs.request()
        await asyncio.sleep(0)
        for _ in range(5):
            jobs.request()
        await asyncio.sleep(0)
        assert ran == 1
        go_on.set()
        await until(lambda: ran == 2)
        jobs.request()
        await until(lambda: ran == 3)

    asyncio.run(test())


# --- the channel ------------------------------------------------------------------------------------------------------


class End:
    def __init__(self, sock: socket.socket) -> None:
        self.got: list[Any] = []
        self.lost = 0
        self.channel = Channel(sock, self.got.append, self._on_lost)

    def _on_lost(self) -> None:
        self.lost += 1


async def pause(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_channel_carries_messages_of_any_size_in_order_and_reports_its_end_once() -> None:
    async def test() -> None:
        one, two = map(End, socket.socketpair())
        config = msgspec.msgpack.encode(OLD)
        begin = Begin(id=1, slot=0, mesh_address="/x", config=config * 20_000)  # more than a socket's buffer
        sent: list[Any] = [Ready(), begin, Beat(at=1.5), begin, Ready()]
        for message in sent:
            one.channel.send(message)
        await pause(lambda: len(two.got) == len(sent))
        assert two.got == sent and msgspec.msgpack.decode(config, type=Config) == OLD
        one.channel.close()
        one.channel.send(Ready())
        await pause(lambda: two.lost)
        two.channel.send(Ready())
        await asyncio.sleep(0.01)
        assert (one.lost, two.lost) == (0, 1)

    uvloop.run(test())


def test_a_message_is_written_before_send_returns() -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        end = End(here)
        end.channel.send(Ready())
        assert list(Unpacker().feed(there.recv(100))) == [Ready()], "without a turn of the loop"
        end.channel.close()
        there.close()

    uvloop.run(test())


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", (5).to_bytes(4, "big") + b"hello"])
def test_nonsense_ends_the_channel(nonsense: bytes) -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        end = End(here)
        there.send(nonsense)
        await pause(lambda: end.lost)
        there.close()

    uvloop.run(test())


def test_a_handler_may_close_the_channel_between_two_messages() -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        end = End(here)
        end.channel._on_message = lambda message: (end.got.append(message), end.channel.close())
        there.send(pack(Ready()) + pack(Ready()))
        await pause(lambda: end.got)
        assert end.got == [Ready()] and end.lost == 0
        there.close()

    uvloop.run(test())


def test_a_message_that_fails_does_not_cost_those_that_were_read_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        end = End(here)

        def on_message(message: Any) -> None:
            if isinstance(message, Beat):
                raise AttributeError("a fault of ours")
            end.got.append(message)

        end.channel._on_message = on_message
        there.send(pack(Beat(at=1.0)) + pack(Ready()))
        await pause(lambda: end.got)
        assert end.got == [Ready()] and end.lost == 0
        end.channel.close()
        there.close()

    uvloop.run(test())
    assert [record.message for record in caplog.records] == ["a message of the control channel failed: Beat"]


# --- what a start needs ---------------------------------------------------------------------------------------------


def test_a_start_has_descriptors_when_all_others_are_used() -> None:
    reserve = Reserve(4)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.open(os.devnull, os.O_RDONLY)
    held = [highest]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.dup(0))
        with reserve:
            one, two = socket.socketpair()
            one.close()
            two.close()
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for number in held:
            os.close(number)
        with reserve:
            reserve._size = 0


def test_process_stats_distinguish_running_from_sleeping_and_stopped() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        wait_until(lambda: (found := process_stats(busy.pid)) is not None and found[0] > 0.05 and found[1])
        wait_until(lambda: (found := process_stats(idle.pid)) is not None and not found[1])
        before = process_stats(idle.pid)
        busy.send_signal(signal.SIGSTOP)
        wait_until(lambda: (found := process_stats(busy.pid)) is not None and not found[1])
        assert process_stats(idle.pid) == before
    finally:
        for process in (busy, idle):
            process.kill()
            process.wait()
    assert process_stats(idle.pid) is None


def test_memory_for_further_workers_is_that_of_the_machine_or_of_the_group_that_allows_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_headroom, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory_headroom, "own_groups", lambda: [Group(tmp_path, 2)])
    assert memory_headroom.available_bytes() is None and memory_headroom.how_many_more([]) == 1000
    (tmp_path / "meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  2097152 kB\n")
    assert memory_headroom.available_bytes() == int(1.2 * (1 << 30))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1048576\n")
    assert memory_headroom.available_bytes() == int(1.2 * (1 << 30))
    (tmp_path / "memory.max").write_text(f"{300 << 20}\n")
    assert memory_headroom.available_bytes() == int(0.9 * (300 << 20)) - (1 << 20)
    assert memory_headroom.how_many_more([]) == 4, "a worker of 64 MiB each"
    monkeypatch.setattr(memory_headroom, "private_bytes", lambda pid: pid << 20)
    assert memory_headroom.how_many_more([50, 100]) == 2 and memory_headroom.how_many_more([500]) == 1


def test_events_that_a_worker_leaves_go_to_its_successor_or_are_counted() -> None:
    """Undelivered events of an ended worker are sent to its successor, or counted as dropped. Events without a successor
    were logged and not counted."""
    events = control_channel.UndeliveredEvents(
        events=msgspec.msgpack.encode([{"type": "user_left"}, {"type": "room_emptied"}])
    )
    watch, sent = MainWatch(is_supervisor=True), list[Any]()
    successor = SimpleNamespace(channel=SimpleNamespace(send=sent.append))
    parts = SimpleNamespace(_fleet=SimpleNamespace(successor=lambda id: 2), _workers={2: successor}, _watch=watch)
    supervisor.Supervisor._pass_on(parts, 1, events)  # type: ignore[arg-type]
    assert sent == [events] and watch.counts().events_dropped == 0
    parts._workers.clear()
    supervisor.Supervisor._pass_on(parts, 1, events)  # type: ignore[arg-type]
    parts._fleet.successor = lambda id: None
    supervisor.Supervisor._pass_on(parts, 1, events)  # type: ignore[arg-type]
    assert sent == [events] and watch.counts().events_dropped == 4


# --- warnings and errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "lines"), [("0\n", 1), ("1\n", 0), (None, 0)])
def test_connections_that_a_stop_would_reset_are_warned_of(
    said: str | None, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setting = tmp_path / "tcp_migrate_req"
    if said is not None:
        setting.write_text(said)
    monkeypatch.setattr(supervisor, "MIGRATE", setting)
    supervisor._report_migration()
    assert [line.levelname for line in caplog.records] == ["WARNING"] * lines
    assert all("net.ipv4.tcp_migrate_req=1" in line.getMessage() for line in caplog.records)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), "Is something else there?"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "Set server.host to an address of this"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Set server.host to an address of this"),
        (PermissionError(errno.EACCES, "Permission denied"), "Set server.port to 1024 or more"),
        (OSError(errno.EMFILE, "Too many open files"), "Allow more descriptors (LimitNOFILE, ulimit -n)"),
    ],
)
def test_an_address_that_cannot_be_served_is_reported_with_a_remedy(error: OSError, advice: str) -> None:
    line = cannot_serve(Config(server=Server(host="::5", port=80)), error)
    assert line.startswith("cannot serve on [::5]:80: ") and advice in line
    assert ("something else" in line) == (error.errno == errno.EADDRINUSE)


def test_an_unexpected_fault_of_a_worker_reaches_the_supervisor() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        end, member = End(ours), Member(theirs, [])
        end.channel.send(Begin(id=1, slot=0, mesh_address="/nowhere", config=b"no msgpack\n"))
        assert await member.serve() == 0
        await pause(lambda: end.got)
        (failed,) = end.got
        assert isinstance(failed, Failed) and not failed.final
        assert failed.reason.startswith("cannot start: ValidationError: ") and "\n" not in failed.reason
        end.channel.close()

    uvloop.run(test())
