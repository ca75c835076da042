"""Real servers, with one worker and with several, whose log reader, mounts or resolver hang. They still serve, replace
workers and end."""

import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from koko_presence.auth.hmac_jwt import issue_token
from tests.raw_ws import TEXT, RawSocket, frame
from tests.waiting import PATIENCE_S, wait_until

SECRET = "a secret for servers that wait for nobody, long enough"
CONFIG = """
[server]
port = 0
workers = {workers}
runtime_dir = "{folder}/run"
[operator]
port = 0
[auth]
secret = "{secret}"
[access]
mode = "allow_all"
"""
WEBHOOKS = f"""
[webhooks]
url = "http://localhost:9/nobody"
secret = "{SECRET}"
batch_s = 0
"""

both = pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])


class Service:
    """A server whose log goes into a pipe. Its reader reads until `stop_reading`."""

    def __init__(self, folder: Path, workers: int, env: dict[str, str] | None = None, more: str = "") -> None:
        self.config = folder / "koko.toml"
        self.config.write_text(CONFIG.format(folder=folder, workers=workers, secret=SECRET) + more)
        self.reads, self.writes = os.pipe()
        fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, 4096)
        command = [sys.executable, "-m", "koko_presence", "serve", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stderr=self.writes, env=os.environ | (env or {}))
        self.said = ""
        self._reading = threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.port = int(self.wait("serving")["address"].rpartition(":")[2])
        self._operator = int(self.wait("operator port")["address"].rpartition(":")[2])

    def _read(self) -> None:
        while data := os.read(self.reads, 4096):
            self.said += data.decode()
            self._reading.wait()

    def lines(self, message: str = "") -> list[dict[str, Any]]:
        """The log lines read so far whose text is `message`, or all of them."""
        lines = [line.lstrip("-") for line in self.said.rpartition("\n")[0].split("\n")]
        found = [json.loads(line) for line in lines if line]
        return [line for line in found if message in ("", line["msg"])]

    def wait(self, message: str) -> dict[str, Any]:
        return wait_until(lambda: self.lines(message))[-1]

    def stop_reading(self) -> None:
        """Stop reading and fill the pipe, so that a write to it blocks."""
        self._reading.clear()
        os.set_blocking(self.writes, False)
        full = 0
        while full < 50:  # the reader may be in the middle of a read
            try:
                os.write(self.writes, b"-")
                full = 0
            except BlockingIOError:
                full += 1
                time.sleep(0.002)
        os.set_blocking(self.writes, True)

    def read_on(self) -> None:
        self._reading.set()

    def ready(self) -> bool:
        with closing(http.client.HTTPConnection("127.0.0.1", self._operator, timeout=PATIENCE_S)) as asking:
            asking.request("GET", "/readyz")
            return asking.getresponse().status == 200

    def metrics(self) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", self._operator, timeout=PATIENCE_S)) as asking:
            asking.request("GET", "/metrics")
            return asking.getresponse().read().decode()

    def enter(self, user: str, ws: RawSocket | None = None, room: str = "r") -> RawSocket:
        """A user who has joined the room."""
        ws = ws or RawSocket(self.port)
        assert "101" in ws.upgrade()
        token = issue_token(SECRET, user=user, now_s=int(time.time()))
        for message in ({"type": "auth", "token": token}, {"type": "join", "roomId": room, "roomType": "project"}):
            ws.send(frame(TEXT, json.dumps(message).encode()))
        hear(ws, "joined")
        return ws

    def end(self) -> None:
        self.read_on()
        self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.writes)
        self._thread.join(PATIENCE_S)  # the workers end with it, and so does the pipe
        os.close(self.reads)


def hear(ws: RawSocket, type_: str) -> dict[str, Any]:
    """The next message of this type."""
    while True:
        message: dict[str, Any] = json.loads(ws.read_frame().payload)
        if message["type"] == type_:
            return message


def speak(ws: RawSocket, listener: RawSocket, text: str) -> None:
    """Assert that a broadcast of one member arrives at the other."""
    ws.send(frame(TEXT, json.dumps({"type": "broadcast", "roomId": "r", "data": {"text": text}}).encode()))
    while text not in json.dumps(hear(listener, "broadcast")):
        pass


@contextmanager
def service(workers: int, env: dict[str, str] | None = None, more: str = "") -> Iterator[Service]:
    # the paths of pytest's folders are too long for Unix sockets
    with tempfile.TemporaryDirectory(prefix="koko") as folder:
        it = Service(Path(folder), workers, env, more)
        try:
            yield it
        finally:
            it.end()


@both
def test_a_stopped_log_reader_delays_no_client(workers: int) -> None:
    with service(workers) as it:
        ann, bob = it.enter("ann"), it.enter("bob")
        it.stop_reading()
        for _ in range(5):  # each one causes log lines in every process
            it.process.send_signal(signal.SIGHUP)
            speak(ann, bob, "still here")
        assert it.ready()
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0, "it does not wait for the reader when it ends"
        it.read_on()
        ann.sock.close()
        bob.sock.close()


def test_a_worker_that_dies_while_the_log_reader_is_stopped_is_replaced_and_its_clients_reconnect() -> None:
    with service(2) as it:
        pids = {line["id"]: line["pid"] for line in it.lines("worker started")}
        it.stop_reading()
        people = [it.enter(f"u{number}") for number in range(6)]
        os.kill(pids[2], signal.SIGKILL)
        wait_until(lambda: "worker_restarts_total 1" in it.metrics() and it.ready())
        again = [it.enter(f"u{number}") for number in range(6)]
        for one, other in zip(again, [*again[1:], again[0]], strict=True):
            speak(one, other, "back")
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0
        for ws in (*people, *again):
            ws.sock.close()


@pytest.mark.long
@both
def test_a_configuration_on_a_mount_that_hangs_delays_no_client(workers: int) -> None:
    """Opening a FIFO without a writer blocks like opening a file whose file server is gone."""
    with service(workers) as it:
        ann, bob = it.enter("ann"), it.enter("bob")
        it.config.unlink()
        os.mkfifo(it.config)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            it.process.send_signal(number)
            speak(ann, bob, "still here")
        assert it.ready()
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0
        ann.sock.close()
        bob.sock.close()


@pytest.mark.long
@pytest.mark.parametrize("part", ["tls_cert", "tls_key"])
def test_a_certificate_on_a_mount_that_hangs_delays_no_client(part: str, certificate: tuple[Path, Path]) -> None:
    files = dict(zip(("tls_cert", "tls_key"), certificate, strict=True))
    with service(2) as it:
        ann, bob = it.enter("ann"), it.enter("bob")
        files[part] = it.config.parent / "hangs.pem"
        os.mkfifo(files[part])
        tls = "".join(f"{name} = '{path}'\n" for name, path in files.items())
        it.config.write_text(it.config.read_text().replace("[server]\n", f"[server]\n{tls}"))
        it.process.send_signal(signal.SIGUSR2)
        said: list[dict[str, Any]] = []
        while not said:  # until the reload is given up
            speak(ann, bob, "still here")
            assert it.ready()
            time.sleep(0.2)  # no more often than the rate limit allows
            said = [line for line in it.lines() if "could not be read within" in line["msg"]]
        assert (
            said[0]["msg"].startswith("rolling reload failed: cannot serve on") and str(files[part]) in said[0]["msg"]
        )
        assert len(it.lines("worker started")) == 2
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0
        ann.sock.close()
        bob.sock.close()


@pytest.mark.long
@both
def test_a_certificate_that_cannot_be_read_at_the_start_is_exit_2_with_one_line(
    workers: int, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "hangs.pem")
    config = tmp_path / "koko.toml"
    tls = f"[server]\ntls_cert = '{certificate[0]}'\ntls_key = '{tmp_path}/hangs.pem'\n"
    config.write_text(CONFIG.format(folder=tmp_path, workers=workers, secret=SECRET).replace("[server]\n", tls))
    command = [sys.executable, "-m", "koko_presence", "serve", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "hangs.pem could not be read within 10 s: does a mount hang?" in line


@both
def test_sigusr1_writes_the_stacks_of_all_processes_and_ends_none(workers: int) -> None:
    with service(workers) as it:
        ann, bob = it.enter("ann"), it.enter("bob")
        wanted = {None} if workers == 1 else {None, 0, 1}  # the supervisor has no slot
        for number in range(1, 3):
            it.process.send_signal(signal.SIGUSR1)

            def told(number: int = number) -> bool:
                main = [line.get("worker") for line in it.lines("stack") if line["thread_name"] == "MainThread"]
                return sorted(main, key=str) == sorted([*wanted] * number, key=str)

            wait_until(told)
        assert all(" (" in line["stack"] for line in it.lines("stack") if line["thread_name"] == "MainThread")
        speak(ann, bob, "still here")
        assert it.ready() and it.process.poll() is None
        ann.sock.close()
        bob.sock.close()


AUDIT_HOOK = """
import os, sys, threading

def begin():
    global opened
    opened = os.open(os.environ["OPENED_IN"] + f"/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(event, args):
    if event in ("open", "os.listdir", "os.scandir", "socket.getaddrinfo"):
        if threading.current_thread() is threading.main_thread():
            os.write(opened, f"{event} {args[0]}\\n".encode())

begin()
os.register_at_fork(after_in_child=begin)

sys.addaudithook(note)
"""


@pytest.mark.long
@both
def test_once_it_serves_a_server_opens_no_file_but_the_systems_in_its_loop(workers: int, tmp_path: Path) -> None:
    """Any other file may be on a disk that hangs. An audit hook in each process records what is opened."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT_HOOK)
    opened = tmp_path / "opened"
    opened.mkdir()
    with service(workers, {"PYTHONPATH": str(tmp_path), "OPENED_IN": str(opened)}, WEBHOOKS) as it:
        wait_until(it.ready)
        start = {path: path.stat().st_size for path in opened.iterdir() if Path(f"/proc/{path.name}").exists()}
        # two more: the supervisor and the fork server
        assert len(start) == (1 if workers == 1 else workers + 2)
        people = [it.enter(f"u{number}") for number in range(8)]
        for one, other in zip(people, [*people[1:], people[0]], strict=True):
            speak(one, other, "hello")
        for path in (
            "/healthz",
            "/sdk/presence.js",
            "/nowhere",
            "/trpc/presence.getActive?input=%7B%22roomId%22:%22r%22%7D",
        ):
            with closing(http.client.HTTPConnection("127.0.0.1", it.port, timeout=PATIENCE_S)) as asking:
                asking.request("GET", path)
                asking.getresponse().read()
        assert "koko_presence_connections 8" in it.metrics()
        it.wait("webhook delivery failed, will be retried")
        it.process.send_signal(signal.SIGUSR1)
        it.wait("stack")
        it.process.send_signal(signal.SIGHUP)
        it.wait("configuration reloaded")
        speak(people[0], people[1], "after the reload")
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0
        for ws in people:
            ws.sock.close()
        said = [line for path in start for line in path.read_text()[start[path] :].splitlines()]
        fine = ("/proc/", "/sys/", "/dev/tty", str(it.config.parent / "run"))  # the last one is cleared at the end
        assert sorted({line for line in said if not line.partition(" ")[2].startswith(fine)}) == []


RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    while (name && strstr(name, "hangs"))
        pause();
    return real(name, service, hints, found);
}
"""


@pytest.mark.long
@both
def test_a_resolver_that_hangs_does_not_delay_the_end(workers: int, tmp_path: Path) -> None:
    """Closing the loop waited for a name that was being resolved: 25 s with one worker."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "there is no C compiler, which .ci/setup looks for: apt-get install gcc"
    (tmp_path / "resolver.c").write_text(RESOLVER)
    library = str(tmp_path / "resolver.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, str(tmp_path / "resolver.c"), "-ldl"], check=True)
    more = WEBHOOKS.replace("http://localhost:9", "https://hangs.example")
    with service(workers, {"LD_PRELOAD": library}, more) as it:
        ann, bob = it.enter("ann"), it.enter("bob")
        speak(ann, bob, "still here")
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(PATIENCE_S) == 0
        it.wait("webhook events dropped at shutdown")
        ann.sock.close()
        bob.sock.close()
