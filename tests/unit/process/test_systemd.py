"""The notifications to systemd; a datagram socket stands in for its own."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from koko_presence.process.systemd import Notifier
from tests.waiting import PATIENCE_S, until


class Systemd:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE_S)

    def heard(self) -> dict[str, str]:
        """Return the next datagram as the variables it sets."""
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def heard_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    path = str(tmp_path / "notify")
    double = Systemd(path if request.param == "path" else "@" + path)
    yield double
    double.socket.close()


def test_each_state_is_one_datagram(systemd: Systemd) -> None:
    notifier = Notifier(systemd.address)
    assert notifier.enabled
    notifier.ready("4 workers on 127.0.0.1:8080")
    assert systemd.heard() == {"READY": "1", "STATUS": "4 workers on 127.0.0.1:8080"}
    notifier.ready()
    assert systemd.heard() == {"READY": "1"}
    notifier.watchdog()
    assert systemd.heard() == {"WATCHDOG": "1"}
    notifier.stopping(12.5)
    assert systemd.heard() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "12500000"}
    notifier.status("draining")
    assert systemd.heard() == {"STATUS": "draining"}


def test_a_reload_names_the_time_of_the_kernels_clock(systemd: Systemd) -> None:
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    Notifier(systemd.address).reloading()
    heard = systemd.heard()
    assert heard["RELOADING"] == "1"
    assert int(before * 1e6) <= int(heard["MONOTONIC_USEC"]) <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6


def test_a_status_cannot_set_other_variables(systemd: Systemd) -> None:
    Notifier(systemd.address).status("fine\nMAINPID=1\r\n\ud800")
    assert systemd.heard() == {"STATUS": "fine MAINPID=1 \\ud800"}


def test_the_environment_is_read_and_taken_away(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    environment["PATH"] = "/bin"
    notifier = Notifier.from_environment(environment)
    assert environment == {"PATH": "/bin"}
    assert notifier.watchdog_interval_s == 5.0
    notifier.ready("up")
    assert systemd.heard()["READY"] == "1"


def test_children_inherit_neither_the_variables_nor_a_socket(systemd: Systemd) -> None:
    look = "import os; from koko_presence.process.systemd import Notifier as N; N.from_environment().ready('up');"
    look += "os.execv(__import__('sys').executable, ['python', '-c', 'import os;"
    look += (
        'print([n for n in os.environ if n.startswith(("NOTIFY", "WATCHDOG"))], len(os.listdir("/proc/self/fd")))\'])'
    )
    env = os.environ | {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    done = subprocess.run(
        [sys.executable, "-c", look], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.split() == ["[]", "4"]  # three and the directory being listed
    assert systemd.heard() == {"READY": "1", "STATUS": "up"}


@pytest.mark.parametrize(
    ("variables", "interval_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_due_at_half_of_what_systemd_waits(variables: dict[str, str], interval_s: float | None) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/systemd/notify"} | variables)
    assert notifier.watchdog_interval_s == interval_s


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"})
    assert not notifier.enabled and notifier.watchdog_interval_s is None
    say_everything(notifier)


@pytest.mark.parametrize(
    "address", ["/nowhere/at/all", "@nobody", "@", "vsock:2:1", "relative", "/zero\0byte", "/" + "x" * 200]
)
def test_a_systemd_that_is_not_there_costs_nothing(address: str) -> None:
    say_everything(Notifier(address, 1.0))


def fill(systemd: Systemd) -> None:
    """Fill the socket to the last datagram."""
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    filled = False
    while not filled:
        try:
            filler.sendto(b"X=1", "\0" + systemd.address[1:] if systemd.address[0] == "@" else systemd.address)
        except BlockingIOError:
            filled = True
    filler.close()


def test_a_systemd_that_does_not_read_delays_nothing(systemd: Systemd) -> None:
    fill(systemd)
    notifier = Notifier(systemd.address)
    saying = threading.Thread(target=notifier.watchdog, daemon=True)
    saying.start()
    saying.join(PATIENCE_S)
    assert not saying.is_alive()


def test_delayed_notifications_to_systemd_are_sent_in_order(systemd: Systemd) -> None:
    fill(systemd)

    async def story() -> list[dict[str, str]]:
        notifier = Notifier(systemd.address)
        notifier.ready("up")
        notifier.stopping(1.0)
        systemd.socket.setblocking(False)
        heard: list[dict[str, str]] = []

        def listen() -> bool:
            try:
                heard.append(systemd.heard())
            except BlockingIOError:
                return False
            return "STOPPING" in heard[-1]

        await until(listen)
        return [each for each in heard if "X" not in each]

    assert [next(iter(each)) for each in asyncio.run(story())] == ["READY", "STOPPING"]


def test_a_restarted_systemd_gets_notifications_again(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier(path)
    notifier.watchdog()
    systemd = Systemd(path)
    notifier.watchdog()
    assert systemd.heard() == {"WATCHDOG": "1"} and systemd.heard_nothing()
    systemd.socket.close()


def test_without_a_free_descriptor_the_watchdog_is_notified_all_the_same(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is notified without a free descriptor. A socket was opened for each notification, and systemd ends a
    service from which it receives none for ten seconds."""
    notifier = Notifier(systemd.address)
    notifier.ready()

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", fail)
    notifier.watchdog()
    monkeypatch.undo()
    assert systemd.heard() == {"READY": "1"} and systemd.heard() == {"WATCHDOG": "1"}


def say_everything(notifier: Notifier) -> None:
    notifier.ready("up")
    notifier.reloading()
    notifier.stopping(1.0)
    notifier.watchdog()
    notifier.status("text")
