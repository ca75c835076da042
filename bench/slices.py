"""Runs the pytest-benchmark cases of one revision slice by slice, on request; started by bench.paired.

    python -P slices.py FROM TO        in the revision's directory, which is its PYTHONPATH; two descriptors, JSON lines

The cases get a fixture that replaces that of pytest-benchmark and times nothing itself. The lines, `>` by this process:

    > {"product": [paths], "cases": [ids]}     the collected cases, and the paths of the imported code
    < [ids]                                    the cases to run, in this order
    > {"ready": id, "n": 50}                   the case is prepared and has performed its n operations once
    < 3                                        perform three of them, as one slice
    > 1234567                                  CPU nanoseconds of this thread; then the next number, until
    < 0
    > {"done": id, "failed": ""}               the case has checked its result; or the failure, also without "ready"

It imports nothing of the project, since it has to work with every revision.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest


class Line:
    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in, self._out = open(read_fd), open(write_fd, "w")  # noqa: SIM115

    def say(self, what: Any) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    def hear(self) -> Any:
        line = self._in.readline()
        if not line:
            raise SystemExit("slices: nothing more is asked")
        return json.loads(line)


@contextmanager
def without_collector() -> Iterator[None]:
    """Exclude present objects from garbage collection and disable it during slices."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class Sliced:
    """The part of pytest-benchmark's fixture that the cases use."""

    def __init__(self, line: Line, case: str) -> None:
        self._line, self._case = line, case

    def pedantic(self, run: Callable[..., Any], args: tuple[Any, ...] = (), **_: Any) -> Any:
        """If `args` is one integer n, the case performs n operations and a slice may be a part of them. The result
        checked by the case is that of all n, performed a whole number of times."""
        n = args[0] if len(args) == 1 and isinstance(args[0], int) else 1
        some = run if args == (n,) else partial(_again, run, args)
        done = 0
        with without_collector():
            some(n)
            self._line.say({"ready": self._case, "n": n})
            while number := self._line.hear():
                begun = time.thread_time_ns()
                some(number)
                self._line.say(time.thread_time_ns() - begun)
                done += number
            if done % n:
                some(n - done % n)
            return some(n)


def _again(run: Callable[..., Any], args: tuple[Any, ...], times: int) -> Any:
    for _ in range(times):
        result = run(*args)
    return result


class Plugin:
    def __init__(self, line: Line) -> None:
        self.line = line
        self.failed = ""

    @pytest.fixture
    def benchmark(self, request: pytest.FixtureRequest) -> Sliced:
        return Sliced(self.line, request.node.nodeid)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        names = ("koko_presence", "koko_presence._fastpath.cursor_parser")
        product = [str(getattr(sys.modules.get(name), "__file__", None)) for name in names]
        by_id = {item.nodeid: item for item in items}
        self.line.say({"product": product, "cases": list(by_id)})
        items[:] = [by_id[name] for name in self.line.hear()]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.longreprtext
        if report.when == "teardown":
            self.line.say({"done": report.nodeid, "failed": self.failed})
            self.failed = ""


if __name__ == "__main__":
    # the options of the revision are for pytest-benchmark, which is not loaded here
    options = ["bench", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-W", "ignore"]
    options.append("--assert=plain")
    raise SystemExit(pytest.main(options, plugins=[Plugin(Line(int(sys.argv[1]), int(sys.argv[2])))]))
