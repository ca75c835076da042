"""Clients that do not read, over real sockets, plain and TLS [N1]."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from koko_presence.server import websocket
from koko_presence.server.session import Session
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import CLOSE, PONG, TEXT, frame, handshake
from tests.waiting import PATIENCE_S, until

BIG = "x" * 7000


class Member:
    """A member of room_1 with the smallest possible kernel buffer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.got = reader, writer, b""

    def say(self, type_: str, **more: Any) -> None:
        self.writer.write(frame(TEXT, json.dumps({"type": type_, "roomId": "room_1", **more}).encode()))

    async def read(self) -> None:
        while data := await self.reader.read(65536):
            self.got += data


async def enter(server: Live, user: str, **headers: str) -> Member:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.worker.port))
    sock.setblocking(False)
    context = None
    if server.worker.config.server.tls_cert:
        context = ssl.create_default_context(cafile=server.worker.config.server.tls_cert)
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=context, server_hostname="localhost" if context else None, limit=1024
    )
    writer.write(handshake(**headers))
    await reader.readuntil(b"\r\n\r\n")
    member = Member(reader, writer)
    member.say("auth", token=server.token(user))
    member.say("join", roomType="project")
    return member


@asynccontextmanager
async def stage(tls: tuple[Path, Path] | None, **limits: Any) -> AsyncIterator[tuple[Live, Member, Session, Member]]:
    """A server, a member that does not read with its session, and a member that sends and reads."""
    async with live(
        tls=tls, broadcast_hz=1000, broadcast_burst=1000, connection_hz=1000, connection_bytes_hz=1 << 26, **limits
    ) as server:
        deaf = await enter(server, "deaf")
        await until(lambda: len(server.worker.hub.sessions) == 1)
        session = next(iter(server.worker.hub.sessions.values()))
        ann = await enter(server, "ann")
        reading = asyncio.ensure_future(ann.read())
        await until(lambda: b'"joined"' in ann.got)
        yield server, deaf, session, ann
        reading.cancel()
        for member in (deaf, ann):
            member.writer.transport.abort()


async def fill(session: Session, ann: Member, at_least: int) -> None:
    """Send broadcasts as ann until at least `at_least` bytes wait for the other member."""
    for _ in range(400):
        if session.link.unsent_bytes >= at_least:
            return
        ann.say("broadcast", data={"x": BIG})
        await asyncio.sleep(0.002)
    raise AssertionError("the kernel takes it all")


@pytest.fixture(params=["plain", pytest.param("tls", marks=pytest.mark.long)])
def tls(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> tuple[Path, Path] | None:
    return certificate if request.param == "tls" else None


def test_regression_a_client_that_was_slow_once_gets_cursors_again(run: Run, tls: tuple[Path, Path] | None) -> None:
    """Over TLS the outbox was not notified when the socket had drained, so cursors were held back for good."""

    async def test() -> None:
        async with stage(tls) as (_, deaf, session, ann):
            await fill(session, ann, 80_000)
            ann.say("cursor", data={"x": 0.125, "y": 0.5})
            await asyncio.sleep(0.1)
            reading = asyncio.ensure_future(deaf.read())
            await until(lambda: b'"x":0.125' in deaf.got)
            ann.say("cursor", data={"x": 0.375, "y": 0.5})
            await until(lambda: b'"x":0.375' in deaf.got)
            reading.cancel()

    run(test())


def test_regression_a_client_without_traffic_for_a_while_is_not_stuck(run: Run, tls: tuple[Path, Path] | None) -> None:
    """Over TLS every other write marked the socket as full although it was not. Of 100 members without any traffic, 70
    were closed with 4413 after 10 s."""

    async def test() -> None:
        async with stage(tls) as (server, deaf, session, ann):
            reading = asyncio.ensure_future(deaf.read())
            sessions = [session, *(each for each in server.worker.hub.sessions.values() if each is not session)]
            for number in range(4):
                ann.say("broadcast", data={"number": number})
                await until(lambda number=number: b'"number": %d' % number in deaf.got)
                await until(lambda: all(each.link.unsent_bytes == 0 for each in sessions))
                for each in sessions:
                    taken_bytes = each.outbox.taken_bytes()
                    much_later = server.worker.hub.clock() + 3600.0
                    each._link_watch.note_taken(taken_bytes, much_later)
                    assert not each._link_watch.is_stuck(much_later)
            reading.cancel()

    run(test())


async def move(ann: Member, bob: Member, steps: int) -> None:
    """Move ann's cursor step by step until bob has received the last position."""
    for number in range(steps):
        ann.say("cursor", data={"x": number / 1024, "y": 0.5})
        await asyncio.sleep(0.001)
    ann.say("cursor", data={"x": 1, "y": 0.5})
    await until(lambda: b'"x":1.0' in bob.got)


async def count_old_cursors(tls: tuple[Path, Path] | None, waiting_bytes: int) -> int:
    """Number of cursors that a member receives which did not read during a thousand steps of a cursor. Before these at
    least `waiting_bytes` waited in its transport."""
    async with stage(tls, cursor_hz=1000, room_events_hz=10_000, flush_window_ms=0) as (server, deaf, session, ann):
        bob = await enter(server, "bob")
        reading = [asyncio.ensure_future(bob.read())]
        await until(lambda: b'"joined"' in bob.got)
        await fill(session, ann, waiting_bytes)
        before = len(bob.got)
        await move(ann, bob, 1000)
        assert len(bob.got) - before > 60_000, "or there was nothing to be dropped"
        reading.append(asyncio.ensure_future(deaf.read()))
        await until(lambda: b'"x":1.0' in deaf.got)
        for each in reading:
            each.cancel()
        bob.writer.transport.abort()
        return deaf.got.count(b'"type":"cursor"')


def test_regression_a_slow_reader_gets_a_round_of_the_newest_next(run: Run, tls: tuple[Path, Path] | None) -> None:
    """200 KB of old cursors were ahead of the newest, half of them in the kernel: 15 s on a line of 64 kbit/s."""
    assert run(count_old_cursors(tls, 1)) < 100


def test_the_kernel_holds_back_no_more_than_a_few_old_cursors(run: Run) -> None:
    """Without TLS only: a TLS client reads ahead here, so that the kernel never holds back data."""
    assert run(count_old_cursors(None, 0)) < 100


def test_an_answer_does_not_wait_for_what_is_held_back(run: Run) -> None:
    """Each answer moved the newest cursor of every member into the transport before itself."""

    async def test() -> None:
        async with stage(None) as (_, deaf, session, ann):
            await fill(session, ann, 30_000)
            ann.say("cursor", data={"x": 0.125, "y": 0.5})
            deaf.say("heartbeat")
            await asyncio.sleep(0.1)
            ann.say("cursor", data={"x": 0.375, "y": 0.5})
            await asyncio.sleep(0.1)
            reading = asyncio.ensure_future(deaf.read())
            await until(lambda: b'"x":0.375' in deaf.got)
            assert b'"pong"' in deaf.got
            assert b'"x":0.125' not in deaf.got
            reading.cancel()

    run(test())


def test_a_client_that_reads_nothing_is_cut(run: Run, tls: tuple[Path, Path] | None) -> None:
    async def test() -> None:
        async with stage(tls, send_stuck_s=0.5) as (_, _deaf, session, ann):
            await fill(session, ann, 30_000)
            async with asyncio.timeout(PATIENCE_S):
                while session.state != "closed":  # on a busy core the kernel of the other end may still take some of it
                    ann.say("broadcast", data={"x": BIG})
                    await asyncio.sleep(0.05)

    run(test())


def test_regression_a_client_that_closes_and_never_reads_keeps_no_connection(
    run: Run, tls: tuple[Path, Path] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.3)

    async def test() -> None:
        async with stage(tls) as (server, deaf, session, ann):
            await fill(session, ann, 300_000)
            deaf.writer.write(frame(CLOSE, b"\x03\xe8"))
            await until(lambda: server.worker.acceptor.open_count == 1)

    run(test())


def test_regression_a_fault_on_the_short_way_is_logged_and_cuts_no_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with stage(None) as (server, _, _, ann):

            def broken(room: Any, now: float) -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(server.worker.shard, "on_second", broken)
            server.worker.shard.rooms["room_1"].meter.restart(0.0)  # the next event completes one second of the meter
            ann.say("cursor", data={"x": 0.5, "y": 0.5})
            await until(lambda: "a cursor failed" in caplog.text)
            ann.say("heartbeat")
            await until(lambda: b'"pong"' in ann.got)

    run(test())


@pytest.mark.long
def test_regression_almost_no_uncounted_bytes_wait_below_tls(run: Run, certificate: tuple[Path, Path]) -> None:
    """The loop's transport buffered 64 KiB below TLS that the outbox did not count, so a slow reader was treated as a
    fast one."""

    async def test() -> None:
        async with stage(certificate, cursor_hz=1000, room_events_hz=10_000, flush_window_ms=0) as (
            server, deaf, session, ann,
        ):  # fmt: skip
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
            bob = await enter(server, "bob")
            reading = asyncio.ensure_future(bob.read())
            await until(lambda: b'"joined"' in bob.got)
            for _ in range(300):
                await move(ann, bob, 10)
                if session.outbox.slow:
                    break
                bob.got = b""
            assert session.outbox.slow and 0 < session.link.unsent_bytes < 16_384
            reading.cancel()
            bob.writer.transport.abort()

    run(test())


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "Via"])
def test_behind_a_proxy_cursors_wait_until_a_ping_is_answered_n1(
    run: Run, tls: tuple[Path, Path] | None, field: str
) -> None:
    """A proxy reads as fast as the server writes, so the socket shows nothing of a slow line: a reader of 8 kB/s behind
    nginx saw cursors that were 16 s old (p50), and was cut off because its ping waited behind them."""

    async def test() -> None:
        async with stage(tls, cursor_hz=1000, room_events_hz=10_000, flush_window_ms=0) as (server, _, _, ann):
            bob = await enter(server, "bob")
            eve = await enter(server, "eve", **{field: "for=203.0.113.9"})
            readings = [asyncio.ensure_future(each.read()) for each in (bob, eve)]
            await until(lambda: b'"joined"' in bob.got and b'"joined"' in eve.got)
            await move(ann, bob, 200)
            bob_cursors, eve_cursors = (each.got.count(b'"cursor_moved"') for each in (bob, eve))
            assert bob_cursors > 100 and eve_cursors < 40 and b'"x":1.0' not in eve.got
            assert eve.got.count(PING) == 1 and PING not in bob.got
            answer(eve)
            await until(lambda: b'"x":1.0' in eve.got)
            assert eve.got.count(b'"cursor_moved"') == eve_cursors + 1
            for reading in readings:
                reading.cancel()
            for member in (bob, eve):
                member.writer.transport.abort()

    run(test())


PING = b"\x89\x02"


def answer(member: Member) -> None:
    """Send the pong to the last ping that the member has read."""
    at = member.got.rindex(PING) + len(PING)
    member.writer.write(frame(PONG, member.got[at : at + 2]))
