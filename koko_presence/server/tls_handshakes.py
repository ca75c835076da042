"""TLS connections before their handshake: a few are begun in a turn of the loop, and only once the ClientHello is here.

A handshake costs the server up to a millisecond of signing, at the moment in which the client's first record is whole.
A crowd, or a client that holds back the last byte of many, would put a hundred of them into one turn.
"""

import socket
import time
from collections import deque
from collections.abc import Callable

from .address_limits import AddressUse
from .tls_first_record import GIVEN_UP_AFTER_S, FirstRecord, is_over

HANDSHAKES_A_TURN = 1
RECORD_HEAD_BYTES = 5  # type, version, length [RFC 8446 section 5.1]
HANDSHAKE_RECORD = 22
LONGEST_RECORD_BYTES = RECORD_HEAD_BYTES + 16384 + 256


class Hellos(FirstRecord):
    """Sockets that wait for their ClientHello, and those that have it and wait for their turn. `begin(sock, use)` is
    called for each, which is the callee's from then on; `use` is how its address is counted."""

    longest_bytes = LONGEST_RECORD_BYTES

    def __init__(
        self, begin: Callable[[socket.socket, AddressUse], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.given_up = 0  # connections that the client had closed before their turn came
        self._begin, self._clock = begin, clock
        self._ready: deque[tuple[socket.socket, AddressUse, float]] = deque()  # and since when
        self._planned = False

    def __len__(self) -> int:
        return super().__len__() + len(self._ready)

    def close(self) -> None:
        """Close all that wait."""
        super().close()
        while self._ready:
            sock, use, _ = self._ready.popleft()
            use.end()
            sock.close()

    def waits_for(self, now: float) -> float:
        """For how many seconds the first of the line has waited for its turn."""
        return now - self._ready[0][2] if self._ready else 0.0

    def size_of(self, data: bytes) -> int | None:
        """Of a TLS record with a handshake message."""
        if data[0] != HANDSHAKE_RECORD:
            return None
        return RECORD_HEAD_BYTES + (int.from_bytes(data[3:5], "big") if len(data) >= RECORD_HEAD_BYTES else 0)

    def on_whole(self, sock: socket.socket, use: AddressUse, record: bytes) -> None:
        """It has its turn in the line of handshakes."""
        self._ready.append((sock, use, self._clock()))
        self._plan()

    def _plan(self) -> None:
        if self._ready and not self._planned:
            self._planned = True
            self._loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        self._planned = False
        now = self._clock()
        for _ in range(min(HANDSHAKES_A_TURN, len(self._ready))):
            sock, use, since = self._ready.popleft()
            if now - since >= GIVEN_UP_AFTER_S and is_over(sock):
                self.given_up += 1
                use.end()
                sock.close()
            else:
                self._begin(sock, use)
        self._plan()
