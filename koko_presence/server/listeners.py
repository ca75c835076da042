"""The listening sockets of one worker, and a few new connections per turn of the loop.

uvloop's own server takes everything that waits in one go: a thousand people who come back at once then hold up those
who are there for a tenth of a second. It stays calm when file descriptors run out, and so does this.

Who has been let in is served to the end before many more are: while these are behind, one connection is accepted every
HELD_BACK_S, and the others wait where they cost nothing, in the kernel, in the order in which they came. Who has closed
the connection meanwhile is not served. Where the line stays so long that clients would give up while they are served,
those who have waited longest are refused: else all the work would be done for people who are gone when it is.
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

ACCEPTS_A_TURN = 16
RECEIVE_BUFFER_BYTES = 64 * 1024
LOOKS_A_TURN = 64  # at connections that turn out to be given up
PAUSE_S = 0.1
HELD_BACK_S = 0.01
# Clients give up after 10 to 15 s, the time in which they are served included. A crowd that has come at once is served
# until it gives up, all at once, and finds a short line when it comes back; a line that stays long is another thing.
LONG_WAIT_S, LONG_LINE_S = 7.5, 12.0
LAST_DATA_RECV = 52  # where tcpi_last_data_recv stands in struct tcp_info, in milliseconds
QUIET_S = 10.0
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """Calls `on_connection(sock, peer_address)` for every connection; the socket is the callee's. `on_late(sock)`
    instead for one that has waited for more than LONG_WAIT_S, when all have for LONG_LINE_S. `holds_back(now)`: are
    those who were let in before still to be served, so that others have to wait? `is_full()`: would one more take a
    descriptor that is kept for something else, so that all have to wait?"""

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
        self.given_up = 0  # connections that the client had closed before they were accepted
        self.lacks_room = False  # clients wait because there is no descriptor or memory for them
        self._on_connection, self._on_late = on_connection, on_late
        self._holds_back, self._is_full, self._clock = holds_back, is_full, clock
        self._long_since: float | None = None  # everybody who was accepted had waited for LONG_WAIT_S
        self._since: dict[socket.socket, float] = {}  # when those came who wait at each socket, or a little earlier
        self._loop = asyncio.get_running_loop()
        self._no_room_at = -QUIET_S
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    async def open(self, host: str, port: int, *, backlog: int) -> None:
        """Listen on every address of `host`. Errors: OSError when one is taken or not ours; then none is open."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        (sockets,) = listening_sockets(found, 1, backlog=backlog)
        self.take(sockets)

    def take(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from exactly these sockets, which listen already and which others may hold too. Those that it has
        accepted from and that are not among them stay open, for the worker that accepts there now."""
        wanted = list(sockets)
        for sock in [sock for sock in self.sockets if sock not in wanted]:
            self._stop(sock)
            self.sockets.remove(sock)
        for sock in [sock for sock in wanted if sock not in self.sockets]:
            sock.setblocking(False)
            self.sockets.append(sock)
            self._loop.add_reader(sock, self._accept, sock)

    def waits_for(self, now: float) -> float:
        """For how many seconds, at most, a client has waited to be accepted."""
        for sock in [sock for sock in self._since if not _has_waiting(sock)]:
            del self._since[sock]
        return max((now - since for since in self._since.values()), default=0.0)

    def close(self) -> None:
        """Take nobody any more. Who waits to be accepted is cut off, unless another process holds the socket too."""
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
        may_accept = 1 if held_back else ACCEPTS_A_TURN
        for _ in range(LOOKS_A_TURN):
            if self._is_full():
                self.lacks_room = _has_waiting(listening)
                if self.lacks_room:
                    self._since.setdefault(listening, now)
                    self._pause(listening, PAUSE_S)
                else:
                    self._since.pop(listening, None)
                return
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                self.lacks_room = False
                self._since.pop(listening, None)
                return
            except OSError as error:
                if error.errno in _NO_ROOM:  # the kernel would tell of the same connection again and again
                    self._complain(error)
                    self.lacks_room = True
                    self._since.setdefault(listening, now)
                    self._pause(listening, PAUSE_S)
                return  # else: it was gone before it was accepted
            self.lacks_room = False
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
            is_late = self._long_since is not None and now - self._long_since > LONG_LINE_S
            self._pass_on(sock, address, is_late)
            may_accept -= 1
            if not may_accept:
                break
        self._since[listening] = now - waited_s  # more may wait, who came after the last one
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
            log.exception("a new connection was dropped")
            sock.close()

    def _complain(self, error: OSError) -> None:
        """Say it once, until there has been room for a while."""
        now = self._loop.time()
        if now - self._no_room_at > QUIET_S:
            log.warning("new connections have to wait: %s", error.strerror)
        self._no_room_at = now

    def _pause(self, listening: socket.socket, for_s: float) -> None:
        if listening in self._pauses:
            return
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(for_s, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)


def _has_waiting(listening: socket.socket) -> bool:
    """Does a client wait to be accepted?"""
    ends = select.poll()
    ends.register(listening, select.POLLIN)
    return bool(ends.poll(0))


def _waited_s(sock: socket.socket) -> float:
    """For how long a new connection has waited since its last data came, as the kernel counts it [tcp(7), TCP_INFO];
    0.0 where nothing says so."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECV + 4)
    except OSError:
        return 0.0
    return int.from_bytes(info[LAST_DATA_RECV : LAST_DATA_RECV + 4], sys.byteorder) / 1000.0


def listening_sockets(found: Iterable[Any], slots: int, *, backlog: int) -> list[list[socket.socket]]:
    """For each of `slots` processes its own listening sockets, one on each address of `found` (as getaddrinfo gives
    them), all with one port; port 0 is chosen once.

    The kernel spreads new connections over the slots (SO_REUSEPORT). That would also let a second server share the port
    in silence, so the first socket is bound before it is given the option: then a taken port is an error [socket(7)].
    Errors: OSError when an address is taken or not ours; then none is open.
    """
    made: list[list[socket.socket]] = [[] for _ in range(slots)]
    port = 0
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            place = (address[0], port or address[1], *address[2:])
            for slot in range(slots):
                sock = socket.socket(family, kind, proto)
                made[slot].append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # what the kernel keeps of a connection that is not read, and takes for each one's part of a turn
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if slot:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(place)
                if slots > 1 and slot == 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                port = sock.getsockname()[1]
                place = (address[0], port, *address[2:])
        for sockets in made:
            for sock in sockets:
                sock.listen(backlog)
    except OSError:
        for sockets in made:
            for sock in sockets:
                sock.close()
        raise
    return made
