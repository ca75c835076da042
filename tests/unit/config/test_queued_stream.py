"""Writing to the log never blocks: lines wait in a bounded queue, and lost lines are counted and reported."""

import fcntl
import io
import json
import logging
import os
import resource
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from koko_presence.config import logs
from koko_presence.config.queued_stream import QueuedStream
from koko_presence.config.schema import Log
from tests.waiting import PATIENCE_S

PIPE_BYTES = 4096  # the minimum for a pipe


class Pipe:
    """A pipe that is read only when the test reads it."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def fill(self) -> None:
        """Fill the pipe to the last byte."""
        os.set_blocking(self.writes, False)
        try:
            while os.write(self.writes, b"-"):
                pass
        except BlockingIOError:
            os.set_blocking(self.writes, True)

    def read(self, stream: QueuedStream) -> list[str]:
        """Flush the stream and return all lines written so far, to the end of the pipe."""
        found, over = bytearray(), threading.Event()

        def go_on() -> None:
            while not over.is_set():
                ready = select.poll()
                ready.register(self.reads, select.POLLIN)
                if ready.poll(5):
                    found.extend(os.read(self.reads, PIPE_BYTES))

        reading = threading.Thread(target=go_on)
        reading.start()
        assert stream.drain(PATIENCE_S) and stream.drain(PATIENCE_S)
        over.set()
        reading.join(PATIENCE_S)
        while not self._is_empty():
            found.extend(os.read(self.reads, PIPE_BYTES))
        return found.lstrip(b"-").decode().splitlines()

    def _is_empty(self) -> bool:
        ready = select.poll()
        ready.register(self.reads, select.POLLIN)
        return not ready.poll(0)

    def close(self) -> None:
        os.close(self.reads)
        os.close(self.writes)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    it = Pipe()
    yield it
    it.close()


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    stream = QueuedStream(pipe.writes)
    for number in range(2000):
        stream.write(f"line {number}")
        stream.write(" of many\n")
    assert pipe.read(stream) == [f"line {number} of many" for number in range(2000)]
    assert stream.lost == 0


def test_writing_never_waits_for_a_stopped_reader_and_lost_lines_are_reported_in_their_place(
    pipe: Pipe,
) -> None:
    stream = QueuedStream(pipe.writes, max_bytes=1000)
    line = "x" * 99 + "\n"
    pipe.fill()
    for _ in range(47):
        stream.write(line)
    assert stream.lost == 37
    assert pipe.read(stream) == ["x" * 99] * 10 + ["37 lines lost"], "told behind those that had room"
    stream.write("again\n")
    assert pipe.read(stream) == ["again"], "told once"
    assert stream.lost == 37


def test_lines_after_a_gap_follow_its_report(pipe: Pipe) -> None:
    stream = QueuedStream(pipe.writes, max_bytes=10_010)
    pipe.fill()
    while not stream.lost:
        stream.write("x" * 499 + "\n")
    stream.write("x" * 500 + "\n")
    stream.write("small\n")  # there is room for this one
    lines = pipe.read(stream)
    assert lines[-2:] == ["2 lines lost", "small"]


def test_a_line_torn_by_a_full_disk_is_ended_before_the_next_one(tmp_path: Path) -> None:
    """A line cut by a full disk is ended before the next one is written. A limit on the size of files causes short
    writes and errors as a full disk does."""
    path = tmp_path / "log"
    with path.open("ab") as file:
        stream = QueuedStream(file.fileno())
        stream.write("first\n")
        assert stream.drain(PATIENCE_S)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            stream.write("second, of which four bytes fit\n")
            stream.write("third\n")
            assert stream.drain(PATIENCE_S)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_text() == "first\nseco" and stream.lost == 2
        stream.remind()
        assert stream.drain(PATIENCE_S)
        assert path.read_text().splitlines() == ["first", "seco", "2 lines lost"]
        stream.write("fourth\n")
        assert stream.drain(PATIENCE_S)
        assert path.read_text().splitlines()[3:] == ["fourth"]


def test_a_stderr_that_is_gone_costs_nothing_but_the_lines() -> None:
    reads, writes = os.pipe()
    stream = QueuedStream(writes)
    os.close(reads)
    stream.write("one\ntwo\n")
    assert stream.drain(PATIENCE_S) and stream.lost == 2
    os.close(writes)


def test_a_stream_that_another_process_made_non_blocking_is_waited_for_by_the_thread(pipe: Pipe) -> None:
    os.set_blocking(pipe.writes, False)
    stream = QueuedStream(pipe.writes)
    for number in range(2000):
        stream.write(f"line {number}\n")
    assert pipe.read(stream) == [f"line {number}" for number in range(2000)] and stream.lost == 0


def test_the_end_does_not_wait_for_a_reader_that_stands(pipe: Pipe) -> None:
    stream = QueuedStream(pipe.writes)
    pipe.fill()
    stream.write("line\n")
    assert not stream.drain(0.05)
    pipe.read(stream)  # otherwise its thread would write to the next test's pipe, which may get the same descriptor


def test_half_a_line_comes_at_the_end(pipe: Pipe) -> None:
    stream = QueuedStream(pipe.writes)
    stream.write("no end")
    assert pipe.read(stream) == ["no end"]


def test_a_traceback_that_python_prints_itself_goes_the_same_way(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = QueuedStream(pipe.writes)
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        raise ValueError("the reason")
    except ValueError:
        sys.__excepthook__(*sys.exc_info())
    assert pipe.read(stream)[-1] == "ValueError: the reason"


def test_lost_lines_are_reported_as_a_line_of_the_log(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    stream = QueuedStream(pipe.writes, max_bytes=10_000)
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        logs.configure(Log(), fields={"worker": 3})
        pipe.fill()
        for number in range(200):
            logging.getLogger("koko_presence.test").warning(f"{number} " + "x" * 300)
        lost = stream.lost
        told = [json.loads(line) for line in pipe.read(stream)]
        logs.report()
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = before
        logging.captureWarnings(False)
    assert lost > 100 and len(told) == 201 - lost
    assert (told[-1]["msg"], told[-1]["lost"], told[-1]["worker"]) == (f"{lost} lines lost", lost, 3)
    assert told[-1]["level"] == "warning"


def test_it_is_a_stream_as_others_expect_one(pipe: Pipe) -> None:
    stream = QueuedStream(pipe.writes)
    assert isinstance(stream, io.TextIOBase) and stream.writable() and not stream.isatty()
    print("text", file=stream, flush=True)
    assert stream.fileno() == pipe.writes and pipe.read(stream) == ["text"]
