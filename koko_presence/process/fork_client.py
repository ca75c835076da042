"""The supervisor's side of its fork servers: selects the fork server for each new worker, and answers every request
once.

One fork server holds the program as it was loaded at the start of the service. A rolling reload loads the program again
in a new fork server; the previous one is kept until the new workers serve. If the current one ends, it is started
again: at once, or, if it was not loaded or ran for less than STEADY_S, with the next request.

Each requested worker gets exactly one outcome: `prepare` followed by `forked` or `failed`; `prepare` that returns None;
or `forget`. Requests are sent one at a time, in the order of `request`. A fork server that is being replaced ends after
the answer to its current request; its queued requests move to its replacement. `Forks` and `ForkServer` write their own
state.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from subprocess import Popen
from typing import NamedTuple, Protocol

import msgspec

from koko_presence.config.background_io import in_thread

from .fork_protocol import Fork, Forked, Loaded, NotForked, decode_answer, send_request
from .liveness import ProcessStats, Watch
from .os_process import start_fork_server

log = logging.getLogger("koko_presence.forks")

FOUND_WITHIN_S = 10.0  # the interpreter of the program, which may be on a mount that hangs
LOADED_WITHIN_S = 20.0  # without progress
ANSWER_WITHIN_S = 5.0  # without progress
STEADY_S = 10.0  # after a shorter lifetime it is only started again with the next request
PACKET_BYTES = 4096


class Wanted(NamedTuple):
    """The request for a worker and its descriptors. `close` is called after the attempt to send them."""

    request: Fork
    fds: Sequence[int]
    close: Callable[[], None]


class Requester(Protocol):
    """The receiver of the outcomes."""

    def prepare(self, id: int, /) -> Wanted | None:
        """Return the request for worker `id`, which is next; None if it is no longer wanted. Errors: OSError, which is
        passed to `failed`."""

    def forked(self, id: int, pid: int, /) -> None:
        """Worker `id` runs as process `pid`, a child of this process."""

    def failed(self, id: int, reason: str, /) -> None:
        """Worker `id` could not be started, because of `reason`."""


class ForkServer:
    """One fork server process from its start to its end. `on_gone` is called once, unless `close` was called."""

    def __init__(
        self,
        requester: Requester,
        process_stats: Callable[[int], ProcessStats | None],
        on_gone: Callable[["ForkServer", str], None],
    ) -> None:
        """Errors: OSError."""
        self._requester, self._process_stats, self._on_gone = requester, process_stats, on_gone
        self._loop = asyncio.get_running_loop()
        self._sock, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._process: Popen[bytes] | None = None
        self._queue: deque[int] = deque()
        self._requested: int | None = None  # the worker of the current request
        self.started_at = self._since = self._loop.time()
        self._watch = Watch()  # of the current load or request, since `_since`
        self.closed = False
        self._leaves = False  # it gets no further requests
        self.loaded: asyncio.Future[str] = self._loop.create_future()  # why it failed; empty if loaded
        self._starting = asyncio.ensure_future(self._start())

    @property
    def pid(self) -> int | None:
        """Its pid; None while it is being started."""
        return None if self._process is None else self._process.pid

    @property
    def awaits_answer(self) -> bool:
        """Whether a request is in progress, so that a worker may exist whose pid is not received yet."""
        return self._requested is not None and not self.closed

    def request(self, id: int) -> None:
        """Start worker `id` after those already queued."""
        self._queue.append(id)
        self._next()

    def forget(self, id: int) -> bool:
        """Drop worker `id` from the queue. Returns False if it is not queued."""
        if id not in self._queue:
            return False
        self._queue.remove(id)
        return True

    def tick(self, now: float) -> None:
        """Check several times a second whether the load or the request makes progress; without progress for too long it
        counts as lost."""
        if self.closed or self._process is None or (self.loaded.done() and self._requested is None):
            return
        within_s = ANSWER_WITHIN_S if self.loaded.done() else LOADED_WITHIN_S
        if now - self._watch.note_start(self._process_stats(self._process.pid), self._since, now) >= within_s:
            self._lose(
                f"no answer within {within_s:g} s" if self.loaded.done() else f"not loaded within {within_s:g} s"
            )

    def leave(self) -> list[int]:
        """End it after the answer to the current request. Returns the queued workers, which this fork server no longer
        starts."""
        waiting = list(self._queue)
        self._queue.clear()
        self._leaves = True
        if self._requested is None:
            self.close()
        return waiting

    def close(self) -> None:
        """Kill it. No callback is called afterwards."""
        if not self.closed:
            self.closed = True
            self._starting.cancel()
            self._loop.remove_reader(self._sock)
            self._sock.close()
            if self._process is not None:
                self._process.kill()

    @property
    def reaped(self) -> bool:
        """Whether a closed fork server has ended."""
        return self._process is None or self._process.poll() is not None

    async def _start(self) -> None:
        try:
            self._process = await in_thread(partial(_start, self._theirs, os.getpid()), FOUND_WITHIN_S)
        except TimeoutError:
            self._lose(f"interpreter not found within {FOUND_WITHIN_S:g} s: does a mount hang?")
        except (OSError, RuntimeError) as error:
            self._theirs.close()  # no thread could be started to close it
            self._lose(getattr(error, "strerror", None) or str(error))
        else:
            self._watch, self._since = Watch(), self._loop.time()
            self._loop.add_reader(self._sock, self._read)

    def _next(self) -> None:
        while self._requested is None and self.loaded.done() and not self.closed and self._queue:
            id = self._queue.popleft()
            try:
                wanted = self._requester.prepare(id)
            except OSError as error:
                self._requester.failed(id, error.strerror or str(error))
                continue
            except Exception as error:  # a fault must not leave the fleet waiting for this worker
                log.exception("cannot prepare the start of a worker", extra={"id": id})
                self._requester.failed(id, f"{type(error).__name__}: {error}")
                continue
            if wanted is None:
                continue
            self._requested = id
            self._watch, self._since = Watch(), self._loop.time()
            try:
                send_request(self._sock, wanted.request, wanted.fds)
            except OSError as error:
                self._lose(error.strerror or str(error))
            finally:
                wanted.close()

    def _read(self) -> None:
        try:
            data = self._sock.recv(PACKET_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose(self._ended())
            return
        try:
            answer = decode_answer(data)
        except msgspec.MsgspecError:
            self._lose("invalid message")
            return
        if isinstance(answer, Loaded):
            if not self.loaded.done():
                self.loaded.set_result("")
        elif answer.id == self._requested:
            self._requested = None
            if isinstance(answer, Forked):
                self._requester.forked(answer.id, answer.pid)
            elif isinstance(answer, NotForked):
                self._requester.failed(answer.id, answer.reason)
            if self._leaves:
                self.close()
        self._next()

    def _ended(self) -> str:
        """The reason for the end of the socket, as text."""
        status = None if self._process is None else self._process.poll()
        if status is None:  # it is exiting
            return "socket closed"
        return f"killed by signal {-status}" if status < 0 else f"exit code {status}"

    def _lose(self, why: str) -> None:
        if self.closed:
            return
        if not self.loaded.done():
            why = f"the program could not be loaded: {why}"
            self.loaded.set_result(why)
        self.close()
        waiting = [*([] if self._requested is None else [self._requested]), *self._queue]
        self._queue.clear()
        self._on_gone(self, why)
        for id in waiting:
            self._requester.failed(id, why)


def _start(theirs: socket.socket, supervisor: int) -> Popen[bytes]:
    """Start a fork server and close its end of the socket here. Runs in a thread, which holds that end until the
    interpreter is found, even if the caller has given up: otherwise the descriptor number could belong to another file
    by then."""
    with theirs:
        return start_fork_server(theirs.fileno(), supervisor)


class Forks:
    """The fork servers of one service: the current one, the previous one during a rolling reload, and those that
    end."""

    def __init__(self, requester: Requester, process_stats: Callable[[int], ProcessStats | None]) -> None:
        self._requester, self._process_stats = requester, process_stats
        self._loop = asyncio.get_running_loop()
        self._current: ForkServer | None = None
        self._before: ForkServer | None = None  # during a rolling reload
        self._loading: ForkServer | None = None  # until it replaces the current one
        self._ending: list[ForkServer] = []  # without further requests
        self._closed = False

    @property
    def pids(self) -> set[int]:
        """The pids of all fork servers that are not reaped."""
        each = [self._current, self._before, self._loading, *self._ending]
        return {server.pid for server in each if server is not None and server.pid is not None}

    @property
    def awaits_answer(self) -> bool:
        """Whether a child may exist that is a worker and whose pid is not received yet."""
        each = [self._current, self._before, *self._ending]
        return any(server is not None and server.awaits_answer for server in each)

    def process_stats(self) -> ProcessStats | None:
        """The process statistics of the fork server that starts the next worker."""
        pid = None if self._current is None else self._current.pid
        return None if pid is None else self._process_stats(pid)

    def request(self, id: int) -> None:
        """Start worker `id`; the requester gets the outcome."""
        server = "the service ends" if self._closed else self._get()
        if isinstance(server, str):
            self._requester.failed(id, server)
        else:
            server.request(id)

    def forget(self, id: int) -> bool:
        """Drop worker `id` from the queues; the requester gets no outcome. Returns False if it is not queued."""
        return any(server.forget(id) for server in (self._current, self._before) if server is not None)

    async def renew(self) -> str:
        """Load the installed program in a new fork server. Returns the reason for a failure, as text, after which
        nothing has changed; empty on success. The previous fork server is kept until `keep` or `go_back`."""
        try:
            new = ForkServer(self._requester, self._process_stats, self._on_gone)
        except OSError as error:
            return error.strerror or str(error)
        self._loading = new
        why = await new.loaded
        self._loading = None
        if why or self._closed:
            return why or "the service ends"
        replaced, self._current = self._current, new
        if self._before is None:
            self._before = replaced
        elif replaced is not None:
            self._end(replaced)
        return ""

    def keep(self) -> None:
        """Make the last `renew` permanent: end the previous fork server."""
        before, self._before = self._before, None
        if before is not None:
            self._end(before)

    def go_back(self) -> None:
        """Undo the last `renew`: return to the previous fork server."""
        if self._before is not None:
            new, self._current, self._before = self._current, self._before, None
            if new is not None:
                self._end(new)

    def tick(self, now: float) -> None:
        """Check all fork servers, several times a second."""
        for server in (self._current, self._before, self._loading, *self._ending):
            if server is not None:
                server.tick(now)
        self._ending = [server for server in self._ending if not (server.closed and server.reaped)]

    def close(self) -> None:
        """End all fork servers."""
        self._closed = True
        for server in (self._current, self._before, self._loading, *self._ending):
            if server is not None:
                server.close()
        self._current = self._before = None

    def _get(self) -> ForkServer | str:
        if self._current is None:
            try:
                self._current = ForkServer(self._requester, self._process_stats, self._on_gone)
            except OSError as error:
                return error.strerror or str(error)
        return self._current

    def _end(self, server: ForkServer) -> None:
        """Retire a fork server that is neither current nor previous. Its queued workers move to the current one."""
        self._ending.append(server)
        for id in server.leave():
            self._loop.call_soon(self.request, id)  # the requester may be inside a call

    def _on_gone(self, server: ForkServer, why: str) -> None:
        if server in self._ending:
            return
        self._ending.append(server)
        steady = not server.loaded.result() and self._loop.time() - server.started_at >= STEADY_S
        if server is self._before:
            self._before = None
        if server is not self._current:
            return
        self._current = None
        log.error("the fork server ended: %s", why)
        if steady and not self._closed:
            with contextlib.suppress(OSError):  # the next request tries again
                self._get()
