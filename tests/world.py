"""A whole worker without sockets: the real hub, sessions, bus, shard and rooms on a fake clock.

`World` moves time; `Client` is a browser's end of one connection, as bytes. Nothing here decides anything.
"""

import heapq
from collections.abc import Callable
from typing import Any

import msgspec

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.auth.access import AllowAll
from koko_presence.auth.tokens import Identity, ResumeTokens, TokenRefused
from koko_presence.cluster.bus import LocalBus
from koko_presence.edge.hub import Hub
from koko_presence.limits import Limits, RoomOptions
from koko_presence.shard import Shard

UNIX_START_S = 1_736_937_000.0  # 2025-01-15T10:30:00Z, the specification's own moment
SECRET = "a secret for tests that is long enough"


class FakeTimers:
    """The loop's call_soon and call_later on a clock that only `advance` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._count = 0

    def clock(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object]) -> "FakeHandle":
        return self.call_later(0.0, callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> "FakeHandle":
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, callback))
        return FakeHandle(self, self._count)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            at, count, callback = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            if count in self._cancelled:
                self._cancelled.discard(count)
            else:
                callback()
        self.now = end

    def cancel(self, count: int) -> None:
        self._cancelled.add(count)


class FakeHandle:
    def __init__(self, timers: FakeTimers, count: int) -> None:
        self._timers, self._count = timers, count

    def cancel(self) -> None:
        self._timers.cancel(self._count)


class FakeVerifier:
    """Tokens are `user`, `user:Name` or `user:Name:rooms-json`; `bad...` is refused."""

    def __init__(self) -> None:
        self.expires_at_s = int(UNIX_START_S) + 86_400
        self.presence = True

    def verify(self, token: str, now_s: float) -> Identity:
        if token.startswith("bad"):
            raise TokenRefused("it is bad")
        user, _, rest = token.partition(":")
        name, _, rooms = rest.partition(":")
        return Identity(
            user_id=user,
            name=name or user.title(),
            image=None,
            expires_at_s=self.expires_at_s,
            rooms=msgspec.json.decode(rooms) if rooms else {},
            presence=self.presence,
        )


class Client:
    """One connection, seen from the browser. `got` is every message so far, decoded; `take` hands over the new ones."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.raw: list[bytes] = []
        self.got: list[dict[str, Any]] = []
        self._taken = 0
        self.closed: int | None = None
        self.pings = 0
        self.answers_pings = True
        self.unsent_bytes = 0
        self.writes = 0
        self.session = world.hub.accept(self)

    # the connection, as the session sees it
    def send_frames(self, data: bytes) -> None:
        self.writes += 1
        at = 0
        while at < len(data):
            assert data[at] == 0x81
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            self.raw.append(data[at + head : at + head + size])
            self.got.append(msgspec.json.decode(self.raw[-1]))
            at += head + size

    def send_ping(self, data: bytes) -> None:
        self.pings += 1
        if self.answers_pings:
            self.session.on_pong(data)

    def promote(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None:
        self.closed = code

    def abort(self) -> None:
        self.closed = 1006

    # the browser
    def send(self, message: Any = None, **fields: Any) -> None:
        """Send one message and let the loop turn once."""
        self.post(message, **fields)
        self.world.settle()

    def post(self, message: Any = None, **fields: Any) -> None:
        """Send without letting the loop turn."""
        if self.closed is None:
            data = message if isinstance(message, bytes) else msgspec.json.encode(message or fields)
            if not self.session.gate.take(data):  # as the listener does
                self.session.on_text(data)

    def hang_up(self, code: int | None = 1000) -> None:
        """The browser closes: 1000 a leave, 1006 a lost connection."""
        self.session.on_close(code, code in (1000, 1001, 1005))
        self.closed = self.closed or code or 1006
        self.world.settle()

    def take(self, *types: str) -> list[dict[str, Any]]:
        """The messages that came since the last take, only those of the named types when some are named."""
        new, self._taken = self.got[self._taken :], len(self.got)
        return [message for message in new if not types or message["type"] in types]

    def last(self, type_: str) -> dict[str, Any]:
        return next(message for message in reversed(self.got) if message["type"] == type_)

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [message for message in self.got if message["type"] == type_]

    def auth(self, user: str, **more: Any) -> "Client":
        self.send({"type": "auth", "token": user, **more})
        return self

    def join(self, room: str = "video_123", type_: str = "video", **more: Any) -> "Client":
        self.send({"type": "join", "roomId": room, "roomType": type_, **more})
        return self

    @property
    def session_id(self) -> str:
        return str(self.last("authenticated")["sessionId"])

    @property
    def resume_token(self) -> str:
        return str(self.last("authenticated")["resumeToken"])


class World:
    """One worker on a fake clock."""

    def __init__(self, options: RoomOptions | None = None, access: Any = None, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.timers = FakeTimers()
        self.wall = WallClock()
        self.wall.sync(self.timers.now, UNIX_START_S)
        self.shard = Shard(self.limits, options or RoomOptions(), self.wall)
        self.bus = LocalBus(self.shard, self.timers, self.timers.clock)
        self.verifier = FakeVerifier()
        self._sessions = 0
        self.hub = Hub(
            0,
            bus=self.bus,
            limits=self.limits,
            verifier=self.verifier,
            access=access or AllowAll(),
            resume_tokens=ResumeTokens(SECRET),
            wall=self.wall,
            clock=self.timers.clock,
            timers=self.timers,
            new_session_id=self._new_session_id,
        )
        self.bus.attach(0, self.hub)

    def _new_session_id(self) -> str:
        self._sessions += 1
        return f"session_{self._sessions}"

    @property
    def now(self) -> float:
        return self.timers.now

    def settle(self) -> None:
        """Let everything that is due now happen, flush windows included."""
        self.timers.advance(0.006)

    def sleep(self, seconds: float) -> None:
        self.timers.advance(seconds)

    def client(self) -> Client:
        return Client(self)

    def person(self, user: str, room: str = "video_123", type_: str = "video", **auth: Any) -> Client:
        """Somebody who is in a room; what was said on the way in is already taken."""
        client = self.client().auth(user, **auth).join(room, type_)
        client.take()
        return client
