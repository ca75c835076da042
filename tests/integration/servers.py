"""Servers in processes of their own, for tests that observe them from outside."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.waiting import PATIENCE_S


@contextmanager
def process(command: list[str], ready: str, **options: object) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run `command` until the block ends. Yields the process and the port in the output line that matches `ready`."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.search(ready, line)
        assert found, f"the server said {line!r}"
        yield running, int(found[1])
    finally:
        running.terminate()
        try:
            running.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()


def echo_server(*arguments: str, prefix: tuple[str, ...] = ()) -> "object":
    """The echo server on a free port."""
    command = [*prefix, sys.executable, "-m", "tests.echo_server", "127.0.0.1", "0", *arguments]
    return process(command, r":(\d+)/$")
