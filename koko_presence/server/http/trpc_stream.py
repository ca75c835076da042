"""Adapts a tRPC client's event stream (httpSubscriptionLink: server-sent events on `GET /trpc/presence.onEvent`) to a
presence session [M6c].

A stream holds its session as a socket does: it counts as a connection, the session's outbox bounds what waits for a
slow client, and its loss begins the grace period. What the client sends are calls over HTTP that name the session. The
stream has no answers to pings: bytes that the peer acknowledges take their place. `EventStream` is the protocol of the
connection and the link of the session. Written by the loop's thread only.
"""

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from koko_presence._fastpath.counters import counters
from koko_presence.auth.cookies import SessionCookie
from koko_presence.cluster.bus import TimerHandle
from koko_presence.protocol.commands import LeaveRoom, QueryLeases
from koko_presence.protocol.errors import CLOSES, PresenceError, ReconnectPolicy
from koko_presence.protocol.messages import Join
from koko_presence.server.acceptor import Acceptor, taken_bytes
from koko_presence.server.address_limits import AddressUse
from koko_presence.server.session import Session
from koko_presence.server.websocket import CLOSE_TIMEOUT_S, LOST, NORMAL, Gone
from koko_presence.users.http_sessions import lease_id

from . import sse, trpc
from .trpc import TrpcError
from .trpc_events import NOT_IN_ROOM, ROOM_WAIT_S, error_of, read_event

if TYPE_CHECKING:
    from koko_presence.server.hub import Hub

RETRY_S = 0.5  # after which an EventSource reconnects, for up to twice as long: well within the grace period [D2]
RETRY_REFUSED_S = 30.0  # the same after an error that lasts
RETRY_LATER_S = 5.0  # the same after an error that may be over soon
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0  # between checks whether the peer has acknowledged a ping
NO_TOKEN = "There is no token: send the header Authorization, by an EventSource that is built on fetch, or the cookie."
_GONE = Gone()
_leases = msgspec.json.Decoder(list[tuple[str, str]])


class StreamRequest(NamedTuple):
    """What a client asks for by `GET /trpc/presence.onEvent`.

    `room_id`: the events of this room only. `wrapped`: by superjson. `token` is that of the header Authorization, ""
    without one; `cookie` the application's, or why none counts. `resume_token` names the session to come back to.
    `wants_ids`: the client's EventSource is to send the session's resume token as Last-Event-ID when it reconnects.
    `headers` are those of the response that depend on the request, such as CORS.
    """

    room_id: str | UnsetType
    wrapped: bool
    token: str
    cookie: SessionCookie | str | None
    resume_token: str
    wants_ids: bool
    headers: tuple[tuple[str, str], ...]


class EventStreams:
    """Opens the event streams of one worker. Holds no state."""

    def __init__(self, hub: "Hub", acceptor: Acceptor) -> None:
        self._hub = hub
        self._acceptor = acceptor

    @property
    def refuses_new_clients(self) -> bool:
        """True while memory is short."""
        return self._hub.refuses_new_clients

    @property
    def beginning(self) -> bytes:
        """The first bytes of a stream's body."""
        limits = self._hub.limits
        return sse.connected(limits.ping_interval_s + limits.ping_timeout_s)

    def open(self, request: web.BaseRequest, stream_request: StreamRequest, use: AddressUse) -> bool:
        """Answer a request by a stream; `use` counts it for its address. Returns False when its connection is gone.
        After True the handler of the request has to raise `given_away()`."""
        transport = self._acceptor.hand_over(request)
        if transport is None:
            use.end()
            return False
        EventStream(self._hub, self._acceptor, transport, use).open(stream_request, self.beginning)
        return True


class EventStream(asyncio.Protocol):
    """One client's stream."""

    __slots__ = (
        "_acceptor", "_acknowledged", "_closed", "_code", "_failure", "_hub", "_id", "_leases", "_open", "_room_id",
        "_room_timer", "_session", "_timer",
        "_transport", "_use", "_wants_ids", "_wrapped",
    )  # fmt: skip

    def __init__(self, hub: "Hub", acceptor: Acceptor, transport: Any, use: AddressUse) -> None:
        self._acceptor = acceptor
        self._hub = hub
        self._transport = transport
        self._use = use
        self._session: Session = hub.accept(self, use)
        self._session.become_stream()
        self._session.outbox.use_envelopes(self._translate, framed=False)
        self._room_id: str | UnsetType = UNSET
        self._wrapped = self._wants_ids = False
        self._id = b""  # a short resume token, which an EventSource sends when it reconnects
        self._open = False  # the session is open
        self._failure: TrpcError | None = None  # the last error before the session was open
        self._code: int | None = None  # with which the session was closed
        self._closed = False  # nothing more is written
        self._acknowledged: int | None = None  # bytes that the peer had acknowledged when the last ping was sent
        self._timer: TimerHandle | None = None
        self._room_timer: TimerHandle | None = None  # until it is checked that the session is in the room
        self._leases: dict[str, str] = {}  # by room: sessions held over HTTP that end when this one is in the room

    def open(self, stream_request: StreamRequest, beginning: bytes) -> None:
        """Write the head of the response and authenticate."""
        self._room_id, self._wrapped = stream_request.room_id, stream_request.wrapped
        self._wants_ids = stream_request.wants_ids
        self._transport.set_protocol(self)
        session = self._session
        self._write(_head(stream_request.headers) + beginning + sse.retry(RETRY_S))
        session.authentication.cookie = stream_request.cookie
        auth = {"token": stream_request.token, "resumeToken": stream_request.resume_token}
        if not stream_request.token and stream_request.cookie is None:
            session.refuse(PresenceError("UNAUTHENTICATED", NO_TOKEN))
        else:
            session.on_text(trpc.encode({"type": "auth", **{name: each for name, each in auth.items() if each}}))
        if session.state == "new":  # the `auth` message was refused
            session.finish(4401)

    # --- called by the transport ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Abort the connection: the stream is its last response."""
        self.abort()

    def pause_writing(self) -> None:
        if not self._closed:
            self._session.on_unwritable()

    def resume_writing(self) -> None:
        if not self._closed:
            self._session.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._stop_timers()
        counters.closed(self._code)
        transport, self._transport = self._transport, _GONE
        self._session.on_close(LOST, False)
        self._use.end()
        self._acceptor.leave_stream(transport)

    # --- called by the session --------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes in the transport's buffer, which the kernel has not taken yet."""
        return int(self._transport.get_write_buffer_size())

    def send_frames(self, data: bytes) -> None:
        """Write events. Each has cleared the id, which is set again behind them."""
        if not self._closed:
            restored = sse.restore_id(self._id) if self._id else b""
            self._session.outbox.note_added(len(restored))
            self._transport.write(data + restored)

    def send_ping(self, data: bytes) -> None: ...

    def keep_alive(self, data: bytes) -> None:
        """Send a ping, and look until the peer has acknowledged bytes since."""
        if not self._closed:
            self._acknowledged = taken_bytes(self._transport)
            self._write(sse.PING)
            self._look_later(FIRST_LOOK_S)

    def promote(self) -> None:
        self._transport.promote()

    def lift_preauth_limit(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None:
        """End the stream. A client that may come back is told when, and no error, so that its EventSource reconnects
        with a new token if it has one; the others get the error."""
        if self._closed:
            return
        self._code = code
        self._finish(self._end(code))

    def _write(self, data: bytes) -> None:
        """Write bytes that are not from the outbox, which has to know their number."""
        self._session.outbox.note_added(len(data))
        self._transport.write(data)

    def _finish(self, data: bytes) -> None:
        """Write the last bytes and close the connection."""
        self._closed = True
        self._stop_timers()
        self._transport.write(data)
        self._transport.close()
        self._timer = self._hub.timers.call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    def _end(self, code: int) -> bytes:
        """The last bytes of the stream."""
        come_back, session = CLOSES[code].come_back, self._session
        if come_back is ReconnectPolicy.RESUME or (self._open and come_back is ReconnectPolicy.NEW_TOKEN):
            return sse.retry(RETRY_S * (1.0 + session.connection % 16 / 16.0))  # many are closed at the same time
        return self._failed(trpc.error_of_close(code, self._failure, session.refusal))

    def _failed(self, error: TrpcError) -> bytes:
        after_s = RETRY_LATER_S if error.is_temporary else RETRY_REFUSED_S
        return sse.failed(trpc.wrap(error.shape(_PATH), self._wrapped)) + sse.retry(after_s)

    # --- messages for the client ------------------------------------------------------------------------------------

    def _translate(self, message: bytes) -> list[bytes]:
        """The events for one message of the session."""
        event = read_event(message)
        if event is None:
            return []
        if event.head.type == "authenticated":
            self._on_authenticated()
        if not self._open:  # an error, with which the session ends
            self._failure = error_of(event.payload)
            return []
        if event.head.type == "joined" and event.head.room_id is not UNSET:
            self._end_lease(event.head.room_id)
        if not event.is_for(self._room_id):
            return []
        payload = b'{"json":%b}' % event.payload if self._wrapped else event.payload
        return [sse.value(payload, clears_id=bool(self._id))]

    def _on_authenticated(self) -> None:
        """Take the id of the session for the client's next stream; at the first time join the session's rooms again, so
        that the client gets their snapshots and events [C4]."""
        session, hub = self._session, self._hub
        if self._wants_ids:
            self._id = session.authentication.short_resume_token().encode()
        if not self._open:
            self._open = True
            hub.timers.call_soon(self._show_rooms)  # not at once: the session is being opened

    def _show_rooms(self) -> None:
        session, hub = self._session, self._hub
        if session.state != "open":
            return
        for room_id in session.memberships.joined:
            self._join(room_id)
        if self._room_id is not UNSET:  # a call for this session may be checked on any worker, which is not known here
            self._check_room_in(ROOM_WAIT_S + 2.0 * hub.access.answers_within_s)
        if self._wants_ids and not session.memberships.joined:
            hub.await_answer(self._take_over_leases())

    def _join(self, room_id: str) -> None:
        join = Join(room_id=room_id)
        self._session.dispatch(join, trpc.encode(join), True, self._hub.clock())

    def _check_room_in(self, wait_s: float) -> None:
        self._room_timer = self._hub.timers.call_later(wait_s, self._check_room)

    def _check_room(self) -> None:
        """End a stream of a room that its session is not in, and joins by no call that waits here for its owner
        [M6d]. The session ends with it, or keeps its places in other rooms for their grace period [D2]."""
        self._room_timer, session, room_id = None, self._session, self._room_id
        if session.state != "open" or room_id is UNSET or room_id in session.memberships.current:
            return
        joins = self._hub.calls.joins()
        if any(room_id in joins.get(each, ()) for each in (session.session_id, lease_id(session.user_id, room_id, ""))):
            self._check_room_in(ROOM_WAIT_S)
            return
        self._finish(self._failed(NOT_IN_ROOM))
        if session.memberships.current:
            session.on_close(LOST, False)
        else:
            session.on_close(NORMAL, True)

    # --- sessions held over HTTP ------------------------------------------------------------------------------------

    async def _take_over_leases(self) -> None:
        """Join the rooms in which the caller holds a session over HTTP that hides nothing and is no other client's: a
        page that has joined before it opens its stream. That session ends when this one is in the room."""
        session = self._session
        user_id = session.user_id
        only = "" if self._room_id is UNSET else lease_id(user_id, self._room_id, "")
        command = QueryLeases(user_id=user_id, session_id=only, shown=True)
        try:
            leases = _leases.decode(await self._hub.calls.request(command))
        except PresenceError:  # no answer: the stream has what its client joins
            return
        for lease, room_id in leases if session.state == "open" else ():
            if lease == lease_id(user_id, room_id, "") and room_id not in session.memberships.current:
                self._leases[room_id] = lease
                self._join(room_id)

    def _end_lease(self, room_id: str) -> None:
        session, lease = self._session, self._leases.pop(room_id, "")
        if lease:
            leave = LeaveRoom(user_id=session.user_id, room_id=room_id, session_id=lease)
            self._hub.bus.send(leave, self._hub.clock())

    # --- signs of life ----------------------------------------------------------------------------------------------

    def _look_later(self, pause_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._hub.timers.call_later(pause_s, lambda: self._look(pause_s))

    def _look(self, pause_s: float) -> None:
        """Count bytes that the peer has acknowledged since the last ping as its pong, and as a message of a client that
        sends no heartbeats."""
        taken, session = taken_bytes(self._transport), self._session
        if taken is not None and self._acknowledged is not None and taken <= self._acknowledged:
            self._look_later(min(2.0 * pause_s, LONGEST_LOOK_S))
            return
        self._timer = None
        session.activity.note_transport(self._hub.clock())
        session.on_pong(b"")

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._room_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._room_timer = None


_PATH = trpc.PREFIX + trpc.EVENTS


def _head(headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*sse.HEADERS, *headers))
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")
