"""Polled sockets: received data is read, data that the kernel does not accept waits, and every end is reported once."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from koko_presence._fastpath.epoll_transport import PolledTransport, Poller
from koko_presence._fastpath.rounds import Round
from tests.waiting import until


class Protocol(asyncio.Protocol):
    """Records all calls."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.got: list[bytes] = []
        self.told: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.on_data: Callable[[], None] = lambda: None
        self.on_eof: Callable[[], None] = lambda: None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        self.on_data()

    def eof_received(self) -> bool:
        self.told.append("eof")
        self.on_eof()
        return False

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        """Let `seconds` pass, as work does."""
        self.now += seconds


@asynccontextmanager
async def polled(
    count: int = 1, round_: Round | None = None
) -> AsyncIterator[tuple[Poller, list[tuple[Protocol, socket.socket]]]]:
    """A poller with `count` connections: the protocol under test and the other end, which does not block. Without
    `round_` no time passes, so that no round ends because the machine is busy."""
    poller, ends = Poller(asyncio.get_running_loop(), round_ or Round(Clock())), []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = Protocol()
        poller.adopt(ours.detach(), protocol)
        ends.append((protocol, theirs))
    try:
        yield poller, ends
    finally:
        poller.close()
        for _, theirs in ends:
            theirs.close()


def run(test: Any) -> None:
    uvloop.run(test)


def test_received_data_is_read_in_order_in_pieces_of_the_shared_buffer() -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):
            data = os.urandom(50_000)
            theirs.sendall(data)
            await until(lambda: len(b"".join(protocol.got)) == 50_000)
            assert b"".join(protocol.got) == data and max(map(len, protocol.got)) <= 16_384
            assert protocol.transport.get_extra_info("ssl_object") is None

    run(test())


def test_data_that_the_kernel_does_not_accept_waits_and_is_sent_in_order() -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):
            sent, got = b"", b""
            for number in range(200):
                piece = bytes([number]) * 5000
                protocol.transport.write(piece)
                sent += piece
            assert protocol.told == ["pause"] and protocol.transport.get_write_buffer_size() > 0
            while len(got) < len(sent):
                await asyncio.sleep(0)
                try:
                    got += theirs.recv(100_000)
                except BlockingIOError:
                    continue
            await until(lambda: protocol.told == ["pause", "resume"])
            assert got == sent and protocol.transport.get_write_buffer_size() == 0

    run(test())


def test_close_sends_what_waits_and_nothing_after_it() -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):
            protocol.transport.write(b"x" * 1_000_000)
            protocol.transport.close()
            protocol.transport.write(b"late")
            got = 0
            while not protocol.lost.done():
                await asyncio.sleep(0)
                try:
                    got += len(theirs.recv(100_000))
                except BlockingIOError:
                    continue
            assert got == 1_000_000 and protocol.lost.result() is None
            assert protocol.transport.fileno() == -1 and protocol.transport.is_closing()

    run(test())


def test_abort_drops_what_waits() -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, _theirs)]):
            protocol.transport.write(b"x" * 1_000_000)
            protocol.transport.abort()
            protocol.transport.abort()
            assert protocol.transport.get_write_buffer_size() == 0
            assert await protocol.lost is None

    run(test())


def test_the_other_end_hangs_up() -> None:
    async def test() -> None:
        async with polled(2) as (_, [(first, one), (second, two)]):
            one.close()
            assert await first.lost is None and first.told == ["eof"]
            second.transport.write(b"x" * 1_000_000)
            two.close()  # with bytes under way to it
            await second.lost
            assert second.transport.fileno() == -1

    run(test())


def test_a_connection_closed_by_another_ones_message_in_the_same_round_is_left_alone() -> None:
    async def test() -> None:
        async with polled(50) as (_, ends):
            for index, (protocol, theirs) in enumerate(ends):
                protocol.on_data = lambda index=index: [p.transport.abort() for p, _ in ends if p is not ends[index][0]]  # type: ignore[misc]
                theirs.send(b"x")
            await until(lambda: sum(protocol.lost.done() for protocol, _ in ends) == 49)
            assert sum(len(protocol.got) for protocol, _ in ends) == 1

    run(test())


def test_one_protocols_exception_ends_only_that_connection() -> None:
    async def test() -> None:
        async with polled(2) as (_, [(first, one), (second, two)]):
            first.on_data = lambda: 1 / 0
            one.send(b"x"), two.send(b"y")
            await first.lost
            await until(lambda: second.got)
            assert second.got == [b"y"] and not second.lost.done()

    run(test())


def test_call_soon_inside_a_round_comes_at_its_end_and_only_once() -> None:
    async def test() -> None:
        async with polled(3) as (poller, ends):
            order: list[str] = []

            def on_data(name: str) -> None:
                order.append(name)
                poller.call_soon(lambda: order.append(f"after {name}"))

            for name, (protocol, theirs) in zip("abc", ends, strict=True):
                protocol.on_data = lambda name=name: on_data(name)  # type: ignore[misc]
                theirs.send(b"x")
            await until(lambda: len(order) == 6)
            assert order[:3] == list("abc") and order[3:] == ["after a", "after b", "after c"]
            poller.call_soon(lambda: order.append("outside"))
            assert len(order) == 6
            await until(lambda: order[6:] == ["outside"])

    run(test())


def test_a_round_takes_in_all_that_is_readable_and_ends_once() -> None:
    """A round reads all readable sockets and ends once. There are more sockets than one call to epoll returns: the
    effects of all of them are handled together."""

    async def test() -> None:
        async with polled(150, Round(Clock())) as (poller, ends):
            numbers, ended = [], []
            for protocol, theirs in ends:
                protocol.on_data = lambda: numbers.append(poller.round.number)
                theirs.send(b"x")
            ends[0][0].on_data = lambda: poller.call_soon(lambda: ended.append(len(numbers)))
            await until(lambda: len(numbers) == 149)
            assert len(set(numbers)) == 1 and ended == [149]

    run(test())


def test_one_socket_gets_so_many_bytes_of_a_round_and_the_others_theirs() -> None:
    async def test() -> None:
        async with polled(2, Round(Clock())) as (poller, [(greedy, his_end), (other, its_end)]):
            rounds: dict[int, int] = {}

            def on_data() -> None:
                rounds[poller.round.number] = rounds.get(poller.round.number, 0) + len(greedy.got[-1])

            greedy.on_data = on_data
            other.on_data = lambda: rounds.setdefault(0, len(b"".join(greedy.got)))
            poller.round.socket_bytes = 1000
            his_end.sendall(b"x" * 10_000)
            its_end.send(b"y")
            await until(lambda: sum(map(len, greedy.got)) == 10_000)
            assert rounds.pop(0) <= 1000, "the other one waited"
            assert list(rounds.values()) == [1000] * 10

    run(test())


def test_a_rounds_time_ends_between_two_sockets_and_the_next_begins_with_those_that_were_left() -> None:
    """No socket is served a second time before all others have been served once, wherever it is in epoll's list."""

    async def test() -> None:
        clock = Clock()
        async with polled(100, Round(clock)) as (poller, ends):
            order: list[int] = []
            sizes: dict[int, int] = {}

            def on_data(index: int) -> None:
                order.append(index)
                sizes[poller.round.number] = sizes.get(poller.round.number, 0) + 1
                clock.work(0.0011)
                ends[index][1].send(b"x")  # there is always more to read

            for protocol, theirs in ends:
                protocol.transport.promote()
                theirs.send(b"x")
            for index, (protocol, _) in enumerate(ends):
                protocol.on_data = lambda index=index: on_data(index)  # type: ignore[misc]
            await until(lambda: len(order) >= 1000)
            for protocol, _ in ends:
                protocol.on_data = lambda: None
            served = [order[:1000].count(index) for index in range(100)]
            assert min(served) >= 9 and max(served) <= 11
            assert set(list(sizes.values())[:-1]) == {6}, "1.1 ms each: the sixth is over 6 ms"

    run(test())


def test_data_read_in_one_round_counts_as_received_at_its_beginning() -> None:
    async def test() -> None:
        clock = Clock()
        async with polled(5, Round(clock)) as (poller, ends):
            heard: list[float] = []

            def on_data() -> None:
                clock.work(0.001)
                heard.append(poller.round.received_at(clock()))

            for protocol, theirs in ends:
                protocol.transport.promote()
                protocol.on_data = on_data
                theirs.send(b"x")
            await until(lambda: len(heard) == 5)
            assert heard == [1000.0] * 5 and poller.round.started_at == 1000.0
            assert poller.round.received_at(clock()) == clock() > 1000.0

    run(test())


def test_a_closed_socket_in_the_rest_of_a_slice_is_not_looked_at() -> None:
    async def test() -> None:
        clock = Clock()
        async with polled(20, Round(clock)) as (_, ends):
            seen: list[int] = []

            def on_data(index: int) -> None:
                seen.append(index)
                clock.work(1.0)  # the round is over, the rest of the slice waits
                for other, (protocol, _) in enumerate(ends):
                    if other != index:
                        protocol.transport.abort()

            for index, (protocol, theirs) in enumerate(ends):
                protocol.on_data = lambda index=index: on_data(index)  # type: ignore[misc]
                theirs.send(b"x")
            await until(lambda: sum(protocol.lost.done() for protocol, _ in ends) == 19)
            await asyncio.sleep(0.01)
            assert len(seen) == 1

    run(test())


def test_admitted_connections_are_read_before_new_ones() -> None:
    async def test() -> None:
        async with polled(101) as (_, [(inside, his_end), *others]):
            handled = []

            def work() -> None:
                until = time.perf_counter() + 0.001
                while time.perf_counter() < until:
                    pass
                handled.append("newcomer")

            inside.transport.promote()
            inside.transport.promote()
            inside.on_data = lambda: handled.append("inside")
            for protocol, theirs in others:
                protocol.on_data = work
                theirs.send(b"x")
            his_end.send(b"x")
            await until(lambda: len(handled) == 101)
            assert handled.index("inside") <= 20

    run(test())


def test_a_promoted_connection_still_sends_what_waits() -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):
            protocol.transport.write(b"x" * 1_000_000)
            protocol.transport.promote()
            got = 0
            while got < 1_000_000:
                await asyncio.sleep(0)
                try:
                    got += len(theirs.recv(100_000))
                except BlockingIOError:
                    continue
            await until(lambda: protocol.told == ["pause", "resume"])
            theirs.send(b"y")
            await until(lambda: protocol.got == [b"y"])

    run(test())


def test_a_plain_protocol_gets_bytes() -> None:
    class Plain(asyncio.Protocol):
        def __init__(self) -> None:
            self.got = b""

        def data_received(self, data: bytes) -> None:
            self.got += data

    async def test() -> None:
        async with polled() as (poller, _):
            ours, other = socket.socketpair()
            plain = Plain()
            poller.adopt(ours.detach(), plain)
            other.sendall(b"x" * 100_000)
            await until(lambda: len(plain.got) == 100_000)
            other.close()

    run(test())


def test_regression_a_lost_sockets_descriptor_is_not_free_before_its_protocol_is_notified() -> None:
    """The descriptor of a lost socket is closed after its protocol is notified. The outbox wrote events of a room to
    the unrelated connection that had got the descriptor's number."""

    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):
            fd, seen = protocol.transport.fileno(), []
            tell = protocol.connection_lost

            def connection_lost(exc: Exception | None) -> None:
                seen.append(os.fstat(fd).st_ino)
                tell(exc)

            protocol.connection_lost = connection_lost  # type: ignore[method-assign]
            inode = os.fstat(fd).st_ino
            theirs.close()
            await protocol.lost
            assert seen == [inode] and protocol.transport.fileno() == -1

    run(test())


@pytest.mark.parametrize("size", [63, 64])
def test_regression_a_close_after_a_read_that_filled_the_buffer_keeps_what_waits(size: int) -> None:
    async def test() -> None:
        async with polled() as (_, [(protocol, theirs)]):

            def answer() -> None:
                protocol.transport.write(b"x" * 1_000_000)
                protocol.transport.close()

            protocol.on_data = answer
            theirs.send(b"y" * size)
            got = 0
            while not protocol.lost.done() or got < 1_000_000:
                await asyncio.sleep(0)
                try:
                    got += len(theirs.recv(100_000))
                except BlockingIOError:
                    continue
            assert got == 1_000_000

    run(test())


def test_a_transport_without_a_poller_is_harmless() -> None:
    transport: Any = PolledTransport()
    transport.abort()
    transport.promote()
    assert transport.fileno() == -1


def test_closing_the_poller_cuts_all_and_twice_is_once() -> None:
    async def test() -> None:
        async with polled(3) as (poller, ends):
            poller.close()
            poller.close()
            await asyncio.gather(*(protocol.lost for protocol, _ in ends))

    run(test())


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        test_the_other_end_hangs_up()
        test_closing_the_poller_cuts_all_and_twice_is_once()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_connection_that_is_not_read_and_whose_other_end_is_gone_costs_no_rounds() -> None:
    """A paused connection whose other end has closed causes no rounds, although epoll reports EPOLLHUP even when it is
    not requested."""

    async def test() -> None:
        async with polled() as (poller, [(protocol, theirs)]):
            theirs.send(b"last words")
            protocol.on_data = protocol.transport.pause_reading
            await until(lambda: protocol.got == [b"last words"])
            theirs.close()
            before = poller.round.number
            for _ in range(100):
                await asyncio.sleep(0)
            assert poller.round.number - before < 10 and not protocol.lost.done()
            protocol.transport.resume_reading()
            assert await protocol.lost is None and protocol.told == ["eof"]

    run(test())


def test_a_connection_whose_other_end_is_gone_while_it_is_not_read_ends_with_the_next_write() -> None:
    async def test() -> None:
        async with polled() as (poller, [(protocol, theirs)]):
            protocol.transport.pause_reading()
            theirs.close()
            before = poller.round.number
            await until(lambda: poller.round.number > before)
            protocol.transport.promote()
            protocol.transport.write(b"x")
            assert isinstance(await protocol.lost, BrokenPipeError)

    run(test())


def test_what_waits_is_sent_though_another_ones_message_closes_the_connection_before_its_own_is_read() -> None:
    """Unsent data is sent when the message of another socket of the same epoll call closes the connection: an event
    from before the close is not its end."""

    async def test() -> None:
        async with polled(2) as (_, ends):
            for index, (protocol, theirs) in enumerate(ends):
                protocol.transport.write(b"x" * 1_000_000)
                protocol.on_data = ends[1 - index][0].transport.close
                theirs.send(b"1")
            await until(lambda: any(protocol.got for protocol, _ in ends))
            closed, theirs = next(end for end in ends if not end[0].got)
            got = 0
            while not closed.lost.done():
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError, ConnectionResetError):  # its last message is not read
                    while data := theirs.recv(100_000):
                        got += len(data)
            assert got == 1_000_000 and closed.lost.result() is None

    run(test())


def test_a_slow_round_that_admits_all_new_connections_leaves_no_admission_queue() -> None:
    """A slow round that admits all new connections leaves the admission queue empty. Otherwise a client that joins
    minutes later, on an idle worker, would be refused as if the worker had been overloaded all that time."""

    async def test() -> None:
        clock, waited = Clock(), list[float]()
        round_ = Round(clock)

        def work() -> None:
            waited.append(round_.admission_waits_for(clock.now))
            clock.work(0.005)  # longer than such a round may take

        async with polled(3, round_) as (_, ends):
            for protocol, theirs in ends:
                protocol.on_data = work
                theirs.send(b"x")
            await until(lambda: len(waited) == 3)
            assert waited == pytest.approx([0.0, 0.005, 0.010])
            await until(lambda: not round_.open)
            assert round_.admission_waits_for(clock.now + 60.0) == 0.0

    run(test())


@pytest.mark.parametrize("how", ["comes in", "goes"])
def test_regression_the_last_connection_that_left_the_admission_queue_between_two_rounds_still_counted(
    how: str,
) -> None:
    """A connection that leaves the admission queue between two rounds does not count any more. The last one left it
    with unread data, because the owner of its room had answered: joins minutes later were refused, and all grace
    periods were extended."""

    async def test() -> None:
        clock = Clock()
        round_ = Round(clock)

        async with polled(2, round_) as (poller, ends):
            seen, waited = list[Protocol](), list[float]()

            def work(protocol: Protocol) -> None:
                seen.append(protocol)
                clock.work(0.005)  # longer than such a round may take
                asyncio.get_running_loop().call_soon(leave, next(one for one, _ in ends if one is not protocol))

            def leave(last: Protocol) -> None:
                if last not in seen:
                    waited.append(poller.admission_waits_for(clock.now))
                    last.transport.promote() if how == "comes in" else last.transport.abort()

            for protocol, theirs in ends:
                protocol.on_data = lambda protocol=protocol: work(protocol)  # type: ignore[misc]
                theirs.send(b"x")
            await until(lambda: len(seen) == (2 if how == "comes in" else 1))
            assert waited == [pytest.approx(0.005)]
            if how == "goes":  # the rounds still count the connection
                assert round_.admission_waits_for(clock.now) == pytest.approx(0.005)
            assert poller.admission_waits_for(clock.now + 60.0) == 0.0
            assert round_.admission_waits_for(clock.now + 60.0) == 0.0

    run(test())


class Below:
    """The part of the loop's own transport that a LoopTransport uses; records whether it is read."""

    def __init__(self, number: int = -1) -> None:
        self.is_read, self.wrote, self.number = True, b"", number

    def set_read_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return self

    def fileno(self) -> int:
        return self.number

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def write(self, data: bytes) -> None:
        self.wrote += data

    def is_closing(self) -> bool:
        return True  # as uvloop's are from the other end's close_notify on


def wrap_loop_transport(poller: Poller) -> tuple[Protocol, Any, Below]:
    """Return a connection of the loop's own: the protocol, its LoopTransport, and the loop's transport."""
    protocol, below = Protocol(), Below()
    lent: Any = poller.wrap_loop_transport(protocol)
    lent.connection_made(below)
    return protocol, lent, below


def decrypt(lent: Any, data: bytes) -> None:
    """Deliver data as uvloop does."""
    lent.get_buffer(len(data))[: len(data)] = data
    lent.buffer_updated(len(data))


@pytest.mark.parametrize("says_end", [True, False])
def test_regression_held_data_of_a_lost_connection_is_handled_before_its_end_is_reported(says_end: bool) -> None:
    async def test() -> None:
        clock = Clock()
        async with polled(0, Round(clock)) as (poller, _):
            first, his, _ = wrap_loop_transport(poller)
            first.on_data = lambda: clock.work(1.0)  # the iteration's time is over
            protocol, lent, below = wrap_loop_transport(poller)
            protocol.on_data = lambda: lent.write(b"an answer")
            decrypt(his, b"x")
            decrypt(lent, b"last ")
            decrypt(lent, b"words")
            assert protocol.got == [] and below.is_read
            if says_end:
                lent.eof_received()
            lent.connection_lost(None)
            assert await protocol.lost is None
            assert b"".join(protocol.got) == b"last words" and below.wrote == b""
            assert protocol.told == (["eof"] if says_end else [])

    run(test())


def test_data_held_over_tls_is_bounded_and_dropped_with_a_connection_that_is_not_read() -> None:
    async def test() -> None:
        async with polled(0, Round(Clock())) as (poller, _):
            protocol, lent, below = wrap_loop_transport(poller)
            lent.pause_reading()
            assert not below.is_read
            decrypt(lent, b"x")  # received before the pause
            lent.resume_reading()
            assert below.is_read
            decrypt(lent, b"x" * 4096)
            assert not below.is_read
            lent.pause_reading()
            lent.connection_lost(None)
            assert await protocol.lost is None and protocol.got == []

    run(test())


def full_socket() -> tuple[socket.socket, socket.socket]:
    """Return a TCP socket with more unsent data than the kernel should hold, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    return ours, theirs


@pytest.mark.parametrize("closed", [False, True])
def test_regression_the_descriptor_of_a_closed_connection_was_watched_for_a_new_connection(closed: bool) -> None:
    """uvloop closes the descriptor one loop iteration before it reports the end. A new connection may have its number
    by then, and must not be watched on behalf of the closed one."""

    async def test() -> None:
        async with polled(0) as (poller, _):
            ours, theirs = full_socket()
            protocol, below = Protocol(), Below(ours.fileno())
            lent: Any = poller.wrap_loop_transport(protocol)
            lent.connection_made(below)
            if closed:
                below.number = -1  # as uvloop's reports from then on
            lent.write(b"something")
            assert protocol.told == ([] if closed else ["pause"])
            if not closed:
                while protocol.told != ["pause", "resume"]:
                    with contextlib.suppress(BlockingIOError):
                        theirs.recv(1 << 20)
                    await asyncio.sleep(0.001)
            lent.connection_lost(None)
            await protocol.lost
            ours.close()
            theirs.close()

    run(test())


def test_idle_connections_that_end_together_have_not_waited_since_their_last_data() -> None:
    """The kernel reports when the last data came, not when a connection ended: the clients of a proxy that ends seemed
    to have waited for as long as they had been idle, and all grace periods were extended by that time."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        poller, waits = Poller(loop, Round()), list[tuple[float, float]]()
        ended_at = 0.0

        def work() -> None:
            end = time.monotonic() + 0.002  # longer than such a round may take
            while time.monotonic() < end:
                pass
            now = time.monotonic()
            waits.append((poller.round.admission_waits_for(now), now - ended_at))

        with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as ends:
            clients = []
            for _ in range(5):
                clients.append(ends.enter_context(socket.create_connection(listening.getsockname())))
                ours, _ = listening.accept()
                ours.setblocking(False)
                protocol = Protocol()
                protocol.on_eof = work
                poller.adopt(ours.detach(), protocol)
                clients[-1].send(b"x")
            await asyncio.sleep(0.2)
            ended_at = time.monotonic()
            for client in clients:
                client.close()
            await until(lambda: len(waits) == 5)
            poller.close()
        assert all(waited_s <= since_s for waited_s, since_s in waits) and max(waits)[0] > 0.0

    run(test())


def test_the_admission_queues_wait_is_that_of_its_first_connection() -> None:
    """The admission queue's wait is that of the next connection, not the time since the queue was last empty. While
    clients reconnected for a second, one after the other and each served soon, all seemed to have waited for that
    second: new connections were admitted one by one, and grace periods were extended."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        poller, began, waits = Poller(loop, Round()), time.monotonic(), list[float]()
        with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as ends:

            def come() -> None:
                theirs = ends.enter_context(socket.create_connection(listening.getsockname()))
                ours, _ = listening.accept()
                ours.setblocking(False)
                protocol = Protocol()
                protocol.on_data = lambda: work(theirs)
                poller.adopt(ours.detach(), protocol)
                theirs.send(b"x")

            def work(theirs: socket.socket) -> None:
                end = time.monotonic() + 0.002  # longer than such a round may take
                while time.monotonic() < end:
                    pass
                waits.append(poller.round.admission_waits_for(time.monotonic()))
                theirs.send(b"x")

            for _ in range(3):
                come()
            await until(lambda: len(waits) >= 200)
            for_s = time.monotonic() - began
            poller.close()
        assert min(waits[-50:]) < for_s / 4 and max(waits) > 0.0

    run(test())
