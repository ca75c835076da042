"""Real sockets between workers: no message is lost or handled twice, and no other process can connect."""

import asyncio
import errno
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from koko_presence._fastpath.wire import PeerBuffer
from koko_presence.cluster import mesh
from koko_presence.cluster.mesh import HANDSHAKE, Mesh
from koko_presence.cluster.placement import Peer
from tests.integration.conftest import Run
from tests.waiting import until


class End:
    """The mesh of one worker, and the messages that it received."""

    def __init__(self, number: int, folder: Path) -> None:
        self.peer = Peer(id=number, slot=number, address=str(folder / f"w{number}.sock"))
        self.got: list[tuple[int, bytes]] = []
        self.stuck: list[int] = []
        self.overdue: list[tuple[float, float]] = []
        self.mesh = Mesh(
            number,
            self.peer.address,
            self._on_peer_messages,
            lambda peer, lossy: self.stuck.append(peer),
            lambda since, now: self.overdue.append((since, now)),
        )

    def _on_peer_messages(self, sender: int, found: list[tuple[int, bytes]]) -> None:
        self.got += [(sender, body) for _, body in found]


def message(number: int, size: int = 0) -> bytes:
    out = PeerBuffer(lambda: None)
    out.put(9, struct.pack("<I", number) + b"." * size)
    return out.take()


def numbers(end: End) -> list[int]:
    return [struct.unpack_from("<I", body)[0] for _, body in end.got]


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[End, End]]:
    ends = End(1, folder), End(2, folder)
    for end in ends:
        await end.mesh.open()
    try:
        yield ends
    finally:
        for end in ends:
            end.mesh.close()


def test_messages_arrive_in_order_and_a_peer_that_starts_later_gets_them_then(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        early, late = End(1, tmp_path), End(2, tmp_path)
        await early.mesh.open()
        link = early.mesh.open_link(late.peer)
        for number in range(50):
            link.write(message(number))
        await asyncio.sleep(0.05)
        await late.mesh.open()
        await until(lambda: len(late.got) == 50)
        assert numbers(late) == list(range(50)) and {sender for sender, _ in late.got} == {1}
        early.mesh.close()
        late.mesh.close()

    run(test())


@pytest.mark.parametrize("side", ["writer", "reader"])
def test_a_lost_connection_loses_nothing_and_repeats_nothing(run: Run, tmp_path: Path, side: str) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            link = one.mesh.open_link(other.peer)
            for number in range(300):
                link.write(message(number, 5000))
                if number % 30 == 10:
                    await asyncio.sleep(0.02)
                    if side == "writer" and link._transport is not None:
                        link._transport.abort()
                    elif side == "reader" and (reader := other.mesh.incoming[1].reader) is not None:
                        reader._transport.abort()
            await until(lambda: len(other.got) >= 300)
            await asyncio.sleep(0.05)
            assert numbers(other) == list(range(300))

    run(test())


def test_written_messages_are_in_the_kernel_before_the_next_loop_iteration(run: Run, tmp_path: Path) -> None:
    """uvloop writes at once, so the messages that a worker has written are not lost when it is killed."""

    async def test() -> None:
        end, peer = End(1, tmp_path), Peer(id=2, slot=2, address=str(tmp_path / "other.sock"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(peer.address)
            listening.listen()
            listening.setblocking(False)
            link = end.mesh.open_link(peer)
            loop = asyncio.get_running_loop()
            reader, _ = await loop.sock_accept(listening)
            with reader:
                assert (await loop.sock_recv(reader, 100)).startswith(HANDSHAKE)
                await loop.sock_sendall(reader, struct.pack("<q", 0))
                await until(lambda: link._transport is not None)
                link.write(message(1))
                assert reader.recv(1000, socket.MSG_DONTWAIT) == message(1)
                large = message(2, 4 << 20)  # more than the kernel takes: the rest waits in the loop's transport
                for piece in (large, message(3)):
                    link.write(piece)
                got = b""
                while len(got) < len(large) + len(message(3)):
                    got += await loop.sock_recv(reader, 1 << 20)
                assert got == large + message(3)
            link.close()

    run(test())


def test_acknowledged_messages_are_not_kept(run: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            link = one.mesh.open_link(other.peer)
            for number in range(40):
                link.write(message(number, 50_000))
            await until(lambda: len(other.got) == 40 and link._unacknowledged_bytes < 2 * mesh.COUNT_BYTES)

    run(test())


def test_a_worker_that_does_not_read_is_reported_once_and_memory_is_bounded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "QUEUE_BYTES", 3 << 20)

    async def test() -> None:
        one = End(1, tmp_path)
        deaf = Peer(id=2, slot=2, address=str(tmp_path / "deaf.sock"))
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(deaf.address)
        listening.listen()
        link = one.mesh.open_link(deaf)
        for number in range(100):
            link.write(message(number, 100_000))
        assert one.stuck == [2] and not link._unacknowledged
        link.close()
        listening.close()

    run(test())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats every 20 ms; a peer is reported as stuck after 1 s without one."""
    for name, seconds in (
        ("SILENT_S", 1.0),
        ("OVERDUE_S", 0.8),
        ("STALL_S", 0.5),
        ("WATCH_S", 0.02),
        ("COUNT_S", 0.02),
    ):
        monkeypatch.setattr(mesh, name, seconds)


def test_a_silent_worker_is_reported_for_as_long_as_it_is_silent(run: Run, tmp_path: Path, hasty: None) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            hung = Peer(id=3, slot=3, address=str(tmp_path / "hung.sock"))
            gone = Peer(id=4, slot=4, address=str(tmp_path / "gone.sock"))
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(hung.address)
                listening.listen()
                one.mesh.open_link(other.peer)
                links = [one.mesh.open_link(peer) for peer in (hung, gone)]
                await until(lambda: one.stuck.count(3) > 1 and one.stuck.count(4) > 1)
                assert set(one.stuck) == {3, 4} and not other.stuck
                # before that, how long clients of that peer have been waiting is reported
                assert not other.overdue and all(
                    now - since > mesh.OVERDUE_S - mesh.COUNT_S for since, now in one.overdue
                )
                assert max(now - since for since, now in one.overdue) > mesh.SILENT_S - mesh.COUNT_S
                for link in links:
                    link.close()

    run(test())


def test_a_worker_that_was_stopped_itself_reports_no_peer(run: Run, tmp_path: Path, hasty: None) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            one.mesh.open_link(other.peer)
            other.mesh.open_link(one.peer)
            await asyncio.sleep(0.1)
            for _ in range(8):
                time.sleep(0.2)  # blocks the loop, as SIGSTOP does
            await asyncio.sleep(0.1)
            assert not one.stuck and not other.stuck
            assert not one.overdue and not other.overdue

    run(test())


def test_a_worker_without_descriptors_reports_no_peer(
    run: Run, tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):

            async def refuse(*_: object) -> None:
                tries.append(1)
                raise OSError(errno.EMFILE, "Too many open files")

            tries: list[int] = []
            monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", refuse, raising=False)
            one.mesh.open_link(other.peer)
            await until(lambda: len(tries) * mesh.RETRY_S > 1.2 * mesh.SILENT_S)
            assert tries and not one.stuck

    run(test())


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n" + b" " * 20, b"koko mesh 0\n" + b"\0" * 8])
def test_nonsense_and_other_versions_are_refused(run: Run, tmp_path: Path, said: bytes) -> None:
    async def test() -> None:
        async with two(tmp_path) as (_, other):
            reader, writer = await asyncio.open_unix_connection(other.peer.address)
            writer.write(said)
            assert await reader.read() == b"" and other.got == []
            writer.close()

    run(test())


STRANGER = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
os.setuid(65534)
sock.connect(sys.argv[1])
try:
    sock.sendall(bytes.fromhex(sys.argv[2]))
    print(len(sock.recv(100)))
except OSError:
    print(0)
"""


def test_another_user_of_the_machine_is_refused(run: Run, tmp_path: Path) -> None:
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip() != "0":
        pytest.skip("only root can be somebody else")

    async def test() -> None:
        async with two(tmp_path) as (_, other):
            for path in (tmp_path, *tmp_path.parents):  # the folder's own rights would keep it out before
                if path != Path("/") and path != Path("/tmp"):
                    path.chmod(0o755)
            Path(other.peer.address).chmod(0o666)
            handshake = (HANDSHAKE + struct.pack("<q", 1)).hex()
            command = [sys.executable, "-c", STRANGER, other.peer.address, handshake]
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            said, _ = await child.communicate()
            assert said.strip() == b"0" and not other.mesh.incoming

    run(test())


@pytest.mark.parametrize("size", [0, 100_000], ids=["many letters", "letters longer than a slice"])
def test_messages_read_at_once_are_handled_in_slices_and_in_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The budget of an iteration is 0 s, so the loop runs other callbacks between two slices."""
    monkeypatch.setattr(mesh, "ITERATION_S", 0.0)

    async def test() -> None:
        async with two(tmp_path) as (one, other):
            loop = asyncio.get_running_loop()
            iterations, sizes = [0], dict[int, int]()

            def tick() -> None:
                iterations[0] += 1
                loop.call_soon(tick)

            def hear(sender: int, found: list[tuple[int, bytes]]) -> None:
                sizes[iterations[0]] = sizes.get(iterations[0], 0) + sum(len(body) + 5 for _, body in found)
                other._on_peer_messages(sender, found)

            loop.call_soon(tick)
            other.mesh.on_peer_messages = hear
            link = one.mesh.open_link(other.peer)
            count = 40_000 if size == 0 else 20
            link.write(b"".join(message(number, size) for number in range(count)))
            await until(lambda: len(other.got) == count)
            assert numbers(other) == list(range(count))
            # a slice after a read, one of the waiting slices, and the end of a message that had begun before
            assert max(sizes.values()) <= 2 * mesh.SLICE_BYTES + size + 9
            await until(lambda: not link._unacknowledged)  # all of it has been acknowledged

    run(test())


def test_messages_that_wait_when_the_writer_has_ended_are_handled(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other worker sends the last messages of a worker that has ended."""
    monkeypatch.setattr(mesh, "ITERATION_S", 0.0)

    async def test() -> None:
        async with two(tmp_path) as (one, other):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, other.peer.address)
            data = b"".join(message(number) for number in range(10_000))
            sock.send(HANDSHAKE + struct.pack("<q", 1) + data)
            sock.close()
            await until(lambda: len(other.got) == 10_000)
            assert numbers(other) == list(range(10_000))
            assert one.got == []

    run(test())
