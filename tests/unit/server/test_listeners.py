"""New connections are accepted a few per loop iteration, and a lack of descriptors causes no busy loop."""

import asyncio
import errno
import socket
import time
from typing import Any

import pytest
import uvloop

from koko_presence.server import listeners
from koko_presence.server.listeners import ACCEPTS_PER_ITERATION, Listener, listening_sockets
from tests.waiting import PATIENCE_S


def run(test: Any) -> None:
    uvloop.run(test)


def connect(listener: Listener, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.sockets[0].getsockname(), PATIENCE_S) for _ in range(count)]


def test_many_new_connections_are_accepted_over_several_loop_iterations() -> None:
    async def test() -> None:
        came: list[socket.socket] = []
        listener = Listener(lambda sock, address: came.append(sock))
        await listener.open("127.0.0.1", 0, backlog=100)
        ends = connect(listener, 3 * ACCEPTS_PER_ITERATION)
        iterations = []
        while len(came) < len(ends):
            before = len(came)
            await asyncio.sleep(0)
            iterations.append(len(came) - before)
        assert max(iterations) <= 2 * ACCEPTS_PER_ITERATION, "two turns of the loop may lie between two of ours"
        assert not came[0].getblocking()
        listener.close()
        assert listener.sockets == []
        for sock in (*came, *ends):
            sock.close()

    run(test())


def test_new_connections_take_no_reserved_descriptor() -> None:
    """New connections leave the reserved descriptors free. 130 clients at once took all 120 descriptors while they were
    refused, and the operator port had none."""

    async def test() -> None:
        came: list[socket.socket] = []
        listener = Listener(lambda sock, address: came.append(sock), is_full=lambda: len(came) >= 5)
        await listener.open("127.0.0.1", 0, backlog=100)
        ends = connect(listener, 8)
        while not listener._pauses:
            await asyncio.sleep(0)
        assert len(came) == 5 and listener.waits_for(time.monotonic()) > 0
        came.pop().close()
        came.pop().close()
        async with asyncio.timeout(PATIENCE_S):
            while len(came) < 5:
                await asyncio.sleep(0.01)
        listener.close()
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

        async def connect_once() -> None:
            before, ends = len(came), [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for port in ports]
            while len(came) == before:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            for end in ends:
                end.close()

        listener.take([own])
        await connect_once()
        assert came == [ports[0]]
        listener.take([own, other])
        while len(came) < 2:  # the connections that waited there
            await asyncio.sleep(0.001)
        await connect_once()
        assert sorted(came) == sorted(ports * 2)
        listener.take([other])
        await connect_once()
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
        assert ends[0].recv(1) == b"" and "new connection dropped" in caplog.text
        listener.close()
        for sock in (*came, *ends):
            sock.close()

    run(test())


def test_a_lack_of_descriptors_pauses_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A listening socket of a process without a free descriptor."""

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
        monkeypatch.setattr(listeners, "PAUSE_S", 0.01)
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


def test_a_listener_that_stops_leaves_waiting_connections_to_other_holders_of_the_socket() -> None:
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
                successor = Listener(lambda sock, address: second.append(sock))
                successor.take([held.dup()])
                while not second:
                    await asyncio.sleep(0.001)
                second[0].send(b"x")
                assert waiting.recv(1) == b"x"
                successor.close()
            for sock in (*first, *second):
                sock.close()

    run(test())


def test_the_sockets_of_several_slots_share_a_port_that_no_other_process_can_have() -> None:
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


# --- more new connections than can be served -------------------------------------------------------------------------


class Line:
    """A listener on a clock of its own, and clients that connect; `waited` is how long each has waited when it is
    accepted, in the order of the queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.behind = False
        self.came: list[socket.socket] = []
        self.late: list[socket.socket] = []
        self.waited: list[float] = []
        self.ends: list[socket.socket] = []
        self.listener = Listener(
            lambda sock, address: self.came.append(sock),
            on_late=self.late.append,
            holds_back=lambda now: self.behind,
            clock=lambda: self.now,
        )
        monkeypatch.setattr(listeners, "_waited_s", lambda sock: self.waited.pop(0))
        monkeypatch.setattr(listeners, "HELD_BACK_S", 0.0)

    async def open(self, people: int) -> socket.socket:
        """Open the listener and connect; connections are accepted by calls of `_accept` only."""
        await self.listener.open("127.0.0.1", 0, backlog=100)
        (sock,) = self.listener.sockets
        self.ends = connect(self.listener, people)
        asyncio.get_running_loop().remove_reader(sock)
        return sock

    def close(self) -> None:
        self.listener.close()
        for sock in (*self.came, *self.late, *self.ends):
            sock.close()


def test_while_admitted_connections_are_behind_one_is_accepted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        line = Line(monkeypatch)
        line.waited = [0.5] * 40
        sock = await line.open(20)
        line.behind = True
        for number in range(1, 4):
            line.listener._accept(sock)
            assert len(line.came) == number, "a few come in all the same, however long that lasts"
        line.behind = False
        while len(line.came) < 20:
            await asyncio.sleep(0.001)  # the pause ends by itself
        assert [end.getsockname() for end in line.ends] == [came.getpeername() for came in line.came], "in their order"
        line.close()

    run(test())


def test_the_wait_of_new_connections_is_known_until_none_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        line = Line(monkeypatch)
        sock = await line.open(2 * ACCEPTS_PER_ITERATION)
        assert line.listener.waits_for(line.now) == 0.0
        line.listener._accept(sock)  # the first of many: how long it has waited is not known
        line.now += 3.0
        assert line.listener.waits_for(line.now) == 3.0
        line.waited = [4.0] * ACCEPTS_PER_ITERATION
        line.listener._accept(sock)
        assert line.listener.waits_for(line.now) == 0.0, "that was the last of them"
        line.close()

    run(test())


def test_a_connection_whose_client_has_given_up_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        line = Line(monkeypatch)
        sock = await line.open(6)
        line.behind = True
        line.listener._accept(sock)
        for number in (1, 2, 4):
            line.ends[number].sendall(b"GET / HTTP/1.1\r\n\r\n")
            line.ends[number].close()
        line.waited = [2.0, 2.0, 2.0, 0.5, 2.0]  # the last of these may have closed one direction only
        line.listener._accept(sock)
        assert line.listener.given_up == 2 and len(line.came) == 2
        line.listener._accept(sock)
        line.listener._accept(sock)
        assert line.listener.given_up == 2 and len(line.came) == 4
        assert line.listener.waits_for(line.now + 9.0) == 0.0
        line.close()

    run(test())


def test_in_a_queue_that_stays_long_the_longest_waiting_connections_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a queue that stays long the longest waiting connections are refused. Otherwise every connection would be
    served when its client is about to give up, and none in time."""

    async def test() -> None:
        line = Line(monkeypatch)
        sock = await line.open(8)
        line.behind = True
        line.listener._accept(sock)
        for waited, after_s in (
            (9.0, 10.0),
            (14.0, 2.0),
            (0.5, 9.0),
            (9.0, 10.0),
            (12.0, 4.0),
            (12.0, 0.1),
            (3.0, 1.0),
        ):
            line.waited = [waited]
            line.listener._accept(sock)
            line.now += after_s
        assert [end.getpeername() for end in line.late] == [line.ends[6].getsockname()]
        assert len(line.came) == 7, "a crowd that has come at once is served until it gives up"
        line.close()

    run(test())


def test_the_kernel_reports_how_long_a_connection_has_waited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_connection(sock.getsockname()) as end:
        end.sendall(b"GET")
        time.sleep(0.05)
        with sock.accept()[0] as accepted:
            assert 0.02 < listeners._waited_s(accepted) < PATIENCE_S
    first, second = socket.socketpair()
    with first, second:
        assert listeners._waited_s(first) == 0.0, "a Unix socket knows nothing of that"
