"""TLS connections before their handshake: a few are begun in a turn of the loop, and only once the ClientHello is here.

A handshake costs the server up to a millisecond of signing, at the moment in which the client's first record is whole.
A crowd, or a client that holds back the last byte of many, would put a hundred of them into one turn.
"""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Callable

from .address_limits import AddressUse

HANDSHAKES_A_TURN = 1
RECORD_HEAD_BYTES = 5  # type, version, length [RFC 8446 section 5.1]
HANDSHAKE_RECORD = 22
LONGEST_RECORD_BYTES = RECORD_HEAD_BYTES + 16384 + 256


class Hellos:
    """Sockets that wait for their first record, and those that have it and wait for their turn. `begin(sock, use)` is
    called for each, which is the callee's from then on; `use` is how its address is counted. One that sends no TLS, or
    nothing within `timeout_s`, is closed."""

    def __init__(self, begin: Callable[[socket.socket, AddressUse], None]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, tuple[asyncio.TimerHandle, AddressUse]] = {}
        self._ready: deque[tuple[socket.socket, AddressUse]] = deque()
        self._planned = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._ready)

    def add(self, sock: socket.socket, timeout_s: float, use: AddressUse) -> None:
        """Wait for the ClientHello of a new connection."""
        self._waiting[sock] = self._loop.call_later(timeout_s, self._drop, sock), use
        self._loop.add_reader(sock, self._look, sock)

    def close(self) -> None:
        """Close all that wait."""
        for sock in list(self._waiting):
            self._drop(sock)
        while self._ready:
            sock, use = self._ready.popleft()
            use.end()
            sock.close()

    def _look(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(LONGEST_RECORD_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        size = RECORD_HEAD_BYTES
        if len(data) >= size:
            size += int.from_bytes(data[3:5], "big")
        if not data or data[0] != HANDSHAKE_RECORD or size > LONGEST_RECORD_BYTES:
            self._drop(sock)
        elif len(data) < size and _is_over(sock):
            self._drop(sock)  # nothing more comes, and the kernel would tell of that again and again
        elif len(data) < size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)  # the kernel tells again when it is whole
        else:
            use = self._release(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._ready.append((sock, use))
            self._plan()

    def _plan(self) -> None:
        if self._ready and not self._planned:
            self._planned = True
            self._loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        self._planned = False
        for _ in range(min(HANDSHAKES_A_TURN, len(self._ready))):
            self._begin(*self._ready.popleft())
        self._plan()

    def _release(self, sock: socket.socket) -> AddressUse:
        timer, use = self._waiting.pop(sock)
        timer.cancel()
        self._loop.remove_reader(sock)
        return use

    def _drop(self, sock: socket.socket) -> None:
        self._release(sock).end()
        sock.close()


def _is_over(sock: socket.socket) -> bool:
    """Has the other end said all it will?"""
    ends = select.poll()
    ends.register(sock, select.POLLRDHUP)
    return bool(ends.poll(0))
