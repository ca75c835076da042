"""Adapts a tRPC client's socket (wsLink on `WS /trpc`) to a presence session [M6].

`TrpcSocket` is the handler of the connection and the link of the session. Calls are passed to the procedures with the
session's own id; the session's messages are wrapped in the envelopes of the live `presence.onEvent` subscriptions. All
output goes through the session's outbox, in order and within its limits; calls count against the session's rates, and
a flood of them closes the connection, as for messages of a session [E2, L3]. Written by the loop's thread only.
"""

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from msgspec import UNSET

from koko_presence._fastpath.framing import frame_text
from koko_presence.cluster.bus import TimerHandle
from koko_presence.protocol.errors import CLOSES, PresenceError, ReconnectPolicy
from koko_presence.protocol.messages import Heartbeat, Join
from koko_presence.protocol.procedures import HeartbeatInput, HeartbeatResult
from koko_presence.server.held_messages import HeldQueue
from koko_presence.server.rpc import Caller
from koko_presence.server.rpc_inputs import read
from koko_presence.server.session import Session

from . import trpc
from .trpc import Call, Input, TrpcError
from .trpc_events import NOT_IN_ROOM, ROOM_WAIT_S, Id, Subscriptions, id_of, requests_of
from .trpc_http import EVENTS_PATH, KINDS, outcome_of

if TYPE_CHECKING:
    from koko_presence.server.hub import Hub
    from koko_presence.server.websocket import Connection

PATH = "/trpc"
MAX_REFUSALS = 16  # requests of a client that is not authenticated that get an answer [A2]
MAX_WAITING = 64  # calls in execution
NO_TOKEN = "There is no token: give wsLink connectionParams, as in () => ({ token: await getToken() })."
RECONNECT = b'{"id":null,"method":"reconnect"}'


class PendingCall(NamedTuple):
    """One call of this socket."""

    id: Id
    call: Call
    input: Input
    size: int  # bytes of its message, divided by the number of calls in it


class TrpcSocket:
    """One client's socket."""

    __slots__ = (
        "_bearer", "_calls", "_connection", "_held", "_open", "_procedures", "_ready", "_refusals", "_refused",
        "_room_timer", "_session", "_shown", "_subscriptions", "_timer", "_wants_params",
    )  # fmt: skip

    def __init__(self, hub: "Hub", connection: "Connection") -> None:
        self._connection = connection
        self._procedures = hub.procedures
        self._session: Session = hub.accept(self, connection.address_use)
        self._session.outbox.use_envelopes(self._wrap)
        self._subscriptions = Subscriptions()
        self._held = HeldQueue(self._session.held)  # calls that wait for the session to open
        self._refused: TrpcError | None = None  # why the session does not open, or has ended
        self._refusals = 0  # requests answered with it
        self._timer: TimerHandle | None = None
        self._room_timer: TimerHandle | None = None  # until the rooms of subscriptions are checked
        self._calls = 0  # in execution
        self._open = False  # the session is open
        self._ready = False  # calls held until then have been executed
        self._shown = False  # the first subscription has got the session's rooms
        self._bearer = ""  # the token of the handshake
        self._wants_params = False

    # --- called by the connection -----------------------------------------------------------------------------------

    def on_open(self, connection: "Connection") -> None:
        """Authenticate by the headers of the handshake, unless the first message is to contain connectionParams."""
        connection.allow_long_messages()
        if connection.is_proxied:
            self._session.bound_delivery(appends_pings=False)
        self._session.authentication.cookie, connection.cookie = connection.cookie, None
        self._bearer = _bearer(connection.headers.get("authorization", ""))
        self._wants_params = parse_qs(connection.target.partition("?")[2]).get("connectionParams") == ["1"]
        if not self._wants_params:
            self._enter({})

    def on_text(self, data: bytes) -> None:
        """Handle a complete text message: a call, an array of calls, or PING or PONG."""
        session = self._session
        if self._refused is not None:
            self._refuse_all(data)
            return
        if session.state == "closed":
            return
        session.activity.note_received(session.hub.clock())  # sent by the client's script: even PONG shows that it runs
        if data in (b"PING", b"PONG"):
            session.on_ping()
            if data == b"PING":
                self._write(b"PONG")
            return
        if self._ready:
            self._take_all(data, self._count())
        elif self._wants_params:
            self._wants_params = False
            self._take_params(data)
        else:
            within = self._count()
            if session.state == "closed":
                return
            if not self._held.add(data, known=session.is_known):
                self._refuse_busy(data, within)

    def _take_all(self, data: bytes, within: bool) -> None:
        """Handle a call or an array of calls; the first call is counted already."""
        message = self._read(data)
        calls = message if isinstance(message, list) else [message]
        for number, each in enumerate(calls if message is not UNSET else ()):
            if number:
                within = self._count()
            if self._session.state == "closed":
                return
            self._take(each, within, len(data) // len(calls))

    def _read(self, data: bytes) -> Any:
        """Decode a message's JSON. Returns UNSET for invalid JSON, after answering with the error."""
        try:
            return trpc.read_json(data)
        except TrpcError as error:
            self._session.on_bad(PresenceError("INVALID_JSON", error.message))
            return UNSET

    def on_binary(self, data: bytes) -> None:
        self._session.on_binary(data)

    def on_too_large(self, size: int) -> None:
        self._session.on_too_large(size)

    def on_ping(self, count: int = 1) -> None:
        self._session.on_ping(count)

    def on_pong(self, payload: bytes, count: int = 1) -> None:
        self._session.on_pong(payload, count)

    def on_throttled(self, until: float) -> None:
        self._session.on_throttled(until)

    def on_preauth_limit(self) -> None:
        """Stop reading after too many frames before authentication or after its failure. The connection stays open
        until the timeout of `auth`: wsLink would reconnect at once after a close [A2]."""
        self._connection.stop_reading()

    def on_close(self, code: int | None, clean: bool) -> None:
        self._subscriptions.clear()
        for timer in (self._timer, self._room_timer):
            if timer is not None:
                timer.cancel()
        self._session.on_close(code, clean)

    def on_writable(self) -> None:
        self._session.on_writable()

    def on_unwritable(self) -> None:
        self._session.on_unwritable()

    # --- authentication ---------------------------------------------------------------------------------------------

    def _take_params(self, raw: bytes) -> None:
        """Authenticate by `{"method":"connectionParams","data":{"token":...,"resumeToken":...}}`; data may be null."""
        message = self._read(raw)
        if message is UNSET:
            self._wants_params = True
            return
        data = message.get("data") if isinstance(message, dict) else None
        if not isinstance(message, dict) or message.get("method") != "connectionParams":
            self._session.refuse(PresenceError("INVALID_MESSAGE", "The first message has to be connectionParams."))
            self._session.finish(4401)
        else:
            self._enter(data if isinstance(data, dict) else {})

    def _enter(self, params: dict[str, Any]) -> None:
        """Pass the session an `auth` message with the token of `params` or of the headers, or without one for the
        cookie of the upgrade [A8]."""
        session, bearer, self._bearer = self._session, self._bearer, ""
        auth = {name: params[name] for name in ("token", "resumeToken") if params.get(name) is not None}
        if bearer:
            auth.setdefault("token", bearer)
        if "token" not in auth and session.authentication.cookie is None:
            session.refuse(PresenceError("UNAUTHENTICATED", NO_TOKEN))
        else:
            session.on_text(trpc.encode({"type": "auth", **auth}))
        if session.state == "new":  # the `auth` message was refused
            session.finish(4401)

    # --- refused clients --------------------------------------------------------------------------------------------

    def _refuse_until_timeout(self, code: int, error: TrpcError) -> None:
        """Keep the connection open without a session for the time that `auth` may take, then close it with `code`.
        Subscriptions and requests, held ones included, are answered with `error`, requests up to `MAX_REFUSALS`. No
        subscription ends with a temporary error: wsLink sends it again over its next connection."""
        session, hub = self._session, self._session.hub
        self._refused = error
        self._connection.restore_preauth_limit()
        since = hub.clock() if self._open else session.opened_at
        left_s = max(0.0, since + hub.limits.auth_timeout_s - hub.clock())
        self._timer = hub.timers.call_later(left_s, lambda: self._connection.close(code, CLOSES[code].reason))
        if not error.is_temporary:
            for id_, wrapped in self._subscriptions.take_all():
                self._connection.send_text(_failed(id_, EVENTS_PATH, error, wrapped))
        for raw in self._held.take():
            self._refuse_all(raw)

    def _refuse_all(self, data: bytes) -> None:
        for id_, path, wrapped in requests_of(data):
            self._refuse_one(id_, path, wrapped)

    def _refuse_one(self, id_: Id, path: str | None, wrapped: bool) -> None:
        assert self._refused is not None
        if self._refusals >= MAX_REFUSALS or (path == EVENTS_PATH and self._refused.is_temporary):
            return
        self._refusals += 1
        self._connection.send_text(_failed(id_, path, self._refused, wrapped))
        if self._refusals == MAX_REFUSALS:
            self._connection.stop_reading()

    # --- the session is open ----------------------------------------------------------------------------------------

    def _opened(self) -> None:
        """Execute the calls held until the session is open, in order."""
        self._ready = True
        for raw in self._held.take():
            if self._session.state == "open":
                self._take_all(raw, True)

    def _show_rooms(self) -> None:
        """Join the session's rooms again, when the first subscription has started: it gets a snapshot of each room, and
        a resumed session gets events of its rooms only after it has joined again [C4]."""
        session, now = self._session, self._session.hub.clock()
        for room_id in session.memberships.joined:
            join = Join(room_id=room_id)
            session.dispatch(join, trpc.encode(join), True, now)

    # --- calls ------------------------------------------------------------------------------------------------------

    def _count(self) -> bool:
        """Count one call. Returns False when it exceeds the connection's rate; closes the connection when a flood has
        lasted too long [L3]."""
        session, now = self._session, self._session.hub.clock()
        within = session.abuse.take(now)
        if not within and session.abuse.flooding_for(now) >= session.hub.limits.flood_s:
            session.cut_for_abuse("You send more than this connection may.")
        return within

    def _take(self, message: Any, within: bool, size: int) -> None:
        id_ = id_of(message)
        if id_ is None:
            self._session.on_bad(PresenceError("INVALID_MESSAGE", "`id` is required: a number or a short string."))
            return
        method, params = message.get("method"), message.get("params")
        if method == "subscription.stop":
            stopped = self._subscriptions.stop(id_)
            if stopped is not None:
                self._write(stopped)
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
            try:
                self._subscribe(id_, given)
            except TrpcError as error:
                self._fail(id_, path, error, given.wrapped)
        else:
            self._start_call(PendingCall(id_, Call(path, path.removeprefix(trpc.PREFIX), None), given, size), within)

    def _start_call(self, pending: PendingCall, within: bool) -> None:
        if within and self._calls < MAX_WAITING and self._session.held.reserve(pending.size):
            self._calls += 1
            self._session.hub.await_answer(self._answer(pending))
        else:
            self._fail(pending.id, pending.call.path, trpc.from_presence(_busy(within)), pending.input.wrapped)

    def _refuse_busy(self, data: bytes, within: bool) -> None:
        """Refuse each request of a message that does not fit into the held messages."""
        requests = list(requests_of(data))
        if not requests:  # the message contains no request, or is no JSON
            self._session.on_bad(_busy(within))
        for id_, path, wrapped in requests:
            self._fail(id_, path, trpc.from_presence(_busy(within)), wrapped)

    async def _answer(self, pending: PendingCall) -> None:
        caller = Caller(self._session.identity, self._session.session_id)
        try:
            outcome = await outcome_of(self, caller, pending.call, pending.input.value)
        finally:
            self._calls -= 1
            self._session.held.release(pending.size)
        if isinstance(outcome, TrpcError):
            self._fail(pending.id, pending.call.path, outcome, pending.input.wrapped)
            return
        result = (
            {"type": "data"}
            if outcome is UNSET
            else {"type": "data", "data": trpc.wrap(outcome, pending.input.wrapped)}
        )
        self._write(trpc.encode({"id": pending.id, "result": result}))

    async def call(self, caller: Caller, name: str, input: Any) -> Any:
        """Execute a procedure for this socket. A heartbeat that names no room and no session is the session's own, and
        not one of leases [D3, D7]."""
        if name == "heartbeat":
            parsed = read(input, HeartbeatInput)
            if (parsed.room_id, parsed.session_id, parsed.client_key) == (UNSET, UNSET, UNSET):
                session, now = self._session, self._session.hub.clock()
                beat = Heartbeat(status=parsed.status, client_time=parsed.client_time)
                session.dispatch(beat, trpc.encode(beat), True, now)
                wall = session.hub.wall
                return HeartbeatResult(
                    success=True, renewed=0, timestamp=wall.iso(now), server_time=wall.ms(now), echo=parsed.client_time
                )
        return await self._procedures.call(caller, name, input)

    def _fail(self, id_: Id | None, path: str | None, error: TrpcError, wrapped: bool) -> None:
        self._write(_failed(id_, path, error, wrapped))
        if self._session.state != "closed":
            self._session.on_refusal()

    # --- called by the session --------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes in the transport's buffer, which the kernel has not taken yet."""
        return self._connection.unsent_bytes

    def send_frames(self, data: bytes) -> None:
        self._connection.send_frames(data)

    def send_ping(self, data: bytes) -> None:
        self._connection.send_ping(data)

    def keep_alive(self, data: bytes) -> None:
        """Ping the transport and the client's script, which answers a text PING with PONG in tRPC's client."""
        self._connection.send_ping(data)
        self._write(b"PING")

    def promote(self) -> None:
        self._connection.promote()

    def lift_preauth_limit(self) -> None:
        self._connection.lift_preauth_limit()

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection. With 1012 the client is first requested to open its next connection. A client that is
        to stay away, or to come back later, stays connected for a while: wsLink would reconnect at once after a close
        [A2]."""
        if self._refused is not None:
            return
        if (code == 4401 and not self._open) or CLOSES[code].come_back in (ReconnectPolicy.NO, ReconnectPolicy.LATER):
            self._refuse_until_timeout(
                code, trpc.error_of_close(code, self._subscriptions.failure, self._session.refusal)
            )
            return
        if code == 1012:
            self._connection.send_text(RECONNECT)
        self._connection.close(code, reason)

    def abort(self) -> None:
        self._connection.abort()

    # --- messages for the client ------------------------------------------------------------------------------------

    def _wrap(self, message: bytes) -> list[bytes]:
        """The envelopes of a message of the session: one for each subscription that selects it."""
        envelopes = self._subscriptions.translate(message)
        if not self._open and self._subscriptions.authenticated is not None:
            self._open = True
            self._session.hub.timers.call_soon(self._opened)  # not at once: the session is being opened
            self._show_rooms_once()
        return envelopes

    def _subscribe(self, id_: Id, given: Input) -> None:
        """Start a subscription. Errors: TrpcError BAD_REQUEST."""
        for message in self._subscriptions.add(id_, given):
            self._write(message)
        self._show_rooms_once()
        if self._subscriptions.of_rooms():
            self._check_rooms_later()

    def _check_rooms_later(self) -> None:
        if self._room_timer is not None:
            self._room_timer.cancel()
        self._room_timer = self._session.hub.timers.call_later(ROOM_WAIT_S, self._check_rooms)

    def _check_rooms(self) -> None:
        """End the subscriptions of rooms that the session is not in, unless a call that may join them has no answer."""
        self._room_timer, session = None, self._session
        if session.state != "open":
            return
        rooms = session.memberships.current
        outside = [each for each in self._subscriptions.of_rooms() if each[1] not in rooms]
        if outside and self._calls:
            self._check_rooms_later()
            return
        for id_, _, wrapped in outside:
            self._subscriptions.end(id_)
            self._fail(id_, EVENTS_PATH, NOT_IN_ROOM, wrapped)

    def _show_rooms_once(self) -> None:
        if not self._shown and self._open and self._subscriptions.is_delivering:
            self._shown = True
            self._session.hub.timers.call_soon(self._show_rooms)

    def _write(self, payload: bytes) -> None:
        """Append one message for the client to the outbox."""
        if self._session.state != "closed":
            self._session.outbox.write(frame_text(payload))


def _failed(id_: Id | None, path: str | None, error: TrpcError, wrapped: bool) -> bytes:
    return trpc.encode({"id": id_, "error": trpc.wrap(error.shape(path), wrapped)})


def _busy(within: bool) -> PresenceError:
    """The error for too many concurrent calls, or when not `within` the connection's rate for too many per second."""
    if within:
        return PresenceError("RATE_LIMITED", "Too many calls at once. Wait for the answers.", retry_after_s=1.0)
    return PresenceError("RATE_LIMITED", retry_after_s=0.1)


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
