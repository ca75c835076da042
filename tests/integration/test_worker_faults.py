"""Faults that prevent the replacement of a worker: all handshakes are answered, and the clients of the dead worker
resume at once.

Each fault is injected into a server of real processes with connected clients, and removed again.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from koko_presence.config.certificate import Certificate
from koko_presence.config.schema import Server
from koko_presence.process.restart_backoff import PAUSES_S
from tests.integration.conftest import Run
from tests.integration.people import Crowd, crowd
from tests.integration.test_fork_server import children, fork_server
from tests.integration.test_supervisor import SECRET, Service, reload, service
from tests.raw_ws import RawSocket, handshake
from tests.waiting import until, wait_until

ANSWER_WITHIN_S = 2.0
OUT_AT_MOST_S = 3.0
WELL_WITHIN_S = 5.0

Fault = Callable[[Service], Iterator[None]]


async def unanswered(port: int, count: int, tls: ssl.SSLContext | None = None) -> int:
    """Number of `count` handshakes, one after another in four rows, that get no answer within ANSWER_WITHIN_S."""

    async def one() -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
                writer.write(handshake())
                answer = await reader.readuntil(b"\r\n\r\n")
                writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return False
        return answer.startswith(b"HTTP/1.1 101")

    async def row(rest: list[None]) -> int:
        failed = 0
        while rest:
            rest.pop()
            failed += not await one()
        return failed

    waiting: list[None] = [None] * count
    return sum(await asyncio.gather(*(row(waiting) for _ in range(4))))


def limit_descriptors(pid: int) -> Iterator[None]:
    """Lower the limit of the process so that it can open no further descriptor."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def no_descriptors(it: Service) -> Iterator[None]:
    """EMFILE in the supervisor."""
    yield from limit_descriptors(it.process.pid)


def no_descriptors_to_fork(it: Service) -> Iterator[None]:
    """EMFILE in the process that forks the workers."""
    yield from limit_descriptors(fork_server(it))


def no_processes(it: Service) -> Iterator[None]:
    """pids.max: supervisor and fork server can start no process and no thread. The limit of the user's processes
    (RLIMIT_NPROC) has the same effect, but not for root, who runs these tests where a control group can be made."""
    yield from limit_processes(it, it.process.pid, fork_server(it))


def no_processes_alone(it: Service) -> Iterator[None]:
    """The same for a server that is a single process."""
    yield from limit_processes(it, it.process.pid)


def limit_processes(it: Service, *limited: int) -> Iterator[None]:
    """The processes `limited` can start no process and no thread."""
    pids = Path("/sys/fs/cgroup/pids")
    group = pids / f"koko-test-{it.process.pid}"
    try:
        group.mkdir()
        for pid in limited:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text("0")
    except OSError:
        with_group = False
    else:
        with_group = True
    if not with_group:
        pytest.skip("no control group for processes can be made here")
    yield
    (group / "pids.max").write_text("max")
    while left := (group / "cgroup.procs").read_text().split():  # a process may be forked at this moment
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                (pids / "cgroup.procs").write_text(pid)
    group.rmdir()


def no_runtime_folder(it: Service) -> Iterator[None]:
    """The folder for temporary files is cleared."""
    shutil.rmtree(it.folder / "run")
    yield


def no_program(it: Service) -> Iterator[None]:
    """The program's folder is missing, as in the middle of an upgrade."""
    package = it.folder / "program" / "koko_presence"
    package.rename(package.with_name("away"))
    package.mkdir()  # otherwise the tests' own program would be imported
    yield
    package.rmdir()
    package.with_name("away").rename(package)


def no_program_at_all(it: Service) -> Iterator[None]:
    """The program's folder is missing, and so is the fork server, which has it in memory."""
    away = no_program(it)
    next(away)
    os.kill(fork_server(it), signal.SIGKILL)
    it.wait("the fork server ended")
    yield
    yield from away


def bad_certificate(it: Service) -> Iterator[None]:
    """The key does not belong to the certificate, and the configuration cannot be parsed."""
    before = it.config.read_text()
    it.config.write_text("[server\n")
    good = (it.folder / "key.pem").read_text()
    (it.folder / "key.pem").write_text("half of a renewal\n")
    yield
    (it.folder / "key.pem").write_text(good)
    it.config.write_text(before)


FAULTS: list[Fault] = [
    no_descriptors,
    no_descriptors_to_fork,
    no_processes,
    no_runtime_folder,
    no_program,
    no_program_at_all,
    bad_certificate,
]


@contextmanager
def server_of_its_own(workers: int, certificate: tuple[Path, Path] | None = None) -> Iterator[Service]:
    """A server whose program and certificate, if any, are copies in its folder, so that a fault can remove them."""
    with tempfile.TemporaryDirectory(prefix="koko") as name:
        folder, tls = Path(name), ""
        if certificate is not None:
            tls = f"tls_cert = '{folder}/chain.pem'\ntls_key = '{folder}/key.pem'"
            for source, target in zip(certificate, ("chain.pem", "key.pem"), strict=True):
                shutil.copy(source, folder / target)
        it = Service(folder, workers=workers, own_program=True, server=tls)
        try:
            it.up()
            yield it
        finally:
            it.end()


async def stand(fault: Fault, workers: int, people: int, handshakes: int, certificate: tuple[Path, Path]) -> None:
    """Kill a worker of a server with connected clients while the fault lasts."""
    tls = ssl.create_default_context(cafile=str(certificate[0])) if fault is bad_certificate else None
    with server_of_its_own(workers, certificate if tls else None) as it:
        async with crowd(it.port, SECRET, people, tls=tls) as inside:
            await survive(it, fault, inside, handshakes, tls)


async def survive(it: Service, fault: Fault, people: Crowd, handshakes: int, tls: ssl.SSLContext | None) -> None:
    """Kill worker 2 while the fault lasts. All handshakes are answered, and all clients resume within OUT_AT_MOST_S.
    After the fault a start is attempted within WELL_WITHIN_S."""
    made = fault(it)
    next(made)
    os.kill(it.pid(2), signal.SIGKILL)
    assert await unanswered(it.port, handshakes, tls) == 0
    await until(lambda: people.all_here)
    await asyncio.sleep(0.1)
    for _ in made:
        pass
    over_at, tries = time.monotonic(), len(it.log("worker started"))
    if not it.whole():  # how long a start takes depends on the machine
        await until(lambda: len(it.log("worker started")) > tries or children(it)["server"] or it.whole())
        assert time.monotonic() - over_at <= WELL_WITHIN_S
    while not await asyncio.to_thread(it.whole):
        await asyncio.sleep(0.05)
    assert people.longest_out_s <= OUT_AT_MOST_S and max(people.cuts) <= 1
    assert it.process.poll() is None and it.log("a worker died")[0]["id"] == 2


@pytest.mark.parametrize(
    "fault",
    [FAULTS[0], *(pytest.param(fault, marks=pytest.mark.long) for fault in FAULTS[1:])],
    ids=lambda fault: fault.__name__,
)
def test_the_other_workers_serve_the_clients_of_a_worker_that_cannot_be_replaced(
    run: Run, fault: Fault, certificate: tuple[Path, Path]
) -> None:
    """29 of 60 handshakes got no answer in 15 s, and the whole service ended when the runtime folder was missing."""
    run(stand(fault, 2, 20, 60, certificate))


@pytest.mark.long
@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_500_handshakes_are_answered_while_a_worker_cannot_be_replaced(
    run: Run, fault: Fault, workers: int, certificate: tuple[Path, Path]
) -> None:
    run(stand(fault, workers, 100, 500, certificate))


@pytest.mark.long
@pytest.mark.parametrize(
    "fault", [no_processes_alone, no_runtime_folder, no_program, bad_certificate], ids=lambda fault: fault.__name__
)
def test_one_worker_serves_on_through_each_fault(run: Run, fault: Fault, certificate: tuple[Path, Path]) -> None:
    """A single worker has no supervisor that could replace it, so it is not killed: it continues, also through a
    reload, and admits new connections."""

    async def test() -> None:
        tls = ssl.create_default_context(cafile=str(certificate[0])) if fault is bad_certificate else None
        with server_of_its_own(1, certificate if tls else None) as it:
            async with crowd(it.port, SECRET, 100, tls=tls) as people:
                made = fault(it)
                next(made)
                it.signal(signal.SIGHUP)
                assert await unanswered(it.port, 500, tls) == 0
                for _ in made:
                    pass
                assert people.all_here and people.cuts == {0: 100} and it.process.poll() is None

    run(test())


def test_a_replacement_uses_the_last_valid_certificate(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with service(workers=2) as it:
        chain, key = it.folder / "chain.pem", it.folder / "key.pem"
        for source, target in zip(certificate, (chain, key), strict=True):
            shutil.copy(source, target)
        it.end_process()
        it.configure(server=f"tls_cert = '{chain}'\ntls_key = '{key}'")
        it.begin()
        it.up()
        key.write_text("half of a renewal\n")
        os.kill(it.pid(2), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)
        it.signal(signal.SIGUSR2)
        it.wait("rolling reload failed: cannot serve on")
        for _ in range(8):
            with RawSocket(it.port, tls=trusting) as ws:
                assert "101" in ws.upgrade()


def test_a_certificate_is_usable_without_its_files(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    chain, key = tmp_path / "chain", tmp_path / "key"
    shutil.copy(certificate[0], chain)
    shutil.copy(certificate[1], key)
    server = Server(tls_cert=str(chain), tls_key=str(key))
    kept = Certificate.read(server)
    key.write_text("half of a renewal")
    with pytest.raises(ssl.SSLError):
        Certificate.read(server)
    chain.unlink()
    key.unlink()
    with pytest.raises(FileNotFoundError):
        Certificate.read(server)
    assert kept.context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert "PRIVATE" not in repr(kept) and "PRIVATE" in kept.key.decode()


def test_the_runtime_folder_is_created_again_and_the_server_is_found_in_it() -> None:
    with service(workers=2) as it:
        it.up()
        shutil.rmtree(it.folder / "run")
        os.kill(it.pid(1), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)
        assert it.log("the runtime folder was missing and was created again")
        assert sorted(path.name for path in (it.folder / "run").iterdir()) == ["supervisor.pid", "w2.sock", "w3.sock"]
        assert reload(it).returncode == 0
        it.wait("configuration reloaded")


@pytest.mark.long
def test_a_slot_that_cannot_be_filled_is_tried_with_growing_pauses() -> None:
    assert sum(PAUSES_S) < 10.0 and PAUSES_S[-1] <= WELL_WITHIN_S - 1.0
    with server_of_its_own(2) as it:
        made = no_descriptors_to_fork(it)
        next(made)
        os.kill(it.pid(1), signal.SIGKILL)
        wait_until(lambda: len(it.log("a worker died")) >= 4)
        wait_until(lambda: it.ask("/readyz") == (200, '{"status":"ready","missingWorkers":[0]}'))
        assert "koko_presence_workers_missing 1\n" in it.ask("/metrics")[1]
        for _ in made:
            pass
        wait_until(it.whole)


@pytest.mark.long
def test_the_operator_port_answers_beside_100_idle_connections() -> None:
    with service(workers=1) as it:
        it.up()
        port = int(it.wait("operator port")["address"].rpartition(":")[2])
        idle = [RawSocket(port) for _ in range(100)]
        assert it.ready()
        ended = 0
        for ws in idle:
            ws.sock.settimeout(0.05)
            try:
                ended += ws.sock.recv(1) == b""
            except (TimeoutError, ConnectionResetError) as error:
                ended += isinstance(error, ConnectionResetError)
            ws.sock.close()
        assert ended >= 30


def test_the_operator_port_answers_when_clients_have_all_descriptors() -> None:
    code = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120)); "
    code += "sys.argv[0] = 'koko-presence'; runpy.run_module('koko_presence', run_name='__main__')"
    with service(workers=1, command=[sys.executable, "-c", code]) as it:
        it.up()
        clients = []
        for _ in range(130):
            try:
                clients.append(RawSocket(it.port))
            except OSError:
                break
        for _ in range(5):
            assert it.ready() and "koko_presence_connections" in it.ask("/metrics")[1]
        for ws in clients:
            ws.sock.close()
