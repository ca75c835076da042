"""One port for everything: the first request decides between WebSocket and HTTP (aiohttp).

A tiny protocol reads until the end of the request's head and hands the transport, with the bytes read so far, to who
is meant; TLS is below all that. What may come in is decided here: paths, origins, the number of
connections, how long and how large a request's head may be.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.epoll_transport import Poller
from koko_presence._fastpath.frame_prefilter import FrameReader
from koko_presence._fastpath.read_budget import Intake
from koko_presence.admin import file_descriptors
from koko_presence.auth.cookies import SessionCookie
from koko_presence.config.trusted_proxies import Address
from koko_presence.rooms.service_delays import Delays

from .address_limits import FREE, RETRY_CONNECTION_S, RETRY_RATE_S, AddressLimits, AddressUse
from .handshake import Head, accept_upgrade, came_through_proxy, read_head, refuse_upgrade, session_cookie
from .keepalive_upgrade import HEAD_TOO_LARGE, MAX_FIELDS, MAX_HEAD_BYTES, take
from .listeners import RECEIVE_BUFFER_BYTES, Listener
from .origins import NONE_LISTED, Origins
from .proxy_protocol import ProxyHeaders
from .rpc import NO_MEMORY
from .tls_handshakes import Hellos
from .websocket import CLOSE_TIMEOUT_S, SOMETHING_WAITS, Connection, Handler

log = logging.getLogger("koko_presence.door")

SEND_BUFFER_BYTES = 128 * 1024
NOT_SENT_BYTES = 4096  # about one round of everybody's newest cursors in a room of 20
ROOM_AGAIN_SHARE = 0.95
LOOKS_AT_STUCK = 4  # within the time after which an answer that is not taken is given up
BYTES_ACKED = 120  # where tcpi_bytes_acked stands in struct tcp_info
TCP_INFO_BYTES = BYTES_ACKED + 8
LET_IN_WITHIN_S = 0.25  # while those who were let in have to wait for longer, hardly anybody else is
REFUSED_SHARE = (
    8  # of the descriptors that are kept for other things, one in so many is for connections that are refused
)
USUALLY_OPEN = 24  # descriptors of a process of ours when it begins, and some more
TOO_MANY_OF_ADDRESS = "This address has as many connections as it may. Try again in a moment."
TOO_LATE = "The server is behind with those who came before. Try again in a moment."
RETRY_LATE = "Retry-After: 5\r\n"
RETRY_CONNECTION, RETRY_RATE = (f"Retry-After: {after_s}\r\n" for after_s in (RETRY_CONNECTION_S, RETRY_RATE_S))


class Acceptor:
    """The listening socket of one worker and all connections that came through it."""

    def __init__(
        self,
        *,
        make_handler: Callable[[Connection], Handler],
        make_intake: Callable[[], Intake | None] = lambda: None,
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
    ) -> None:
        """`origins` are the browsers' pages that may connect, besides those of this very host; `cookie` is the name of
        the cookie by which they may say who they are, if there is one; `ws_paths` None serves WebSocket on every path;
        `send_stuck_s`: an HTTP answer of which no byte is taken for so long is given up; `max_connections` defaults to
        the file-descriptor limit less a reserve. `make_intake` gives each WebSocket its budgets, None for none.
        `poller` reads all plain connections; over TLS the loop's own transports do, within the poller's budgets.
        `addresses` has the limits by address, None for none; `delays` the times that do not count against clients."""
        self.origins = origins
        self.cookie = cookie
        self.connections: set[Connection] = set()
        self.open_count = 0
        self._is_full = False
        self.refuses_newcomers = False  # memory is short
        self.handshake_timeout_s = handshake_timeout_s
        self.send_stuck_s = send_stuck_s
        self.http_protocol = http_protocol
        self.max_connections = max_connections if max_connections is not None else default_max_connections()
        self._refused_at_once = file_descriptors.kept() // REFUSED_SHARE  # beyond those
        self.ws_paths = ws_paths
        self._make_handler = make_handler
        self._make_intake = make_intake
        self._max_message_bytes = max_message_bytes
        self._max_frame_bytes = max_frame_bytes
        self._backlog = backlog
        self._ssl = ssl_context
        self._listener: Listener | None = None
        self._hellos: Hellos | None = None
        self._headers: ProxyHeaders | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[Any] = set()
        self._carry_http: dict[Any, ProtocolSniffer] = {}  # by transport
        self._poller = poller
        self._addresses = addresses
        self.delays = Delays() if delays is None else delays

    @property
    def sockets(self) -> Collection[socket.socket]:
        """The listening sockets; empty before `open` and after `stop_accepting`."""
        return self._listener.sockets if self._listener is not None else ()

    async def open(self, host: str, port: int) -> None:
        """Listen. Errors: OSError when the address is taken or not ours."""
        self._listener = self._make_listener()
        await self._listener.open(host, port, backlog=self._backlog)

    def take(self, sockets: Iterable[socket.socket]) -> None:
        """Accept from exactly these sockets, which listen already and which others may hold as well."""
        if self._listener is None:
            self._listener = self._make_listener()
        self._listener.take(sockets)

    def _make_listener(self) -> Listener:
        return Listener(
            self._on_connection, on_late=self._refuse_late, holds_back=self._is_behind, is_full=self._has_no_descriptor
        )

    def waits_for(self, now: float) -> float:
        """For how many seconds, at most, a client that wants in has waited for the next step: to be accepted, for its
        TLS handshake, or for what it has sent to be read."""
        return max(0.0 if self._listener is None else self._listener.waits_for(now), self._let_in_wait_for(now))

    def work_waits_for(self, now: float) -> float:
        """The same as far as it is the worker's work that they wait for, and not a free descriptor: who is here already
        needs none."""
        lacks_room = self._listener is not None and self._listener.lacks_room
        return self._let_in_wait_for(now) if lacks_room else self.waits_for(now)

    def _let_in_wait_for(self, now: float) -> float:
        hello_s = 0.0 if self._hellos is None else self._hellos.waits_for(now)
        return max(hello_s, self._poller.lobby_waits_for(now))

    def _is_behind(self, now: float) -> bool:
        return self._let_in_wait_for(now) > LET_IN_WITHIN_S

    def _has_no_descriptor(self) -> bool:
        """A refused connection has a descriptor until it has closed: so many at once that what is kept for the operator
        port and for files is not touched."""
        return self._entering >= self.max_connections + self._refused_at_once

    @property
    def given_up(self) -> int:
        """Connections that the client had closed before their turn came, and that were not served."""
        return sum(each.given_up for each in (self._listener, self._hellos) if each is not None)

    def set_limits(self, max_message_bytes: int, max_frame_bytes: int, send_stuck_s: float) -> None:
        """New limits for the connections to come, and for answers that are not taken."""
        self._max_message_bytes, self._max_frame_bytes = max_message_bytes, max_frame_bytes
        self.send_stuck_s = send_stuck_s

    def stop_accepting(self) -> None:
        """No new connection from now on; the open ones stay."""
        if self._listener is not None:
            self._listener.close()

    def _on_connection(self, sock: socket.socket, peer: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # a small kernel buffer, so that the kernel does not hide megabytes from the outbox
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            # and hardly anything that it has not sent yet: what waits here can still be replaced by something newer
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._addresses is None:
            self._let_in(sock, FREE)
        elif not self._addresses.proxy_protocol:
            self._let_in(sock, self._addresses.arrive(sock.family, peer))
        elif not self._addresses.is_proxy(sock.family, peer):
            self._turn_away(sock)
        elif self._entering >= self.max_connections:
            self._note_full()
            self._turn_away(sock)
        else:
            if self._headers is None:
                self._headers = ProxyHeaders(self._on_proxy_header)
            self._headers.add(sock, self.handshake_timeout_s, FREE)

    def _refuse_late(self, sock: socket.socket) -> None:
        """The client has waited for so long that it would give up while it is served."""
        tally.turned_away += 1
        if self._ssl is None:
            with contextlib.suppress(OSError):
                sock.recv(MAX_HEAD_BYTES)  # a close with unread bytes is a reset, and the answer may be lost by it
                sock.send(_refusal(503, TOO_LATE, RETRY_LATE))
        sock.close()

    def _on_proxy_header(self, sock: socket.socket, address: Address | None) -> None:
        assert self._addresses is not None
        self._let_in(sock, FREE if address is None else self._addresses.come_from(address))

    @property
    def _entering(self) -> int:
        """Connections that are here, whatever they are waiting for."""
        waiting = sum(len(each) for each in (self._hellos, self._headers) if each is not None)
        return self.open_count + waiting + len(self._tasks)

    def _let_in(self, sock: socket.socket, use: AddressUse | None) -> None:
        if self._ssl is None:
            if use is None:  # a close with unread bytes is a reset, and the answer may be lost by it
                with contextlib.suppress(OSError):
                    sock.recv(MAX_HEAD_BYTES)
            self._adopt(sock, use)
            return
        if self._hellos is None:
            self._hellos = Hellos(self._begin_tls)
        if use is None:
            self._turn_away(sock)
        elif self._entering >= self.max_connections:
            self._note_full()
            use.end()
            self._turn_away(sock)
        else:
            self._hellos.add(sock, self.handshake_timeout_s, use)

    @staticmethod
    def _turn_away(sock: socket.socket) -> None:
        """Close a connection of which nothing has been read, and to which nothing can be said."""
        tally.turned_away += 1
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
            # the loop reads at once, and what comes before TLS begins would be lost: the kernel keeps it for so long
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, RECEIVE_BUFFER_BYTES)
            below, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
            below.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            # or 64 KiB would wait there, unseen, behind what the kernel does not take
            below.set_write_buffer_limits(high=1)
            lent = self._poller.lend(ProtocolSniffer(self, use))
            secure = await loop.start_tls(
                below,
                lent,
                context,
                server_side=True,
                ssl_handshake_timeout=self.handshake_timeout_s,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
            assert secure is not None
            if secure.is_closing():  # it was lost before TLS began, which start_tls does not say
                raise ConnectionResetError
            lent.connection_made(secure)
        except BaseException as error:
            use.end()
            if below is not None:
                below.abort()
            sock.close()
            if not isinstance(error, OSError):  # else there is no TLS, or it was gone before: its own affair
                raise

    async def close(self) -> None:
        """Stop accepting and cut what is still open."""
        self.stop_accepting()
        for waiting in (self._hellos, self._headers):
            if waiting is not None:
                waiting.close()
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
        if self.open_count <= self.max_connections:
            return True
        self._note_full()
        return False

    def _note_full(self) -> None:
        """There are as many connections as there may be: said once, until a good part of them is gone."""
        if not self._is_full:
            self._is_full = True
            log.warning(
                "no more connections: the descriptor limit allows %d",
                self.max_connections,
                extra={"allowed": file_descriptors.allowed()},
            )

    def exit(self, transport: Any) -> None:
        """Count a connection out."""
        self._transports.discard(transport)
        self.open_count -= 1
        if self._is_full and self.open_count < ROOM_AGAIN_SHARE * self.max_connections:
            self._is_full = False
            log.info("there is room for connections again", extra={"connections": self.open_count})

    def carry_http(self, transport: Any, threshold: "ProtocolSniffer | None") -> None:
        """A connection carries HTTP, and `threshold` stands before it; None: not any more."""
        if threshold is None:
            self._carry_http.pop(transport, None)
        else:
            self._carry_http[transport] = threshold

    def turn(self, request: web.BaseRequest) -> bool:
        """Take the connection of an upgrade (`keepalive_upgrade.wants_websocket`) from HTTP. False when it is gone, or
        is not one of this acceptor's."""
        threshold = self._carry_http.get(request.transport)
        if threshold is None:
            return False
        threshold.turn(request)
        return True

    def begin(
        self, transport: Any, request: Any, cookie: SessionCookie | str | None, behind: bytes, use: AddressUse
    ) -> None:
        """The handshake of a connection is done, and `behind` came behind it."""
        connection = Connection(
            self,
            transport,
            request,
            cookie,
            self._max_message_bytes,
            self._max_frame_bytes,
            self._make_intake(),
            use,
            self._is_behind_proxies() or came_through_proxy(request.headers),
        )
        self.connections.add(connection)
        transport.set_protocol(FrameReader(connection, self._max_frame_bytes))
        connection.open(self._make_handler)
        transport.unread(behind)

    def _is_behind_proxies(self) -> bool:
        """Whether every connection comes through a proxy, which passes bytes on and says so before them."""
        return self._addresses is not None and self._addresses.proxy_protocol

    def leave(self, connection: Connection, transport: Any) -> None:
        """A WebSocket is over."""
        self.connections.discard(connection)
        connection.address_use.end()
        self.exit(transport)


class ProtocolSniffer(asyncio.Protocol):
    """Reads the first request's head, then steps aside; for HTTP it stays as a thin wrapper that counts."""

    __slots__ = ("_door", "_head", "_http", "_http_paused", "_timer", "_transport", "_use")

    def __init__(self, door: Acceptor, use: AddressUse | None = FREE) -> None:
        """`use` is how its address is counted, None when that has enough connections."""
        self._door = door
        self._use = use
        self._head = b""
        self._http: asyncio.Protocol | None = None
        self._http_paused = False  # aiohttp takes no resume without a pause, which came before it, or never
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if not self._door.enter(transport):
            self._refuse(503, "The server has no room for more connections. Try again in a moment.", RETRY_CONNECTION)
            return
        if self._use is None:
            self._refuse(503, TOO_MANY_OF_ADDRESS, RETRY_CONNECTION)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._door.handshake_timeout_s, self._too_slow, loop.time())

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
            return
        self._stop_timer()
        head = read_head(self._head[:end])
        if head is None or not head.wants_websocket:
            self._become_http()
            return
        self._upgrade(head)

    def turn(self, request: web.BaseRequest) -> None:
        """An upgrade came behind other requests: the connection is aiohttp's no longer."""
        self._http = None
        self._door.carry_http(self._transport, None)
        head, self._head = take(request)
        self._upgrade(head.in_origin_form())

    def _upgrade(self, head: Head) -> None:
        if self._head.find(b"\r\n\r\n") > MAX_HEAD_BYTES or len(head.headers) > MAX_FIELDS:
            self._refuse(431, HEAD_TOO_LARGE)
            return
        assert self._use is not None
        if not self._use.take_request(head.values):
            self._refuse(503, "This address sends too many requests.", RETRY_RATE)
            return
        if self._door.refuses_newcomers:
            self._refuse(503, NO_MEMORY, RETRY_CONNECTION)
            return
        refusal = refuse_upgrade(head, self._door.ws_paths, self._door.origins)
        if refusal is not None:
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
        self._stop_timer()  # what waits is the WebSocket's affair from now on
        cookie = session_cookie(head, self._door.cookie, self._door.origins)
        self._door.begin(self._transport, request, cookie, behind, use)

    def _become_http(self) -> None:
        assert self._use is not None
        self._use.settle()
        if self._transport.get_extra_info("sslcontext") is not None:
            self._transport.set_write_buffer_limits(high=SOMETHING_WAITS)
        self._door.carry_http(self._transport, self)
        self._http = self._door.http_protocol(self._use)
        self._http.connection_made(self._transport)
        self._http.data_received(self._head)
        self._head = b""

    def _refuse(self, status: int, reason: str, header: str = "") -> None:
        self._stop_timer()
        tally.turned_away += 1
        self._transport.write(_refusal(status, reason, header))
        self._transport.close()

    def _too_slow(self, since: float) -> None:
        loop = asyncio.get_running_loop()
        until = self._door.delays.ends(since, self._door.handshake_timeout_s)
        if until - loop.time() > 0.01:  # what it has sent may not have been read yet
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
        """Bytes wait: until they are gone it is looked whether any are taken."""
        if self._timer is None:
            self._timer = self._look_later(taken_bytes(self._transport), asyncio.get_running_loop().time())
        if self._http is not None:
            self._http_paused = True
            self._http.pause_writing()

    def _look_later(self, taken: int | None, since: float) -> asyncio.TimerHandle:
        pause_s = self._door.send_stuck_s / LOOKS_AT_STUCK
        return asyncio.get_running_loop().call_later(pause_s, self._look_at_writing, taken, since)

    def _look_at_writing(self, taken_before: int | None, since: float) -> None:
        now, taken = asyncio.get_running_loop().time(), taken_bytes(self._transport)
        if taken is None or taken != taken_before:
            since = now
        if now - since < self._door.send_stuck_s:
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
            self._door.carry_http(self._transport, None)
        if self._use is not None:
            self._use.end()
        self._door.exit(self._transport)


def _refusal(status: int, reason: str, header: str = "") -> bytes:
    body = reason.encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n{header}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def taken_bytes(transport: Any) -> int | None:
    """How many bytes the other end has confirmed in all, as the kernel counts them [tcp(7), TCP_INFO]. None when
    nothing says so: no TCP, or no descriptor is left to ask with."""
    found = transport.get_extra_info("socket")
    if found is None or found.fileno() < 0:  # it is gone, and its end is only still to be told
        return 0
    try:
        with socket.socket(fileno=os.dup(found.fileno())) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return None
    return int.from_bytes(info[BYTES_ACKED : BYTES_ACKED + 8], sys.byteorder)


def default_max_connections() -> int:
    """The file-descriptor limit less what the process needs for itself: files, the loop, a log, the operator port; and
    less what it has open besides, such as the listening sockets of all slots."""
    try:
        besides = max(0, file_descriptors.Descriptors().used() - USUALLY_OPEN)
    except OSError:
        besides = 0
    return max(1, file_descriptors.allowed() - file_descriptors.kept() - besides)
