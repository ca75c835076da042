"""One port for everything: the first request decides between WebSocket (picows) and HTTP (aiohttp).

A tiny protocol reads until the end of the request's head and hands the transport, with the bytes read so far, to who
is meant; TLS is below all that. What may come in is decided here: paths, origins, the number of
connections, how long and how large a request's head may be.
"""

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Collection, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from picows import WSAutoPingStrategy
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.polling import PolledTransport, Poller
from koko_presence._fastpath.reader import FrameReader
from koko_presence.auth.cookies import SessionCookie

from .connection import Connection, Handler
from .listening import Listener
from .turning import MAX_HEAD_BYTES, begun, turn, upgrade_in
from .upgrade import Head, read_head, refuse_upgrade, session_cookie

SEND_BUFFER_BYTES = 128 * 1024

# picows makes a logger per connection and writes two lines for each, unless it is given an adapter; its complaints
# about bad frames are for the peer, not for the log.
_silent = logging.getLogger("koko_presence.picows")
_silent.setLevel(logging.CRITICAL)
_SILENT = logging.LoggerAdapter(_silent, {})


class Door:
    """The listening socket of one worker and all connections that came through it."""

    def __init__(
        self,
        *,
        make_handler: Callable[[Connection], Handler],
        http_protocol: Callable[[], asyncio.Protocol],
        poller: Poller,
        origins: Collection[str] = (),
        cookie: str = "",
        max_message_bytes: int = 16 * 1024,
        max_frame_bytes: int = 64 * 1024,
        backlog: int = 4096,
        handshake_timeout_s: float = 5.0,
        read_buffer_bytes: int = 2048,
        max_connections: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ws_paths: Collection[str] | None = ("/presence",),
    ) -> None:
        """`origins` are the browsers' pages that may connect, besides those of this very host; `cookie` is the name of
        the cookie by which they may say who they are, if there is one; `ws_paths` None serves WebSocket on every path;
        `max_connections` defaults to the file-descriptor limit less a reserve. `poller` reads all plain connections;
        over TLS the loop's own transports do."""
        self.origins = origins
        self.cookie = cookie
        self.connections: set[Connection] = set()
        self.open_count = 0
        self.handshake_timeout_s = handshake_timeout_s
        self.http_protocol = http_protocol
        self.max_connections = max_connections if max_connections is not None else default_max_connections()
        self.ws_paths = ws_paths
        self._make_handler = make_handler
        self._max_message_bytes = max_message_bytes
        self._max_frame_bytes = max_frame_bytes
        self._backlog = backlog
        self._read_buffer_bytes = read_buffer_bytes
        self._ssl = ssl_context
        self._listener: Listener | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[Any] = set()
        self._poller = poller

    @property
    def sockets(self) -> Collection[socket.socket]:
        """The listening sockets; empty before `open` and after `stop_accepting`."""
        return self._listener.sockets if self._listener is not None else ()

    async def open(self, host: str, port: int) -> None:
        """Listen. Errors: OSError when the address is taken or not ours."""
        self._listener = Listener(self._on_connection)
        await self._listener.open(host, port, backlog=self._backlog)

    def take(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from sockets that listen already, which others may hold as well."""
        self._listener = Listener(self._on_connection)
        self._listener.take(sockets)

    def set_limits(self, max_message_bytes: int, max_frame_bytes: int) -> None:
        """New limits for the connections to come."""
        self._max_message_bytes, self._max_frame_bytes = max_message_bytes, max_frame_bytes

    def stop_accepting(self) -> None:
        """No new connection from now on; the open ones stay."""
        if self._listener is not None:
            self._listener.close()

    def _on_connection(self, sock: socket.socket, peer: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # a small kernel buffer, so that the kernel does not hide megabytes from the outbox
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if self._ssl is not None:
            self.give_to_loop(sock, lambda: Threshold(self))
        else:
            own = sock.getsockname()
            self._poller.adopt(sock.detach(), Threshold(self), peer, own)

    def give_to_loop(
        self, sock: socket.socket, protocol: Callable[[], asyncio.Protocol], failed: Callable[[], None] = lambda: None
    ) -> None:
        """Let the loop's own transport have a connection: TLS from its beginning, HTTP once it is known to be that."""
        task = asyncio.ensure_future(self._connect(sock, protocol, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(
        self, sock: socket.socket, protocol: Callable[[], asyncio.Protocol], failed: Callable[[], None]
    ) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                sock,
                ssl=self._ssl,
                ssl_handshake_timeout=self.handshake_timeout_s if self._ssl is not None else None,
            )
        except (OSError, ssl.SSLError):  # no TLS, or gone before it was through: its own affair
            sock.close()
            failed()

    async def close(self) -> None:
        """Stop accepting and cut what is still open."""
        self.stop_accepting()
        for task in self._tasks:
            task.cancel()
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)

    # --- called by the threshold ------------------------------------------------------------------------------------

    def enter(self, transport: Any) -> bool:
        """Count a connection in; False when there are too many."""
        self._transports.add(transport)
        self.open_count += 1
        return self.open_count <= self.max_connections

    def exchange(self, before: Any, transport: Any) -> None:
        """A connection that is counted already has a new transport."""
        self._transports.discard(before)
        self._transports.add(transport)

    def exit(self, transport: Any) -> None:
        """Count a connection out."""
        self._transports.discard(transport)
        self.open_count -= 1

    def web_socket(self, cookie: SessionCookie | str | None) -> "DoorWebSocket":
        """A picows protocol for one upgrade that is welcome, and the cookie that came with it."""
        connection = Connection(self._max_message_bytes, self._max_frame_bytes)
        connection.cookie = cookie
        connection.handler = Greeting(self, connection, self._make_handler)

        def listener(request: Any) -> Connection:
            # picows wants the value to be exactly "upgrade"; Firefox sends "keep-alive, Upgrade"
            request.headers["connection"] = "upgrade"
            request.headers["upgrade"] = "websocket"
            return connection

        protocol = picows_protocol(
            listener,
            handshake_timeout_s=self.handshake_timeout_s,
            max_frame_bytes=self._max_frame_bytes,
            read_buffer_bytes=self._read_buffer_bytes,
        )
        protocol.on_lost = self._exit_of(connection)
        return protocol

    def _exit_of(self, connection: Connection) -> Callable[[asyncio.BaseTransport], None]:
        def gone(transport: Any) -> None:
            self.connections.discard(connection)
            self.exit(transport)

        return gone


class DoorWebSocket(WSProtocol):  # type: ignore[misc]
    """picows' protocol, which also says when its connection is gone, upgraded or not."""

    __slots__ = ("_base", "on_lost")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._base = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.on_lost(self._base)


def picows_protocol(
    listener: Callable[[Any], Connection], *, handshake_timeout_s: float, max_frame_bytes: int, read_buffer_bytes: int
) -> DoorWebSocket:
    """The server side of picows for one connection. Its arguments are not public: a test pins their order to the pinned
    version."""
    return DoorWebSocket(
        None,  # host and port, client only
        None,  # path, client only
        False,  # is_client_side
        listener,
        _SILENT,
        True,  # disconnect_on_exception
        handshake_timeout_s,
        False,  # enable_auto_ping: the session pings
        10.0,
        10.0,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: the connection answers, also between fragments and not after a close
        max_frame_bytes,
        None,  # extra headers
        read_buffer_bytes,
    )


class Threshold(asyncio.Protocol):
    """Reads the first request's head, then steps aside; for HTTP it stays as a thin wrapper that counts."""

    __slots__ = ("_door", "_head", "_http", "_timer", "_transport")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._head = b""
        self._http: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        before, self._transport = self._transport, transport
        if before is not None:  # from the poller to the loop
            self._door.exchange(before, transport)
            self._become_http()
            return
        if not self._door.enter(transport):
            self._refuse(503, "The server has no room for more connections. Try again in a moment.")
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._door.handshake_timeout_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._http is not None:
            data, self._head = self._head + data, b""
            if begun(self._http, data):
                self._head = data
                return
            head = upgrade_in(data)
            if head is None:
                self._http.data_received(data)
            else:
                turn(self._http, self._transport, data, partial(self._turn, head, data))
            return
        if self._transport.is_closing():
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_HEAD_BYTES:
                self._refuse(431, "The request's head is too large.")
            return
        self._stop_timer()
        head = read_head(self._head[:end])
        if head is None or not head.wants_websocket:
            if isinstance(self._transport, PolledTransport):
                sock = socket.socket(fileno=self._transport.detach())
                self._door.give_to_loop(sock, lambda: self, lambda: self.connection_lost(None))
            else:
                self._become_http()
            return
        self._upgrade(head)

    def _turn(self, head: Head, data: bytes) -> None:
        self._http, self._head = None, data
        self._upgrade(head)

    def _upgrade(self, head: Head) -> None:
        refusal = refuse_upgrade(head, self._door.ws_paths, self._door.origins)
        if refusal is not None:
            self._refuse(*refusal)
            return
        self._become_web_socket(session_cookie(head, self._door.cookie, self._door.origins))

    def _become_http(self) -> None:
        self._http = self._door.http_protocol()
        self._http.connection_made(self._transport)
        self._http.data_received(self._head)
        self._head = b""

    def _become_web_socket(self, cookie: SessionCookie | str | None) -> None:
        protocol = self._door.web_socket(cookie)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        end = self._head.find(b"\r\n\r\n") + 4
        polled = isinstance(self._transport, PolledTransport)
        rest = self._head[:end] if polled else self._head
        while rest:  # what came behind the head belongs to the WebSocket already
            with memoryview(protocol.get_buffer(len(rest))) as buffer:
                size = min(len(buffer), len(rest))
                buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]
        if polled and protocol.listener is not None:
            self._transport.begin_frames(FrameReader(protocol.listener, protocol, protocol.transport), self._head[end:])

    def _refuse(self, status: int, reason: str, header: str = "") -> None:
        self._stop_timer()
        tally.turned_away += 1
        body = reason.encode()
        self._transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n{header}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        self._transport.close()

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(408, "The request took too long.")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> bool | None:
        return self._http.eof_received() if self._http is not None else False

    def pause_writing(self) -> None:
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._http is not None:
            self._http.connection_lost(exc)
        self._door.exit(self._transport)


def default_max_connections() -> int:
    """The file-descriptor limit less what the process needs for itself: files, listening sockets, the loop, a log."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - (256 if soft > 1024 else 32))


class Greeting:
    """A connection's handler until the handshake is done; then the real one takes its place."""

    def __init__(self, door: Door, connection: Connection, make_handler: Callable[[Connection], Handler]) -> None:
        self._door, self._connection, self._make_handler = door, connection, make_handler

    def on_open(self, connection: Connection) -> None:
        self._door.connections.add(connection)
        connection.handler = self._make_handler(connection)
        connection.handler.on_open(connection)

    def on_text(self, data: bytes) -> None: ...

    def on_binary(self, data: bytes) -> None: ...

    def on_too_large(self, size: int) -> None: ...

    def on_ping(self) -> None: ...

    def on_pong(self, data: bytes) -> None: ...

    def on_close(self, code: int | None, clean: bool) -> None: ...

    def on_writable(self) -> None: ...

    def on_unwritable(self) -> None: ...
