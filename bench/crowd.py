"""Many WebSocket clients in one process that verify what they receive, for bench.chaos.

Each client derives its view of the room from events only, reconnects with its resume token after a lost connection, and
reports to a `Watch`. Most messages are cursors, which are detected by their first bytes and not decoded.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from koko_presence.auth.hmac_jwt import issue_token

HANDSHAKE = (
    b"GET /presence HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
CURSOR = b'{"type":"cursor'  # cursor_moved and cursors
TICK_S = 0.02
RESTART, LOST, REFUSED = 1012, 1006, 1013

encode = msgspec.json.Encoder().encode
monotonic = time.monotonic


class Playback(msgspec.Struct, rename="camel"):
    """The playback state of a room: `current_time` was valid at `server_time` (an event), or at `anchor` (a
    snapshot)."""

    is_playing: bool
    current_time: float
    playback_rate: float
    version: int
    server_time: float = 0.0
    anchor: float = 0.0

    def position(self, server_ms: float) -> float:
        """The media time in seconds at a server time in ms."""
        since = (server_ms - (self.server_time or self.anchor)) / 1000.0
        return self.current_time + (since * self.playback_rate if self.is_playing else 0.0)


class Row(msgspec.Struct, rename="camel"):
    session_id: str
    connected: bool = True


class Snapshot(msgspec.Struct, rename="camel"):
    users: list[Row]
    controller: str | None = None
    controller_session_id: str | None = None
    playback: Playback | None = None


class Message(msgspec.Struct, rename="camel"):
    """A server message, with the fields that are used here."""

    type: str
    id: Any = None
    room_id: str = ""
    user_id: str = ""
    session_id: str = ""
    seq: int = 0
    code: Any = None
    retry_after_ms: float = 0.0
    resumed: bool = False
    resume_token: str = ""
    server_time: float = 0.0
    data: msgspec.Raw = msgspec.Raw(b"")
    room: Snapshot | None = None


class Told(msgspec.Struct, rename="camel"):
    """The fields used of the `data` of events."""

    reason: str = ""
    connected: bool = True
    at: float = 0.0


read = msgspec.json.Decoder(Message).decode
read_told = msgspec.json.Decoder(Told).decode
read_playback = msgspec.json.Decoder(Playback).decode


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Encode a client frame; the mask is all zeros, which is valid."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Connection(asyncio.Protocol):
    """One WebSocket. `on_lost(code)` is called once, with the close code, or 1006 without one."""

    def __init__(
        self, on_open: Callable[[], None], on_message: Callable[[Message], None], on_lost: Callable[[int], None]
    ) -> None:
        self._on_open, self._on_message, self._on_lost = on_open, on_message, on_lost
        self._buffer = b""
        self._code = LOST
        self.open = False
        self.local_port = 0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.local_port = transport.get_extra_info("sockname")[1]
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self.open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._code = REFUSED
                self.transport.abort()
                return
            self.open = True
            self._on_open()
        at, size = 0, len(data)
        while size - at >= 2:
            start, length = at + 2, data[at + 1]
            if length > 125:
                start += 2 if length == 126 else 8
                if size < start:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            end = start + length
            if end > size:
                break
            if data[at] == 0x81:
                if not data.startswith(CURSOR, start):
                    self._on_message(read(data[start:end]))
            else:
                self._on_control(data[at] & 15, data[start:end])
            at = end
        self._buffer = data[at:]

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(frame(payload, PONG))
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.transport.write(frame(payload, CLOSE))
            self.transport.close()

    def send(self, message: dict[str, Any]) -> None:
        self.transport.write(frame(encode(message)))

    def leave(self, code: int = 1000) -> None:
        """Close regularly."""
        if self.open and not self.transport.is_closing():
            self.transport.write(frame(code.to_bytes(2, "big"), CLOSE))
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._on_lost(self._code)


class Watch:
    """The observations since its creation, until the next watch replaces it."""

    def __init__(self) -> None:
        self.began = monotonic()
        self.left: list[tuple[float, str, str]] = []  # time of receipt, session, reason
        self.cut: list[tuple[str, int]] = []  # user and close code
        self.failed_connects = 0
        self.stayed_away = 0
        self.not_resumed: list[str] = []
        self.jumps: list[tuple[float, str]] = []  # jump of the position in a snapshot in seconds, and the room
        self.control_lost: list[str] = []
        self.out_of_order: list[str] = []
        self.forks: list[str] = []
        self.asked: set[str] = set()  # rooms in which a connected client was probed
        self.served: dict[str, float] = {}  # room -> arrival of the first probe sent after `probes_from`
        self.probes_from = float("inf")


class Room:
    """The state of a room as known to all its clients together."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.clients: list[Client] = []
        self.controller: Client | None = None
        self.newest: Playback | None = None
        self.newest_seq = 0  # of the event with this state
        self.wanted: tuple[float, float] | None = None  # target and time (ms) of the controller's last seek
        self.events: dict[int, tuple[str, str]] = {}

    @property
    def has_sought(self) -> bool:
        """Whether the last seek of the controller was applied; True if the controller has lost its connection
        meanwhile."""
        if self.wanted is None or self.newest is None or self.controller is None or self.controller.lost_at:
            return True
        to, at_ms = self.wanted
        return abs(self.newest.position(at_ms) - to) < 1.0

    def truth(self) -> set[str]:
        """The ids of the sessions that are in the room."""
        return {client.session_id for client in self.clients if client.view is not None}


class Client:
    """A client in one room. `view` maps session ids to whether they are shown as connected; None while the client is
    not in the room."""

    def __init__(self, crowd: "Crowd", user: str, room: Room, compact: bool) -> None:
        self.crowd, self.user, self.room = crowd, user, room
        self.returns = True
        self.session_id = self.resume_token = ""
        self.view: dict[str, bool] | None = None
        self.seq = 0
        self.lost_at = self.back_at = 0.0
        self.connection: Connection | None = None
        self._auth = {"type": "auth", "token": crowd.token(user), "caps": ["cursors"] if compact else []}
        self._cursors = [self._cursor(random.random(), random.random()) for _ in range(4)]
        self._next_cursor = 0
        room.clients.append(self)

    def _cursor(self, x: float, y: float) -> bytes:
        data = {"timestamp": 1.0, "x": round(x, 3), "y": round(y, 3)}
        return frame(encode({"type": "cursor", "roomId": self.room.id, "data": data}))

    def connect(self) -> None:
        """Connect or reconnect; repeats until it succeeds."""
        task = asyncio.ensure_future(self._connect())
        self.crowd.tasks.add(task)
        task.add_done_callback(self.crowd.tasks.discard)

    async def _connect(self) -> None:
        connection = Connection(self._on_open, self._on_message, lambda code: self._on_lost(connection, code))
        self.connection = connection
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self.crowd.port)
        except OSError:
            self.crowd.watch.failed_connects += 1
            asyncio.get_running_loop().call_later(0.2, self.connect)

    def _on_open(self) -> None:
        assert self.connection is not None
        message = self._auth | ({"resumeToken": self.resume_token} if self.resume_token else {})
        self.connection.send(message)

    def ask_snapshot(self) -> None:
        """Join again, which only repeats the snapshot."""
        self.send({"type": "join", "roomType": "video"})

    def send(self, message: dict[str, Any]) -> None:
        if self.connection is not None and self.connection.open:
            self.connection.send(message | {"roomId": self.room.id})

    def send_cursor(self) -> None:
        if self.view is not None and self.connection is not None:
            self._next_cursor = (self._next_cursor + 1) % len(self._cursors)
            self.connection.transport.write(self._cursors[self._next_cursor])

    def _on_lost(self, connection: Connection, code: int) -> None:
        if connection is not self.connection:
            return
        was_in, self.view = self.view is not None, None
        self.connection = None
        watch = self.crowd.watch
        if self.crowd.over:
            return
        if not self.returns:
            watch.stayed_away += 1
            return
        if was_in or self.lost_at <= self.back_at:
            watch.cut.append((self.user, code))
            self.lost_at = monotonic()
        else:
            watch.failed_connects += 1  # lost while reconnecting
        shortest, longest = self.crowd.jitter_s
        asyncio.get_running_loop().call_later(random.uniform(shortest, longest), self._return)

    def _return(self) -> None:
        if self.returns and not self.crowd.over:
            self.connect()

    def _on_message(self, message: Message) -> None:
        handle = self._HANDLERS.get(message.type)
        if message.seq and message.type != "joined":
            self._check_order(message)
        if handle is not None:
            handle(self, message)

    def _check_order(self, message: Message) -> None:
        if message.seq <= self.seq:
            self.crowd.watch.out_of_order.append(f"{self.user}: {message.type} {message.seq} after {self.seq}")
        self.seq = message.seq
        event = (message.type, message.session_id)
        if self.room.events.setdefault(message.seq, event) != event:
            known = self.room.events[message.seq]
            self.crowd.watch.forks.append(f"{self.room.id} {message.seq}: {event} and {known}")

    def _on_authenticated(self, message: Message) -> None:
        if self.resume_token and not message.resumed:
            self.crowd.watch.not_resumed.append(self.user)
        self.session_id, self.resume_token = message.session_id, message.resume_token
        self.back_at = monotonic()
        self.ask_snapshot()

    def _on_joined(self, message: Message) -> None:
        room, watch = message.room, self.crowd.watch
        assert room is not None
        self.view = {row.session_id: row.connected for row in room.users}
        self.seq = message.seq
        mine = self.room
        if mine.controller is not None and (
            (room.controller, room.controller_session_id) != (mine.controller.user, mine.controller.session_id)
        ):
            watch.control_lost.append(f"{mine.id}: {room.controller} in a snapshot")
        # a command held during a change of owners keeps its original time: only sequence numbers give the order
        if mine.newest is not None and message.seq >= mine.newest_seq:
            if room.playback is None:
                watch.jumps.append((float("inf"), mine.id))
            elif room.playback.version <= mine.newest.version:
                at = message.server_time
                watch.jumps.append((abs(room.playback.position(at) - mine.newest.position(at)), mine.id))

    def _on_user_joined(self, message: Message) -> None:
        if self.view is not None:
            self.view[message.session_id] = True

    def _on_user_left(self, message: Message) -> None:
        if self.view is not None:
            self.view.pop(message.session_id, None)
        self.crowd.watch.left.append((monotonic(), message.session_id, read_told(message.data).reason))

    def _on_status(self, message: Message) -> None:
        if self.view is not None and message.session_id in self.view:
            self.view[message.session_id] = read_told(message.data).connected

    def _on_playback(self, message: Message) -> None:
        found, newest = read_playback(message.data), self.room.newest
        if newest is None or found.version > newest.version:
            self.room.newest, self.room.newest_seq = found, message.seq

    def _on_granted(self, message: Message) -> None:
        if self.room.controller is not None:
            self.crowd.watch.control_lost.append(f"{self.room.id}: {message.type}")

    def _on_broadcast(self, message: Message) -> None:
        now, watch, at = monotonic(), self.crowd.watch, read_told(message.data).at
        if at >= watch.probes_from and self.room.id not in watch.served:
            watch.served[self.room.id] = now

    _HANDLERS: dict[str, Callable[["Client", Message], None]] = {  # noqa: RUF012
        "authenticated": _on_authenticated,
        "joined": _on_joined,
        "user_joined": _on_user_joined,
        "user_left": _on_user_left,
        "status_changed": _on_status,
        "playback_synced": _on_playback,
        "control_granted": _on_granted,
        "control_released": _on_granted,
        "broadcast": _on_broadcast,
    }


class Crowd:
    """All clients, in `rooms` rooms of `people` each, and their timer."""

    def __init__(self, port: int, secret: str, *, rooms: int, people: int, hz: float) -> None:
        self.port = port
        self.watch = Watch()
        self.over = False
        self.jitter_s = (0.05, 0.8)
        self.tasks: set[asyncio.Future[None]] = set()
        self._secret, self._hz = secret, hz
        self._made = 0
        self._turn = 0.0
        self._ticked_at = 0.0
        self.rooms = [Room(f"video_chaos_{number}") for number in range(rooms)]
        for room in self.rooms:
            for _ in range(people):
                self.make(room)

    @property
    def clients(self) -> list[Client]:
        return [client for room in self.rooms for client in room.clients]

    def token(self, user: str) -> str:
        return issue_token(self._secret, user=user, now_s=int(time.time()))

    def make(self, room: Room) -> Client:
        """Add a client, which is not connected yet."""
        self._made += 1
        return Client(self, f"user_{self._made}", room, compact=self._made % 2 == 0)

    async def come(self) -> None:
        """Connect all clients; the first of each room takes control and starts the video."""
        for number, client in enumerate(self.clients):
            client.connect()
            if number % 10 == 9:
                await asyncio.sleep(0.02)
        await self.all_in(60.0)
        for room in self.rooms:
            room.clients[0].send({"type": "control_request"})
            data = {"action": "sync", "isPlaying": True, "currentTime": 10.0, "playbackRate": 1.0}
            room.clients[0].send({"type": "playback", "data": data})
        await until(lambda: all(room.newest is not None for room in self.rooms), 10.0, "a room's video did not start")
        await asyncio.sleep(0.5)  # all clients have received it
        for room in self.rooms:
            room.controller = room.clients[0]
        self._ticked_at = monotonic()
        self._tick()

    async def replace(self, tired: list[Client]) -> None:
        """Replace the clients of `tired` that were disconnected and stayed away; the others reconnect again from now
        on."""
        for client in tired:
            client.returns = True
            if client.view is None:
                client.room.clients.remove(client)
                self.make(client.room).connect()
        await self.all_in(10.0)

    async def all_in(self, within_s: float) -> None:
        await until(lambda: all(client.view is not None for client in self.clients), within_s, "not all have joined")

    def _tick(self) -> None:
        if self.over:
            return
        now = monotonic()
        late = now - self._ticked_at
        self._ticked_at = now
        asyncio.get_running_loop().call_later(TICK_S, self._tick)
        clients = self.clients
        begin = self._turn
        self._turn += len(clients) * self._hz * min(late, 0.1)
        for number in range(int(begin), int(self._turn)):
            clients[number % len(clients)].send_cursor()
        self._turn %= len(clients)

    def seek(self, room: Room) -> None:
        """Seek 10 s ahead as the controller, so that a lost command shows as a jump of 10 s."""
        if room.controller is not None and room.newest is not None:
            to = room.newest.position(time.time() * 1000) + 10.0
            room.controller.send({"type": "playback", "data": {"action": "seek", "currentTime": round(to, 3)}})
            room.wanted = (to, time.time() * 1000)

    @staticmethod
    def probe(sender: Client, receiver: Client) -> None:
        """Send a broadcast with its send time to one client."""
        sender.send({"type": "broadcast", "to": [receiver.user], "data": {"type": "probe", "at": monotonic()}})

    def differences(self) -> tuple[list[str], list[str], list[str]]:
        """Compare all views with the sessions that are in the rooms: ghosts, missing ones, and present ones shown as
        disconnected."""
        ghosts, missing, pale = [], [], []
        for room in self.rooms:
            truth = room.truth()
            for client in room.clients:
                if client.view is not None:
                    seen = f" in {room.id}, says {client.user}"
                    ghosts += [session + seen for session in client.view.keys() - truth]
                    missing += [session + seen for session in truth - client.view.keys()]
                    pale += [one + seen for one in truth & client.view.keys() if not client.view[one]]
        return ghosts, missing, pale

    def end(self) -> None:
        self.over = True
        for client in self.clients:
            if client.connection is not None and client.connection.transport is not None:
                client.connection.transport.abort()


async def until(condition: Callable[[], bool], within_s: float, complaint: str) -> None:
    """Wait for `condition`. Errors: TimeoutError with `complaint`."""
    end = monotonic() + within_s
    while not condition():
        if monotonic() > end:
            raise TimeoutError(complaint)
        await asyncio.sleep(0.005)
