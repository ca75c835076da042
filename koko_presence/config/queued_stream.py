"""A text stream whose writer never waits: lines go through a bounded queue to a thread, which writes them to a file.

The reader of stderr is another program, which may stop reading: a log collector that was stopped, a disk that hangs. A
blocking write would then stop the event loop. O_NONBLOCK does not help: it belongs to the open file, which other
processes share, and regular files ignore it. So a thread waits in `write`, and the loop does not.

Lines that do not fit into the queue are dropped and counted, and one line reports the count when there is room. So are
lines that cannot be written (a full disk). A line that was written in part is ended by a newline before the next one.
"""

import atexit
import io
import os
import select
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO, cast

QUEUE_BYTES = 256 << 10
LONGEST_PART_BYTES = 64 << 10  # of an unfinished line
DRAIN_S = 0.3  # at the end of the process
Entry = tuple[bytes, int]  # whole lines, and the total of lines dropped before them


def lost_text(lost: int) -> str:
    """The text that reports `lost` lost lines."""
    return "1 line lost" if lost == 1 else f"{lost} lines lost"


class QueuedStream(io.TextIOBase):
    """A stream of lines to the descriptor `fd`. Its daemon thread starts with the first line.

    `write` must be called by one thread at a time, which logging ensures. `notice` makes the line, without its newline,
    that reports a number of lost lines.
    """

    def __init__(self, fd: int, *, max_bytes: int = QUEUE_BYTES) -> None:
        """`max_bytes`: limit of the bytes in the queue."""
        self._fd = fd
        self._max_bytes = max_bytes
        self.notice: Callable[[int], str] = lost_text
        self._part = ""
        self._queue: SimpleQueue[Entry | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # each has one writer: the caller of `write` the first two, the thread the others
        self._put_bytes = self._dropped = 0
        self._taken_bytes = self._failed = self._reported = 0
        self._torn = False  # the last write ended within a line

    @property
    def lost(self) -> int:
        """Total of lines that were dropped or could not be written."""
        return self._dropped + self._failed

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Take text and queue its whole lines. Never waits, never raises."""
        self._part += text
        lines, end, rest = self._part.rpartition("\n")
        if end or len(rest) > LONGEST_PART_BYTES:
            self._part = rest if end else ""
            self._put((lines + end or rest + "\n").encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Does nothing: whole lines are queued already."""

    def remind(self) -> None:
        """Report lost lines that have not been reported yet, if the queue is empty. To be called from time to time."""
        if self.lost > self._reported and self._queue.empty():
            self._queue.put((b"", self._dropped))
            self._begin()

    def drain(self, within_s: float) -> bool:
        """Wait until all lines queued so far have been written, at most `within_s` seconds. False: not all have."""
        if self._part:
            self.write("\n")
        if self._thread is None and self._queue.empty():
            return True
        written = threading.Event()
        self._queue.put(written)
        return self._begin() and written.wait(within_s)

    # --- the queue ------------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        if self._put_bytes - self._taken_bytes + len(data) > self._max_bytes:
            self._dropped += data.count(b"\n")
        else:
            self._put_bytes += len(data)
            self._queue.put((data, self._dropped))
        self._begin()

    def _begin(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started now; the next line tries again
                return False
            self._thread = thread
        return True

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            entry = self._queue.get()
            if not isinstance(entry, threading.Event):
                data, dropped = entry
                self._report(dropped)
                if not self._write(data):
                    self._failed += data.count(b"\n")
                self._taken_bytes += len(data)
            if self._queue.empty():
                self._report(self._dropped)
            if isinstance(entry, threading.Event):
                entry.set()

    def _report(self, dropped: int) -> None:
        count = dropped + self._failed - self._reported
        if count > 0 and self._write(f"{self.notice(count)}\n".encode("utf-8", "backslashreplace")):
            self._reported += count

    def _write(self, data: bytes) -> bool:
        """Write all of `data`, however long that takes. False: it was not written, or only a part of it."""
        left = memoryview(b"\n" + data if self._torn and data else data)
        while left:
            try:
                size = os.write(self._fd, left)
            except BlockingIOError:  # another process has made the open file non-blocking
                ready = select.poll()
                ready.register(self._fd, select.POLLOUT)
                ready.poll()
                continue
            except OSError:
                return False
            self._torn = left[size - 1] != ord("\n")
            left = left[size:]
        return True


_streams: dict[int, QueuedStream] = {}


def queued(fd: int) -> QueuedStream:
    """The stream of this process for `fd`, always the same object. It is drained for DRAIN_S when the process ends."""
    if fd not in _streams:
        _streams[fd] = QueuedStream(fd)
        if len(_streams) == 1:
            atexit.register(drain)
    return _streams[fd]


def drain(within_s: float = DRAIN_S) -> None:
    """Drain all streams of this process, each for at most `within_s` seconds."""
    for stream in _streams.values():
        stream.drain(within_s)


def lost_lines() -> int:
    """Total of lost lines in all streams of this process."""
    return sum(stream.lost for stream in _streams.values())


def queue_stderr() -> None:
    """Replace sys.stderr by a queued stream, so that logs, tracebacks and warnings do not wait for its reader."""
    sys.stderr = cast(TextIO, queued(2))
