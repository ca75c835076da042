"""Several workers as real processes: start, deaths, hangs, signals, reloads and the end."""

import fcntl
import http.client
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import koko_presence
from koko_presence import _fastpath
from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import CLOSE, TEXT, RawSocket, frame
from tests.waiting import PATIENCE_S, wait_until

API_KEY = "a key for the supervisor's tests"
SECRET = "a secret for the supervisor's tests, long enough"
CONFIG = """
[server]
port = {port}
workers = {workers}
origins = {origins}
runtime_dir = "{folder}/run"
{server}
[operator]
port = 0
[auth]
secret = "{secret}"
[access]
mode = "allow_all"
[limits]
max_users_per_room = {most}
"""


class Service:
    """`koko-presence serve` in a folder of its own, and its log."""

    def __init__(
        self,
        folder: Path,
        *,
        own_program: bool = False,
        libraries: Iterable[Path] = (),
        command: list[str] | None = None,
        **settings: Any,
    ) -> None:
        """`own_program`: run a copy of the package in the folder, beside links to `libraries`. `command`: how the
        package is run otherwise."""
        self.folder = folder
        self._command = command or [sys.executable, "-P", "-m", "koko_presence"]
        self._environment = dict(os.environ)
        if own_program:
            package = Path(koko_presence.__file__).parent
            copy, sources = folder / "program" / package.name, shutil.ignore_patterns("*.c", "*.pyx")
            shutil.copytree(package, copy, ignore=sources)
            if not (copy / "_fastpath").exists():  # an editable installation has it elsewhere
                shutil.copytree(Path(_fastpath.__path__[0]), copy / "_fastpath", ignore=sources)
            for library in libraries:
                (folder / "program" / library.name).symlink_to(library)
            self._environment["PYTHONPATH"] = str(folder / "program")
        self.settings = {"port": 0, "workers": 3, "origins": "[]", "most": 50, "server": "", "secret": SECRET}
        self.configure(**settings)
        self.begin()

    def begin(self) -> None:
        """Start the process; log lines of an earlier one are dropped."""
        self.errors = (self.folder / "stderr").open("wb")
        self.process = subprocess.Popen(
            [*self._command, "serve", "--config", str(self.config)], stderr=self.errors, env=self._environment
        )

    def end_process(self) -> None:
        """Kill the process and wait until it and its workers have ended."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        wait_until(lambda: not self.alive())  # workers end with the supervisor: a test below asserts it
        self.errors.close()

    @property
    def config(self) -> Path:
        return self.folder / "koko.toml"

    def configure(self, **settings: Any) -> None:
        self.settings |= settings
        self.config.write_text(CONFIG.format(folder=self.folder, **self.settings))

    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def log(self, message: str = "", **fields: Any) -> list[dict[str, Any]]:
        """The log lines whose text contains `message` and whose fields are equal to `fields`."""
        whole = self.said().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
        return [line for line in lines if message in line["msg"] and fields.items() <= line.items()]

    def wait(self, message: str, **fields: Any) -> dict[str, Any]:
        return wait_until(lambda: self.log(message, **fields))[-1]

    def up(self) -> "Service":
        self.wait("serving")
        return self

    @property
    def port(self) -> int:
        return int(self.wait("serving")["address"].rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
        """Status and body of a request to the operator port."""
        port = int(self.wait("operator port")["address"].rpartition(":")[2])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as asking:
            headers = {"Authorization": f"Bearer {API_KEY}"} | ({"Content-Type": "application/json"} if body else {})
            asking.request(method, path, body, headers)
            answer = asking.getresponse()
            return answer.status, answer.read().decode()

    def ready(self) -> bool:
        return self.ask("/readyz")[0] == 200

    def whole(self) -> bool:
        """Whether every slot has a worker of its own."""
        return self.ask("/readyz") == (200, '{"status":"ready"}')

    def pid(self, id: int) -> int:
        return int(self.wait("worker started", id=id)["pid"])

    def alive(self) -> list[int]:
        """The pids of the workers that are running."""
        return [line["pid"] for line in self.log("worker started") if is_alive(line["pid"])]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def connect(self, user: str = "ann") -> RawSocket:
        """An authenticated client."""
        ws = RawSocket(self.port)
        assert "101" in ws.upgrade()
        token = issue_token(SECRET, user=user, now_s=int(time.time()))
        ws.send(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()))
        assert b"authenticated" in ws.read_frame().payload
        return ws

    def end(self) -> None:
        """End all processes that are left."""
        self.end_process()


def is_alive(pid: int) -> bool:
    """Whether `pid` is a running worker, and not another process with a reused pid."""
    try:
        return b"koko-presence worker" in Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for a zombie
    except OSError:
        return False


@contextmanager
def service(**settings: Any) -> Iterator[Service]:
    # the paths of pytest's folders are too long for Unix sockets
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        it = Service(Path(folder), **settings)
        try:
            yield it
        finally:
            it.end()


class Stream:
    """Opens connections one after another until the block ends."""

    def __init__(self, port: int) -> None:
        self.port, self.served, self.faults = port, 0, []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go) for _ in range(2)]

    faults: list[str]

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _go(self) -> None:
        while not self._over.is_set():
            try:
                with RawSocket(self.port) as ws:
                    answer = ws.upgrade()
                    if "101" not in answer:
                        self.faults.append(answer)
                    self.served += 1
                    ws.send(frame(CLOSE, b"\x03\xe8"))
            except (OSError, EOFError) as error:
                self.faults.append(type(error).__name__)
            time.sleep(0.002)


# --- the start --------------------------------------------------------------------------------------------------------


def test_three_workers_boot_into_one_view_and_all_take_connections() -> None:
    with service() as it:
        it.up()
        wait_until(it.whole)  # on a busy machine the first heartbeats of a worker may be late
        assert it.ask("/healthz")[0] == 200
        assert "counted by this worker only" not in it.said(), "they share the memory"
        assert [(line["worker"], line["id"]) for line in it.log("worker started")] == [(0, 1), (1, 2), (2, 3)]
        sockets = [it.connect(f"u{number}") for number in range(30)]
        folder = it.folder / "run"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "supervisor.pid").read_text() == f"{it.process.pid}\nworkers 3\n"
        it.signal(signal.SIGTERM)
        assert {ws.read_close() for ws in sockets} == {1012}
        assert it.process.wait(PATIENCE_S) == 0 and not folder.exists() and it.alive() == []
        counts = [line["connections"] for line in it.log("draining") if "connections" in line]
        assert sum(counts) == 30 and min(counts) > 0, "the kernel spreads them"
        assert it.log("sent no new view") == [], "a worker that ends a little later than the others expects none"
        for ws in sockets:
            ws.sock.close()


def test_no_secret_is_in_a_command_line_or_an_environment() -> None:
    with service() as it:
        it.up()
        for pid in it.alive():
            seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            assert SECRET.encode() not in seen and b"koko-presence worker" in seen
        assert SECRET not in it.said()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_exit_2_with_one_line_also_when_another_server_of_ours_has_it(workers: int) -> None:
    with service(workers=2) as first:
        port = first.port
        with service(workers=workers, port=port) as second:
            assert second.process.wait(PATIENCE_S) == 2
            (line,) = second.said().splitlines()
            assert line.startswith(f"koko-presence: cannot serve on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_taken_operator_port_is_exit_2_with_one_line(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory(prefix="koko") as folder:
        port = str(taken.getsockname()[1])
        env = os.environ | {"KOKO_PRESENCE_AUTH_SECRET": SECRET, "KOKO_PRESENCE_OPERATOR_PORT": port}
        env |= {"KOKO_PRESENCE_SERVER_RUNTIME_DIR": f"{folder}/run"}
        command = [sys.executable, "-m", "koko_presence", "serve", "--port", "0", "--workers", str(workers)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert (
            f"operator port 127.0.0.1:{port}" in line and "Set operator.port (KOKO_PRESENCE_OPERATOR_PORT) to" in line
        )
        # several demos may run on one machine
        command += ["--dev"]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
            assert demo.stdout is not None and "Demo:" in demo.stdout.readline()
            demo.terminate()
            said = demo.communicate(timeout=PATIENCE_S)[1]
            assert "operator port in use" in said and "this machine" in said


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("tls_cert = '/etc/hostname'\ntls_key = '/etc/hostname'", "cannot serve on 127.0.0.1:0: /etc/hostname"),
        ("host = '203.0.113.7'", "this machine has no such address. Set server.host to"),
        ("host = 'nowhere.invalid'", "no address is known for that name. Set server.host to"),
        ("speed = 1", "server.speed: no such key"),
    ],
)
def test_a_fault_that_no_restart_mends_is_exit_2_with_one_line(server: str, told: str) -> None:
    with service(server=server) as it:
        assert it.process.wait(PATIENCE_S) == 2
        (line,) = [line for line in it.said().splitlines() if not line.startswith("{")]
        assert told in line


def test_a_folder_that_others_can_write_to_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        run = Path(folder) / "run"
        run.mkdir()
        run.chmod(0o777)
        it = Service(Path(folder))
        assert it.process.wait(PATIENCE_S) == 2 and "is open to other users: chmod 700" in it.said()
        it.end()


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_at_once_and_no_connection_is_refused() -> None:
    with service() as it:
        with Stream(it.port) as stream:
            wait_until(lambda: stream.served > 20)
            os.kill(it.pid(2), signal.SIGKILL)
            wait_until(lambda: it.log("worker started", id=4))
            wait_until(it.whole)
            served = stream.served
            wait_until(lambda: stream.served > served + 50)
        assert "ConnectionRefusedError" not in stream.faults and "TimeoutError" not in stream.faults
        assert len(stream.faults) <= 2, "those that the dead worker had accepted"
        assert it.log("a worker died")[-1]["id"] == 2
        assert it.log("worker started")[-1]["worker"] == 1, "the same slot"


def test_the_others_are_notified_of_a_death_at_once() -> None:
    with service(workers=4, server="[log]\nlevel = 'debug'") as it:
        it.up()
        os.kill(it.pid(2), signal.SIGKILL)
        for id in (1, 3, 4):
            it.wait("view", peers=[1, 3, 4, 5], id=id)
            views = [line["peers"] for line in it.log("view", id=id)]
            assert views == [[1, 2, 3, 4], [1, 3, 4], [1, 3, 4, 5]], "they do not wait for the successor"


@pytest.mark.long
def test_a_worker_that_hangs_is_replaced_and_its_waiting_connections_are_served() -> None:
    with service(workers=2) as it:
        port = it.port
        os.kill(it.pid(1), signal.SIGSTOP)
        waiting = [RawSocket(port) for _ in range(20)]
        with ThreadPoolExecutor(len(waiting)) as pool:  # in parallel: the live worker gives up the silent one
            answers = list(pool.map(RawSocket.upgrade, waiting))
        assert {answer[:12] for answer in answers} == {"HTTP/1.1 101"}
        wait_until(it.whole)
        assert not is_alive(it.pid(1)) and it.pid(3)
        assert len(it.log("worker started")) == 3, "nobody else is replaced"
        for ws in waiting:
            ws.sock.close()


@pytest.mark.long
def test_workers_that_die_and_die_end_the_service_with_exit_1() -> None:
    with service(workers=2) as it:
        it.up()
        killed: set[int] = set()
        while it.process.poll() is None:
            for pid in set(it.alive()) - killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        assert it.process.returncode == 1
        last = it.said().splitlines()[-1]
        assert "no worker could be started in 10 s, the last failure: " in last
        assert wait_until(lambda: it.alive() == [])


@pytest.mark.long
def test_the_workers_end_when_the_supervisor_is_killed_also_those_that_hang() -> None:
    with service() as it:
        it.up()
        pids = it.alive()
        assert len(pids) == 3
        os.kill(pids[0], signal.SIGSTOP)
        it.signal(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)))
        with service(port=it.port, workers=2) as successor:
            successor.up()


@pytest.mark.long
def test_a_supervisor_that_was_stopped_for_a_while_kills_no_worker() -> None:
    with service(workers=2) as it:
        it.up()
        it.signal(signal.SIGSTOP)
        end = time.monotonic() + 3.5
        wait_until(lambda: time.monotonic() > end)
        it.signal(signal.SIGCONT)
        served = it.connect()
        wait_until(it.whole)
        assert len(it.log("worker started")) == 2
        served.sock.close()


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_second_signal_does_not_wait_and_workers_ignore_ctrl_c() -> None:
    with service(workers=2) as it:
        it.up()
        for pid in it.alive():
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        ws = it.connect()
        os.kill(it.alive()[0], signal.SIGSTOP)  # cannot drain
        it.signal(signal.SIGINT)
        it.wait("draining")
        assert not it.ready()
        it.signal(signal.SIGINT)
        assert it.process.wait(PATIENCE_S) == 0
        assert it.log("a worker died") == [], "it was not waited for until it counts as dead"
        ws.sock.close()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_drain_with_an_unknown_field_is_refused(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`{"worker": 0}` stopped the whole service."""
    monkeypatch.setenv("KOKO_PRESENCE_OPERATOR_API_KEY", API_KEY)
    with service(workers=workers) as it:
        it.up()
        status, body = it.ask("/api/drain", "POST", b'{"worker":0}')
        assert status == 400 and "worker" in body
        assert it.ask("/api/drain?worker=0", "POST")[0] == 400
        assert it.ask("/api/drain", "POST", b"[]")[0] == 400 and it.ready()
        assert it.ask("/api/drain", "POST", b"{}")[0] == 202
        assert it.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_q6_during_the_delay_connections_are_accepted_and_readyz_says_503(workers: int) -> None:
    with service(workers=workers, server="drain_delay_s = 600.0\ndrain_s = 0.5") as it:
        port, ws = it.port, it.connect()
        it.signal(signal.SIGTERM)
        it.wait("draining")
        assert it.ask("/readyz")[0] == 503
        it.connect("bob").sock.close()
        ws.send(frame(TEXT, b'{"type":"heartbeat"}'))
        assert b"pong" in ws.read_frame().payload, "nobody is sent away yet"
        it.signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0, "a second signal ends the delay, too"
        with pytest.raises(OSError, match="refused"):
            RawSocket(port)
        ws.sock.close()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_q6_after_the_delay_clients_are_sent_away(workers: int) -> None:
    with service(workers=workers, server="drain_delay_s = 0.5") as it:
        ws = it.connect()
        it.signal(signal.SIGTERM)
        assert leave_as_told(ws) == 1012 and it.process.wait(PATIENCE_S) == 0
        ws.sock.close()


# --- reloads ----------------------------------------------------------------------------------------------------------


def test_sighup_changes_origins_and_limits_without_touching_a_connection() -> None:
    def origin_of(it: Service) -> str:
        with RawSocket(it.port) as ws:
            return ws.upgrade(Origin="https://a.example")

    with service() as it:
        ws = it.connect()
        assert {origin_of(it)[9:12] for _ in range(10)} == {"403"}
        it.configure(origins='["https://a.example"]', server="backlog = 99", workers=4)
        assert reload(it).returncode == 0
        it.wait("configuration reloaded")
        wait_until(lambda: {origin_of(it)[9:12] for _ in range(10)} == {"101"})
        held = {line["key"] for line in it.log("the old value stays")}
        assert held == {"server.backlog", "server.workers"}
        it.configure(origins="[]", most="'many'")
        it.signal(signal.SIGHUP)
        fault = it.wait("configuration not reloaded")
        assert "limits.max_users_per_room" in fault["msg"]
        assert {origin_of(it)[9:12] for _ in range(10)} == {"101"}
        ws.send(frame(TEXT, b'{"type":"heartbeat"}'))
        assert b"pong" in ws.read_frame().payload and len(it.log("worker started")) == 3
        ws.sock.close()


def test_sighup_takes_a_new_secret_for_the_tokens_to_come() -> None:
    with service(workers=2) as it:
        it.up()
        before = it.connect()
        it.configure(secret="another secret that is long enough for this")
        it.signal(signal.SIGHUP)
        it.wait("configuration reloaded")

        def refused() -> bool:
            with RawSocket(it.port) as ws:
                ws.upgrade()
                token = issue_token(SECRET, user="x", now_s=int(time.time()))
                ws.send(frame(TEXT, json.dumps({"type": "auth", "token": token}).encode()))
                return b"authenticated" not in ws.read_frame().payload

        wait_until(refused)
        before.send(frame(TEXT, b'{"type":"heartbeat"}'))
        assert b"pong" in before.read_frame().payload
        before.sock.close()


@pytest.mark.long
def test_a_rolling_reload_replaces_every_worker_and_refuses_no_connection() -> None:
    with service() as it:
        port, old = it.port, set(it.alive())
        ws = it.connect()
        with Stream(port) as stream:
            wait_until(lambda: stream.served > 20)
            it.configure(server="demo = true")
            assert reload(it, "--rolling").returncode == 0
            it.wait("rolling reload: every worker is replaced")
            reload(it, "--rolling")
            it.wait("rolling reload refused: a rolling reload is in progress")
            was_ready = []
            wait_until(lambda: was_ready.append(it.ready()) or it.log("every worker was replaced"))
            served = stream.served
            wait_until(lambda: stream.served > served + 50)
        assert stream.faults == [] and all(was_ready), "somebody was refused, or it was not ready meanwhile"
        assert ws.read_close() == 1012 and not any(map(is_alive, old)) and len(it.alive()) == 3
        assert [(line["worker"], line["id"]) for line in it.log("a worker was replaced")] == [(0, 4), (1, 5), (2, 6)]
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as asking:
            asking.request("GET", "/demo")
            assert asking.getresponse().status == 200, "the new workers have the new configuration"
        ws.sock.close()


@pytest.mark.long
def test_a_rolling_reload_to_something_that_cannot_serve_leaves_the_old_workers() -> None:
    with service(workers=2) as it:
        ws = it.connect()
        it.configure(server="tls_cert = '/etc/hostname'\ntls_key = '/etc/hostname'")
        it.signal(signal.SIGUSR2)
        it.wait("rolling reload failed: cannot serve on")
        wait_until(lambda: len(it.alive()) == 2)
        assert it.ready()
        ws.send(frame(TEXT, b'{"type":"heartbeat"}'))
        assert b"pong" in ws.read_frame().payload
        os.kill(it.pid(2), signal.SIGKILL)
        wait_until(lambda: it.log("worker started", id=3))
        wait_until(it.whole)  # with the valid configuration
        ws.sock.close()


def reload(it: Service, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "koko_presence", "reload", "--config", str(it.config), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


# --- answers to others ------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_metrics_name_the_worker_that_does_not_answer() -> None:
    with service() as it:
        it.up()
        up = [f'koko_presence_worker_up{{worker="{slot}"}}' for slot in range(3)]
        assert all(f"{name} 1\n" in it.ask("/metrics")[1] for name in up)
        os.kill(it.pid(2), signal.SIGSTOP)
        told = it.ask("/metrics")[1]  # before the worker that hangs is replaced, which would be a restart
        assert "koko_presence_worker_restarts_total 0\n" in told
        assert f"{up[0]} 1\n" in told and f"{up[1]} 0\n" in told and f"{up[2]} 1\n" in told


def leave_as_told(ws: RawSocket) -> int | None:
    """Answer a close as a browser does."""
    code = ws.read_close()
    ws.send(frame(CLOSE, b""))
    return code


@pytest.mark.long
def test_metrics_count_the_closes_of_a_worker_that_drains() -> None:
    """The metrics of a worker that drains beside its successor were no longer collected, so its 1012 closes were never
    counted."""
    with service(workers=2) as it:
        clients = [it.connect(f"u{n}") for n in range(6)]
        assert "koko_presence_connections 6\n" in it.ask("/metrics")[1]
        it.signal(signal.SIGUSR2)
        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(leave_as_told, clients)) == {1012}
        it.wait("every worker was replaced")
        told = it.ask("/metrics")[1]
        assert 'koko_presence_disconnects_total{code="1012"} 6\n' in told
        assert "koko_presence_connections_accepted_total 6\n" in told and "koko_presence_connections 0\n" in told
        for ws in clients:
            ws.sock.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd_is_notified(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="koko") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"{folder}/notify")
        told.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "400000")

        def wait(what: str) -> None:
            while what not in told.recv(4096).decode().split("\n"):
                pass

        with service(workers=workers) as it:
            wait("READY=1")
            assert it.ready()
            for _ in range(3):
                wait("WATCHDOG=1")
            it.signal(signal.SIGHUP)
            wait("RELOADING=1")
            wait("READY=1")
            if workers > 1:
                it.signal(signal.SIGUSR2)
                wait("RELOADING=1")
                wait("READY=1")
                wait_until(lambda: len(it.log("a worker was replaced")) == workers)
            it.signal(signal.SIGTERM)
            wait("STOPPING=1")
            assert it.process.wait(PATIENCE_S) == 0


# --- one worker -------------------------------------------------------------------------------------------------------


def test_one_worker_has_an_operator_port_and_a_pid_file_and_cannot_roll() -> None:
    with service(workers=1) as it:
        it.up()
        assert it.ask("/readyz") == (200, '{"status":"ready"}') and it.ask("/metrics")[0] == 200
        refused = reload(it, "--rolling")
        assert refused.returncode == 2 and "serve with --workers 2 or more" in refused.stderr
        assert reload(it).returncode == 0
        it.wait("configuration reloaded")
        it.signal(signal.SIGUSR2)
        it.wait("one worker cannot be replaced while it serves")
        it.signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0 and reload(it).returncode == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_ends_with_the_window_it_was_started_in(workers: int) -> None:
    """A closed terminal sends SIGHUP, which was handled as a reload: the server continued and kept its port."""
    window, terminal = pty.openpty()

    def take_the_terminal() -> None:
        # nohup ignores SIGHUP for its children, which these tests may be; restore the default
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    server = subprocess.Popen(
        [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", "0", "--workers", str(workers)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take_the_terminal,
    )
    os.close(terminal)
    said = b""
    while b"Stop with Ctrl-C" not in said:
        said += os.read(window, 4096)
    server.send_signal(signal.SIGHUP)  # while the terminal is open, SIGHUP is a reload
    while b"configuration reloaded" not in said:
        said += os.read(window, 4096)
    os.close(window)
    assert server.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("workers", "closed"), [(2, "2>&-"), pytest.param(2, "<&- 2>&-", marks=pytest.mark.long), (1, "2>&-")]
)
def test_regression_with_stderr_closed_no_worker_served(workers: int, closed: str) -> None:
    command = [sys.executable, "-m", "koko_presence", "serve", "--dev", "--port", "0", "--workers", str(workers)]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and "Demo:" in server.stdout.readline()
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
