"""wsLink on `WS /trpc`: a tRPC client's socket is a presence session that speaks in envelopes [M6].

The adapter stands between connection and session: for the connection it is the handler, for the session the link.
Calls go to the procedures with the session's own id; what the session would write to its client goes to the live
`presence.onEvent` subscriptions. Everything leaves through the session's outbox, so its bounds hold; calls are counted
and cut off as a session's messages are [E2, L3]. Written by the loop's thread alone.
"""

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from msgspec import UNSET

from koko_presence._fastpath.fanout import frame_text
from koko_presence.cluster.bus import TimerHandle
from koko_presence.protocol.errors import CLOSES, PresenceError
from koko_presence.protocol.messages import Heartbeat, Join
from koko_presence.server.held_messages import CALLS
from koko_presence.server.rpc import Caller, HeartbeatResult
from koko_presence.server.rpc_inputs import HeartbeatInput, read
from koko_presence.server.session import Session

from . import trpc
from .trpc import Call, Input, TrpcError
from .trpc_events import OWN_HEAD, Id, Subscriptions, id_of, payloads, requests_of
from .trpc_http import KINDS, outcome_of

if TYPE_CHECKING:
    from koko_presence.server.hub import Hub
    from koko_presence.server.websocket import Connection

PATH = "/trpc"
MAX_REFUSALS = 16  # requests that are answered although the client is not let in [A2]
MAX_WAITING = 64  # calls that are being answered
NO_TOKEN = "There is no token: give wsLink connectionParams, as in () => ({ token: await getToken() })."
RECONNECT = b'{"id":null,"method":"reconnect"}'


class Asking(NamedTuple):
    """One call of this socket."""

    id: Id
    call: Call
    input: Input
    size: int  # bytes of the message, or its part of them, that it came in


class TrpcSocket:
    """One client's socket."""

    __slots__ = (
        "_bearer", "_calls", "_connection", "_open", "_ready", "_refusals", "_refused", "_session", "_shown",
        "_subscriptions", "_timer", "_wants_params",
    )  # fmt: skip

    def __init__(self, hub: "Hub", connection: "Connection") -> None:
        self._connection = connection
        self._session: Session = hub.accept(self, connection.address_use)
        self._subscriptions = Subscriptions()
        self._refused = ""  # why the client is not let in
        self._refusals = 0  # requests that got that for an answer
        self._timer: TimerHandle | None = None
        self._calls = 0  # being answered
        self._open = False  # the session is
        self._ready = False  # and what waited for that has been taken
        self._shown = False  # its rooms are, to the first subscription
        self._bearer = ""  # the token of the handshake
        self._wants_params = False

    # --- what the connection calls ----------------------------------------------------------------------------------

    def on_open(self, connection: "Connection") -> None:
        """The handshake is done: do its headers say who it is, or will the first message?"""
        connection.take_long()
        if connection.is_proxied:
            self._session.bound_delivery()
        self._session.login.cookie, connection.cookie = connection.cookie, None
        self._bearer = _bearer(connection.headers.get("authorization", ""))
        self._wants_params = parse_qs(connection.target.partition("?")[2]).get("connectionParams") == ["1"]
        if not self._wants_params:
            self._enter({})

    def on_text(self, data: bytes) -> None:
        """A whole text message: a call, an array of calls, or a sign of life."""
        session = self._session
        if self._refused:
            self._refuse_all(data)
            return
        if session.state == "closed":
            return
        session.activity.note_life(session.hub.clock())  # both are a script's words, so even PONG is a sign of life
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
            if not session.held.add(CALLS, data, known=session.is_known):
                self._refuse_busy(data, within)

    def _take_all(self, data: bytes, within: bool) -> None:
        """A call or an array of calls, of which the first has been counted."""
        message = self._read(data)
        calls = message if isinstance(message, list) else [message]
        for number, each in enumerate(calls if message is not UNSET else ()):
            if number:
                within = self._count()
            if self._session.state == "closed":
                return
            self._take(each, within, len(data) // len(calls))

    def _read(self, data: bytes) -> Any:
        """A message's JSON, UNSET for what is none and has been told so."""
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

    def on_pong(self, count: int = 1) -> None:
        self._session.on_pong(count)

    def on_rest(self, until: float) -> None:
        self._session.on_rest(until)

    def on_uninvited(self) -> None:
        """More frames than may come before the client says who it is, or after it was refused: the rest is not read.
        The connection stays until its time is over, or wsLink would be back at once [A2]."""
        self._connection.stop_reading()

    def on_close(self, code: int | None, clean: bool) -> None:
        self._subscriptions.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._session.on_close(code, clean)

    def on_writable(self) -> None:
        self._session.on_writable()

    def on_unwritable(self) -> None:
        self._session.on_unwritable()

    # --- who it is --------------------------------------------------------------------------------------------------

    def _take_params(self, raw: bytes) -> None:
        """`{"method":"connectionParams","data":{"token":...,"resumeToken":...}}`; data may be null."""
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

    # --- who is not let in ------------------------------------------------------------------------------------------

    def _stay(self, reason: str) -> None:
        """The client is refused. Its requests, those that wait among them, are told why: up to `MAX_REFUSALS`."""
        session, hub = self._session, self._session.hub
        self._refused = reason
        self._connection.expel()
        left_s = max(0.0, session.opened_at + hub.limits.auth_timeout_s - hub.clock())
        self._timer = hub.timers.call_later(left_s, lambda: self._connection.close(4401, CLOSES[4401].reason))
        for raw in session.held.take(CALLS):
            self._refuse_all(raw)

    def _refuse_all(self, data: bytes) -> None:
        for id_, path, wrapped in requests_of(data):
            self._refuse_one(id_, path, wrapped)

    def _refuse_one(self, id_: Id, path: str | None, wrapped: bool) -> None:
        if self._refusals >= MAX_REFUSALS:
            return
        self._refusals += 1
        error = trpc.from_presence(PresenceError("UNAUTHENTICATED", self._refused))
        self._connection.send_text(trpc.encode({"id": id_, "error": trpc.wrap(error.shape(path), wrapped)}))
        if self._refusals == MAX_REFUSALS:
            self._connection.stop_reading()

    # --- the session is there ---------------------------------------------------------------------------------------

    def _opened(self) -> None:
        """The session is there: what has waited for it is taken."""
        self._ready = True
        for raw in self._session.held.take(CALLS):
            if self._session.state == "open":
                self._take_all(raw, True)

    def _show_rooms(self) -> None:
        """The first subscription hears: it gets a snapshot of each room that the session is in, and a resumed session
        hears its rooms only once it has joined again [C4]."""
        session, now = self._session, self._session.hub.clock()
        for room_id in sorted(session.rooms.joined):
            join = Join(room_id=room_id)
            session.dispatch(join, trpc.encode(join), True, now)

    # --- calls ------------------------------------------------------------------------------------------------------

    def _count(self) -> bool:
        """Count one call; False when it is above the connection's rate, and at the end of its patience a cut [L3]."""
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
                self._write(self._subscriptions.add(id_, given))
            except TrpcError as error:
                self._fail(id_, path, error, given.wrapped)
        else:
            self._ask(Asking(id_, Call(path, path.removeprefix(trpc.PREFIX), None), given, size), within)

    def _ask(self, asking: Asking, within: bool) -> None:
        if within and self._calls < MAX_WAITING and self._session.held.reserve(asking.size):
            self._calls += 1
            self._session.hub.await_answer(self._answer(asking))
        else:
            self._fail(asking.id, asking.call.path, trpc.from_presence(_busy(within)), asking.input.wrapped)

    def _refuse_busy(self, data: bytes, within: bool) -> None:
        """Refuse each request of a message that does not fit behind those that wait."""
        requests = list(requests_of(data))
        if not requests:  # no request, or not even JSON
            self._session.on_bad(_busy(within))
        for id_, path, wrapped in requests:
            self._fail(id_, path, trpc.from_presence(_busy(within)), wrapped)

    async def _answer(self, asking: Asking) -> None:
        caller = Caller(self._session.identity, self._session.session_id)
        try:
            outcome = await outcome_of(self, caller, asking.call, asking.input.value)
        finally:
            self._calls -= 1
            self._session.held.release(asking.size)
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
                beat = Heartbeat(status=asked.status, client_time=asked.client_time)
                session.dispatch(beat, trpc.encode(beat), True, now)
                wall = session.hub.wall
                return HeartbeatResult(
                    success=True, renewed=0, timestamp=wall.iso(now), server_time=wall.ms(now), echo=asked.client_time
                )
        return await self._session.hub.procedures.call(caller, name, input)

    def _fail(self, id_: Id | None, path: str | None, error: TrpcError, wrapped: bool) -> None:
        self._write(trpc.encode({"id": id_, "error": trpc.wrap(error.shape(path), wrapped)}))
        if self._session.state != "closed":
            self._session.on_refusal()

    # --- what the session calls -------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._connection.unsent_bytes

    def send_frames(self, data: bytes) -> None:
        """What the outbox writes: envelopes as they are, a session's messages in those that are wanted."""
        out: list[bytes] = []
        for payload in payloads(data):
            if payload.startswith(OWN_HEAD):
                out += map(frame_text, self._subscriptions.translate(payload))
            else:
                out.append(frame_text(payload))
                out += map(frame_text, self._subscriptions.begin(payload))
        if out:
            self._connection.send_frames(b"".join(out))
        if not self._open and self._subscriptions.authenticated is not None:
            self._open = True
            self._session.hub.timers.call_soon(self._opened)  # not now: somebody is in the middle of writing
        if not self._shown and self._open and self._subscriptions.heard:
            self._shown = True
            self._session.hub.timers.call_soon(self._show_rooms)

    def send_ping(self, data: bytes) -> None:
        """Ask for a sign of life, of the transport and of the script: tRPC's client answers PONG by itself."""
        self._connection.send_ping(data)
        self._write(b"PING")

    def promote(self) -> None:
        self._connection.promote()

    def invite(self) -> None:
        self._connection.invite()

    def close(self, code: int, reason: str = "") -> None:
        """Close; before a restart the client is asked to open its next connection. A client that is not let in stays,
        or wsLink would be back at once [A2]."""
        if code == 4401 and not self._open:
            self._stay(self._session.refusal or "There is no valid token.")
            return
        if code == 1012:
            self._connection.send_text(RECONNECT)
        self._connection.close(code, reason)

    def abort(self) -> None:
        self._connection.abort()

    def _write(self, payload: bytes) -> None:
        """One message to the client, behind what waits."""
        if self._session.state != "closed":
            self._session.outbox.write(frame_text(payload))


def _busy(within: bool) -> PresenceError:
    """Too many calls at once, or too many a second when not `within` the connection's rate."""
    if within:
        return PresenceError("RATE_LIMITED", "Too many calls at once. Wait for the answers.", retry_after_s=1.0)
    return PresenceError("RATE_LIMITED", retry_after_s=0.1)


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
