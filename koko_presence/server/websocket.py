"""Implements the server's end of one WebSocket: frames in, complete valid messages out [RFC 6455].

The reader (`_fastpath/frame_prefilter`) validates single frames. `Connection` validates the order of fragments, UTF-8
of the complete text, the total size and close codes, and writes the state of unfinished messages and of the close
handshake. Messages reach the handler in the order received; after the first close frame, sent or received, only
`on_close` does. A connection has no task and no logger, and a timer only while it closes.

Transport, reader, connection and handler reference each other in a cycle while the connection is open. `on_lost` breaks
it, so that all of them are freed at once without the garbage collector, which hardly ever runs in a worker.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.listener import FrameListener
from koko_presence._fastpath.outbox import Outbox
from koko_presence._fastpath.read_budget import ReadBudget
from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence.auth.cookies import SessionCookie

from .address_limits import FREE, AddressUse

log = logging.getLogger("koko_presence.connection")

# Buffered bytes above which a transport calls `pause_writing`; it calls `resume_writing` when its buffer is empty. With
# 0 uvloop's TLS transport pauses after every other write with an empty buffer, and does not resume before the next one.
SOMETHING_WAITS = 1

CLOSE_TIMEOUT_S = 2.0
MAX_FRAGMENTS = 1024
MAX_UNSENT_PONGS_BYTES = 1024 * 1024
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10  # opcodes [RFC 6455 section 11.8]

NORMAL, PROTOCOL_ERROR, NO_CODE, LOST, BAD_TEXT, TOO_BIG, INTERNAL = 1000, 1002, 1005, 1006, 1007, 1009, 1011
# codes that are valid in a close frame [RFC 6455 section 7.4; IANA's registry]
_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


class Handler(Protocol):
    """The calls that a connection makes to its handler. `on_close` is called exactly once, as the last one."""

    def on_open(self, connection: "Connection") -> None: ...

    def on_text(self, data: bytes) -> None: ...

    def on_binary(self, data: bytes) -> None: ...

    def on_too_large(self, size: int) -> None: ...

    def on_ping(self, count: int = 1) -> None: ...

    def on_pong(self, payload: bytes, count: int = 1) -> None: ...

    def on_throttled(self, until: float) -> None: ...

    def on_preauth_limit(self) -> None: ...

    def on_close(self, code: int | None, clean: bool) -> None: ...

    def on_writable(self) -> None: ...

    def on_unwritable(self) -> None: ...


class Acceptor(Protocol):
    """The part of the acceptor that a connection uses."""

    def leave(self, connection: "Connection", transport: Any) -> None: ...


class Gone:
    """The transport of a closed connection: ignores all calls."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def promote(self) -> None: ...

    def pause_reading(self) -> None: ...

    def wake(self) -> None: ...


_GONE = Gone()


class Connection(FrameListener):
    """The server's end of one WebSocket, made by the acceptor after the handshake. Written by the loop's thread only.

    `request` is the handshake's, available until the handler's `on_open` returns; `cookie` is the cookie of the
    upgrade, which the session takes over. `address_use` counts the connection for its address. `is_proxied`: a proxy is
    between client and server, so that a writable socket does not mean that the client has received the data. Limits are
    in bytes.
    """

    __slots__ = (
        "_acceptor", "_close_notified", "_close_timer", "_max_frame_bytes", "_max_message_bytes", "_outbox",
        "_parts_bytes", "_parts_type", "_peer_code", "_transport", "address_use", "close_code_sent", "cookie",
        "handler", "is_proxied", "request",
    )  # fmt: skip

    def __init__(
        self,
        acceptor: Acceptor,
        transport: Any,
        request: Any,
        cookie: SessionCookie | str | None,
        max_message_bytes: int,
        max_frame_bytes: int,
        read_budget: ReadBudget | None = None,
        address_use: AddressUse = FREE,
        is_proxied: bool = False,
    ) -> None:
        self.read_budget = read_budget
        self.is_proxied = is_proxied
        self.address_use = address_use
        self.handler: Handler | None = None
        self.request = request
        self.cookie = cookie
        self.close_code_sent: int | None = None
        self._acceptor = acceptor
        self._transport = transport
        self._max_message_bytes = max_message_bytes
        self._max_frame_bytes = max_frame_bytes
        self._parts_bytes = 0
        self._parts_type = TEXT
        self._close_notified = False
        self._peer_code: int | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._outbox: Outbox | None = None

    def open(self, make_handler: Callable[["Connection"], Handler]) -> None:
        """Make the handler and open it, after the handshake."""
        try:
            self.handler = make_handler(self)
            self.handler.on_open(self)
        except Exception:
            self._fail()
        self.request = None

    # --- called by the reader ---------------------------------------------------------------------------------------

    def on_frame(self, kind: int, fin: bool, payload: bytes) -> None:
        """Handle a frame: any but plain cursors, which the session's rate limiter has taken; while the connection is
        closing, close frames only."""
        try:
            if kind == CLOSE:
                self._on_close_frame(payload)
            elif self.handler is not None:
                self._take(self.handler, kind, fin, payload)
        except Exception:
            self._fail()

    def on_pings(self, payload: bytes, count: int) -> None:
        """Answer `count` pings that were read together by one pong with the last one's payload [RFC 6455 5.5.3]."""
        try:
            if self.handler is not None:
                self._answer_ping(self.handler, payload, count)
        except Exception:
            self._fail()

    def on_pongs(self, payload: bytes, count: int) -> None:
        """Pass on `count` pongs that were read together, with the payload of the last one."""
        try:
            if self.handler is not None:
                self.handler.on_pong(payload, count)
        except Exception:
            self._fail()

    def on_throttled(self, until: float) -> None:
        """Pass on that the client exceeds its read budget: nothing is read before monotonic second `until`."""
        try:
            if self.handler is not None:
                self.handler.on_throttled(until)
        except Exception:
            self._fail()

    def on_preauth_limit(self) -> None:
        """Pass on that the client has sent more frames than allowed before authentication [A2]."""
        try:
            if self.handler is not None:
                self.handler.on_preauth_limit()
        except Exception:
            self._fail()

    def on_flood_after_close(self) -> None:
        """Abort the connection of a client that keeps sending after a close frame without answering it."""
        self.abort()

    def on_bad_frame(self, code: int, reason: str) -> None:
        """Close the connection after an invalid frame; nothing after it is read."""
        self.close(code, reason)
        self._hang_up()

    def on_lost(self) -> None:
        """Report the loss of the connection to handler and acceptor, and release all references."""
        self._stop_writing()
        counters.closed(self.close_code_sent)
        self._drop_timer()
        if not self._close_notified:
            self._notify_close(LOST, clean=False)
        transport, self._transport = self._transport, _GONE
        self.handler = self.rate_limiter = self._outbox = self.parts = self.request = None
        self.ignores_input = True
        self._acceptor.leave(self, transport)

    def pause_writing(self) -> None:
        if not self.closing and self.handler is not None:
            self.handler.on_unwritable()

    def resume_writing(self) -> None:
        if not self.closing and self.handler is not None:
            self.handler.on_writable()

    # --- frames to messages -----------------------------------------------------------------------------------------

    def _take(self, handler: Handler, kind: int, fin: bool, payload: bytes) -> None:
        if kind in (TEXT, BINARY):
            if self.parts is not None:
                self.close(PROTOCOL_ERROR, "a new message inside an unfinished one")
            elif fin:
                self._whole(handler, kind, payload)
            else:
                self.parts, self._parts_bytes, self._parts_type = [], 0, kind
                self._add_part(handler, fin, payload)
        elif kind == CONTINUATION:
            if self.parts is None:
                self.close(PROTOCOL_ERROR, "a continuation of nothing")
            else:
                self._add_part(handler, fin, payload)
        elif kind == PING:
            self._answer_ping(handler, payload, 1)
        else:
            handler.on_pong(payload)

    def _answer_ping(self, handler: Handler, payload: bytes, count: int) -> None:
        if self.unsent_bytes > MAX_UNSENT_PONGS_BYTES:  # the client sends pings without reading
            self.abort()
            return
        self._transport.write(_frame(PONG, payload))
        handler.on_ping(count)

    def _add_part(self, handler: Handler, fin: bool, payload: bytes) -> None:
        parts = self.parts
        assert parts is not None
        parts.append(payload)
        self._parts_bytes += len(payload)
        if self._parts_bytes > self._max_frame_bytes or len(parts) > MAX_FRAGMENTS:
            self.close(TOO_BIG, "the message is too big")
        elif fin:
            self.parts = None
            self._whole(handler, self._parts_type, b"".join(parts))

    def _whole(self, handler: Handler, kind: int, data: bytes) -> None:
        if kind == TEXT and not data.isascii():
            try:  # before it is sent to others: clients close their connections on invalid UTF-8
                data.decode()
            except UnicodeDecodeError:
                self.close(BAD_TEXT, "the text is not UTF-8")
                return
        if len(data) > self._max_message_bytes:
            handler.on_too_large(len(data))
        elif kind == TEXT:
            handler.on_text(data)
        else:
            handler.on_binary(data)

    def _on_close_frame(self, payload: bytes) -> None:
        code, problem = _close_code(payload)
        self._peer_code = code
        if self.close_code_sent is not None:  # the answer to a close frame of this server
            self._hang_up()
            return
        if problem:
            self.close(BAD_TEXT if problem == "reason" else PROTOCOL_ERROR)
            return
        self._stop_writing()
        self.close_code_sent = code
        self._transport.write(_frame(CLOSE, payload[:2]))
        self._notify_close(code, clean=True)
        self._hang_up()

    # --- called by the handler --------------------------------------------------------------------------------------

    @property
    def headers(self) -> Any:
        """The handshake's headers, case-insensitive."""
        return self.request.headers

    @property
    def target(self) -> str:
        """The handshake's path with its query."""
        return str(self.request.path.decode("latin-1"))

    @property
    def unsent_bytes(self) -> int:
        """Bytes in the transport's buffer, which the kernel has not taken yet."""
        return int(self._transport.get_write_buffer_size())

    def send_text(self, data: bytes) -> None:
        """Send a text message, UTF-8."""
        if not self.closing:
            self._transport.write(_frame(TEXT, data))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        if not self.closing:
            self._transport.write(_frame(BINARY, data))

    def send_frames(self, data: bytes) -> None:
        """Send encoded frames unchanged, in one write."""
        if not self.closing:
            self._transport.write(data)

    def send_ping(self, data: bytes) -> None:
        """Send a ping; its pong is passed to the handler."""
        if not self.closing:
            self._transport.write(_frame(PING, data))

    def keep_alive(self, data: bytes) -> None:
        """The same, as a sign of life after some time."""
        self.send_ping(data)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame with `code`; TCP is closed when the peer has answered, after CLOSE_TIMEOUT_S at the
        latest. Only `on_close` of the handler is called after that. Does nothing when the connection is closing
        already."""
        if self.closing:
            return
        self._stop_writing()
        self.close_code_sent = code
        self.parts = None
        self._transport.write(_frame(CLOSE, code.to_bytes(2, "big") + _cut(reason, 123)))
        if code in (PROTOCOL_ERROR, BAD_TEXT, TOO_BIG):
            self._hang_up()  # nothing more is read from a peer that violates the protocol
            return
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)
        self._transport.wake()  # ends a pause in reading, so that the answer is read in time

    def abort(self) -> None:
        """Abort TCP at once, without a close frame."""
        self._stop_writing()
        self.ignores_input = True
        self._transport.abort()

    def promote(self) -> None:
        """Move the connection out of the admission queue, when its client is in a room: it is read before connections
        that are still in the queue."""
        self._transport.promote()

    def lift_preauth_limit(self) -> None:
        """Lift the limit of frames before authentication, once the client has sent `auth` [A2]."""
        if self.read_budget is not None:
            self.read_budget.lift_preauth_limit()

    def restore_preauth_limit(self) -> None:
        """Restore the limit of frames before authentication, counted anew, after a failed authentication."""
        if self.read_budget is not None:
            self.read_budget.restore_preauth_limit()

    def stop_reading(self) -> None:
        """Stop reading and leave the connection open until it is closed from this side."""
        self._transport.pause_reading()

    def use_fast_path(self, outbox: Outbox, rate_limiter: SessionRateLimiter) -> None:
        """Pass plain cursors to `rate_limiter`, and let `outbox` write to the socket directly; not over TLS, where the
        transport encrypts."""
        self.rate_limiter = rate_limiter
        self._outbox = outbox
        if self._is_secure:
            self._transport.set_write_buffer_limits(high=SOMETHING_WAITS)
        else:
            outbox.use_socket(self._transport.get_extra_info("socket").fileno(), self._transport)

    def allow_long_messages(self) -> None:
        """Accept messages up to the size limit of a frame, and report a full socket at once; for a handler with a
        protocol other than a session's."""
        self._max_message_bytes = self._max_frame_bytes
        if self._is_secure:
            self._transport.set_write_buffer_limits(high=SOMETHING_WAITS)

    # --- helpers ----------------------------------------------------------------------------------------------------

    @property
    def _is_secure(self) -> bool:
        return self._transport.get_extra_info("sslcontext") is not None

    def _stop_writing(self) -> None:
        self.closing = True
        if self._outbox is not None:  # before the descriptor is closed and its number reused
            self._outbox.release_socket()

    def _hang_up(self) -> None:
        """Close TCP once unsent bytes are sent, after CLOSE_TIMEOUT_S at the latest; nothing more is read."""
        self.ignores_input = True
        if not self.unsent_bytes:
            self._drop_timer()
        elif self._close_timer is None:  # the peer may never read them
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)
        self._transport.close()

    def _drop_timer(self) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None

    def _notify_close(self, code: int | None, *, clean: bool) -> None:
        self._close_notified = True
        handler, self.handler = self.handler, None
        if handler is None:  # making it has failed
            return
        try:
            handler.on_close(self._peer_code if self._peer_code is not None else code, clean)
        except Exception:
            log.exception("connection handler failed on close")

    def _fail(self) -> None:
        log.exception("connection handler failed, connection closed with 1011")
        self.close(INTERNAL, "internal error")


def _frame(kind: int, payload: bytes) -> bytes:
    """Encode a final frame of a server, unmasked."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | kind, size)) + payload
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return bytes((0x80 | kind,)) + length + payload


def _close_code(payload: bytes) -> tuple[int, str]:
    """The code of a close frame, and its invalid part: "", "code" or "reason" [RFC 6455 section 5.5.1]."""
    if not payload:
        return NO_CODE, ""
    if len(payload) == 1:
        return NO_CODE, "code"
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        return code, "code"
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return code, "reason"
    return code, ""


def _cut(text: str, size: int) -> bytes:
    """Encode `text` as UTF-8, cut to whole characters of at most `size` bytes."""
    return text.encode()[:size].decode(errors="ignore").encode()
