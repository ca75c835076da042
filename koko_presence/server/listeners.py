"""Accepts connections from the listening sockets of one worker, at most ACCEPTS_PER_ITERATION per loop iteration and
socket.

uvloop's own server accepts all pending connections in one loop iteration: a thousand simultaneous reconnects then delay
connected clients by a tenth of a second. `Listener` bounds that, and pauses like uvloop's server when file descriptors
run out.

Accepted connections are served completely before many others are accepted: while they are behind, one connection is
accepted every HELD_BACK_S per socket, and the others wait in the kernel's queue, in the order of arrival, where they
cost nothing. A connection that the client has closed meanwhile is dropped. When the wait stays so long that clients
time out while they are served, the connections that have waited longest are refused, so that work is not spent on
connections whose clients are gone. `Listener` writes the set of listening sockets and its pauses.
"""

import asyncio
import errno
import logging
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from .tls_first_record import GIVEN_UP_AFTER_S, is_over

log = logging.getLogger("koko_presence.listening")

ACCEPTS_PER_ITERATION = 16
RECEIVE_BUFFER_BYTES = 64 * 1024
LOOKS_PER_ITERATION = 64  # connections taken from the kernel per loop iteration, those closed by the client included
PAUSE_S = 0.1  # without accepts when no descriptor or memory is free
HELD_BACK_S = 0.01
# Clients time out after 10 to 15 s, the time for serving them included. Clients that connect at the same moment also
# time out at the same moment, which empties the queue; therefore connections are refused only when each one accepted
# in LONG_QUEUE_S had waited for more than LONG_WAIT_S.
LONG_WAIT_S, LONG_QUEUE_S = 7.5, 12.0
LAST_DATA_RECV = 52  # offset of tcpi_last_data_recv, in milliseconds, in struct tcp_info
QUIET_S = 10.0  # without a failed accept before the next one is logged
_NO_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """Calls `on_connection(sock, peer_address)` for each accepted connection, and `on_late(sock)` instead for each one
    after LONG_QUEUE_S in which all had waited for more than LONG_WAIT_S. The callee owns the socket. `holds_back(now)`
    returns True while accepted connections are behind, which reduces the rate of accepts. `is_full()` returns True when
    another connection would use a reserved descriptor, which pauses accepting. `clock` returns monotonic seconds."""

    def __init__(
        self,
        on_connection: Callable[[socket.socket, Any], None],
        *,
        on_late: Callable[[socket.socket], None] | None = None,
        holds_back: Callable[[float], bool] = lambda now: False,
        is_full: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sockets: list[socket.socket] = []
        self.given_up = 0  # connections closed by the client before they were accepted
        self.lacks_descriptors = False  # connections wait for a free descriptor, or for memory
        self._on_connection, self._on_late = on_connection, on_late
        self._holds_back, self._is_full, self._clock = holds_back, is_full, clock
        self._long_since: float | None = None  # since then each accepted connection had waited for LONG_WAIT_S
        self._since: dict[socket.socket, float] = {}  # lower bound of the arrival of connections pending at each socket
        self._loop = asyncio.get_running_loop()
        self._failed_at = -QUIET_S
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    async def open(self, host: str, port: int, *, backlog: int) -> None:
        """Listen on every address of `host`. Errors: OSError when one is in use or not of this machine; then none is
        open."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        (sockets,) = listening_sockets(found, 1, backlog=backlog)
        self.take(sockets)

    def take(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from exactly these sockets, which listen already and which other processes may hold, too. Sockets
        accepted from before that are not among them stay open, for the worker that accepts from them now."""
        wanted = list(sockets)
        for sock in [sock for sock in self.sockets if sock not in wanted]:
            self._stop(sock)
            self.sockets.remove(sock)
        for sock in [sock for sock in wanted if sock not in self.sockets]:
            sock.setblocking(False)
            self.sockets.append(sock)
            self._loop.add_reader(sock, self._accept, sock)

    def waits_for(self, now: float) -> float:
        """Seconds that a pending connection has waited for its accept at most, by monotonic second `now`."""
        for sock in [sock for sock in self._since if not _has_waiting(sock)]:
            del self._since[sock]
        return max((now - since for since in self._since.values()), default=0.0)

    def close(self) -> None:
        """Close the listening sockets. Pending connections are reset, unless another process holds the socket, too."""
        sockets, self.sockets = self.sockets, []
        for sock in sockets:
            self._stop(sock)
            sock.close()

    def _stop(self, sock: socket.socket) -> None:
        pause = self._pauses.pop(sock, None)
        if pause is not None:
            pause.cancel()
        self._loop.remove_reader(sock)
        self._since.pop(sock, None)

    def _accept(self, listening: socket.socket) -> None:
        now, waited_s = self._clock(), 0.0
        held_back = self._holds_back(now)
        may_accept = 1 if held_back else ACCEPTS_PER_ITERATION
        for _ in range(LOOKS_PER_ITERATION):
            if self._is_full():
                self.lacks_descriptors = _has_waiting(listening)
                if self.lacks_descriptors:
                    self._since.setdefault(listening, now)
                    self._pause(listening, PAUSE_S)
                else:
                    self._since.pop(listening, None)
                return
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                self.lacks_descriptors = False
                self._since.pop(listening, None)
                return
            except OSError as error:
                if error.errno in _NO_RESOURCES:  # the socket stays readable: without a pause the loop would spin
                    self._log_failed_accept(error)
                    self.lacks_descriptors = True
                    self._since.setdefault(listening, now)
                    self._pause(listening, PAUSE_S)
                return  # any other error: the connection was lost before it was accepted
            self.lacks_descriptors = False
            if listening in self._since:
                waited_s = _waited_s(sock)
                if waited_s >= GIVEN_UP_AFTER_S and is_over(sock):
                    self.given_up += 1
                    sock.close()
                    continue
            if waited_s <= LONG_WAIT_S:
                self._long_since = None
            elif self._long_since is None:
                self._long_since = now
            is_late = self._long_since is not None and now - self._long_since > LONG_QUEUE_S
            self._pass_on(sock, address, is_late)
            may_accept -= 1
            if not may_accept:
                break
        self._since[listening] = now - waited_s  # pending connections arrived after the last accepted one
        if held_back:
            self._pause(listening, HELD_BACK_S)

    def _pass_on(self, sock: socket.socket, address: Any, is_late: bool) -> None:
        sock.setblocking(False)
        try:
            if is_late and self._on_late is not None:
                self._on_late(sock)
            else:
                self._on_connection(sock, address)
        except Exception:
            log.exception("new connection dropped after an error")
            sock.close()

    def _log_failed_accept(self, error: OSError) -> None:
        """Log a failed accept, once until none has failed for QUIET_S."""
        now = self._loop.time()
        if now - self._failed_at > QUIET_S:
            log.warning("accept failed, new connections wait: %s", error.strerror)
        self._failed_at = now

    def _pause(self, listening: socket.socket, for_s: float) -> None:
        if listening in self._pauses:
            return
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(for_s, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)


def _has_waiting(listening: socket.socket) -> bool:
    """True when a connection is pending at the socket."""
    ends = select.poll()
    ends.register(listening, select.POLLIN)
    return bool(ends.poll(0))


def _waited_s(sock: socket.socket) -> float:
    """Seconds since the kernel received the last data of a new connection [tcp(7), TCP_INFO]; 0.0 when unknown."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECV + 4)
    except OSError:
        return 0.0
    return int.from_bytes(info[LAST_DATA_RECV : LAST_DATA_RECV + 4], sys.byteorder) / 1000.0


def listening_sockets(found: Iterable[Any], slots: int, *, backlog: int) -> list[list[socket.socket]]:
    """Open the listening sockets of `slots` processes: for each slot one on each address of `found` (as getaddrinfo
    returns them), all with one port; port 0 is chosen once.

    The kernel spreads new connections over the slots (SO_REUSEPORT). The option would also let a second server share
    the port unnoticed, so the first socket is bound before it gets the option: then a port in use is an error
    [socket(7)]. Errors: OSError when an address is in use or not of this machine; then none is open.
    """
    made: list[list[socket.socket]] = [[] for _ in range(slots)]
    port = 0
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            bind_address = (address[0], port or address[1], *address[2:])
            for slot in range(slots):
                sock = socket.socket(family, kind, proto)
                made[slot].append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # the receive buffer of accepted connections: what the kernel holds of a connection that is not read
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if slot:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(bind_address)
                if slots > 1 and slot == 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                port = sock.getsockname()[1]
                bind_address = (address[0], port, *address[2:])
        for sockets in made:
            for sock in sockets:
                sock.listen(backlog)
    except OSError:
        for sockets in made:
            for sock in sockets:
                sock.close()
        raise
    return made
