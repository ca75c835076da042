"""SIGUSR1 writes the stacks of a process to its log, and does not end it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from koko_presence.process.stack_dump import read_dump
from tests.waiting import PATIENCE_S

DUMP = """\
Thread 0x00007f0000000002 (most recent call first):
  <no Python frame>

Current thread 0x00007f0000000001 (most recent call first):
  File "/app/door.py", line 12 in enter
  File "/app/my file.py", line 7 in <lambda>
"""

LOOP = """
import logging, sys, time
from koko_presence.config import logs
from koko_presence.config.schema import Log
from koko_presence.process.os_process import prepare
from koko_presence.config.queued_stream import queue_stderr

queue_stderr()
logs.configure(Log(level="error"))
prepare()

def hang_in_python():
    print("ready", flush=True)
    while True:
        pass

def hang_in_the_system():
    print("ready", flush=True)
    while True:
        sys.stdin.read()
        time.sleep(0.01)

{}()
"""


@contextmanager
def running(function: str) -> Iterator["subprocess.Popen[str]"]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LOOP.format(function)], text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE_S)


def test_each_thread_of_a_dump_is_one_text_with_the_innermost_call_first() -> None:
    assert list(read_dump(DUMP)) == [
        (0x7F0000000002, "no Python frame"),
        (0x7F0000000001, "enter (/app/door.py:12) < <lambda> (/app/my file.py:7)"),
    ]
    assert list(read_dump("nonsense")) == []


@pytest.mark.parametrize("function", ["hang_in_python", "hang_in_the_system"])
def test_a_process_that_hangs_says_where_whatever_the_level_of_its_log(function: str) -> None:
    with running(function) as process:
        assert process.stderr is not None
        for _ in range(2):  # the process continues, and dumps again
            os.kill(process.pid, signal.SIGUSR1)
            line = json.loads(process.stderr.readline())
            while line["thread_name"] != "MainThread":
                line = json.loads(process.stderr.readline())
            assert (line["msg"], line["level"]) == ("stack", "info")
            assert line["stack"].startswith(f"{function} (")
        assert process.poll() is None
