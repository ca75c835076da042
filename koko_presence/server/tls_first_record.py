"""New connections until their first record is whole: it is looked at in the kernel, and stays there.

What a record is, and what becomes of it, the subclasses say: a TLS ClientHello, a PROXY header.
"""

import asyncio
import select
import socket

from .address_limits import AddressUse

# one that has waited for less may still want an answer on a connection that it has half closed
GIVEN_UP_AFTER_S = 1.0


class FirstRecord:
    """Sockets that wait for their first record. One that sends something else, or nothing whole within `timeout_s`, is
    closed."""

    longest_bytes: int  # of a record

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, tuple[asyncio.TimerHandle, AddressUse]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sock: socket.socket, timeout_s: float, use: AddressUse) -> None:
        """Wait for the first record of a new connection; `use` is how its address is counted."""
        self._waiting[sock] = self._loop.call_later(timeout_s, self._drop, sock), use
        self._loop.add_reader(sock, self._look, sock)

    def close(self) -> None:
        """Close all that wait."""
        for sock in list(self._waiting):
            self._drop(sock)

    def size_of(self, data: bytes) -> int | None:
        """How many bytes the record has that begins with `data`, as far as that tells; None when it is none."""
        raise NotImplementedError

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """The record is whole, and still to be read from the socket, which is the callee's from now on."""
        raise NotImplementedError

    def _look(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(self.longest_bytes, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        size = self.size_of(data) if data else None
        if size is None or size > self.longest_bytes:
            self._drop(sock)
        elif len(data) < size and is_over(sock):
            self._drop(sock)  # nothing more comes, and the kernel would tell of that again and again
        elif len(data) < size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)  # the kernel tells again when it is whole
        else:
            use = self._release(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self.on_whole(sock, use, data[:size])

    def _release(self, sock: socket.socket) -> AddressUse:
        timer, use = self._waiting.pop(sock)
        timer.cancel()
        self._loop.remove_reader(sock)
        return use

    def _drop(self, sock: socket.socket) -> None:
        self._release(sock).end()
        sock.close()


def is_over(sock: socket.socket) -> bool:
    """Has the other end said all it will?"""
    ends = select.poll()
    ends.register(sock, select.POLLRDHUP)
    return bool(ends.poll(0))
