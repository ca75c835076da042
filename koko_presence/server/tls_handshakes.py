"""Limits TLS handshakes to HANDSHAKES_PER_ITERATION per loop iteration, each begun once its ClientHello is complete.

A handshake costs the server up to a millisecond of signing, when the client's first record is complete. Many clients at
once, or one client that sends the last bytes of many records at once, would put a hundred handshakes into one loop
iteration. `HandshakeLimiter` writes the queue of connections; handshakes begin in the order in which their records are
complete.
"""

import socket
import time
from collections import deque
from collections.abc import Callable

from .address_limits import AddressUse
from .tls_first_record import GIVEN_UP_AFTER_S, FirstRecord, is_over

HANDSHAKES_PER_ITERATION = 1
RECORD_HEAD_BYTES = 5  # type, version, length [RFC 8446 section 5.1]
HANDSHAKE_RECORD = 22
LONGEST_RECORD_BYTES = RECORD_HEAD_BYTES + 16384 + 256


class HandshakeLimiter(FirstRecord):
    """Sockets that wait for their ClientHello, and sockets with it that are queued for their handshake. `begin(sock,
    use)` is called for each and owns the socket; `use` counts it for its address. `clock` returns monotonic seconds."""

    longest_bytes = LONGEST_RECORD_BYTES

    def __init__(
        self, begin: Callable[[socket.socket, AddressUse], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.given_up = 0  # connections closed by the client while they were queued
        self._begin, self._clock = begin, clock
        self._ready: deque[tuple[socket.socket, AddressUse, float]] = deque()  # with the time of entry into the queue
        self._scheduled = False

    def __len__(self) -> int:
        return super().__len__() + len(self._ready)

    def close(self) -> None:
        """Close all waiting and queued sockets."""
        super().close()
        while self._ready:
            sock, use, _ = self._ready.popleft()
            use.end()
            sock.close()

    def waits_for(self, now: float) -> float:
        """Seconds that the first queued connection has waited by monotonic second `now`; 0.0 for an empty queue."""
        return now - self._ready[0][2] if self._ready else 0.0

    def size_of(self, data: bytes) -> int | None:
        """The size of a TLS record with a handshake message."""
        if data[0] != HANDSHAKE_RECORD:
            return None
        return RECORD_HEAD_BYTES + (int.from_bytes(data[3:5], "big") if len(data) >= RECORD_HEAD_BYTES else 0)

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """Queue the connection for its handshake."""
        self._ready.append((sock, use, self._clock()))
        self._schedule()

    def _schedule(self) -> None:
        if self._ready and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        self._scheduled = False
        now = self._clock()
        for _ in range(min(HANDSHAKES_PER_ITERATION, len(self._ready))):
            sock, use, since = self._ready.popleft()
            if now - since >= GIVEN_UP_AFTER_S and is_over(sock):
                self.given_up += 1
                use.end()
                sock.close()
            else:
                self._begin(sock, use)
        self._schedule()
