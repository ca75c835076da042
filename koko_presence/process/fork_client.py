"""The supervisor's side of its fork servers: which one forks the next worker, and what becomes of each request.

There is one fork server, with the program as it was loaded when the service started; a rolling reload loads the program
anew, in a fork server of its own, and the one before is kept until the new workers serve. A fork server that ends is
started again, at once or, after one that has ended soon, when a worker is wanted.

Every worker that is asked for is answered once: it is prepared and then forked or failed, it is not wanted any more
when its turn comes, or it is forgotten. A fork server that is not needed any more ends when it has answered its last
request; those that wait there go to the one in its place.
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
from .liveness import Vitals, Watch
from .os_process import start_fork_server

log = logging.getLogger("koko_presence.forks")

FOUND_WITHIN_S = 10.0  # the program's interpreter, which may be on a mount that hangs
LOADED_WITHIN_S = 20.0  # without progress
ANSWER_WITHIN_S = 5.0  # without progress
STEADY_S = 10.0  # one that ends sooner is not started again before it is needed
PACKET_BYTES = 4096


class Wanted(NamedTuple):
    """What a worker is forked with: the request, and the descriptors in it. `close` is called when they are sent."""

    request: Fork
    fds: Sequence[int]
    close: Callable[[], None]


class Requester(Protocol):
    """Who asks for workers."""

    def prepare(self, id: int, /) -> Wanted | None:
        """It is worker `id`'s turn; None when it is not wanted any more. Errors: OSError, which is told to `failed`."""

    def forked(self, id: int, pid: int, /) -> None:
        """Worker `id` is this process, a child of ours."""

    def failed(self, id: int, reason: str, /) -> None:
        """Worker `id` could not be started."""


class ForkServer:
    """One of them, from its start to its end. `on_gone` is called once, unless it was closed."""

    def __init__(
        self,
        requester: Requester,
        vitals: Callable[[int], Vitals | None],
        on_gone: Callable[["ForkServer", str], None],
    ) -> None:
        """Errors: OSError."""
        self._requester, self._vitals, self._on_gone = requester, vitals, on_gone
        self._loop = asyncio.get_running_loop()
        self._sock, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._process: Popen[bytes] | None = None
        self._queue: deque[int] = deque()
        self._asked: int | None = None  # whose request is under way
        self.started_at = self._since = self._loop.time()
        self._watch = Watch()  # of what it is asked to do, since then
        self.closed = False
        self._leaves = False  # it gets no further requests
        self.loaded: asyncio.Future[str] = self._loop.create_future()  # why it could not be loaded, empty when it is
        self._starting = asyncio.ensure_future(self._start())

    @property
    def pid(self) -> int | None:
        """None while it is being started."""
        return None if self._process is None else self._process.pid

    @property
    def awaits_answer(self) -> bool:
        """Is a request under way? Then there may be a worker already whose pid is not known here."""
        return self._asked is not None and not self.closed

    def ask(self, id: int) -> None:
        """Start worker `id` when the ones before have been started."""
        self._queue.append(id)
        self._next()

    def forget(self, id: int) -> bool:
        """Do not start worker `id`. False: its request is not among those that wait."""
        if id not in self._queue:
            return False
        self._queue.remove(id)
        return True

    def tick(self, now: float) -> None:
        """Several times a second: look whether it does what it was asked to."""
        if self.closed or self._process is None or (self.loaded.done() and self._asked is None):
            return
        within_s = ANSWER_WITHIN_S if self.loaded.done() else LOADED_WITHIN_S
        if now - self._watch.start_stands_still_since(self._vitals(self._process.pid), self._since, now) >= within_s:
            self._lose("it did not answer" if self.loaded.done() else f"it was not loaded within {within_s:g} s")

    def leave(self) -> list[int]:
        """End it as soon as the request that is under way is answered. Gives the workers that wait for their turn,
        which are not started here any more."""
        waiting = list(self._queue)
        self._queue.clear()
        self._leaves = True
        if self._asked is None:
            self.close()
        return waiting

    def close(self) -> None:
        """End it. Nothing is told any more."""
        if not self.closed:
            self.closed = True
            self._starting.cancel()
            self._loop.remove_reader(self._sock)
            self._sock.close()
            if self._process is not None:
                self._process.kill()

    @property
    def reaped(self) -> bool:
        """Whether a closed one has ended."""
        return self._process is None or self._process.poll() is not None

    async def _start(self) -> None:
        try:
            self._process = await in_thread(partial(_start, self._theirs, os.getpid()), FOUND_WITHIN_S)
        except TimeoutError:
            self._lose(f"its interpreter was not found within {FOUND_WITHIN_S:g} s: does a mount hang?")
        except (OSError, RuntimeError) as error:
            self._theirs.close()  # where there was no thread to do it
            self._lose(getattr(error, "strerror", None) or str(error))
        else:
            self._watch, self._since = Watch(), self._loop.time()
            self._loop.add_reader(self._sock, self._read)

    def _next(self) -> None:
        while self._asked is None and self.loaded.done() and not self.closed and self._queue:
            id = self._queue.popleft()
            try:
                wanted = self._requester.prepare(id)
            except OSError as error:
                self._requester.failed(id, error.strerror or str(error))
                continue
            except Exception as error:  # a fault of ours: without an answer it would be waited for without end
                log.exception("a worker could not be prepared", extra={"id": id})
                self._requester.failed(id, f"{type(error).__name__}: {error}")
                continue
            if wanted is None:
                continue
            self._asked = id
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
            self._lose("it does not speak as it should")
            return
        if isinstance(answer, Loaded):
            if not self.loaded.done():
                self.loaded.set_result("")
        elif answer.id == self._asked:
            self._asked = None
            if isinstance(answer, Forked):
                self._requester.forked(answer.id, answer.pid)
            elif isinstance(answer, NotForked):
                self._requester.failed(answer.id, answer.reason)
            if self._leaves:
                self.close()
        self._next()

    def _ended(self) -> str:
        """Why nothing more will come by the socket."""
        status = None if self._process is None else self._process.poll()
        if status is None:  # it is on its way out
            return "its socket closed"
        return f"it was killed by signal {-status}" if status < 0 else f"it exited with {status}"

    def _lose(self, why: str) -> None:
        if self.closed:
            return
        if not self.loaded.done():
            why = f"the program could not be loaded: {why}"
            self.loaded.set_result(why)
        self.close()
        waiting = [*([] if self._asked is None else [self._asked]), *self._queue]
        self._queue.clear()
        self._on_gone(self, why)
        for id in waiting:
            self._requester.failed(id, why)


def _start(theirs: socket.socket, supervisor: int) -> Popen[bytes]:
    """Start a fork server and close its end of the socket here. For a thread: it holds that end for as long as the
    interpreter is looked for, be it that nobody waits any more, or the number might be another file's by then."""
    with theirs:
        return start_fork_server(theirs.fileno(), supervisor)


class Forks:
    """The fork servers of one service."""

    def __init__(self, requester: Requester, vitals: Callable[[int], Vitals | None]) -> None:
        self._requester, self._vitals = requester, vitals
        self._loop = asyncio.get_running_loop()
        self._current: ForkServer | None = None
        self._before: ForkServer | None = None  # while a rolling reload runs
        self._loading: ForkServer | None = None  # before it takes the place of the current one
        self._ending: list[ForkServer] = []  # they get no further requests
        self._closed = False

    @property
    def pids(self) -> set[int]:
        """Of all that have not been waited for."""
        each = [self._current, self._before, self._loading, *self._ending]
        return {server.pid for server in each if server is not None and server.pid is not None}

    @property
    def awaits_answer(self) -> bool:
        """May there be a child that is a worker, and whose pid is not known yet?"""
        each = [self._current, self._before, *self._ending]
        return any(server is not None and server.awaits_answer for server in each)

    def vitals(self) -> Vitals | None:
        """Of the one that is to fork the next worker."""
        pid = None if self._current is None else self._current.pid
        return None if pid is None else self._vitals(pid)

    def ask(self, id: int) -> None:
        """Start worker `id`: the requester hears of it."""
        server = "the service ends" if self._closed else self._get()
        if isinstance(server, str):
            self._requester.failed(id, server)
        else:
            server.ask(id)

    def forget(self, id: int) -> bool:
        """Do not start worker `id`, of which nothing is told then. False: it is not among those that wait."""
        return any(server.forget(id) for server in (self._current, self._before) if server is not None)

    async def renew(self) -> str:
        """Load the program as it is installed now. Gives why that has failed, in words; then nothing has changed. Until
        `keep` or `go_back` the one before is kept."""
        try:
            new = ForkServer(self._requester, self._vitals, self._on_gone)
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
        """What was loaded last is what workers start with from now on."""
        before, self._before = self._before, None
        if before is not None:
            self._end(before)

    def go_back(self) -> None:
        """What was loaded before the last `renew` is what workers start with from now on."""
        if self._before is not None:
            new, self._current, self._before = self._current, self._before, None
            if new is not None:
                self._end(new)

    def tick(self, now: float) -> None:
        """Several times a second."""
        for server in (self._current, self._before, self._loading, *self._ending):
            if server is not None:
                server.tick(now)
        self._ending = [server for server in self._ending if not (server.closed and server.reaped)]

    def close(self) -> None:
        """End all."""
        self._closed = True
        for server in (self._current, self._before, self._loading, *self._ending):
            if server is not None:
                server.close()
        self._current = self._before = None

    def _get(self) -> ForkServer | str:
        if self._current is None:
            try:
                self._current = ForkServer(self._requester, self._vitals, self._on_gone)
            except OSError as error:
                return error.strerror or str(error)
        return self._current

    def _end(self, server: ForkServer) -> None:
        """It is not asked any more, and not `current` or `before`. What waits there is asked of the current one."""
        self._ending.append(server)
        for id in server.leave():
            self._loop.call_soon(self.ask, id)  # the requester may be in the middle of something

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
        log.error("the process that starts workers has ended: %s", why)
        if steady and not self._closed:
            with contextlib.suppress(OSError):  # then the next worker that is wanted starts it
                self._get()
