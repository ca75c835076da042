"""Real servers that are short of memory refuse new connections, keep the existing ones, and lose no process."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from koko_presence.admin.memory import MemoryWatch, use_of
from koko_presence.config.control_groups import Group
from koko_presence.config.integrations import Webhooks
from koko_presence.server.hub import SHED_BYTES
from tests.integration.conftest import Run
from tests.integration.test_waits_for_nobody import Service, hear
from tests.live import Live, live
from tests.raw_ws import TEXT, RawSocket, frame, handshake
from tests.waiting import PATIENCE_S, until, wait_until

MIB = 1 << 20


def limit(server: Live, memory_bytes: int) -> None:
    """Reload with this limit and compare it with the memory in use at once."""
    worker = server.worker
    section = msgspec.structs.replace(worker.config.server, memory_bytes=memory_bytes)
    worker.reload(msgspec.structs.replace(worker.config, server=section))
    worker._keep_within(worker._memory.look())


def connect(port: int) -> str:
    with RawSocket(port) as ws:
        ws.send(handshake())
        return ws.read_head() + "\r\n"


def enter(server: Live, user: str, **options: int) -> RawSocket:
    ws = RawSocket(server.worker.port, **options)
    assert "101" in ws.upgrade()
    join = {"type": "join", "roomId": "r", "roomType": "project"}
    for message in ({"type": "auth", "token": server.token(user)}, join):
        ws.send(frame(TEXT, json.dumps(message).encode()))
    hear(ws, "joined")
    return ws


async def call(server: Live, user: str, client_key: str) -> tuple[int, dict[str, str]]:
    """Join over HTTP; return status and headers."""
    body = json.dumps({"roomId": "r", "roomType": "project", "clientKey": client_key}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.worker.port)
    writer.write(
        b"POST /trpc/presence.join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        + f"Authorization: Bearer {server.token(user)}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    writer.close()
    return int(head[0].split()[1]), {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:]}


def test_new_clients_are_refused_and_members_remain(run: Run) -> None:
    async def story() -> None:
        async with live() as server:
            ann = await asyncio.to_thread(enter, server, "ann")
            assert (await call(server, "eve", "tab"))[0] == 200
            limit(server, MIB)
            answer = await asyncio.to_thread(connect, server.worker.port)
            assert answer.startswith("HTTP/1.1 503") and "\r\nRetry-After: 10\r\n" in answer
            status, headers = await call(server, "bob", "tab")
            assert (status, headers["retry-after"]) == (503, "10")
            assert (await call(server, "eve", "tab"))[0] == 200, "she is in"
            ann.send(frame(TEXT, b'{"type":"heartbeat"}'))
            assert (await asyncio.to_thread(hear, ann, "pong"))["type"] == "pong"
            limit(server, 0)
            assert (await asyncio.to_thread(connect, server.worker.port)).startswith("HTTP/1.1 101")
            ann.sock.close()

    run(story())


def test_slow_receivers_and_waiting_webhooks_are_dropped_before_new_clients_are_refused(run: Run) -> None:
    async def story() -> None:
        nobody = Webhooks(url="http://127.0.0.1:9/", secret="w" * 40, batch_s=3600.0, batch_events=1, tries=100)
        async with live(webhooks=nobody, broadcast_hz=10_000.0, broadcast_burst=10_000) as server:
            slow = await asyncio.to_thread(enter, server, "slow")
            ann = await asyncio.to_thread(enter, server, "ann")
            worker = server.worker
            assert worker.webhooks is not None and worker.webhooks.waiting
            text = json.dumps({"type": "broadcast", "roomId": "r", "data": {"text": "x" * 4000}}).encode()

            def is_slow() -> bool:
                with contextlib.suppress(BlockingIOError):
                    ann.send(frame(TEXT, text))
                return max(s.outbox.waiting_bytes() for s in worker.hub.sessions.values()) > SHED_BYTES

            await until(is_slow)
            used = worker._memory.look().used
            limit(server, int(used / 0.87))
            assert [session.user_id for session in worker.hub.sessions.values()] == ["ann"]
            assert worker.webhooks.waiting <= 3 and worker.webhooks.counts["dropped"], (
                "but for two batches, and what this caused"
            )
            assert not worker.acceptor.refuses_new_clients
            ann.sock.close()
            slow.sock.close()

    run(story())


# --- processes --------------------------------------------------------------------------------------------------------


def start(workers: int, folder: str) -> Service:
    return Service(Path(folder), workers)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 1 or 2 below this process's own one, in which memory can be limited."""
    for each in MemoryWatch()._groups:
        path = each.folder / f"koko-test-{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / limit_file(each.version)).exists():
            yield path
            processes = path / "cgroup.procs"
            wait_until(lambda at=processes: not at.read_text().split())  # type: ignore[misc]
            path.rmdir()
            return
        path.rmdir()
    pytest.skip("no control group for memory can be made here")


def limit_file(version: int) -> str:
    return {1: "memory.limit_in_bytes", 2: "memory.max"}[version]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_in_a_control_group_nothing_is_killed_and_new_clients_are_admitted_when_memory_is_free_again(
    group: Path, workers: int
) -> None:
    version = 1 if (group / limit_file(1)).exists() else 2
    used_file = group / {1: "memory.usage_in_bytes", 2: "memory.current"}[version]
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        own = Path("/proc/self/cgroup").read_text()
        moved = group / "cgroup.procs"
        before = next(iter(MemoryWatch()._groups)).folder / "cgroup.procs"
        moved.write_text(str(os.getpid()))  # a process that is started now begins in the group
        try:
            it = start(workers, folder)
        finally:
            before.write_text(str(os.getpid()))
        try:
            assert Path("/proc/self/cgroup").read_text() == own
            wait_until(it.ready)
            (group / limit_file(version)).write_text(str(int(used_file.read_text()) * 5 // 4))
            use = use_of(Group(group, version))
            assert use is not None
            (group / limit_file(version)).write_text(str(int(use.used / 0.88)))
            held: list[RawSocket] = []

            def refused() -> bool:
                ws = RawSocket(it.port)
                ws.send(handshake())
                answer = ws.read_head() + "\r\n"
                if answer.startswith("HTTP/1.1 503"):
                    ws.sock.close()
                    assert "\r\nRetry-After: 10\r\n" in answer
                    return True
                held.append(ws)
                return False

            wait_until(refused)
            for _ in range(200):  # connection attempts continue at the limit
                refused()
            used = float(next(line.split()[1] for line in it.metrics().splitlines() if "memory_used_bytes{" in line))
            most = float(next(line.split()[1] for line in it.metrics().splitlines() if "memory_limit_bytes{" in line))
            assert 0.8 < used / most < 1.0
            assert "worker_restarts_total 0" in it.metrics() and it.process.poll() is None, "nobody was killed"
            (group / limit_file(version)).write_text(str(1 << 34))
            wait_until(lambda: not refused())
            it.wait("memory is short: new connections are refused")
            for ws in held:
                ws.sock.close()
            it.process.send_signal(signal.SIGTERM)
            assert it.process.wait(PATIENCE_S) == 0
        finally:
            it.end()


@pytest.mark.long
def test_a_worker_without_memory_ends_at_once_and_is_replaced() -> None:
    """The limit of its address space (RLIMIT_AS) is below what it uses, so the next allocation that needs more
    fails."""
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        people: list[RawSocket] = []
        it = start(2, folder)
        try:
            wait_until(it.ready)
            pid = it.lines("worker started")[0]["pid"]
            resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))

            def died() -> bool:
                with contextlib.suppress(OSError, EOFError, ValueError):  # a close frame is no JSON
                    people.append(RawSocket(it.port))
                    it.enter(f"u{len(people)}", people[-1], f"r{len(people) // 50}")
                return '"msg":"a worker died' in it.said  # a library may log text that is no JSON before it aborts

            wait_until(died)
            # The interpreter itself writes MemoryError some times over when it cannot even raise it. There were 60,000
            # such lines before the worker ended at the first one.
            assert it.said.count("MemoryError") < 100, "the first one that was raised was the last"
            wait_until(it.ready)
            assert it.process.poll() is None
            it.enter("late").sock.close()
        finally:
            for ws in people:
                ws.sock.close()
            it.end()


@pytest.mark.long
def test_the_kernel_takes_a_worker_before_the_supervisor() -> None:
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        it = start(2, folder)
        try:
            wait_until(it.ready)
            score = {
                pid: int(Path(f"/proc/{pid}/oom_score_adj").read_text())
                for pid in (it.process.pid, *(line["pid"] for line in it.lines("worker started")))
            }
            assert all(score[pid] > score[it.process.pid] for pid in score if pid != it.process.pid)
        finally:
            it.end()
