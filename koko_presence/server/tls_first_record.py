"""Waits until the first record of a new connection is complete in the kernel's receive buffer, without consuming it.

`FirstRecord` writes the set of waiting connections. Its subclasses define the record and its handling: a TLS
ClientHello (`tls_handshakes`) or a PROXY header (`proxy_protocol`).
"""

import asyncio
import select
import socket

from .address_limits import AddressUse

# a half-closed connection counts as given up by its client after this wait; before, the client may expect a response
GIVEN_UP_AFTER_S = 1.0


class FirstRecord:
    """Sockets that wait for their first record. A socket is closed when it receives anything else, or no complete
    record within the timeout given to `add`."""

    longest_bytes: int  # of a record

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[socket.socket, tuple[asyncio.TimerHandle, AddressUse]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sock: socket.socket, timeout_s: float, use: AddressUse) -> None:
        """Wait for the first record of a new connection, `timeout_s` at most; `use` counts it for its address."""
        self._waiting[sock] = self._loop.call_later(timeout_s, self._drop, sock), use
        self._loop.add_reader(sock, self._look, sock)

    def close(self) -> None:
        """Close all waiting sockets."""
        for sock in list(self._waiting):
            self._drop(sock)

    def size_of(self, data: bytes) -> int | None:
        """The size in bytes of the record that begins with `data`, or as many bytes as are needed to determine it; None
        when `data` begins no record."""
        raise NotImplementedError

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """Handle the complete `record`, which is still to be read from the socket. The callee owns the socket."""
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
            self._drop(sock)  # no more data can arrive, and the socket stays readable
        elif len(data) < size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)  # readable again when the record is complete
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
    """True when the peer has closed or shut down its side of the connection."""
    ends = select.poll()
    ends.register(sock, select.POLLRDHUP)
    return bool(ends.poll(0))
