"""The server keeps no object of a connection that is over, and needs no garbage collection to free it.

The collector hardly ever runs in a worker, and the objects of a connection refer to each other in cycles. So every way
in which a connection can end has to break these cycles. In each test a few clients play one story while the collector
is off. Afterwards no new object of the packages in OURS may be alive, and a collection may find none of them.
"""

import asyncio
import collections
import gc
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.conftest import Run
from tests.live import Live, live
from tests.raw_ws import BINARY, CLOSE, CONTINUATION, PING, TEXT, RawSocket, frame
from tests.waiting import until

CLIENTS = 5
EDGE = ("koko_presence.server", "koko_presence._fastpath", "koko_presence.rooms", "koko_presence.users")
BY_DESIGN = "koko_presence.owner.shard.Ended"  # the end of a membership is stored for 10 s
OURS = ("koko_presence", "picows", "aiohttp", "uvloop")


class Client(RawSocket):
    """A raw client; the story decides what it sends."""

    def say(self, **message: Any) -> None:
        self.send(frame(TEXT, json.dumps(message).encode()))

    def hear(self, type_: str) -> dict[str, Any]:
        while (message := json.loads(self.read_frame().payload)).get("type") != type_:
            pass
        return dict(message)

    def enter(self, token: str) -> None:
        self.upgrade()
        self.say(type="auth", token=token)
        self.hear("authenticated")
        self.say(type="join", roomId="video_1", roomType="video")
        self.hear("joined")
        self.say(type="cursor", roomId="video_1", data={"timestamp": 1.5, "x": 0.25, "y": 0.5})
        # exceeds the rate, so it is held
        self.say(type="cursor", roomId="video_1", data={"timestamp": 1.5, "x": 0.75, "y": 0.5})

    def close(self) -> None:
        self.sock.close()


def reset(ws: Client) -> None:
    ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Story = Callable[[Client, str], object]


def entered(*last: bytes) -> Story:
    """A story: the client joins a room and sends the given frames last."""

    def story(ws: Client, token: str) -> None:
        ws.enter(token)
        for each in last:
            ws.send(each)
        if last:
            ws.read_to_end()

    return story


def goodbye(ws: Client, token: str) -> None:
    ws.enter(token)
    ws.send(frame(CLOSE, b"\x03\xe8"))
    ws.read_close()


def cut_off(ws: Client, token: str) -> None:
    ws.enter(token)
    reset(ws)


def mute(ws: Client, token: str) -> None:
    """Receive a close and do not answer it."""
    ws.upgrade()
    ws.say(type="auth", token="no token")
    assert ws.read_close() == 4401


def asks_three_times(ws: Client, token: str) -> None:
    ws.upgrade()
    for _ in range(3):
        ws.say(type="get_active", roomId="video_1")
    assert ws.read_close() == 4401
    ws.send(frame(CLOSE, b"\x11\x31"))
    ws.read_to_end()


def leaves_and_goes(ws: Client, token: str) -> None:
    ws.enter(token)
    ws.say(type="leave", roomId="video_1")
    ws.hear("left")
    ws.send(frame(CLOSE))
    ws.read_to_end()


def joins_and_is_gone(ws: Client, token: str) -> None:
    ws.upgrade()
    ws.say(type="auth", token=token)
    ws.say(type="join", roomId="video_1", roomType="video")


def trpc(ws: Client, token: str) -> None:
    ws.upgrade("/trpc", Authorization=f"Bearer {token}")
    calls: list[dict[str, Any]] = [
        {"id": 1, "method": "subscription", "params": {"path": "presence.onEvent", "input": {}}},
        {"id": 2, "method": "mutation", "params": {"path": "presence.join", "input": {"roomId": "video_1"}}},
        {"id": 3, "method": "query", "params": {"path": "presence.getActive", "input": {"roomId": "video_1"}}},
    ]
    ws.send(frame(TEXT, json.dumps(calls).encode()))
    while json.loads(ws.read_frame().payload).get("id") != 3:
        pass


def trpc_without_token(ws: Client, token: str) -> None:
    ws.upgrade("/trpc")
    assert ws.read_close() == 4401


def http(ws: Client, token: str) -> None:
    ws.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    ws.read_head()


def http_call(ws: Client, token: str) -> None:
    ws.send(
        b"GET /trpc/presence.getActive?input=%7B%22roomId%22%3A%22video_1%22%7D HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    ws.read_head()


def event_stream(ws: Client, token: str, input: str = "{}") -> None:
    request = (
        f"GET /trpc/presence.onEvent?input={quote(input)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    )
    ws.send(request.encode() + b"\r\n")
    ws.read_head()
    while b"restore-id" not in ws.buffer and b"serialized-error" not in ws.buffer:
        ws._fill()


def stream_of_a_room(ws: Client, token: str) -> None:
    """The client is gone while the stream waits for its join."""
    event_stream(ws, token, '{"roomId":"video_1"}')


def refused_stream(ws: Client, token: str) -> None:
    event_stream(ws, "nonsense")
    ws.read_to_end()


def http_then_upgrade(ws: Client, token: str) -> None:
    ws.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "200" in ws.read_head()
    ws.buffer = b""
    goodbye(ws, token)


STORIES: dict[str, Story] = {
    "says nothing": lambda ws, token: None,
    "half a handshake": lambda ws, token: ws.send(b"GET /presence HTTP/1.1\r\n"),
    "refused: origin": lambda ws, token: ws.upgrade(Origin="https://evil.example"),
    "refused: path": lambda ws, token: ws.upgrade("/elsewhere"),
    "refused: key": lambda ws, token: ws.upgrade(Sec_WebSocket_Key="short"),
    "a stranger": lambda ws, token: ws.upgrade(),
    "a stranger who is reset": lambda ws, token: (ws.upgrade(), reset(ws)),
    "in a room, gone": entered(),
    "goodbye": goodbye,
    "reset": cut_off,
    "left the room first": leaves_and_goes,
    "gone while joining": joins_and_is_gone,
    "refused: token": mute,
    "refused: no token": asks_three_times,
    "a bad frame": entered(b"\x83\x80\0\0\0\0" + b"x" * 100_000),
    "too big a frame": entered(frame(BINARY, bytes(70_000))[:20]),
    "text that is not UTF-8": entered(frame(TEXT, b"\xff")),
    "half a frame": lambda ws, token: (ws.enter(token), ws.send(frame(BINARY, bytes(60_000))[:50_000])),
    "half a message": lambda ws, token: (ws.enter(token), ws.send(frame(TEXT, b"x", fin=False) + frame(PING))),
    "a wrong fragment": entered(frame(CONTINUATION, b"x")),
    "trpc": trpc,
    "trpc without a token": trpc_without_token,
    "event stream": event_stream,
    "event stream, reset": lambda ws, token: (event_stream(ws, token), reset(ws)),
    "event stream of a room": stream_of_a_room,
    "event stream: refused": refused_stream,
    "event stream: more requests": lambda ws, token: (event_stream(ws, token), ws.send(b"GET / HTTP/1.1\r\n")),
    "http": http,
    "http with a call": http_call,
    "http, then an upgrade": http_then_upgrade,
}


@pytest.fixture(scope="module", autouse=True)
def others_set_aside() -> Iterator[None]:
    """Excludes the objects of earlier tests in this process from the collections, which also makes these fast."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def ours(objects: list[Any]) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for kind, count in collections.Counter(map(type, objects)).items():
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(OURS) and name != BY_DESIGN:
            found[name] += count
    return found


def in_rings() -> collections.Counter[str]:
    """Objects of the packages in OURS that a collection finds in reference cycles."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = ours(gc.garbage)
    gc.garbage.clear()
    return found


async def all_gone(server: Live) -> None:
    """Wait until every connection has ended and no room has a member."""
    async with asyncio.timeout(10):
        for worker in server.workers:
            while worker.acceptor.open_count or worker.hub.connections or worker.shard.rooms:
                await asyncio.sleep(0.01)
    await asyncio.sleep(0.02)  # callbacks that were scheduled with call_soon have run


async def tell(server: Live, story: Story, tls: ssl.SSLContext | None) -> None:
    """Play the story with CLIENTS clients per worker, one after another. Each one closes its socket at the end."""
    for worker in server.workers:
        port = list(worker.acceptor.sockets)[-1].getsockname()[1]

        def talk(port: int = port, token: str = server.token("ann")) -> None:
            ws = Client(port, tls=tls)
            try:
                story(ws, token)
            finally:
                ws.close()

        for _ in range(CLIENTS):
            await asyncio.to_thread(talk)


@pytest.mark.parametrize("over_tls", [False, pytest.param(True, marks=pytest.mark.long)], ids=["tcp", "tls"])
@pytest.mark.parametrize("name", STORIES)
def test_no_object_of_a_closed_connection_remains(
    run: Run, name: str, over_tls: bool, certificate: tuple[Path, Path], trusting: ssl.SSLContext
) -> None:
    context = trusting if over_tls else None

    async def test() -> None:
        tls = certificate if over_tls else None
        async with live(
            grace_s=0,
            room_linger_s=0,
            auth_timeout_s=0.1 if name == "trpc without a token" else 10.0,
            tls=tls,
            origins=["https://app.example"],
        ) as server:
            await tell(server, STORIES[name], context)  # creates the objects that are made once per worker
            await all_gone(server)
            with no_collector():
                before = ours(gc.get_objects())
                await tell(server, STORIES[name], context)
                await all_gone(server)
                left = (ours(gc.get_objects()) - before) + in_rings()
                assert not {kind: count for kind, count in left.items() if count >= CLIENTS}

    run(test())


@pytest.mark.parametrize("name", ["goodbye", "reset", "trpc"])
def test_no_object_of_a_closed_connection_remains_on_several_workers(run: Run, name: str) -> None:
    """Backup owners keep replicas of rooms and users for a while. These are no objects of a connection."""

    async def test() -> None:
        async with live(workers=2, grace_s=0, room_linger_s=0) as server:
            await tell(server, STORIES[name], None)
            await all_gone(server)
            with no_collector():
                before = ours(gc.get_objects())
                await tell(server, STORIES[name], None)
                await all_gone(server)
                alive = ours(gc.get_objects()) - before
                kept = {kind: count for kind, count in alive.items() if kind.startswith(EDGE) and count >= CLIENTS}
                assert not kept
                assert not {kind: count for kind, count in in_rings().items() if count >= CLIENTS}

    run(test())


@pytest.mark.long
def test_no_object_of_a_connection_ended_by_the_server_remains(run: Run) -> None:
    """Connections that the server ends: aborted without a close frame, kicked, or closed for a restart while in a
    room."""

    async def test() -> None:
        async with live(grace_s=0, room_linger_s=0) as server:
            ends: dict[str, Callable[[Any], None]] = {
                "aborted": lambda session: session.link.abort(),
                "kicked": lambda session: session.finish(4403),
                "restart": lambda session: session.finish(1012),
            }
            server.token("ann")  # the first token creates the signer that all later ones share
            for name, end in ends.items():
                with no_collector():
                    before = ours(gc.get_objects())
                    people = [await asyncio.to_thread(come, server.worker.port, server.token("ann")) for _ in range(3)]
                    for session in list(server.worker.hub.connections.values()):
                        end(session)
                    del session
                    await asyncio.to_thread(hang_up, people)
                    await all_gone(server)

                    # cancelled timers are freed late
                    await until(lambda before=before: not three_of(ours(gc.get_objects()) - before))
                    assert not three_of(in_rings()), name

    run(test())


def three_of(left: collections.Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in left.items() if count >= 3}


def hang_up(people: list[Client]) -> None:
    for ws in people:
        ws.read_to_end()
        ws.close()


def come(port: int, token: str) -> Client:
    ws = Client(port)
    ws.enter(token)
    return ws
