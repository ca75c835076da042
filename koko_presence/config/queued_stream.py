"""A text stream whose writer never waits: lines go through a bounded queue to a thread, which writes them to a file.

The other end of stderr belongs to another program, and may stop reading: a log collector that was stopped, a disk that
hangs. A blocking write would then stop the event loop, and O_NONBLOCK is no way out: it is a property of the open file,
which other processes share, and regular files ignore it. So a thread waits in `write`, and the loop does not.

What does not fit into the queue is dropped, counted, and told of with one line when there is room. The same holds for
lines that could not be written (a full disk); when only a part of one was, that is ended by a newline before the next.
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
LONGEST_PART_BYTES = 64 << 10  # of a line without its end
DRAIN_S = 0.3  # at the end of the process
Entry = tuple[bytes, int]  # whole lines, and how many were dropped before them, ever


def lost_text(lost: int) -> str:
    """How it is told that so many lines are missing."""
    return "1 line lost" if lost == 1 else f"{lost} lines lost"


class QueuedStream(io.TextIOBase):
    """Lines for the descriptor `fd`. The thread begins with the first one; it is a daemon and ends with the process.

    `write` is for one thread at a time, which logging sees to. `notice` makes the line, without its end, that tells how
    many were lost.
    """

    def __init__(self, fd: int, *, max_bytes: int = QUEUE_BYTES) -> None:
        """At most `max_bytes` wait."""
        self._fd = fd
        self._max_bytes = max_bytes
        self.notice: Callable[[int], str] = lost_text
        self._part = ""
        self._queue: SimpleQueue[Entry | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # each of these has one writer: the first two the caller of `write`, the others the thread
        self._put_bytes = self._dropped = 0
        self._taken_bytes = self._failed = self._told = 0
        self._torn = False  # the last thing written was a part of a line

    @property
    def lost(self) -> int:
        """Lines that were dropped or could not be written, ever."""
        return self._dropped + self._failed

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, text: str) -> int:
        """Take text; what is a whole line is queued. Never waits, never raises."""
        self._part += text
        lines, end, rest = self._part.rpartition("\n")
        if end or len(rest) > LONGEST_PART_BYTES:
            self._part = rest if end else ""
            self._put((lines + end or rest + "\n").encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing to do: whole lines are on their way."""

    def remind(self) -> None:
        """Try once more to tell of lost lines that could not be told of; to be called from time to time."""
        if self.lost > self._told and self._queue.empty():
            self._queue.put((b"", self._dropped))
            self._begin()

    def drain(self, within_s: float) -> bool:
        """Wait until all that is queued now has been written, at most `within_s` seconds. False: there is more."""
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
            except RuntimeError:  # no thread is to be had now; the next line tries again
                return False
            self._thread = thread
        return True

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            entry = self._queue.get()
            if not isinstance(entry, threading.Event):
                data, dropped = entry
                self._tell(dropped)
                if not self._write(data):
                    self._failed += data.count(b"\n")
                self._taken_bytes += len(data)
            if self._queue.empty():
                self._tell(self._dropped)
            if isinstance(entry, threading.Event):
                entry.set()

    def _tell(self, dropped: int) -> None:
        count = dropped + self._failed - self._told
        if count > 0 and self._write(f"{self.notice(count)}\n".encode("utf-8", "backslashreplace")):
            self._told += count

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes. False: it could not be written, or a part of it only."""
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
    """This process's stream for `fd`, always the same one. At the process's end it is drained, for a short time."""
    if fd not in _streams:
        _streams[fd] = QueuedStream(fd)
        if len(_streams) == 1:
            atexit.register(drain)
    return _streams[fd]


def drain(within_s: float = DRAIN_S) -> None:
    """Wait until what was written to this process's streams has gone out, at most `within_s` seconds for each."""
    for stream in _streams.values():
        stream.drain(within_s)


def lost_lines() -> int:
    """Lines that were lost of all streams of this process."""
    return sum(stream.lost for stream in _streams.values())


def queue_stderr() -> None:
    """From now on nothing that Python writes to stderr waits for its reader: logs, tracebacks, warnings."""
    sys.stderr = cast(TextIO, queued(2))
