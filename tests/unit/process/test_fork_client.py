"""Which fork server forks the next worker, and the fate of requests when a fork server ends, hangs or sends garbage."""

import asyncio
import gc
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from koko_presence.process import fork_client
from koko_presence.process.fork_client import ANSWER_WITHIN_S, LOADED_WITHIN_S, STEADY_S, Forks, Wanted
from koko_presence.process.fork_protocol import Fork, Forked, Loaded, NotForked, receive_request, send_answer
from koko_presence.process.liveness import ProcessStats
from tests.waiting import until


class FakeServer:
    """A fake fork server: its end of the socket."""

    def __init__(self, sock: int, pid: int) -> None:
        self.sock, self.pid, self.killed = socket.socket(fileno=os.dup(sock)), pid, False

    def kill(self) -> None:
        self.killed = True
        self.sock.close()

    def sees_the_end(self) -> bool:
        """Whether the supervisor's end of the socket is closed."""
        while self.sock.recv(65536, socket.MSG_DONTWAIT):
            pass
        return True

    def poll(self) -> int | None:
        return -9 if self.killed else None

    def asked(self) -> int:
        """Return the id of the next request; blocks the event loop until it arrives."""
        found = receive_request(self.sock)
        assert found is not None
        for fd in found[1]:
            os.close(fd)
        return found[0].id

    def say(self, answer: Any) -> None:
        send_answer(self.sock, answer)


class House:
    """The supervisor's part, and all fork servers that were started."""

    def __init__(self) -> None:
        self.servers: list[FakeServer] = []
        self.told: list[tuple[int, int | str]] = []
        self.unwanted: set[int] = set()
        self.broken: set[int] = set()
        self.refusal: OSError | None = None
        self.open = 0
        self.forks = Forks(self, lambda pid: ProcessStats(cpu_s=1.0, wants_cpu=False))

    def start(self, sock: int, supervisor: int) -> FakeServer:
        if self.refusal is not None:
            raise self.refusal
        self.servers.append(FakeServer(sock, 1000 + len(self.servers)))
        return self.servers[-1]

    def prepare(self, id: int) -> Wanted | None:
        if id in self.broken:
            raise OSError(24, "Too many open files")
        if id in self.unwanted:
            return None
        self.open += 1
        return Wanted(Fork(id, 0, slots=1, shares_counts=False, fds=1), [0], self._close)

    def _close(self) -> None:
        self.open -= 1

    def forked(self, id: int, pid: int) -> None:
        self.told.append((id, pid))

    def failed(self, id: int, reason: str) -> None:
        self.told.append((id, reason))

    async def server(self, number: int) -> FakeServer:
        """Return the `number`-th fork server that was started."""
        await until(lambda: len(self.servers) > number)
        return self.servers[number]

    async def loaded(self, number: int = 0) -> FakeServer:
        server = await self.server(number)
        server.say(Loaded())
        return server

    async def heard(self, *told: tuple[int, int | str]) -> None:
        """Wait for the results reported since the last call, and compare them."""
        await until(lambda: len(self.told) >= len(told))
        assert self.told == [*told] and self.open == 0
        self.told.clear()


Play = Callable[[Callable[[House], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    def run(story: Callable[[House], Coroutine[Any, Any, None]]) -> None:
        async def tell() -> None:
            house = House()
            monkeypatch.setattr(fork_client, "start_fork_server", house.start)
            await story(house)
            house.forks.close()
            house.forks.close()
            await until(lambda: "beside the loop" not in {thread.name for thread in threading.enumerate()})
            # a server that was just being started when all was closed ends by itself
            assert all(server.killed or server.sees_the_end() for server in house.servers[-1:])
            for server in house.servers:
                server.sock.close()

        uvloop.run(tell())

    return run


def test_workers_are_forked_one_after_the_other_in_their_order(play: Play) -> None:
    async def story(house: House) -> None:
        for id in (1, 2, 3, 4, 5):
            house.forks.request(id)
        house.unwanted, house.broken = {2}, {3}
        assert house.forks.forget(4) and not house.forks.forget(4)
        server = await house.loaded()
        await until(lambda: house.open == 0 and house.forks.pids == {1000})
        await asyncio.sleep(0.01)
        assert server.asked() == 1
        server.say(Forked(1, 77))
        await house.heard((1, 77), (3, "Too many open files"))
        assert server.asked() == 5 and not house.forks.forget(5)
        server.say(Forked(9, 99))  # an answer without a request
        server.say(NotForked(5, "Resource temporarily unavailable"))
        await house.heard((5, "Resource temporarily unavailable"))

    play(story)


def test_a_fork_server_that_ends_fails_pending_requests_and_the_next_request_starts_another(play: Play) -> None:
    async def story(house: House) -> None:
        server = await started(house, 1, 2)
        server.sock.close()
        await house.heard((1, "socket closed"), (2, "socket closed"))
        assert house.forks.pids == {1000}, "not waited for yet"
        house.forks.tick(0.0)
        assert house.forks.pids == set()
        server = await started(house, 3, number=1)
        server.say(Forked(3, 5))
        await house.heard((3, 5))

    play(story)


def test_regression_a_worker_that_died_before_its_pid_was_read_was_reaped_as_an_orphan(play: Play) -> None:
    """`reap_unknown_children` is not called while an answer is awaited: afterwards the pid may be another process's."""

    async def story(house: House) -> None:
        assert not house.forks.awaits_answer
        server = await started(house, 1, 2)
        assert house.forks.awaits_answer
        server.say(Forked(1, 7))
        await house.heard((1, 7))
        assert house.forks.awaits_answer, "the next one was asked for in the same turn"
        server.say(NotForked(2, "no"))
        await house.heard((2, "no"))
        assert not house.forks.awaits_answer
        house.forks.request(3)
        server.sock.close()
        await house.heard((3, "socket closed"))
        assert not house.forks.awaits_answer, "nobody will answer"

    play(story)


def test_regression_a_thread_that_was_given_up_started_a_fork_server_with_the_number_of_another_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start that was given up passes no other file's descriptor to the fork server. The interpreter is found at last,
    on a mount that hung, after the supervisor had given the start up."""
    found, started = threading.Event(), threading.Event()
    inodes: list[int] = []

    def start(sock: int, supervisor: int) -> FakeServer:
        inodes.append(os.fstat(sock).st_ino)
        found.wait(60.0)
        inodes.append(os.fstat(sock).st_ino)
        started.set()
        raise OSError(2, "no such file")

    async def test() -> None:
        house = House()
        monkeypatch.setattr(fork_client, "start_fork_server", start)
        monkeypatch.setattr(fork_client, "FOUND_WITHIN_S", 0.05)
        house.forks.request(1)
        await until(lambda: house.told)
        house.forks.tick(0.0)
        gc.collect()
        others = [socket.socketpair() for _ in range(4)]  # they take the free numbers
        found.set()
        assert await asyncio.to_thread(started.wait, 60.0)
        assert inodes[0] == inodes[1]
        for sock in (sock for pair in others for sock in pair):
            sock.close()

    uvloop.run(test())


async def started(house: House, *ids: int, number: int = 0) -> FakeServer:
    """Return a fork server that has received the request for the first of these ids."""
    for id in ids:
        house.forks.request(id)
    server = await house.loaded(number)
    assert await asyncio.to_thread(server.asked) == ids[0]
    return server


def test_one_that_has_run_for_a_while_is_started_again_before_it_is_needed(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_client, "STEADY_S", 0.0)
    assert STEADY_S >= 5.0, "one that ends at once must not be started again and again"

    async def story(house: House) -> None:
        server = await started(house, 1)
        server.say(Forked(1, 5))
        await house.heard((1, 5))
        server.sock.close()
        await house.loaded(1)
        await until(lambda: 1001 in house.forks.pids)

    play(story)


@pytest.mark.parametrize("how", ["hangs", "talks nonsense"])
def test_one_that_does_not_answer_as_it_should_is_ended(play: Play, how: str) -> None:
    async def story(house: House) -> None:
        server = await started(house, 1)
        now = asyncio.get_running_loop().time()
        if how == "hangs":
            for step in range(60):
                house.forks.tick(now + 0.1 * step)
            assert ANSWER_WITHIN_S < 6.0 and house.told == [(1, "no answer within 5 s")]
        else:
            server.sock.send(b"nonsense")
            await until(lambda: house.told)
        assert server.killed

    play(story)


def test_a_program_that_cannot_be_loaded_is_reported(play: Play) -> None:
    async def story(house: House) -> None:
        house.forks.request(1)
        server = await house.server(0)
        server.sock.close()
        await house.heard((1, "the program could not be loaded: socket closed"))
        house.forks.request(2)
        server = await house.server(1)
        await until(lambda: house.forks.pids >= {1001})
        now = asyncio.get_running_loop().time()
        for step in range(int(LOADED_WITHIN_S) + 2):
            house.forks.tick(now + step)
        await house.heard((2, "the program could not be loaded: not loaded within 20 s"))
        house.refusal = FileNotFoundError(2, "No such file or directory")
        house.forks.request(3)
        await house.heard((3, "the program could not be loaded: No such file or directory"))

    play(story)


def test_a_new_program_is_used_when_it_is_loaded_and_the_one_before_is_kept_until_then(play: Play) -> None:
    async def story(house: House) -> None:
        old = await started(house, 1)
        old.say(Forked(1, 5))
        await house.heard((1, 5))
        renewing = asyncio.ensure_future(house.forks.renew())
        await house.server(1)
        house.forks.request(2)
        assert await asyncio.to_thread(old.asked) == 2, "until then the old one is asked"
        old.say(Forked(2, 6))
        await house.heard((2, 6))
        await house.loaded(1)
        assert await renewing == ""
        house.forks.request(3)
        assert await asyncio.to_thread(house.servers[1].asked) == 3 and not old.killed
        house.servers[1].say(Forked(3, 7))
        await house.heard((3, 7))
        house.forks.go_back()
        assert house.servers[1].killed and not old.killed
        renewing = asyncio.ensure_future(house.forks.renew())
        await house.loaded(2)
        assert await renewing == ""
        house.forks.keep()
        house.forks.keep()
        house.forks.go_back()
        assert old.killed and not house.servers[2].killed

    play(story)


def test_a_new_program_that_cannot_be_loaded_changes_nothing(play: Play) -> None:
    async def story(house: House) -> None:
        old = await started(house, 1)
        renewing = asyncio.ensure_future(house.forks.renew())
        (await house.server(1)).sock.close()
        assert await renewing == "the program could not be loaded: socket closed"
        old.say(Forked(1, 5))
        await house.heard((1, 5))
        renewing = asyncio.ensure_future(house.forks.renew())
        await house.server(2)
        await until(lambda: 1002 in house.forks.pids)
        now = asyncio.get_running_loop().time()
        for step in range(int(LOADED_WITHIN_S) + 2):  # it hangs
            house.forks.tick(now + step)
        assert "not loaded within" in await renewing and not old.killed
        house.forks.go_back()
        assert not old.killed

    play(story)


@pytest.mark.parametrize("how", ["it is answered", "it ends", "it hangs"])
def test_regression_requests_at_a_fork_server_that_was_not_needed_any_more_were_never_answered(
    play: Play, how: str
) -> None:
    """The requests of a fork server that is not needed any more are answered. A rolling reload failed while a worker
    was being forked: its end was never reported, and the service could not stop."""

    async def story(house: House) -> None:
        old = await started(house, 1)
        old.say(Forked(1, 5))
        await house.heard((1, 5))
        renewing = asyncio.ensure_future(house.forks.renew())
        new = await house.loaded(1)
        assert await renewing == ""
        for id in (2, 3, 4):
            house.forks.request(id)
        assert await asyncio.to_thread(new.asked) == 2
        house.unwanted = {4}
        house.forks.go_back()
        assert await asyncio.to_thread(old.asked) == 3, "what waited there is asked of the one before"
        old.say(Forked(3, 8))
        await house.heard((3, 8))
        assert not new.killed and house.forks.awaits_answer
        if how == "it is answered":
            new.say(Forked(2, 7))
            await house.heard((2, 7))
        elif how == "it ends":
            new.sock.close()
            await house.heard((2, "socket closed"))
        else:
            now = asyncio.get_running_loop().time()
            for step in range(60):
                house.forks.tick(now + 0.1 * step)
            await house.heard((2, "no answer within 5 s"))
        assert new.killed and not house.forks.awaits_answer and not old.killed
        house.forks.tick(0.0)
        assert house.forks.pids == {1000}

    play(story)


def test_regression_a_worker_whose_preparation_failed_for_a_fault_of_ours_was_never_answered(play: Play) -> None:
    async def story(house: House) -> None:
        prepare = house.prepare

        def faulty(id: int) -> Wanted | None:
            if id == 1:
                raise KeyError("slot")
            return prepare(id)

        house.prepare = faulty  # type: ignore[method-assign]
        server = await started(house, 2)
        house.forks.request(1)
        server.say(Forked(2, 5))
        await house.heard((2, 5), (1, "KeyError: 'slot'"))

    play(story)


@pytest.mark.parametrize("seed", range(12))
def test_after_any_events_every_requested_worker_is_answered_once(play: Play, seed: int) -> None:
    """Requests, withdrawals, reloads that succeed or fail, and fork servers that end, in any order."""
    chance = random.Random(seed)

    async def answer(server: FakeServer) -> None:
        """Act as the server until its end: load, then fork, refuse or end."""
        server.say(Loaded())
        while True:
            id = await asyncio.to_thread(server.asked)
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            what = chance.random()
            if what < 0.15:
                server.sock.shutdown(socket.SHUT_RDWR)
                return
            server.say(NotForked(id, "no memory") if what < 0.3 else Forked(id, id))

    async def story(house: House) -> None:
        answering: list[asyncio.Task[None]] = []
        forgotten: set[int] = set()
        unwanted: set[int] = set()
        start, prepare = house.start, house.prepare
        loop = asyncio.get_running_loop()

        def start_and_answer(sock: int, supervisor: int) -> FakeServer:
            server = start(sock, supervisor)
            loop.call_soon_threadsafe(lambda: answering.append(asyncio.ensure_future(answer(server))))
            return server

        def note(id: int) -> Wanted | None:
            wanted = prepare(id)
            if wanted is None:
                unwanted.add(id)
            return wanted

        fork_client.start_fork_server = start_and_answer  # type: ignore[assignment]
        house.prepare = note  # type: ignore[method-assign]
        asked = 0
        for _ in range(60):
            what = chance.randrange(10)
            if what < 4:
                asked += 1
                house.unwanted |= {asked} if chance.random() < 0.2 else set()
                house.forks.request(asked)
            elif what == 4 and asked and house.forks.forget(id := chance.randint(1, asked)):
                forgotten.add(id)
            elif what == 5:
                await house.forks.renew()
            elif what == 6:
                house.forks.go_back()
            elif what == 7:
                house.forks.keep()
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
        await until(lambda: len(house.told) + len(forgotten) + len(unwanted) >= asked)
        answered = [id for id, _ in house.told] + [*forgotten, *unwanted]
        assert sorted(answered) == list(range(1, asked + 1)) and house.open == 0
        house.forks.close()
        await asyncio.gather(*answering, return_exceptions=True)

    play(story)
