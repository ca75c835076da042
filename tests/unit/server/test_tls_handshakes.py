"""TLS connections before their handshake."""

import socket
from collections.abc import Callable

import uvloop

from koko_presence.server.address_limits import FREE
from koko_presence.server.tls_handshakes import HandshakeLimiter
from tests.waiting import until

HALF_HELLO = b"\x16\x03\x01\x02\x00abc"


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection, the server's first, which does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    return ours, theirs


class CountingHandshakeLimiter(HandshakeLimiter):
    """Counts its look-ups of sockets."""

    def __init__(self, begin: Callable[[socket.socket], None]) -> None:
        super().__init__(begin)
        self.looks = 0

    def _look(self, sock: socket.socket) -> None:
        self.looks += 1
        super()._look(sock)


def test_half_a_client_hello_before_the_end_is_dropped_at_once() -> None:
    """A connection whose end follows half a ClientHello is closed at once: such a socket is readable for ever, whatever
    SO_RCVLOWAT is."""

    async def test() -> None:
        handshakes, (ours, theirs) = CountingHandshakeLimiter(lambda sock, use: sock.close()), pair()
        handshakes.add(ours, 60.0, FREE)
        theirs.sendall(HALF_HELLO)
        await until(lambda: handshakes.looks == 1)
        theirs.shutdown(socket.SHUT_WR)
        await until(lambda: not len(handshakes))
        assert handshakes.looks == 2 and ours.fileno() == -1
        theirs.close()

    uvloop.run(test())


def test_a_client_hello_in_pieces_is_waited_for() -> None:
    async def test() -> None:
        begun: list[socket.socket] = []
        handshakes, (ours, theirs) = CountingHandshakeLimiter(lambda sock, use: begun.append(sock)), pair()
        handshakes.add(ours, 60.0, FREE)
        theirs.sendall(HALF_HELLO)
        await until(lambda: handshakes.looks == 1)
        theirs.sendall(bytes(0x200 - 3))
        await until(lambda: begun == [ours])
        ours.close()
        theirs.close()

    uvloop.run(test())


def test_a_client_that_has_given_up_while_waiting_gets_no_handshake() -> None:
    async def test() -> None:
        begun: list[socket.socket] = []
        now = [1000.0]
        handshakes = HandshakeLimiter(lambda sock, use: begun.append(sock), lambda: now[0])
        pairs = [pair() for _ in range(3)]
        for ours, _ in pairs:
            handshakes.on_whole(ours, FREE, b"")
        assert handshakes.waits_for(now[0] + 4.0) == 4.0 and len(handshakes) == 3
        pairs[0][1].close()
        now[0] += 2.0
        await until(lambda: not len(handshakes))
        assert begun == [ours for ours, _ in pairs[1:]] and handshakes.given_up == 1
        assert pairs[0][0].fileno() == -1 and handshakes.waits_for(now[0]) == 0.0
        for ours, theirs in pairs:
            ours.close()
            theirs.close()

    uvloop.run(test())
