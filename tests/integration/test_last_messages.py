"""The server handles the last messages of a client whose connection ends while the server is not reading it."""

import asyncio
import contextlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from koko_presence.server.http import request_scheduler
from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import TEXT, RawSocket, frame
from tests.waiting import until

BYTES_HZ = 16 * 1024  # of a connection: twice as many at once


def say(raw: RawSocket, type_: str, **more: Any) -> None:
    raw.send(text(type_, **more))


def text(type_: str, **more: Any) -> bytes:
    return frame(TEXT, json.dumps({"type": type_, "roomId": "room_1", **more}).encode())


def enter(server: Live, user: str, context: ssl.SSLContext | None) -> RawSocket:
    raw = RawSocket(server.worker.port, tls=context)
    assert raw.upgrade().startswith("HTTP/1.1 101")
    say(raw, "auth", token=server.token(user))
    say(raw, "join", roomType="project")
    read_until(raw, b'"joined"')
    return raw


def read_until(raw: RawSocket, wanted: bytes) -> list[bytes]:
    """All messages up to the one that contains `wanted`."""
    got = [b""]
    while wanted not in got[-1]:
        got.append(raw.read_frame().payload)
    return got


def end(raw: RawSocket, how: str) -> None:
    """End the connection: with the end of the stream, over TLS with a close_notify before it, or with unread data,
    which resets it."""
    if how == "close_notify" and isinstance(raw.sock, ssl.SSLSocket):
        raw.sock.setblocking(False)
        with contextlib.suppress(ssl.SSLError):  # the peer's close_notify has not arrived, or other data has
            raw.sock.unwrap()
    if how == "reset":
        raw.sock.close()
    else:
        raw.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("over_tls", "how", "kibibytes"),
    [
        (False, "end", 40),
        (False, "reset", 40),
        (True, "end", 34),
        (True, "end", 60),
        (True, "close_notify", 34),
        (True, "close_notify", 60),
    ],
)
def test_regression_the_last_messages_of_a_client_that_is_not_read_are_handled(
    run: Run, over_tls: bool, how: str, kibibytes: int, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    """A client above its budgets is not read for a moment. The messages that it had sent before its connection ended
    were dropped: over TLS at the end of the stream, over TLS and TCP at the first write that failed."""

    def story(server: Live) -> None:
        context = trusting if over_tls else None
        with enter(server, "bob", context) as bob, enter(server, "ann", context) as ann:
            ann.send(
                text("broadcast", data={"x": "y" * 950}) * kibibytes
                + text("broadcast", data={"x": "last words"})
                + text("leave")
            )
            end(ann, how)
            if how == "reset":
                for _ in range(20):  # the server notices the end when a write fails
                    say(bob, "broadcast", data={"to": "nobody"})
            got = read_until(bob, b'"user_left"')
            assert b'"left"' in got[-1], "not because the connection was lost"
            assert any(b"last words" in each for each in got)

    async def test() -> None:
        async with live(
            tls=certificate if over_tls else None,
            grace_s=60,
            connection_bytes_hz=BYTES_HZ,
            max_frame_bytes=4096,
            broadcast_burst=100,
        ) as server:
            await asyncio.to_thread(story, server)
            await until(lambda: server.worker.acceptor.open_count == 0)

    run(test())


@pytest.mark.parametrize("over_tls", [False, True], ids=["tcp", "tls"])
def test_regression_a_call_over_http_is_done_though_its_connection_ends_at_once(
    run: Run, over_tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page sends its last call in this way when it is closed. The calls are many at once, so that they queue."""
    monkeypatch.setattr(request_scheduler, "REQUESTS_PER_ITERATION", 1)
    people = 20

    def call_all(server: Live, name: str, input: dict[str, str]) -> None:
        body = json.dumps(input).encode()
        with contextlib.ExitStack() as stack:
            context = trusting if over_tls else None
            raws = [stack.enter_context(RawSocket(server.worker.port, tls=context)) for _ in range(people)]
            for number, raw in enumerate(raws):
                head = (
                    f"POST /trpc/presence.{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                    f"Authorization: Bearer {server.token(f'user_{number}')}\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                raw.send(head.encode() + body)
                end(raw, "close_notify")

    async def test() -> None:
        async with live(tls=certificate if over_tls else None) as server:
            members = lambda: sum(len(room.members) for room in server.worker.shard.rooms.values())  # noqa: E731
            await asyncio.to_thread(call_all, server, "join", {"roomId": "room_1", "roomType": "project"})
            await until(lambda: members() == people)
            await asyncio.to_thread(call_all, server, "leave", {"roomId": "room_1"})
            await until(lambda: members() == 0)

    run(test())
