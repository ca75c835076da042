"""wsLink on `WS /trpc`: a tRPC client's socket is a presence session that speaks in envelopes [M6].

The adapter stands between connection and session: for the connection it is the handler, for the session the link.
Calls go to the procedures with the session's own id; what the session would write to its client goes to the live
`presence.onEvent` subscriptions. Everything leaves through the session's outbox, so its bounds hold; calls are counted
and cut off as a session's messages are [E2, L3]. Written by the loop's thread alone.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, UnsetType

from koko_presence._fastpath.fanout import frame_text
from koko_presence.errors import PresenceError
from koko_presence.messages import Heartbeat, Join, RoomId

from . import trpc
from .inputs import HeartbeatInput, read
from .procedures import Caller, HeartbeatResult
from .session import Session
from .trpc import Call, Input, TrpcError
from .trpc_http import KINDS, outcome_of

if TYPE_CHECKING:
    from .connection import Connection
    from .hub import Hub

PATH = "/trpc"
MAX_WAITING = 64  # calls before the session is open, and calls that are being answered
MAX_SUBSCRIPTIONS = 8  # each gets a copy of every event
NO_TOKEN = "There is no token: give wsLink connectionParams, as in () => ({ token: await getToken() })."
RECONNECT = b'{"id":null,"method":"reconnect"}'
_OWN_HEAD = b'{"type":"'  # how every message of a session begins, and no envelope
_REPLIES = frozenset(("ack", "pong", "active"))  # the procedures have answered already


class _Told(msgspec.Struct, rename="camel"):
    """As much as is needed of a session's message."""

    type: str
    id: Any = None
    room_id: str | UnsetType = UNSET


_told = msgspec.json.Decoder(_Told)


class _Filter(msgspec.Struct, rename="camel"):
    """presence.onEvent's input."""

    room_id: RoomId | UnsetType = UNSET


class Subscription(NamedTuple):
    """One live `presence.onEvent`: of one room, or of all when `room_id` is UNSET."""

    room_id: str | UnsetType
    wrapped: bool

    def wants(self, told: _Told) -> bool:
        return self.room_id is UNSET or told.room_id is UNSET or told.room_id == self.room_id


class Asking(NamedTuple):
    """One call of this socket."""

    id: int | str
    call: Call
    input: Input


class TrpcSocket:
    """One client's socket."""

    __slots__ = (
        "_authenticated", "_bearer", "_calls", "_connection", "_hearing", "_held", "_session", "_starting",
        "_subscriptions", "_wants_params",
    )  # fmt: skip

    def __init__(self, hub: "Hub", connection: "Connection") -> None:
        self._connection = connection
        self._session: Session = hub.accept(self)
        self._subscriptions: dict[int | str, Subscription] = {}
        self._starting: dict[bytes, int | str] = {}  # their `started` waits to be written
        self._hearing: dict[int | str, Subscription] = {}  # it has been
        self._held: list[Asking] = []
        self._calls = 0  # being answered
        self._authenticated: bytes | None = None
        self._bearer = ""  # the token of the handshake
        self._wants_params = False

    # --- what the connection calls ----------------------------------------------------------------------------------

    def on_open(self, connection: "Connection") -> None:
        """The handshake is done: do its headers say who it is, or will the first message?"""
        connection.take_long()
        self._session.login.cookie, connection.cookie = connection.cookie, None
        self._bearer = _bearer(connection.headers.get("authorization", ""))
        self._wants_params = parse_qs(connection.target.partition("?")[2]).get("connectionParams") == ["1"]
        if not self._wants_params:
            self._enter({})

    def on_text(self, data: bytes) -> None:
        """A whole text message: a call, an array of calls, or a sign of life."""
        session = self._session
        if session.state == "closed":
            return
        session.activity.note_life(session.hub.clock())  # both are a script's words, so even PONG is a sign of life
        if data in (b"PING", b"PONG"):
            session.on_ping()
            if data == b"PING":
                self._write(b"PONG")
            return
        try:
            message = trpc.read_json(data)
        except TrpcError as error:
            session.on_bad(PresenceError("INVALID_JSON", error.message))
            return
        if self._wants_params:
            self._wants_params = False
            self._take_params(message)
            return
        for each in message if isinstance(message, list) else [message]:
            within = self._count()
            if session.state == "closed":
                return
            self._take(each, within)

    def on_binary(self, data: bytes) -> None:
        self._session.on_binary(data)

    def on_too_large(self, size: int) -> None:
        self._session.on_too_large(size)

    def on_ping(self) -> None:
        self._session.on_ping()

    def on_pong(self, data: bytes) -> None:
        self._session.on_pong(data)

    def on_close(self, code: int | None, clean: bool) -> None:
        for each in (self._subscriptions, self._starting, self._hearing):
            each.clear()
        self._held.clear()
        self._session.on_close(code, clean)

    def on_writable(self) -> None:
        self._session.on_writable()

    def on_unwritable(self) -> None:
        self._session.on_unwritable()

    # --- who it is --------------------------------------------------------------------------------------------------

    def _take_params(self, message: Any) -> None:
        """`{"method":"connectionParams","data":{"token":...,"resumeToken":...}}`; data may be null."""
        data = message.get("data") if isinstance(message, dict) else None
        if not isinstance(message, dict) or message.get("method") != "connectionParams":
            self._session.refuse(PresenceError("INVALID_MESSAGE", "The first message has to be connectionParams."))
            self._session.finish(4401)
        else:
            self._enter(data if isinstance(data, dict) else {})

    def _enter(self, params: dict[str, Any]) -> None:
        """Say to the session who it is: by a token, or by the cookie that came with the upgrade [A8]."""
        session, bearer, self._bearer = self._session, self._bearer, ""
        auth = {name: params[name] for name in ("token", "resumeToken") if params.get(name) is not None}
        if bearer:
            auth.setdefault("token", bearer)
        if "token" not in auth and session.login.cookie is None:
            session.refuse(PresenceError("UNAUTHENTICATED", NO_TOKEN))
        else:
            session.on_text(trpc.encode({"type": "auth", **auth}))
        if session.state == "new":  # nothing that could be verified
            session.finish(4401)

    def _opened(self, payload: bytes) -> None:
        first, self._authenticated = self._authenticated is None, payload
        if not first:
            return
        session, now = self._session, self._session.hub.clock()
        for room_id in sorted(session.rooms.joined):  # a resumed session hears its rooms once it has joined again [C4]
            session.dispatch(Join(room_id=room_id), 0, True, now)
        held, self._held = self._held, []
        for asking in held if session.state == "open" else ():
            self._start(asking)

    # --- calls ------------------------------------------------------------------------------------------------------

    def _count(self) -> bool:
        """Count one call; False when it is above the connection's rate, and at the end of its patience a cut [L3]."""
        session, now = self._session, self._session.hub.clock()
        within = session.abuse.take(now)
        if not within and session.abuse.flooding_for(now) >= session.hub.limits.flood_s:
            session.cut_for_abuse("You send more than this connection may.")
        return within

    def _take(self, message: Any, within: bool) -> None:
        id_ = _id_of(message)
        if id_ is None:
            self._session.on_bad(PresenceError("INVALID_MESSAGE", "`id` is required: a number or a short string."))
            return
        method, params = message.get("method"), message.get("params")
        if method == "subscription.stop":
            if self._subscriptions.pop(id_, None) is not None:
                self._hearing.pop(id_, None)
                self._write(trpc.encode({"id": id_, "result": {"type": "stopped"}}))
            return
        if not isinstance(params, dict) or not isinstance(path := params.get("path"), str):
            self._fail(id_, None, TrpcError("BAD_REQUEST", "A call has params with a path."), False)
            return
        given = trpc.unwrap(params["input"]) if "input" in params else trpc.NOTHING
        kind = trpc.kind_of(path, KINDS)
        if kind is None or kind != method:
            error = TrpcError("NOT_FOUND", f'No "{str(method)[:20]}"-procedure on path "{path[:200]}"')
            self._fail(id_, path, error, given.wrapped)
        elif kind == "subscription":
            self._subscribe(id_, path, given)
        else:
            self._ask(Asking(id_, Call(path, path.removeprefix(trpc.PREFIX), None), given), within)

    def _ask(self, asking: Asking, within: bool) -> None:
        if not within or len(self._held) + self._calls >= MAX_WAITING:
            why = "Too many calls at once. Wait for the answers." if within else ""
            busy = PresenceError("RATE_LIMITED", why, retry_after_s=1.0 if within else 0.1)
            self._fail(asking.id, asking.call.path, trpc.from_presence(busy), asking.input.wrapped)
        elif self._authenticated is None:
            self._held.append(asking)
        else:
            self._start(asking)

    def _start(self, asking: Asking) -> None:
        self._calls += 1
        self._session.hub.await_answer(self._answer(asking))

    async def _answer(self, asking: Asking) -> None:
        caller = Caller(self._session.identity, self._session.session_id)
        try:
            outcome = await outcome_of(self, caller, asking.call, asking.input.value)
        finally:
            self._calls -= 1
        if isinstance(outcome, TrpcError):
            self._fail(asking.id, asking.call.path, outcome, asking.input.wrapped)
            return
        result = (
            {"type": "data"} if outcome is UNSET else {"type": "data", "data": trpc.wrap(outcome, asking.input.wrapped)}
        )
        self._write(trpc.encode({"id": asking.id, "result": result}))

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """A procedure, as this socket means it: its own heartbeat is a session's and no lease's [D3, D7]."""
        if name == "heartbeat":
            asked = read(input, HeartbeatInput)
            if (asked.room_id, asked.session_id, asked.client_key) == (UNSET, UNSET, UNSET):
                session, now = self._session, self._session.hub.clock()
                session.dispatch(Heartbeat(status=asked.status, client_time=asked.client_time), 0, True, now)
                wall = session.hub.wall
                return HeartbeatResult(
                    success=True, renewed=0, timestamp=wall.iso(now), server_time=wall.ms(now), echo=asked.client_time
                )
        return await self._session.hub.procedures.call(caller, name, input)

    def _fail(self, id_: int | str | None, path: str | None, error: TrpcError, wrapped: bool) -> None:
        self._write(trpc.encode({"id": id_, "error": trpc.wrap(error.shape(path), wrapped)}))
        if self._session.state != "closed":
            self._session.on_refusal()

    # --- events -----------------------------------------------------------------------------------------------------

    def _subscribe(self, id_: int | str, path: str, given: Input) -> None:
        problem = ""
        room_id: str | UnsetType = UNSET
        try:
            if given.value is not UNSET and given.value is not None:
                room_id = msgspec.convert(given.value, _Filter).room_id
        except msgspec.ValidationError as error:
            problem = f"{error}."
        if id_ in self._subscriptions:
            problem = f"Duplicate id {id_}"
        elif len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            problem = f"A socket may have {MAX_SUBSCRIPTIONS} subscriptions."
        if problem:
            self._fail(id_, path, TrpcError("BAD_REQUEST", problem), given.wrapped)
            return
        self._subscriptions[id_] = Subscription(room_id, given.wrapped)
        started = trpc.encode({"id": id_, "result": {"type": "started"}})
        self._starting[started] = id_
        self._write(started)

    def _begin(self, id_: int | str) -> Iterator[bytes]:
        """`started` is out: from here on events are for this subscription; the first says whose session it is."""
        subscription = self._subscriptions.get(id_)
        if subscription is not None:
            self._hearing[id_] = subscription
            if self._authenticated is not None:
                yield _event(id_, subscription, self._authenticated)

    # --- what the session calls -------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._connection.unsent_bytes

    def send_frames(self, data: bytes) -> None:
        """What the outbox writes: envelopes as they are, a session's messages in those that are wanted."""
        out: list[bytes] = []
        for payload in _payloads(data):
            if payload.startswith(_OWN_HEAD):
                out += map(frame_text, self._translate(payload))
            else:
                out.append(frame_text(payload))
                if payload in self._starting:
                    out += map(frame_text, self._begin(self._starting.pop(payload)))
        if out:
            self._connection.send_frames(b"".join(out))

    def _translate(self, payload: bytes) -> Iterator[bytes]:
        told = _told.decode(payload)
        if told.type in _REPLIES:
            return
        if told.type == "error":
            if told.id is None:  # an answer to no call; those have theirs
                yield trpc.encode({"id": None, "error": _error_of(payload).shape(None)})
            return
        if told.id is not None:
            payload = _without_id(payload)
        if told.type == "authenticated":
            self._opened(payload)
        for id_, subscription in self._hearing.items():
            if subscription.wants(told):
                yield _event(id_, subscription, payload)

    def send_ping(self, data: bytes) -> None:
        """Ask for a sign of life, of the transport and of the script: tRPC's client answers PONG by itself."""
        self._connection.send_ping(data)
        self._write(b"PING")

    def promote(self) -> None:
        self._connection.promote()

    def close(self, code: int, reason: str = "") -> None:
        """Close; before a restart the client is asked to open its next connection."""
        if code == 1012:
            self._connection.send_text(RECONNECT)
        self._connection.close(code, reason)

    def abort(self) -> None:
        self._connection.abort()

    def _write(self, payload: bytes) -> None:
        """One message to the client, behind what waits."""
        if self._session.state != "closed":
            self._session.outbox.write(frame_text(payload))


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _id_of(message: Any) -> int | str | None:
    """A request's id, None when it has none that can be used."""
    value = message.get("id") if isinstance(message, dict) else None
    if isinstance(value, str):
        return value if len(value) <= 64 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53 else None


def _payloads(data: bytes) -> Iterator[bytes]:
    """The texts of whole unmasked frames [RFC 6455 section 5.2]."""
    at = 0
    while at < len(data):
        size, head = data[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        yield data[at + head : at + head + size]
        at += head + size


def _event(id_: int | str, subscription: Subscription, payload: bytes) -> bytes:
    data = b'{"json":%b}' % payload if subscription.wrapped else payload
    return b'{"id":%b,"result":{"type":"data","data":%b}}' % (trpc.encode(id_), data)


def _without_id(payload: bytes) -> bytes:
    fields = msgspec.json.decode(payload, type=dict[str, Raw])
    del fields["id"]
    return trpc.encode(fields)


def _error_of(payload: bytes) -> TrpcError:
    """A session's error message as tRPC has it."""
    fields: Mapping[str, Any] = msgspec.json.decode(payload)
    error = PresenceError(fields["code"], fields["message"], state=fields.get("state"))
    error.retry_after_ms = fields.get("retryAfterMs")
    return trpc.from_presence(error)
