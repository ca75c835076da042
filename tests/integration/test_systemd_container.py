"""The service under a real systemd, in a container over this machine's own files: `make test-systemd`. It takes a
minute, and needs root, systemd-nspawn (package systemd-container) and overlay mounts. WHEEL=file.whl installs a wheel
instead of this checkout."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "koko-presence"
NSPAWN = ("--register=no", "--keep-unit", "--private-network", "--machine=koko-test", "--console=pipe")
CONFIG = Path("etc/koko-presence/koko-presence.toml")

pytestmark = pytest.mark.systemd

# Runs in the container's network: authenticates, prints a line, waits for the close and prints its code.
CLIENT = """
import json, sys
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
with connect("ws://127.0.0.1:8080/presence", proxy=None) as ws:
    ws.send(json.dumps({"type": "auth", "token": sys.argv[1]}))
    try:
        print(json.loads(ws.recv())["type"], flush=True)
        while True:
            ws.recv()
    except ConnectionClosed as end:
        print(end.rcvd.code if end.rcvd else "lost", flush=True)
"""
# Opens connections until it is told to stop, and counts refusals.
KNOCKER = """
import socket, sys, threading, time
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
tried = refused = 0
while not stop.is_set() or tried <= 10:  # a worker may be back before this has tried often enough to prove anything
    tried += 1
    try:
        socket.create_connection(("127.0.0.1", 8080), 2).close()
    except ConnectionRefusedError:
        refused += 1
    if tried == 1:
        print("knocking", flush=True)
    time.sleep(0.005)
print(tried, refused)
"""


def within(seconds: float, what: Callable[[], object], why: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


class Machine:
    """A booted container in which commands can be run."""

    def __init__(self, root: Path, init: int) -> None:
        self.root, self.init = root, init
        self.helpers: list[subprocess.Popen[str]] = []

    def run(self, *command: str, check: bool = True) -> str:
        words = ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.journal()
        return done.stdout.strip()

    def python(self, code: str, *arguments: str) -> "subprocess.Popen[str]":
        """Run Python code with the tests' packages, in the container's network only."""
        words = ["nsenter", "-t", str(self.init), "-n", sys.executable, "-c", code, *arguments]
        helper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.helpers.append(helper)
        return helper

    def send_helpers_home(self) -> None:
        while self.helpers:
            with self.helpers.pop() as helper:  # closes its pipes and waits for it
                helper.kill()

    def journal(self) -> str:
        words = ["nsenter", "-t", str(self.init), "-m", "-p", "journalctl", "-u", SERVICE, "--no-pager", "-n", "60"]
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "-P", name, SERVICE)

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    @property
    def restarts(self) -> int:
        return int(self.show("NRestarts"))

    @property
    def workers(self) -> set[int]:
        """The main process's children that are workers, by their pids in the container."""
        found = self.run("pgrep", "-P", str(self.main_pid), "-f", "koko-presence worker", check=False)
        return {int(pid) for pid in found.split()}

    @property
    def ready(self) -> bool:
        code = self.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "127.0.0.1:9080/readyz", check=False)
        return code == "200"

    def kill(self, number: int, pid: int) -> None:
        self.run("kill", f"-{number}", str(pid))

    def configure(self, text: str) -> None:
        (self.root / CONFIG).write_text(text)

    def knocker(self) -> "subprocess.Popen[str]":
        """Opens connections one after another. It has begun when this returns: Python takes longer to start than a
        worker takes to be replaced."""
        knocker = self.python(KNOCKER)
        assert knocker.stdout is not None and knocker.stdout.readline().strip() == "knocking"
        return knocker

    def client(self) -> "subprocess.Popen[str]":
        """A client that has authenticated."""
        token = self.run(SERVICE, "token", "--user", "u1", "--room", "*", "--config", f"/{CONFIG}")
        client = self.python(CLIENT, token)
        assert client.stdout is not None and client.stdout.readline().strip() == "authenticated"
        return client


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    overlay = tmp_path_factory.mktemp("overlay")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", overlay], check=True)
    root = overlay / "merged"
    nspawn: subprocess.Popen[bytes] | None = None
    try:
        for name in ("upper", "work", "merged"):
            (overlay / name).mkdir()
        layers = f"lowerdir=/,upperdir={overlay}/upper,workdir={overlay}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
        (root / "etc/machine-id").unlink(missing_ok=True)
        for wanted in (root / "etc/systemd/system").glob("*.wants/*"):
            wanted.unlink()
        for waits in ("systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"):
            mask = root / "etc/systemd/system" / waits
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")  # there is no network to wait for
        install(root)
        drop_in = root / f"etc/systemd/system/{SERVICE}.service.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Service]\nWatchdogSec=3\n")  # the unit's watchdog with a shorter interval
        nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", root, *NSPAWN, "-b", "systemd.unit=multi-user.target"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        machine = Machine(root, _init_of(nspawn.pid))
        states = ("running", "degraded")
        within(
            PATIENCE_S, lambda: machine.run("systemctl", "is-system-running", check=False) in states, "it does not boot"
        )
        yield machine
    finally:
        if nspawn is not None:
            nspawn.terminate()
            try:
                nspawn.wait(20)
            except subprocess.TimeoutExpired:
                nspawn.kill()
                nspawn.wait()
        subprocess.run(["umount", "-l", root], check=False)
        subprocess.run(["umount", "-l", overlay], check=False)


def install(root: Path) -> None:
    env = os.environ | {"DESTDIR": str(root), "PYTHON": "/usr/bin/python3"}
    subprocess.run(["bash", ROOT / "deploy/install.sh"], env=env, check=True, stdout=subprocess.DEVNULL)


def _init_of(nspawn: int) -> int:
    """The container's first process; the pid is the one outside of the container."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = subprocess.run(["pgrep", "-P", str(nspawn)], capture_output=True, text=True, check=False).stdout.split()
        for pid in found:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return int(pid)
        time.sleep(0.1)
    pytest.fail("the container has no systemd")


SETTINGS = """
[server]
workers = {workers}
[operator]
api_key_file = "${{CREDENTIALS_DIRECTORY}}/api_key"
[auth]
secret_file = "${{CREDENTIALS_DIRECTORY}}/secret"
"""


@pytest.fixture(params=[1, 3])
def machine(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The service runs, with one worker and with three."""
    booted.configure(SETTINGS.format(workers=request.param))
    booted.run("systemctl", "restart", SERVICE)  # returns when READY=1 has arrived
    assert booted.ready and booted.run("systemctl", "is-active", SERVICE) == "active"
    assert len(booted.workers) == (0 if request.param == 1 else request.param)
    yield booted
    booted.send_helpers_home()
    booted.run("systemctl", "stop", SERVICE)
    booted.run("systemctl", "reset-failed", SERVICE, check=False)


def test_it_starts_closed_and_says_so(machine: Machine) -> None:
    assert "serv" in machine.show("StatusText")
    found = re.search(r"exposure level for \S+: ([\d.]+)", machine.run("systemd-analyze", "security", SERVICE))
    assert found and float(found[1]) <= 1.5
    status = Path(machine.root / "proc") and machine.run("cat", f"/proc/{machine.main_pid}/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status and re.search(r"CapEff:\t0+\n", status)
    assert machine.run("stat", "-Lc", "%a", f"/run/{SERVICE}") == "700"


def test_a_main_process_that_hangs_is_replaced(machine: Machine) -> None:
    before, restarts = machine.main_pid, machine.restarts
    machine.kill(signal.SIGSTOP, before)
    within(PATIENCE_S, lambda: machine.restarts == restarts + 1 and machine.ready, "the watchdog did not strike")
    assert machine.main_pid != before
    assert "Watchdog timeout" in machine.journal()


def test_a_main_process_that_is_killed_is_replaced_and_leaves_nothing(machine: Machine) -> None:
    before, restarts, orphans = machine.main_pid, machine.restarts, machine.workers
    machine.kill(signal.SIGKILL, before)
    within(PATIENCE_S, lambda: machine.restarts == restarts + 1 and machine.ready, "it was not started again")
    assert machine.main_pid != before and not orphans & machine.workers
    assert [pid for pid in orphans if machine.run("ps", "-p", str(pid), "-o", "pid=", check=False)] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("machine", [3], indirect=True)
def test_a_worker_is_replaced_by_its_supervisor_and_no_connection_is_refused(machine: Machine, number: int) -> None:
    main, restarts, before = machine.main_pid, machine.restarts, machine.workers
    victim = min(before)
    knocker = machine.knocker()
    machine.kill(number, victim)
    within(
        PATIENCE_S,
        lambda: victim not in machine.workers and len(machine.workers) == 3 and machine.ready,
        "not replaced",
    )
    tried, refused = knocker.communicate(timeout=PATIENCE_S)[0].split()
    assert int(tried) > 10 and refused == "0"
    assert (machine.main_pid, machine.restarts) == (main, restarts)


def test_a_reload_touches_no_connection(machine: Machine) -> None:
    main, workers, client = machine.main_pid, machine.workers, machine.client()
    machine.configure((machine.root / CONFIG).read_text() + "[limits]\ncursor_hz = 7\n")
    machine.run("systemctl", "reload", SERVICE)
    within(PATIENCE_S, lambda: "configuration reloaded" in machine.journal(), "it was not read")
    within(PATIENCE_S, lambda: machine.run("systemctl", "is-active", SERVICE) == "active", "READY=1 did not follow")
    machine.configure("[limits]\ncursor_hz = 'many'\n")
    machine.run("systemctl", "reload", SERVICE)
    within(PATIENCE_S, lambda: "configuration not reloaded" in machine.journal(), "the fault was not told")
    assert (machine.main_pid, machine.workers) == (main, workers)
    assert client.poll() is None


@pytest.mark.parametrize("machine", [3], indirect=True)
def test_a_rolling_reload_replaces_every_worker_and_refuses_no_connection(machine: Machine) -> None:
    main, before = machine.main_pid, machine.workers
    client, knocker = machine.client(), machine.knocker()
    machine.run(SERVICE, "reload", "--rolling", "--config", f"/{CONFIG}")
    within(
        PATIENCE_S, lambda: len(machine.workers) == 3 and not machine.workers & before and machine.ready, "not replaced"
    )
    within(PATIENCE_S, lambda: machine.run("systemctl", "is-active", SERVICE) == "active", "READY=1 did not follow")
    tried, refused = knocker.communicate(timeout=PATIENCE_S)[0].split()
    assert int(tried) > 10 and refused == "0"
    assert client.communicate(timeout=PATIENCE_S)[0].strip() == "1012"
    assert machine.main_pid == main


@pytest.mark.parametrize("machine", [3], indirect=True)
def test_after_an_upgrade_a_rolling_reload_runs_the_new_workers(machine: Machine) -> None:
    main, before, link = machine.main_pid, machine.workers, machine.root / "opt/koko-presence/venv"
    old = link.readlink()
    install(machine.root)
    new = link.readlink()
    assert new != old and machine.ready
    machine.run(SERVICE, "reload", "--rolling", "--config", f"/{CONFIG}")
    within(
        PATIENCE_S, lambda: len(machine.workers) == 3 and not machine.workers & before and machine.ready, "not replaced"
    )
    for worker in machine.workers:
        loaded = machine.run("cat", f"/proc/{worker}/maps")
        assert f"/{new}/" in loaded and f"/{old}/" not in loaded
    assert machine.main_pid == main and f"/{old}/" in machine.run("cat", f"/proc/{main}/maps")


def test_a_stop_drains(machine: Machine) -> None:
    client = machine.client()
    machine.run("systemctl", "stop", SERVICE)
    assert client.communicate(timeout=PATIENCE_S)[0].strip() == "1012"
    assert machine.show("Result") == "success" and machine.show("ExecMainStatus") == "0"


TLS_BY_CREDENTIALS = """
[server]
workers = 2
tls_key = "/run/credentials/koko-presence.service/tls_key"
tls_cert = "/run/credentials/koko-presence.service/tls_cert"
[auth]
secret_file = "${CREDENTIALS_DIRECTORY}/secret"
"""


def test_a_certificate_is_a_credential_and_the_proxy_the_only_client(
    booted: Machine, certificate: tuple[Path, Path]
) -> None:
    drop_in = booted.root / f"etc/systemd/system/{SERVICE}.service.d/tls.conf"
    lines = ["[Service]", "IPAddressDeny=any", "IPAddressAllow=localhost"]
    for name, path in zip(("tls_cert", "tls_key"), certificate, strict=True):
        shutil.copyfile(path, booted.root / "etc/koko-presence" / name)
        (booted.root / "etc/koko-presence" / name).chmod(0o600)
        lines.append(f"LoadCredential={name}:/etc/koko-presence/{name}")
    drop_in.write_text("\n".join(lines))
    try:
        booted.configure(TLS_BY_CREDENTIALS)
        booted.run("systemctl", "daemon-reload")
        booted.run("systemctl", "restart", SERVICE)
        assert booted.run("curl", "-fsSk", "https://127.0.0.1:8080/healthz")
        assert "configuration is fine" in booted.run(SERVICE, "check-config", "--config", f"/{CONFIG}")
    finally:
        drop_in.unlink()
        booted.run("systemctl", "stop", SERVICE)
        booted.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("fault", ["[server]\nport = 'eighty'\n", "[operator]\nport = 8080\n"])
def test_a_wrong_configuration_stays_down(booted: Machine, fault: str) -> None:
    booted.configure(fault)
    booted.run("systemctl", "restart", SERVICE, check=False)
    within(
        PATIENCE_S, lambda: booted.run("systemctl", "is-failed", SERVICE, check=False) == "failed", "it did not fail"
    )
    assert (booted.show("ExecMainStatus"), booted.restarts) == ("2", 0)
    booted.run("systemctl", "reset-failed", SERVICE)


def test_a_missing_secret_is_reported(booted: Machine) -> None:
    secret = booted.root / "etc/koko-presence/secret"
    text = secret.read_text()
    secret.unlink()
    try:
        booted.run("systemctl", "start", SERVICE, check=False)
        assert booted.show("Result") == "exit-code" and booted.show("ExecMainStatus") == "243"  # EXIT_CREDENTIALS
    finally:
        booted.run("systemctl", "stop", SERVICE)
        booted.run("systemctl", "reset-failed", SERVICE, check=False)
        secret.write_text(text)
        secret.chmod(0o600)
