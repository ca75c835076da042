"""Accepts all connections of one worker and dispatches each one by its first request: WebSocket, or HTTP (aiohttp).

`ProtocolSniffer` reads until the end of the request's head and passes the transport, with the bytes read so far, to a
`Connection` or to aiohttp; TLS is terminated below it. `Acceptor` writes the set of open connections and their number.
It enforces the limits on admission: paths, origins, number of connections, size of a request's head and the time in
which it has to arrive. The order is accept, PROXY header, TLS handshake, request head; each step has its own timeout.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.epoll_transport import Poller
from koko_presence._fastpath.frame_prefilter import FrameReader
from koko_presence._fastpath.read_budget import ReadBudget
from koko_presence.admin import file_descriptors
from koko_presence.admin.http_connection import NO_TLS
from koko_presence.auth.cookies import SessionCookie
from koko_presence.config.trusted_proxies import Address
from koko_presence.rooms.service_delays import Delays

from .address_limits import FREE, RETRY_CONNECTION_S, RETRY_RATE_S, AddressLimits, AddressUse
from .handshake import Head, accept_upgrade, came_through_proxy, read_head, refuse_upgrade, session_cookie
from .keepalive_upgrade import HEAD_TOO_LARGE, MAX_FIELDS, MAX_HEAD_BYTES, take
from .listeners import RECEIVE_BUFFER_BYTES, Listener
from .origins import NONE_LISTED, ORIGIN_REFUSED, Origins, Values
from .origins import refusal as origin_refusal
from .proxy_protocol import ProxyHeaders
from .refused_origins import RefusedOrigins
from .rpc import NO_MEMORY
from .tls_handshakes import HandshakeLimiter
from .websocket import CLOSE_TIMEOUT_S, SOMETHING_WAITS, Connection, Handler

log = logging.getLogger("koko_presence.acceptor")

SEND_BUFFER_BYTES = 128 * 1024
NOT_SENT_BYTES = 4096  # about one flush with the newest cursor of each member of a room of 20
TLS_HANDSHAKE = b"\x16\x03"  # begins a TLS connection [RFC 8446 section 5.1]
ROOM_AGAIN_SHARE = 0.95  # of max_connections: below it the next time that the limit is reached is logged again
LOOKS_AT_STUCK = 4  # checks of the progress of an HTTP response within send_stuck_s
BYTES_ACKED = 120  # offset of tcpi_bytes_acked in struct tcp_info
TCP_INFO_BYTES = BYTES_ACKED + 8
ADMISSION_WAIT_LIMIT_S = 0.25  # while accepted connections wait longer for their next step, accepting is held back
REFUSED_SHARE = 8  # connections that are being refused may use the reserved descriptors divided by this
USUALLY_OPEN = 24  # descriptors that a process has open when it starts, with a margin
FULL = "The server has no room for more connections. Try again in a moment."
TOO_MANY_OF_ADDRESS = "This address has as many connections as it may. Try again in a moment."
TOO_LATE = "The server is overloaded. Try again in a moment."
RETRY_LATE = "Retry-After: 5\r\n"
RETRY_CONNECTION, RETRY_RATE = (f"Retry-After: {after_s}\r\n" for after_s in (RETRY_CONNECTION_S, RETRY_RATE_S))


class Acceptor:
    """The listening sockets of one worker and all connections accepted from them. Written by the loop's thread only."""

    def __init__(
        self,
        *,
        make_handler: Callable[[Connection], Handler],
        make_read_budget: Callable[[], ReadBudget | None] = lambda: None,
        http_protocol: Callable[[AddressUse], asyncio.Protocol],
        poller: Poller,
        addresses: AddressLimits | None = None,
        origins: Origins = NONE_LISTED,
        cookie: str = "",
        max_message_bytes: int = 16 * 1024,
        max_frame_bytes: int = 64 * 1024,
        backlog: int = 4096,
        handshake_timeout_s: float = 5.0,
        send_stuck_s: float = 10.0,
        max_connections: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ws_paths: Collection[str] | None = ("/presence",),
        delays: Delays | None = None,
        refused_origins: RefusedOrigins | None = None,
    ) -> None:
        """`origins` are the origins of browser pages that may connect, besides pages of this host. `cookie` is the name
        of the cookie that may authenticate a browser, empty for none. `ws_paths` None serves WebSocket on every path.
        An HTTP response is aborted when the client acknowledges no byte of it for `send_stuck_s`. `max_connections`
        defaults to the file descriptor limit less a reserve. `make_read_budget` makes the read budget of each
        WebSocket, None for none. `poller` reads all plain connections; the loop's own transports read TLS connections,
        within the poller's budgets. `addresses` has the limits by address, None for none; `delays` the times in which
        the service was behind, by which timeouts of clients are extended; `refused_origins` logs the origins of pages
        that are refused."""
        self.origins = origins
        self.refused_origins = RefusedOrigins(time.monotonic) if refused_origins is None else refused_origins
        self.cookie = cookie
        self.connections: set[Connection] = set()
        self.open_count = 0
        self.stream_count = 0  # connections that carry event streams
        self._is_full = False
        self.refuses_new_clients = False  # set by the worker while memory is short
        self.handshake_timeout_s = handshake_timeout_s
        self.send_stuck_s = send_stuck_s
        self.http_protocol = http_protocol
        self.max_connections = max_connections if max_connections is not None else default_max_connections()
        self._limited_by_descriptors = max_connections is None
        self._refused_at_once = file_descriptors.reserved() // REFUSED_SHARE  # in addition to max_connections
        self.ws_paths = ws_paths
        self._make_handler = make_handler
        self._make_read_budget = make_read_budget
        self._max_message_bytes = max_message_bytes
        self._max_frame_bytes = max_frame_bytes
        self._backlog = backlog
        self._ssl = ssl_context
        self._listener: Listener | None = None
        self._handshakes: HandshakeLimiter | None = None
        self._headers: ProxyHeaders | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[Any] = set()
        self._http_sniffers: dict[Any, ProtocolSniffer] = {}  # connections that carry HTTP, by transport
        self._poller = poller
        self._addresses = addresses
        self.is_stopping = False  # whether it accepts no connection any more
        self.delays = Delays() if delays is None else delays

    @property
    def sockets(self) -> Collection[socket.socket]:
        """The listening sockets; empty before `open` and after `stop_accepting`."""
        return self._listener.sockets if self._listener is not None else ()

    async def open(self, host: str, port: int) -> None:
        """Listen on `host` and `port`. Errors: OSError when the address is in use or not of this machine."""
        self._listener = self._make_listener()
        await self._listener.open(host, port, backlog=self._backlog)

    def take(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from exactly these sockets, which listen already and which other processes may hold, too."""
        if self._listener is None:
            self._listener = self._make_listener()
        self._listener.take(sockets)

    def _make_listener(self) -> Listener:
        return Listener(
            self._on_connection, on_late=self._refuse_late, holds_back=self._is_behind, is_full=self._has_no_descriptor
        )

    def waits_for(self, now: float) -> float:
        """Seconds that a new connection has waited at most, by monotonic second `now`, for its next step: accept, TLS
        handshake, or the read of what it has sent."""
        return max(0.0 if self._listener is None else self._listener.waits_for(now), self._admission_waits_for(now))

    def work_waits_for(self, now: float) -> float:
        """`waits_for` without the wait for a free descriptor. Joins are refused by this value; a connected client needs
        no further descriptor."""
        lacks_descriptors = self._listener is not None and self._listener.lacks_descriptors
        return self._admission_waits_for(now) if lacks_descriptors else self.waits_for(now)

    def _admission_waits_for(self, now: float) -> float:
        handshake_wait_s = 0.0 if self._handshakes is None else self._handshakes.waits_for(now)
        return max(handshake_wait_s, self._poller.admission_waits_for(now))

    def _is_behind(self, now: float) -> bool:
        return self._admission_waits_for(now) > ADMISSION_WAIT_LIMIT_S

    def _has_no_descriptor(self) -> bool:
        """True when the next accept would use a descriptor reserved for the operator port and for files. A refused
        connection holds its descriptor until it has closed, so refused connections count as well."""
        return self._entering >= self.max_connections + self._refused_at_once

    @property
    def given_up(self) -> int:
        """Connections dropped unserved because the client had closed them before accept or before the TLS handshake."""
        return sum(each.given_up for each in (self._listener, self._handshakes) if each is not None)

    def set_limits(self, max_message_bytes: int, max_frame_bytes: int, send_stuck_s: float) -> None:
        """Set the message limits of connections made from now on, and the timeout of HTTP responses without progress,
        which holds for open connections as well."""
        self._max_message_bytes, self._max_frame_bytes = max_message_bytes, max_frame_bytes
        self.send_stuck_s = send_stuck_s

    def stop_accepting(self) -> None:
        """Close the listening sockets; open connections stay."""
        self.is_stopping = True
        if self._listener is not None:
            self._listener.close()

    def _on_connection(self, sock: socket.socket, peer: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # a small kernel buffer: bytes that the kernel holds are not counted by the outbox's limits
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            # few unsent bytes in the kernel: what waits in the outbox can still be replaced by newer values
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._addresses is None:
            self._admit(sock, FREE)
        elif not self._addresses.proxy_protocol:
            self._admit(sock, self._addresses.arrive(sock.family, peer))
        elif not self._addresses.is_proxy(sock.family, peer):
            self._reject(sock)
        elif self._entering >= self.max_connections:
            self._note_full()
            self._reject(sock)
        else:
            if self._headers is None:
                self._headers = ProxyHeaders(self._on_proxy_header)
            self._headers.add(sock, self.handshake_timeout_s, FREE)

    def _refuse_late(self, sock: socket.socket) -> None:
        """Refuse a connection that has waited so long that its client would time out while it is served: with 503, or
        over TLS without a response."""
        counters.turned_away += 1
        if self._ssl is None:
            with contextlib.suppress(OSError):
                sock.recv(MAX_HEAD_BYTES)  # closing with unread bytes sends a reset, which may discard the response
                sock.send(_refusal(503, TOO_LATE, RETRY_LATE))
        sock.close()

    def _on_proxy_header(self, sock: socket.socket, address: Address | None) -> None:
        assert self._addresses is not None
        self._admit(sock, FREE if address is None else self._addresses.come_from(address))

    @property
    def _entering(self) -> int:
        """Number of accepted connections in any state: open, or waiting for a PROXY header or a TLS handshake."""
        waiting = sum(len(each) for each in (self._handshakes, self._headers) if each is not None)
        return self.open_count + waiting + len(self._tasks)

    def _admit(self, sock: socket.socket, use: AddressUse | None) -> None:
        if self._ssl is None:
            if use is None:  # closing with unread bytes sends a reset, which may discard the response
                with contextlib.suppress(OSError):
                    sock.recv(MAX_HEAD_BYTES)
            self._adopt(sock, use)
            return
        if self._handshakes is None:
            self._handshakes = HandshakeLimiter(self._begin_tls)
        if use is None:
            self._reject(sock)
        elif self._entering >= self.max_connections:
            self._note_full()
            use.end()
            self._reject(sock)
        else:
            self._handshakes.add(sock, self.handshake_timeout_s, use)

    @staticmethod
    def _reject(sock: socket.socket) -> None:
        """Close a connection without reading from it, where no response is possible: before the TLS handshake or the
        PROXY header."""
        counters.turned_away += 1
        sock.close()

    def _adopt(self, sock: socket.socket, use: AddressUse | None) -> None:
        try:
            self._poller.adopt(sock.detach(), ProtocolSniffer(self, use))
        except OSError:
            if use is not None:
                use.end()
            raise

    def _begin_tls(self, sock: socket.socket, use: AddressUse) -> None:
        assert self._ssl is not None
        task = asyncio.ensure_future(self._secure(sock, use, self._ssl))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: use.end() if done.cancelled() else None)

    async def _secure(self, sock: socket.socket, use: AddressUse, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        below: asyncio.Transport | None = None
        try:
            # the loop reads at once and would discard bytes that arrive before TLS begins; a high low-water mark keeps
            # them in the kernel until then
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, RECEIVE_BUFFER_BYTES)
            below, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
            below.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            # by default this transport would buffer 64 KiB before it pauses the TLS layer
            below.set_write_buffer_limits(high=1)
            transport = self._poller.wrap_loop_transport(ProtocolSniffer(self, use))
            secure = await loop.start_tls(
                below,
                transport,
                context,
                server_side=True,
                ssl_handshake_timeout=self.handshake_timeout_s,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
            assert secure is not None
            if secure.is_closing():  # lost before TLS began, which start_tls does not report
                raise ConnectionResetError
            transport.connection_made(secure)
        except BaseException as error:
            use.end()
            if below is not None:
                below.abort()
            sock.close()
            if not isinstance(error, OSError):  # an OSError is a failed handshake or a lost connection: not a fault
                raise

    async def close(self) -> None:
        """Stop accepting and abort all connections that are open."""
        self.stop_accepting()
        for waiting in (self._handshakes, self._headers):
            if waiting is not None:
                waiting.close()
        for task in self._tasks:
            task.cancel()
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)

    # --- called by the protocol sniffer -----------------------------------------------------------------------------

    def enter(self, transport: Any) -> bool:
        """Count a new connection. Returns False when there are more than `max_connections`."""
        self._transports.add(transport)
        self.open_count += 1
        if self.open_count <= self.max_connections:
            return True
        self._note_full()
        return False

    def _note_full(self) -> None:
        """Log that the connection limit is reached, once until the number has fallen below ROOM_AGAIN_SHARE of it."""
        if not self._is_full:
            self._is_full = True
            if self._limited_by_descriptors:
                log.warning(
                    "connection limit reached: the file descriptor limit allows %d connections",
                    self.max_connections,
                    extra={"allowed": file_descriptors.allowed()},
                )
            else:
                log.warning("connection limit reached: max_connections is %d", self.max_connections)

    def exit(self, transport: Any) -> None:
        """Uncount a connection that is closed."""
        self._transports.discard(transport)
        self.open_count -= 1
        if self._is_full and self.open_count < ROOM_AGAIN_SHARE * self.max_connections:
            self._is_full = False
            log.info("connection limit no longer reached", extra={"connections": self.open_count})

    def track_http(self, transport: Any, sniffer: "ProtocolSniffer | None") -> None:
        """Record that a connection carries HTTP behind the sniffer `sniffer`, or with None that it no longer does."""
        if sniffer is None:
            self._http_sniffers.pop(transport, None)
        else:
            self._http_sniffers[transport] = sniffer

    def refusal(self, use: AddressUse, values: Values) -> str | None:
        """Why an upgrade with the headers `values`, by a client whose connections `use` counts, would be refused now;
        None when it would not. In the order of the checks of an upgrade, and counted as none."""
        if self.open_count >= self.max_connections:
            return FULL
        if use.has_enough(values):
            return TOO_MANY_OF_ADDRESS
        if self.refuses_new_clients:
            return NO_MEMORY
        return None if self.origins.allow(values) else origin_refusal(values)

    def upgrade(self, request: web.BaseRequest) -> bool:
        """Take the connection of an upgrade request (`keepalive_upgrade.wants_websocket`) from aiohttp. Returns False
        when the connection is closed or not of this acceptor."""
        sniffer = self._http_sniffers.get(request.transport)
        if sniffer is None:
            return False
        sniffer.upgrade(request)
        return True

    def hand_over(self, request: web.BaseRequest) -> Any:
        """Take the connection of a request from aiohttp, to be answered by an event stream. Returns the transport, None
        when the connection is closed or not of this acceptor. The caller sets the transport's protocol, and calls
        `leave_stream` when the connection is lost."""
        sniffer = self._http_sniffers.get(request.transport)
        if sniffer is None:
            return None
        self.stream_count += 1
        return sniffer.hand_over(request)

    def leave_stream(self, transport: Any) -> None:
        """Uncount an event stream that is closed."""
        self.stream_count -= 1
        self.exit(transport)

    def begin(
        self, transport: Any, request: Any, cookie: SessionCookie | str | None, behind: bytes, use: AddressUse
    ) -> None:
        """Make the WebSocket connection after its handshake, and pass on `behind`, the bytes received after the
        request's head."""
        connection = Connection(
            self,
            transport,
            request,
            cookie,
            self._max_message_bytes,
            self._max_frame_bytes,
            self._make_read_budget(),
            use,
            self._is_behind_proxies() or came_through_proxy(request.headers),
        )
        self.connections.add(connection)
        transport.set_protocol(FrameReader(connection, self._max_frame_bytes))
        connection.open(self._make_handler)
        transport.unread(behind)

    def _is_behind_proxies(self) -> bool:
        """True when every connection comes through a proxy that sends a PROXY header."""
        return self._addresses is not None and self._addresses.proxy_protocol

    def leave(self, connection: Connection, transport: Any) -> None:
        """Uncount a WebSocket that is closed."""
        self.connections.discard(connection)
        connection.address_use.end()
        self.exit(transport)


class ProtocolSniffer(asyncio.Protocol):
    """Reads the head of the first request and passes the connection on. For WebSocket it is replaced; for HTTP it stays
    between transport and aiohttp, to count the connection and to abort responses without progress."""

    __slots__ = ("_acceptor", "_head", "_http", "_http_paused", "_timer", "_transport", "_use")

    def __init__(self, acceptor: Acceptor, use: AddressUse | None = FREE) -> None:
        """`use` counts the connection for its address; None: the address has as many connections as it may."""
        self._acceptor = acceptor
        self._use = use
        self._head = b""
        self._http: asyncio.Protocol | None = None
        self._http_paused = False  # aiohttp fails on a resume without a pause; one may come before aiohttp is there
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if not self._acceptor.enter(transport):
            self._refuse(503, FULL, RETRY_CONNECTION)
            return
        if self._use is None:
            self._refuse(503, TOO_MANY_OF_ADDRESS, RETRY_CONNECTION)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._acceptor.handshake_timeout_s, self._too_slow, loop.time())

    def data_received(self, data: bytes) -> None:
        if self._http is not None:
            self._http.data_received(data)
            return
        if self._transport.is_closing():
            return
        looked = max(0, len(self._head) - 3)
        self._head += data
        end = self._head.find(b"\r\n\r\n", looked)
        if max(end, len(self._head) if end < 0 else 0) > MAX_HEAD_BYTES:
            self._refuse(431, HEAD_TOO_LARGE)
            return
        if end < 0:
            if self._head.startswith(TLS_HANDSHAKE):
                self._refuse(400, NO_TLS)
            return
        self._stop_timer()
        head = read_head(self._head[:end])
        if head is None or not head.wants_websocket:
            self._become_http()
            return
        self._upgrade(head)

    def upgrade(self, request: web.BaseRequest) -> None:
        """Take the connection back from aiohttp for an upgrade that came after other requests."""
        self._http = None
        self._acceptor.track_http(self._transport, None)
        head, self._head = take(request)
        self._upgrade(head.in_origin_form())

    def hand_over(self, request: web.BaseRequest) -> Any:
        """Take the connection back from aiohttp and return its transport, which gets another protocol."""
        self._http = None
        self._acceptor.track_http(self._transport, None)
        take(request)
        self._stop_timer()
        return self._transport

    def _upgrade(self, head: Head) -> None:
        if self._head.find(b"\r\n\r\n") > MAX_HEAD_BYTES or len(head.headers) > MAX_FIELDS:
            self._refuse(431, HEAD_TOO_LARGE)
            return
        assert self._use is not None
        if not self._use.take_request(head.values):
            self._refuse(503, "This address sends too many requests.", RETRY_RATE)
            return
        if self._acceptor.refuses_new_clients:
            self._refuse(503, NO_MEMORY, RETRY_CONNECTION)
            return
        refusal = refuse_upgrade(head, self._acceptor.ws_paths, self._acceptor.origins)
        if refusal is not None:
            if refusal[1].startswith(ORIGIN_REFUSED):
                self._acceptor.refused_origins.note(head.values("origin"))
            self._refuse(*refusal)
            return
        first, _, behind = self._head.partition(b"\r\n\r\n")
        try:
            request, answer = accept_upgrade(first)
            request.path = head.path.encode("latin-1")
        except ValueError as error:
            self._refuse(400, str(error))
            return
        use = self._use.begin_websocket(head.values)
        if use is None:
            self._refuse(503, TOO_MANY_OF_ADDRESS, RETRY_CONNECTION)
            return
        self._head = b""
        self._transport.write(answer)
        self._stop_timer()  # from now on the WebSocket connection watches unsent bytes
        cookie = session_cookie(head, self._acceptor.cookie, self._acceptor.origins)
        self._acceptor.begin(self._transport, request, cookie, behind, use)

    def _become_http(self) -> None:
        assert self._use is not None
        self._use.settle()
        if self._transport.get_extra_info("sslcontext") is not None:
            self._transport.set_write_buffer_limits(high=SOMETHING_WAITS)
        self._acceptor.track_http(self._transport, self)
        self._http = self._acceptor.http_protocol(self._use)
        self._http.connection_made(self._transport)
        self._http.data_received(self._head)
        self._head = b""

    def _refuse(self, status: int, reason: str, header: str = "") -> None:
        self._stop_timer()
        counters.turned_away += 1
        self._transport.write(_refusal(status, reason, header))
        self._transport.close()

    def _too_slow(self, since: float) -> None:
        loop = asyncio.get_running_loop()
        until = self._acceptor.delays.ends(since, self._acceptor.handshake_timeout_s)
        if until - loop.time() > 0.01:  # the service was behind: what the client sent may not have been read yet
            self._timer = loop.call_later(until - loop.time(), self._too_slow, since)
            return
        self._timer = None
        self._refuse(408, "The request took too long.")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> bool | None:
        return self._http.eof_received() if self._http is not None else False

    def pause_writing(self) -> None:
        """The transport's buffer is not empty: check until it is whether the client acknowledges any bytes."""
        if self._timer is None:
            self._timer = self._look_later(taken_bytes(self._transport), asyncio.get_running_loop().time())
        if self._http is not None:
            self._http_paused = True
            self._http.pause_writing()

    def _look_later(self, taken: int | None, since: float) -> asyncio.TimerHandle:
        pause_s = self._acceptor.send_stuck_s / LOOKS_AT_STUCK
        return asyncio.get_running_loop().call_later(pause_s, self._look_at_writing, taken, since)

    def _look_at_writing(self, taken_before: int | None, since: float) -> None:
        now, taken = asyncio.get_running_loop().time(), taken_bytes(self._transport)
        if taken is None or taken != taken_before:
            since = now
        if now - since < self._acceptor.send_stuck_s:
            self._timer = self._look_later(taken, since)
        else:
            self._timer = None
            self._transport.abort()

    def resume_writing(self) -> None:
        self._stop_timer()
        if self._http is not None and self._http_paused:
            self._http_paused = False
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._http is not None:
            self._http.connection_lost(exc)
            self._acceptor.track_http(self._transport, None)
        if self._use is not None:
            self._use.end()
        self._acceptor.exit(self._transport)


def _refusal(status: int, reason: str, header: str = "") -> bytes:
    body = reason.encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n{header}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def taken_bytes(transport: Any) -> int | None:
    """The number of bytes that the peer has acknowledged over the whole connection [tcp(7), TCP_INFO]; 0 for a closed
    socket. None when it is unknown: no TCP, or no descriptor is free for the query."""
    found = transport.get_extra_info("socket")
    if found is None or found.fileno() < 0:  # closed; connection_lost is still to come
        return 0
    try:
        with socket.socket(fileno=os.dup(found.fileno())) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return None
    return int.from_bytes(info[BYTES_ACKED : BYTES_ACKED + 8], sys.byteorder)


def default_max_connections() -> int:
    """The file descriptor limit less the reserve of the process (files, the loop, a log, the operator port) and less
    descriptors that it has open beyond the usual, such as the listening sockets of all slots."""
    try:
        besides = max(0, file_descriptors.Descriptors().used() - USUALLY_OPEN)
    except OSError:
        besides = 0
    return max(1, file_descriptors.allowed() - file_descriptors.reserved() - besides)
