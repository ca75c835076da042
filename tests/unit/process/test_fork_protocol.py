"""The messages between the supervisor and its fork server, and the system calls of both."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koko_presence.process.fork_protocol import (
    FDS_A_PACKET,
    Fork,
    Forked,
    NotForked,
    decode_answer,
    receive_request,
    send_answer,
    send_request,
)
from koko_presence.process.os_process import reap_unknown_children
from tests.waiting import is_running, wait_until

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.mark.parametrize("count", [1, FDS_A_PACKET, FDS_A_PACKET + 1, 3 * FDS_A_PACKET])
def test_a_request_comes_with_all_its_descriptors_in_order(pair: Pair, count: int) -> None:
    reads, writes = os.pipe()
    fds = [reads if i % 3 else writes for i in range(count)]
    request = Fork(7, 2, slots=3, shares_counts=True, fds=count)
    for _ in range(2):
        send_request(pair[0], request, fds)
    pair[0].close()
    for _ in range(2):
        found = receive_request(pair[1])
        assert found is not None and found[0] == request
        assert [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in found[1]] == [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in fds]
        for fd in found[1]:
            os.close(fd)
    assert receive_request(pair[1]) is None
    for fd in (reads, writes):
        os.close(fd)


def test_descriptors_are_the_same_files_under_other_numbers(pair: Pair) -> None:
    reads, writes = os.pipe()
    send_request(pair[0], Fork(7, 2, slots=1, shares_counts=False, fds=2), [writes, reads])
    found = receive_request(pair[1])
    assert found is not None
    first, second = found[1]
    assert {first, second}.isdisjoint({reads, writes})
    os.write(first, b"x")
    assert os.read(reads, 1) == b"x" and os.fstat(second).st_ino == os.fstat(reads).st_ino
    for fd in (reads, writes, first, second):
        os.close(fd)


def test_fewer_descriptors_come_where_no_more_may_be_open(pair: Pair) -> None:
    reads, writes = os.pipe()
    send_request(pair[0], Fork(7, 2, slots=1, shares_counts=False, fds=3), [reads, writes, reads])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, before[1]))
    try:
        found = receive_request(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found is not None and len(found[1]) < found[0].fds == 3
    for fd in (reads, writes, highest, *found[1]):
        os.close(fd)


@pytest.mark.parametrize("answer", [Forked(3, 4), NotForked(3, "Resource temporarily unavailable")])
def test_answers_come_as_they_are(pair: Pair, answer: Forked | NotForked) -> None:
    send_answer(pair[0], answer)
    assert decode_answer(pair[1].recv(4096)) == answer


ORPHANS = """
import os, sys, time
from koko_presence.process.os_process import adopt_orphans, reap_unknown_children
adopt_orphans()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        time.sleep(0.02)
        os._exit(0)
    os._exit(0)
os.waitpid(middle, 0)
known = os.fork()
if known == 0:
    os._exit(3)
while open(f"/proc/self/task/{os.getpid()}/children").read().split() != [str(known)]:
    reap_unknown_children({known})
    if known and os.waitid(os.P_PID, known, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        status, known = os.waitstatus_to_exitcode(os.waitpid(known, 0)[1]), 0
        print("known", status, flush=True)
        while open(f"/proc/self/task/{os.getpid()}/children").read().split():
            reap_unknown_children(set())
        break
print("none left", flush=True)
"""


def test_orphaned_processes_are_reaped_and_started_ones_are_not() -> None:
    said = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60)
    assert said.stdout.split("\n") == ["known 3", "none left", ""], said.stderr
    reap_unknown_children(set())  # without a process to wait for it is no error


def test_regression_a_process_reaped_by_a_thread_meanwhile_aborted_the_supervisors_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child that a thread reaps meanwhile is no error: a thread that starts a process waits for it itself when the
    program cannot be executed."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    real_waitid, looked = os.waitid, []

    def waitid(kind: Any, id: int, options: int) -> Any:
        looked.append(found := real_waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT))
        child.wait()
        return found

    monkeypatch.setattr(os, "waitid", waitid)
    reap_unknown_children(set())
    assert len(looked) == 1


TITLE = """
import os, sys
from koko_presence.process.os_process import set_title
set_title(sys.argv[2] * int(sys.argv[1]))
print(repr(open("/proc/self/cmdline", "rb").read().rstrip(b"\\0").decode()), os.environ["KEPT"])
"""


@pytest.mark.parametrize("times", [1, 1000])
def test_a_title_takes_the_place_of_the_arguments_and_of_nothing_behind_them(times: int) -> None:
    command = [sys.executable, "-c", TITLE, str(times), "koko 1 "]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"KEPT": "kept"}, timeout=60)
    title, kept = said.stdout.rsplit(" ", 1)
    assert kept == "kept\n" and eval(title).startswith("koko 1") and "set_title" not in title, said.stderr


WITH_PARENT = """
import os, sys, time
from koko_presence.process.os_process import end_with
end_with(int(sys.argv[1]))
print("lives", flush=True)
time.sleep(600)
"""
STARTER = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]); sys.stdin.read()"


def test_a_process_ends_with_its_parent_and_at_once_when_that_is_gone() -> None:
    said = subprocess.run([sys.executable, "-c", WITH_PARENT, "1"], capture_output=True, timeout=60)
    assert said.returncode == 1 and said.stdout == b""
    command = [sys.executable, "-c", STARTER, WITH_PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"lives\n"
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not is_running(child))
