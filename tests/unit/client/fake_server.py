"""A server that sends only what a test makes it send, on a real loopback socket, and a client on a fake clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from koko_presence.client import PresenceClient, Room
from tests.waiting import PATIENCE_S
from tests.world import FakeHandle, FakeTimers

LIMITS = {"cursorHz": 20.0, "selectionHz": 20.0}


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine on uvloop."""

    async def bounded() -> None:
        async with asyncio.timeout(1.5 * PATIENCE_S):
            await test()

    uvloop.run(bounded())


async def until(true: Callable[[], bool]) -> None:
    """Run the event loop until the condition is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.001)


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.got: list[dict[str, Any]] = []
        self.unread: list[dict[str, Any]] = []
        self.over = asyncio.Event()

    async def read(self) -> None:
        async for text in self.socket:
            self.got.append(msgspec.json.decode(text))
            self.unread.append(self.got[-1])

    async def expect(self, type_: str) -> dict[str, Any]:
        """Return the next unread message, which must be of this type; heartbeats are skipped unless they are
        expected."""

        def found() -> bool:
            while type_ != "heartbeat" and self.unread and self.unread[0]["type"] == "heartbeat":
                del self.unread[0]
            return bool(self.unread)

        await until(found)
        message = self.unread.pop(0)
        assert message["type"] == type_, message
        return message

    async def send(self, type_: str, **fields: Any) -> None:
        await self.socket.send(msgspec.json.encode({"type": type_, **fields}).decode())

    async def event(self, type_: str, user: str, data: Any = None, room: str = "video_1", **more: Any) -> None:
        """Send an event of `user`, whose session is s_<user>."""
        fields = {"roomId": room, "userId": user, "sessionId": f"s_{user}", "timestamp": "2025-01-15T10:30:00.000Z"}
        await self.send(type_, **fields, data=data, **more)

    async def welcome(self, **more: Any) -> dict[str, Any]:
        """Answer the client's auth and return it."""
        auth = await self.expect("auth")
        fields = {
            "userId": "ann", "sessionId": "s_ann", "resumeToken": "resume-1", "resumed": False, "rooms": [],
            "serverTime": 1_736_937_000_000, "heartbeatInterval": 30.0, "limits": LIMITS, "caps": [],
        }  # fmt: skip
        await self.send("authenticated", **{**fields, "id": auth["id"], **more})
        return auth

    async def let_in(self, *others: str, send_interval_ms: int = 50, **room: Any) -> dict[str, Any]:
        """Answer the client's join and return it. Ann and `others` are then in the room."""
        join = await self.expect("join")
        await self.send(
            "joined", id=join["id"], roomId=join["roomId"], assignedColor="#3B82F6", sessionId="s_ann", seq=7,
            rights={"control": True, "broadcast": True, "moderate": False},
            serverTime=1_736_937_000_000, sendIntervalMs=send_interval_ms,
            room=room_of("ann", *others, id=join["roomId"], **room),
        )  # fmt: skip
        return join

    async def close(self, code: int) -> None:
        """Close with a code and wait until the client has disconnected."""
        await self.socket.close(code)
        await self.over.wait()

    async def cut(self) -> None:
        """Abort the connection without a close frame."""
        self.socket.transport.abort()
        await self.over.wait()


def room_of(*users: str, id: str = "video_1", **fields: Any) -> dict[str, Any]:
    """A PresenceRoom with one session for each user."""
    rows = [user_row(user, id) for user in users]
    counts = {"userCount": len(rows), "sessionCount": len(rows)}
    return {
        "id": id, "type": "video", "users": rows, **counts, "syncEnabled": True, "controlRequests": [],
        "createdAt": "2025-01-15T10:30:00.000Z", **fields,
    }  # fmt: skip


def user_row(user: str, room: str = "video_1", **fields: Any) -> dict[str, Any]:
    """A PresenceUser."""
    return {
        "userId": user, "sessionId": f"s_{user}", "name": user.title(), "color": "#10B981", "status": "active",
        "activity": "active", "connected": True, "lastActiveAt": "2025-01-15T10:30:00.000Z", "roomId": room,
        "roomType": "video", "isTyping": False, "isWatching": False, **fields,
    }  # fmt: skip


class Timers(FakeTimers):
    """The fake clock, which also records the scheduled times."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def due_at(self) -> list[float]:
        """The times of all callbacks that have not been cancelled."""
        return [at for at, count, _ in self._queue if count not in self._cancelled]

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeHandle:
        self.delays.append(round(delay, 6))
        return super().call_later(delay, callback)


class Stage:
    """A fake server and clients for it. The client's random number is always one half."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.peers: list[Peer] = []
        self.unmet: list[Peer] = []
        self.port = 0
        self.stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/presence"

    def client(self, token: Any = "a token", **options: Any) -> PresenceClient:
        options = {"min_backoff_s": 1.0, "max_backoff_s": 8.0, **options}
        return PresenceClient(
            self.url, token, clock=self.timers.clock, timers=self.timers, random=lambda: 0.5, **options
        )

    async def serve(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self.peers.append(peer)
        self.unmet.append(peer)
        try:
            await peer.read()
        except ConnectionClosed:
            pass  # with any code but 1000
        finally:
            peer.over.set()

    async def meet(self) -> Peer:
        """Return the next connection."""
        await until(lambda: bool(self.unmet))
        return self.unmet.pop(0)

    async def meet_after(self, seconds: float) -> Peer:
        """Return the next connection, which must arrive exactly `seconds` from now."""
        await self.waits(seconds)
        self.timers.advance(seconds - 0.01)
        await settle()
        assert not self.unmet, "too soon"
        self.timers.advance(0.02)
        return await self.meet()

    async def waits(self, seconds: float) -> None:
        """Wait until a timer is scheduled for `seconds` from now."""
        await until(lambda: any(abs(at - self.timers.now - seconds) < 1e-6 for at in self.timers.due_at()))

    async def meet_never(self) -> None:
        """Assert that no connection arrives, however long the test waits."""
        for _ in range(5):
            await settle()
            assert not self.unmet
            self.timers.advance(60.0)

    async def online(self, token: Any = "a token", **options: Any) -> tuple[PresenceClient, Peer]:
        """Return a client that is connected and authenticated, and its peer."""
        client = self.client(token, **options)
        connecting = asyncio.ensure_future(client.connect())
        peer = await self.meet()
        await peer.welcome()
        await connecting
        return client, peer

    async def in_room(self, *others: str, **options: Any) -> tuple[PresenceClient, Peer, Room]:
        """Return a client that is in video_1 with `others`, its peer and the room."""
        client, peer = await self.online(**options)
        joining = asyncio.ensure_future(client.join("video_1", "video"))
        await peer.let_in(*others)
        return client, peer, await joining


async def settle() -> None:
    """Run some loop iterations, enough for the messages under way on loopback. Iterations are counted, because a long
    sleep may pass in a single one on a busy machine."""
    for _ in range(10):
        await asyncio.sleep(0.002)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A stage; the test must close its clients, or they must be closed for good."""
    it = Stage()
    async with serve(it.serve, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1) as server:
        it.port = next(iter(server.sockets)).getsockname()[1]
        it.stop = server.server.close
        yield it
