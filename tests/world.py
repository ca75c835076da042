"""Whole workers without sockets: the real hub, sessions, bus, shard and rooms on a fake clock.

`World` holds the workers and moves the time; `Client` is the browser's end of one connection, as bytes. No rule is
decided in this module. With several workers each new client connects to the next one, and a test cannot observe the
difference: `World.default_workers` sets the number of workers of every world of a test.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from koko_presence._fastpath.wallclock import WallClock
from koko_presence._fastpath.wire import FrameDecoder
from koko_presence.access.policy import AllowAll
from koko_presence.auth.cookies import SessionCookie
from koko_presence.auth.hmac_jwt import Identity, ResumeTokens, TokenRefused
from koko_presence.auth.identity import MayQuery, unlimited
from koko_presence.auth.jwt_claims import check_settings
from koko_presence.cluster.bus import LocalBus
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.cluster.placement import Peer, View
from koko_presence.owner.shard import Shard
from koko_presence.process.survey_handlers import SurveyHandlers
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import error_reply
from koko_presence.protocol.limits import Limits, RoomOptions
from koko_presence.protocol.messages import MESSAGES
from koko_presence.protocol.settings import SettingsChange
from koko_presence.protocol.survey import ChangeRoom, NotHere
from koko_presence.protocol.webhook_events import AnyWebhookEvent
from koko_presence.server.hub import Hub
from koko_presence.server.rpc import Caller
from koko_presence.server.session import Session
from tests.clocks import translated

UNIX_START_S = 1_736_937_000.0  # 2025-01-15T10:30:00Z, the moment of the specification's examples
START_S = 1000.0  # where the fake clock starts
SECRET = "a secret for tests that is long enough"


class FakeTimers:
    """The event loop's `call_soon` and `call_later` on a clock that only `advance` moves."""

    def __init__(self) -> None:
        self.now = START_S
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
    """Accepts the tokens `user`, `user:Name` and `user:Name:rooms-json`; refuses those that begin with `bad`. The name
    may be `Name@7` in a token that was issued at unix second 7. `settings` are the claim of this name in all tokens,
    `images` has the image of each name."""

    def __init__(self) -> None:
        self.expires_at_s = int(UNIX_START_S) + 86_400
        self.presence = True
        self.settings: dict[str, Any] = {}
        self.images: dict[str, str] = {}

    is_remote = False

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity:
        if token.startswith("bad"):
            raise TokenRefused("it is bad")
        user, _, rest = token.partition(":")
        name, _, rooms = rest.partition(":")
        name, _, issued_at_s = name.partition("@")
        return Identity(
            user_id=user,
            name=name or user.title(),
            image=self.images.get(name),
            expires_at_s=self.expires_at_s,
            rooms=msgspec.json.decode(rooms) if rooms else {},
            presence=self.presence,
            settings=check_settings(self.settings),
            issued_at_s=float(issued_at_s or (now_s if name else 0.0)),
        )


class Client:
    """One connection at the browser's end. `got` holds every message received so far, decoded; `take` returns the new
    ones."""

    def __init__(self, world: "World", hub: Hub | None = None) -> None:
        self.world = world
        self.raw: list[bytes] = []
        self.got: list[dict[str, Any]] = []
        self._taken = 0
        self.closed: int | None = None
        self.closed_at = 0.0  # when the server closed it
        self._sent: dict[Any, str] = {}  # id of a message -> its type
        self.pings = 0
        self.answers_pings = True
        self.round_trip_s = 0.0  # of its pings
        self.unsent_bytes = 0
        self.writes = 0
        self.session = (hub or world.next_hub()).accept(self)

    # the connection, in the interface that the session writes to
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
            if self.got[-1]["type"] == "ack":
                self._check_result(self.got[-1])
            at += head + size

    def _check_result(self, ack: dict[str, Any]) -> None:
        """Check that an acknowledgement has the fields of the result that its message declares [M5]."""
        type_ = self._sent.get(ack["id"], "")
        results = {procedure.returns for procedure in MESSAGES[type_].procedures} if type_ in MESSAGES else set()
        for result in results:
            fields = msgspec.structs.fields(result)
            assert ack.keys() - {"type", "id"} <= {field.encode_name for field in fields}, (type_, ack)
            assert ack.keys() >= {field.encode_name for field in fields if field.required}, (type_, ack)

    def send_ping(self, data: bytes) -> None:
        self.pings += 1
        if self.answers_pings and self.round_trip_s:
            self.world.timers.call_later(self.round_trip_s, lambda: self.session.on_pong(data))
        elif self.answers_pings:
            self.session.on_pong(data)

    def keep_alive(self, data: bytes) -> None:
        self.send_ping(data)

    def promote(self) -> None: ...

    def lift_preauth_limit(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None:
        self.closed, self.closed_at = code, self.world.now

    def abort(self) -> None:
        self.closed = 1006

    # the browser's side
    def send(self, message: Any = None, **fields: Any) -> None:
        """Send one message and run the event loop for one flush window."""
        self.post(message, **fields)
        self.world.settle()

    def post(self, message: Any = None, **fields: Any) -> None:
        """Send one message without running the event loop."""
        if self.closed is None:
            sent = message or fields
            if isinstance(sent, dict) and isinstance(sent.get("id"), str | int):
                self._sent[sent["id"]] = sent.get("type", "")
            data = message if isinstance(message, bytes) else msgspec.json.encode(message or fields)
            if not self.session.rate_limiter.take(data):  # the listener applies the rate limit before the session, too
                self.session.on_text(data)

    def hang_up(self, code: int | None = 1000) -> None:
        """Close the connection from the browser's side: 1000 is a leave, 1006 a lost connection."""
        self.session.on_close(code, code in (1000, 1001, 1005))
        self.closed = self.closed or code or 1006
        self.world.settle()

    def take(self, *types: str) -> list[dict[str, Any]]:
        """Return the messages received since the last call, with `types` only those of the named types."""
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


def begin_join(session: Session, room_id: str) -> None:
    """Begin a join that gets no answer: messages for the room are held."""
    membership = session.memberships._membership(room_id)
    assert membership.move("join") == "check"
    session.memberships.joining += 1


def refuse_join(session: Session, room_id: str, now: float) -> None:
    """Refuse a join as the room's owner does."""
    session.memberships.on_refused(room_id, error_reply(PresenceError("ROOM_FULL"), None, room_id), now, out=True)


class FakeLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that a coroutine of one worker needs to await an answer, on the world's timers."""

    def __init__(self, timers: "FakeTimers | NodeTimers") -> None:
        self._timers = timers

    def get_debug(self) -> bool:
        return False

    def create_task(self, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, **options)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._timers.call_soon(lambda: self._run(handle))
        return handle

    def _run(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore errors of calls that are dropped together with their world."""


class Started:
    """A procedure call in progress; `result` and `error` are None until the answer arrives. `fault` is an exception
    that is not a PresenceError, which no caller may receive."""

    def __init__(self, loop: FakeLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.result: Any = None
        self.error: PresenceError | None = None
        self.fault: Exception | None = None
        self.done = False
        self.task = asyncio.Task(self._wait(coroutine), loop=loop)
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            self.result = msgspec.json.decode(msgspec.json.encode(await coroutine))
        except PresenceError as error:
            self.error = error
        except Exception as error:
            self.fault = error
        self.done = True


class Http:
    """A user that calls procedures over HTTP; each call goes to the next worker. `session` is the x-presence-session
    header."""

    def __init__(self, world: "World", user: str, session: str = "") -> None:
        self.world = world
        self.identity = world.verifier.verify(user, world.unix_s)
        self.session = session
        self.token = ""  # of header Authorization
        self.cookie: SessionCookie | None = None

    def start(self, name: str, input: Any = UNSET, *, hub: Hub | None = None, **fields: Any) -> Started:
        """Start a call without running the event loop."""
        hub = hub or self.world.next_hub()
        loop = next(node.loop for node in self.world.nodes.values() if node.hub is hub)
        caller = Caller(self.identity, self.session, self.token, self.cookie)
        return Started(loop, hub.procedures.call(caller, name, fields or input))

    def call(self, name: str, input: Any = UNSET, **fields: Any) -> Any:
        """Call a procedure and return its answer. Errors: PresenceError."""
        started = self.start(name, input, **fields)
        self.world.settle()
        if (error := started.fault or started.error) is not None:
            raise error
        assert started.done, "nobody answered"
        return started.result

    def refused(self, name: str, input: Any = UNSET, **fields: Any) -> PresenceError:
        """Call a procedure that must be refused and return its error."""
        try:
            result = self.call(name, input, **fields)
        except PresenceError as error:
            return error
        raise AssertionError(f"{name} was not refused: {result}")


class FakeLink:
    """One direction between two workers: bytes arrive in order, after `World.link_delay_s`. While `cut`, they wait."""

    def __init__(self, world: "World", sender: int, receiver: int) -> None:
        self._world, self.sender, self._receiver = world, sender, receiver
        self._decoder = FrameDecoder(1 << 24)
        self._waiting: deque[bytes] = deque()
        self._arrives_at = 0.0
        self.cut = False
        self.closed = False

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        if not self.cut:
            self._send()

    def mend(self) -> None:
        self.cut = False
        for _ in range(len(self._waiting)):
            self._send()

    def _send(self) -> None:
        now = self._world.now
        self._arrives_at = max(self._arrives_at, now + self._world.link_delay_s(self.sender, self._receiver))
        self._world.timers.call_later(self._arrives_at - now, self._arrive)

    def _arrive(self) -> None:
        if self.cut or not self._waiting:
            return
        data = self._waiting.popleft()
        world = self._world
        node = world.nodes.get(self._receiver)
        if node is not None and not self.closed:
            found = self._decoder.feed(data)
            apart_s = world.clock_offset_s(self._receiver) - world.clock_offset_s(self.sender)
            if apart_s:
                found = [(kind, translated(kind, body, apart_s)) for kind, body in found]
            node.receive(self.sender, found)

    def close(self) -> None:
        self.closed = True


class NodeTimers:
    """The world's timers for one worker: they fire late while the worker is stopped and never once it is dead. The
    worker's clock may be offset from the world's."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._timers = node.world.timers
        self._offset_s = node.world.clock_offset_s(node.number)

    def clock(self) -> float:
        return self._timers.now + self._offset_s

    def call_soon(self, callback: Callable[[], object]) -> "FakeHandle":
        return self.call_later(0.0, callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> "FakeHandle":
        return self._timers.call_later(delay, lambda: self._node.do(callback))


class Node:
    """One worker of a world."""

    def __init__(self, world: "World", number: int, standalone: bool) -> None:
        self.world = world
        self.number = number
        self.links: dict[int, FakeLink] = {}
        # the callbacks that were due while the worker did not run
        self.stopped: list[Callable[[], object]] | None = None
        self.urgent = 0
        self.dead = False
        self.served = 0
        timers: Any = world.timers if standalone else NodeTimers(self)
        self.clock: Callable[[], float] = timers.clock
        self.loop = FakeLoop(timers)
        wall = WallClock()
        wall.sync(timers.clock(), world.unix_s)
        self.shard = Shard(world.limits, world.options, wall)
        self.shard.context.set_webhook_sink(world.webhook_events)
        self.bus: LocalBus | ClusterBus
        if standalone:
            self.bus = LocalBus(self.shard, timers, timers.clock)
        else:
            self.bus = ClusterBus(
                number, self.shard, timers, timers.clock, open_link=self._open_link, on_serving=self._on_serving
            )
        self.hub = Hub(
            number,
            bus=self.bus,
            limits=world.limits,
            verifier=world.verifier,
            access=world.access,
            resume_tokens=ResumeTokens(SECRET),
            wall=wall,
            clock=timers.clock,
            timers=timers,
            new_session_id=world._new_session_id,
            delays=self.shard.context.delays,
        )
        self.bus.attach(number, self.hub)
        self.handlers = SurveyHandlers(self.hub, self.shard, self.bus, timers, addresses=None)  # type: ignore[arg-type]
        self.handlers.switch_presence(sorted(world.presence_off), on=False)

    def _open_link(self, peer: Peer) -> FakeLink:
        self.links[peer.id] = FakeLink(self.world, self.number, peer.id)
        return self.links[peer.id]

    def _on_serving(self, epoch: int) -> None:
        self.served = epoch

    def do(self, callback: Callable[[], object], *, first: bool = False) -> None:
        """Run the callback now, when the worker runs again, or never if it is dead. `first`: a message of the
        supervisor, which a worker that was stopped reads before anything else."""
        if self.dead:
            return
        if self.stopped is not None:
            self.stopped.insert(self.urgent if first else len(self.stopped), callback)
            self.urgent += first
        else:
            callback()

    def go_on(self) -> None:
        """Resume after a stop and run the callbacks that were due meanwhile."""
        missed, self.stopped, self.urgent = self.stopped or [], None, 0
        for callback in missed:
            self.do(callback)

    def receive(self, sender: int, found: list[tuple[int, bytes]]) -> None:
        assert isinstance(self.bus, ClusterBus)
        bus = self.bus
        self.do(lambda: bus.on_peer_messages(sender, found))


class Merged:
    """The rooms and users of all workers' shards, merged."""

    def __init__(self, world: "World") -> None:
        self._world = world

    @property
    def rooms(self) -> dict[str, Any]:
        return {room_id: room for node in self._world.nodes.values() for room_id, room in node.shard.rooms.items()}

    @property
    def users(self) -> dict[str, Any]:
        return {user_id: user for node in self._world.nodes.values() for user_id, user in node.shard.users.items()}


class World:
    """One or several workers on a fake clock."""

    default_workers = 1

    def __init__(
        self,
        options: RoomOptions | None = None,
        access: Any = None,
        workers: int | None = None,
        telling: bool = False,
        clock_offset_s: Callable[[int], float] = lambda slot: 0.0,
        **limits: Any,
    ) -> None:
        """`telling`: all webhook events are appended to `webhook_events`. `clock_offset_s`: by how many seconds the clock of the
        workers in a slot is ahead of the world's."""
        self.webhook_events: list[AnyWebhookEvent] | None = [] if telling else None
        self.limits = Limits(**limits)
        self.options = options or RoomOptions()
        self.access = access or AllowAll()
        self.timers = FakeTimers()
        self.wall = WallClock()
        self.wall.sync(self.timers.now, UNIX_START_S)
        self.verifier = FakeVerifier()
        self.link_delay_s: Callable[[int, int], float] = lambda sender, receiver: 0.0
        self._clock_offset_s = clock_offset_s
        self._sessions = 0
        self._clients = 0
        self.epoch = 0
        self.presence_off: set[str] = set()  # users whose presence the back end has switched off
        self.nodes: dict[int, Node] = {}
        self.slots: dict[int, int] = {}  # worker -> slot
        count = workers or self.default_workers
        for slot in range(count):
            self.slots[slot + 1] = slot
            self.nodes[slot + 1] = Node(self, slot + 1, count == 1)
        if count > 1:
            self.publish()
            self.timers.advance(0.0)

    def add(self, number: int, slot: int) -> Node:
        """Add a worker that is in no view yet."""
        self.slots[number] = slot
        self.nodes[number] = Node(self, number, standalone=False)
        return self.nodes[number]

    def next_view(self, leaving: frozenset[int] = frozenset()) -> View:
        """Return a new view of the present workers, as the supervisor makes it."""
        self.epoch += 1
        peers = tuple(
            Peer(id=number, slot=self.slots[number], address="", owns=number not in leaving) for number in self.nodes
        )
        return View(epoch=self.epoch, peers=peers)

    def publish(self, leaving: frozenset[int] = frozenset()) -> None:
        """Apply a new view in all workers."""
        view = self.next_view(leaving)
        for node in list(self.nodes.values()):
            if isinstance(node.bus, ClusterBus):
                node.bus.on_view(view, node.clock())

    def kill(self, node: Node) -> None:
        """End a worker as kill -9 does, and publish the view without it to the others."""
        node.dead = True
        del self.nodes[node.number]
        self.publish()
        self.settle()

    def owner_of(self, room_id: str = "", user_id: str = "") -> Node:
        """Return the worker that owns the room or the user."""
        return next(n for n in self.nodes.values() if room_id in n.shard.rooms or user_id in n.shard.users)

    def next_hub(self) -> Hub:
        """Return the worker of a new connection; the kernel may choose any."""
        nodes = list(self.nodes.values())
        self._clients += 1
        return nodes[self._clients % len(nodes)].hub

    @property
    def shard(self) -> Any:
        return next(iter(self.nodes.values())).shard if len(self.nodes) == 1 else Merged(self)

    @property
    def hub(self) -> Hub:
        return next(iter(self.nodes.values())).hub

    @property
    def bus(self) -> Any:
        return next(iter(self.nodes.values())).bus

    def _new_session_id(self) -> str:
        self._sessions += 1
        return f"session_{self._sessions}"

    @property
    def now(self) -> float:
        return self.timers.now

    @property
    def unix_s(self) -> float:
        """Seconds since 1970, the same for all workers."""
        return UNIX_START_S + self.timers.now - START_S

    def clock_offset_s(self, worker: int) -> float:
        """By how many seconds a worker's clock is ahead of the world's."""
        return self._clock_offset_s(self.slots[worker])

    def settle(self) -> None:
        """Run everything that is due within 6 ms, flush windows included."""
        self.timers.advance(0.006)

    def sleep(self, seconds: float) -> None:
        self.timers.advance(seconds)

    def change_room(self, room_id: str = "video_123", **change: Any) -> Any:
        """Change settings of a room as `PATCH /api/rooms/ID` does: every worker is asked. Return the answer of the
        owner, `NotHere` when there is none."""
        answers: list[Any] = []
        request = ChangeRoom(room_id=room_id, change=msgspec.convert(change, SettingsChange))
        for node in self.nodes.values():
            node.do(partial(node.handlers.handle, request, answers.append))
        self.settle()
        return next((answer for answer in answers if not isinstance(answer, NotHere)), NotHere())

    def switch_presence(self, user_id: str, *, on: bool) -> None:
        """Switch a user's presence as `PATCH /api/users/ID` does: every worker is told, also those that start later."""
        (self.presence_off.discard if on else self.presence_off.add)(user_id)
        for node in self.nodes.values():
            node.do(lambda node=node: node.handlers.switch_presence([user_id], on=on))

    def client(self) -> Client:
        return Client(self)

    def http(self, user: str, session: str = "") -> Http:
        return Http(self, user, session)

    def person(self, user: str, room: str = "video_123", type_: str = "video", **auth: Any) -> Client:
        """Return an authenticated client that has joined a room; the messages of the join are already taken."""
        client = self.client().auth(user, **auth).join(room, type_)
        client.take()
        return client
