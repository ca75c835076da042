"""The listening sockets of one worker, and a few new connections per turn of the loop.

uvloop's own server takes everything that waits in one go: a thousand people who come back at once then hold up those
who are there for a tenth of a second. It stays calm when file descriptors run out, and so does this.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger("koko_presence.listening")

ACCEPTS_A_TURN = 16
RECEIVE_BUFFER_BYTES = 64 * 1024
PAUSE_S = 0.1
QUIET_S = 10.0
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """Calls `on_connection(sock, peer_address)` for every connection; the socket is the callee's."""

    def __init__(self, on_connection: Callable[[socket.socket, Any], None]) -> None:
        self.sockets: list[socket.socket] = []
        self._on_connection = on_connection
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

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:  # the kernel would tell of the same connection again and again
                    self._complain(error)
                    self._pause(listening)
                return  # else: it was gone before it was accepted
            sock.setblocking(False)
            try:
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

    def _pause(self, listening: socket.socket) -> None:
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE_S, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)


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
