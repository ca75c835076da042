"""A few new connections per turn, and no spinning when there is no room for another file."""

import asyncio
import errno
import socket
import time
from typing import Any

import pytest
import uvloop

from koko_presence.edge import listening
from koko_presence.edge.listening import ACCEPTS_A_TURN, Listener, listening_sockets
from tests.waiting import PATIENCE_S


def run(test: Any) -> None:
    uvloop.run(test)


def connect(listener: Listener, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.sockets[0].getsockname(), PATIENCE_S) for _ in range(count)]


def test_a_crowd_comes_in_over_several_turns() -> None:
    async def test() -> None:
        came: list[socket.socket] = []
        listener = Listener(lambda sock, address: came.append(sock))
        await listener.open("127.0.0.1", 0, backlog=100)
        ends = connect(listener, 3 * ACCEPTS_A_TURN)
        turns = []
        while len(came) < len(ends):
            before = len(came)
            await asyncio.sleep(0)
            turns.append(len(came) - before)
        assert max(turns) <= 2 * ACCEPTS_A_TURN, "two turns of the loop may lie between two of ours"
        assert not came[0].getblocking()
        listener.close()
        assert listener.sockets == []
        for sock in (*came, *ends):
            sock.close()

    run(test())


def test_a_listener_accepts_for_another_slot_and_gives_it_back() -> None:
    async def test() -> None:
        came: list[int] = []

        def use(sock: socket.socket, address: Any) -> None:
            came.append(sock.getsockname()[1])
            sock.close()

        family = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
        (own,), (other,) = (listening_sockets([family], 1, backlog=10)[0] for _ in range(2))
        ports = [sock.getsockname()[1] for sock in (own, other)]
        listener = Listener(use)

        async def knock() -> None:
            before, ends = len(came), [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for port in ports]
            while len(came) == before:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            for end in ends:
                end.close()

        listener.take([own])
        await knock()
        assert came == [ports[0]]
        listener.take([own, other])
        while len(came) < 2:  # who has waited there
            await asyncio.sleep(0.001)
        await knock()
        assert sorted(came) == sorted(ports * 2)
        listener.take([other])
        await knock()
        assert came[4:] == [ports[1]] and own.fileno() >= 0, "the socket stays, for whoever accepts there now"
        listener.close()
        own.close()

    run(test())


def test_one_connection_that_cannot_be_used_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        came: list[socket.socket] = []

        def use(sock: socket.socket, address: Any) -> None:
            if not came:
                came.append(sock)
                raise OSError("no")
            came.append(sock)

        listener = Listener(use)
        await listener.open("127.0.0.1", 0, backlog=100)
        ends = connect(listener, 2)
        while len(came) < 2:
            await asyncio.sleep(0.001)
        assert ends[0].recv(1) == b"" and "a new connection was dropped" in caplog.text
        listener.close()
        for sock in (*came, *ends):
            sock.close()

    run(test())


def test_no_room_for_a_file_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A listening socket of a process that has all the files it may have."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.asked = sock, 0

        def fileno(self) -> int:
            return self.sock.fileno()

        def accept(self) -> Any:
            self.asked += 1
            if self.asked < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

    async def test() -> None:
        monkeypatch.setattr(listening, "PAUSE_S", 0.01)
        came: list[socket.socket] = []
        listener = Listener(lambda sock, address: came.append(sock))
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            full: Any = Full(sock)
            asyncio.get_running_loop().add_reader(sock, listener._accept, full)
            with socket.create_connection(sock.getsockname()):
                while not came:
                    await asyncio.sleep(0.001)
            assert full.asked <= 5, "asked again after a pause, not at once"
            asyncio.get_running_loop().remove_reader(sock)
        came[0].close()

    run(test())


def test_a_taken_address_is_an_error_and_leaves_nothing_open() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listener = Listener(lambda sock, address: None)
            with pytest.raises(OSError, match="in use"):
                await listener.open("127.0.0.1", taken.getsockname()[1], backlog=1)
            assert listener.sockets == []

    run(test())


def test_a_listener_that_stops_leaves_those_who_wait_to_whoever_holds_the_socket_too() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            first, second = [], []
            listener = Listener(lambda sock, address: first.append(sock))
            listener.take([held.dup()])
            with socket.create_connection(held.getsockname()):
                while not first:
                    await asyncio.sleep(0.001)
            listener.close()
            with socket.create_connection(held.getsockname(), PATIENCE_S) as waiting:
                used_s = time.thread_time()
                for _ in range(20):
                    await asyncio.sleep(0.005)
                assert time.thread_time() - used_s < 0.05, "the loop is not woken by what it no longer reads"
                assert len(first) == 1
                heir = Listener(lambda sock, address: second.append(sock))
                heir.take([held.dup()])
                while not second:
                    await asyncio.sleep(0.001)
                second[0].send(b"x")
                assert waiting.recv(1) == b"x"
                heir.close()
            for sock in (*first, *second):
                sock.close()

    run(test())


def test_the_sockets_of_several_slots_share_a_port_that_nobody_else_can_have() -> None:
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    slots = listening_sockets(found, 3, backlog=10)
    (port,) = {sock.getsockname()[1] for (sock,) in slots}
    again = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
    for count in (1, 2):
        with pytest.raises(OSError, match="in use"):
            listening_sockets(again, count, backlog=10)
    for (sock,) in slots:
        sock.close()
    for (sock,) in listening_sockets(again, 2, backlog=10):
        sock.close()
