"""One WebSocket: frames in, whole valid messages out, with the rules that picows leaves to us.

picows checks masks, opcodes, lengths and control frames. Here: RSV bits, the order of fragments, UTF-8 of the whole
text, total size, close codes. After the first close, sent or received, nothing more reaches the handler. No task, no
logger and no timer per connection, but one short timer while it closes.
"""

import asyncio
import logging
from typing import Any, Protocol

from picows import WSFrame, WSTransport

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.gate import Gate
from koko_presence._fastpath.listener import FrameListener, forget_handshake
from koko_presence._fastpath.outbox import Outbox
from koko_presence._fastpath.polling import PolledTransport
from koko_presence.auth.cookies import SessionCookie

log = logging.getLogger("koko_presence.connection")

CLOSE_TIMEOUT_S = 2.0
MAX_FRAGMENTS = 1024
MAX_UNSENT_PONGS_BYTES = 1024 * 1024
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10  # opcodes [RFC 6455 section 11.8]

NORMAL, PROTOCOL_ERROR, NO_CODE, LOST, BAD_TEXT, TOO_BIG, INTERNAL = 1000, 1002, 1005, 1006, 1007, 1009, 1011
# what an endpoint may put into a close frame [RFC 6455 section 7.4; IANA's registry]
_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


class Handler(Protocol):
    """What a connection tells. `on_close` comes exactly once and last."""

    def on_open(self, connection: "Connection") -> None: ...

    def on_text(self, data: bytes) -> None: ...

    def on_binary(self, data: bytes) -> None: ...

    def on_too_large(self, size: int) -> None: ...

    def on_ping(self) -> None: ...

    def on_pong(self, data: bytes) -> None: ...

    def on_close(self, code: int | None, clean: bool) -> None: ...

    def on_writable(self) -> None: ...

    def on_unwritable(self) -> None: ...


class Connection(FrameListener):
    """A server's end of one WebSocket. Created by the door; `handler` is set before the first callback."""

    __slots__ = (
        "_close_timer", "_max_frame_bytes", "_max_message_bytes", "_outbox", "_parts_bytes", "_parts_type",
        "_peer_code", "_told_close", "_transport", "close_code_sent", "cookie",
        "handler",
    )  # fmt: skip

    def __init__(self, max_message_bytes: int, max_frame_bytes: int) -> None:
        self.handler: Handler
        self.cookie: SessionCookie | str | None = None  # what the upgrade brought; the session takes it over
        self.close_code_sent: int | None = None
        self._max_message_bytes = max_message_bytes
        self._max_frame_bytes = max_frame_bytes
        self._transport: Any = None
        self._parts_bytes = 0
        self._parts_type = TEXT
        self._told_close = False
        self._peer_code: int | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._outbox: Outbox | None = None

    # --- what picows calls ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        try:
            self.handler.on_open(self)
        except Exception:
            self._fail()
        forget_handshake(transport)

    def on_frame(self, frame: WSFrame) -> None:
        """Every frame but plain cursors, which went through the gate."""
        kind: Any = frame.msg_type
        if self.closing and kind != CLOSE:
            return
        try:
            self._take(kind, frame)
        except Exception:
            self._fail()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._stop_writing()
        tally.closed(self.close_code_sent)
        if self._close_timer is not None:
            self._close_timer.cancel()
        if not self._told_close:
            self._tell_close(LOST, clean=False)

    def pause_writing(self) -> None:
        if not self.closing:
            self.handler.on_unwritable()

    def resume_writing(self) -> None:
        if not self.closing:
            self.handler.on_writable()

    # --- frames to messages -----------------------------------------------------------------------------------------

    def _take(self, kind: int, frame: WSFrame) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(PROTOCOL_ERROR, "reserved bits are set")
            return
        if kind in (TEXT, BINARY):
            if self.parts is not None:
                self.close(PROTOCOL_ERROR, "a new message inside an unfinished one")
            elif frame.fin:
                self._whole(kind, frame.get_payload_as_bytes())
            else:
                self.parts, self._parts_bytes, self._parts_type = [], 0, kind
                self._add_part(frame)
        elif kind == CONTINUATION:
            if self.parts is None:
                self.close(PROTOCOL_ERROR, "a continuation of nothing")
            else:
                self._add_part(frame)
        elif kind == PING:
            if self.unsent_bytes > MAX_UNSENT_PONGS_BYTES:  # it asks and asks, and reads nothing
                self.abort()
                return
            self._write_control(PONG, frame.get_payload_as_bytes())
            self.handler.on_ping()
        elif kind == PONG:
            self.handler.on_pong(frame.get_payload_as_bytes())
        else:
            self._on_close_frame(frame.get_payload_as_bytes())

    def _add_part(self, frame: WSFrame) -> None:
        parts = self.parts
        assert parts is not None
        parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._max_frame_bytes or len(parts) > MAX_FRAGMENTS:
            self.close(TOO_BIG, "the message is too big")
        elif frame.fin:
            self.parts = None
            self._whole(self._parts_type, b"".join(parts))

    def _whole(self, kind: int, data: bytes) -> None:
        if kind == TEXT and not data.isascii():
            try:  # checked before anybody else can see it: one hostile member must not throw the others out
                data.decode()
            except UnicodeDecodeError:
                self.close(BAD_TEXT, "the text is not UTF-8")
                return
        if len(data) > self._max_message_bytes:
            self.handler.on_too_large(len(data))
        elif kind == TEXT:
            self.handler.on_text(data)
        else:
            self.handler.on_binary(data)

    def _on_close_frame(self, payload: bytes) -> None:
        code, problem = _close_code(payload)
        self._peer_code = code
        if self.close_code_sent is not None:  # the answer to our own
            self._hang_up()
            return
        if problem:
            self.close(BAD_TEXT if problem == "reason" else PROTOCOL_ERROR)
            return
        self._stop_writing()
        self.close_code_sent = code
        self._write_control(CLOSE, payload[:2])
        self._tell_close(code, clean=True)
        self._hang_up()

    # --- what the handler calls -------------------------------------------------------------------------------------

    @property
    def headers(self) -> Any:
        """The handshake's headers, case-insensitive; there until the handler's `on_open` returns."""
        return self._transport.request.headers

    @property
    def target(self) -> str:
        """The handshake's path with its query; there until the handler's `on_open` returns."""
        target = self._transport.request.path
        return target.decode("latin-1") if isinstance(target, bytes) else str(target)

    @property
    def peer(self) -> str:
        """The other end's address, or "" when there is none any more."""
        name = self._transport.underlying_transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return int(self._transport.underlying_transport.get_write_buffer_size())

    def send_text(self, data: bytes) -> None:
        """One text message, UTF-8."""
        if not self.closing:
            self._transport.send(TEXT, data)

    def send_binary(self, data: bytes) -> None:
        """One binary message."""
        if not self.closing:
            self._transport.send(BINARY, data)

    def send_frames(self, data: bytes) -> None:
        """Ready frames, as they are, in one write."""
        if not self.closing:
            self._transport.underlying_transport.write(data)

    def send_ping(self, data: bytes) -> None:
        """A ping; the handler hears the pong."""
        if not self.closing:
            self._write_control(PING, data)

    def close(self, code: int, reason: str = "") -> None:
        """Close with `code`; TCP goes when the peer has answered, after 2 s at the latest. The handler's `on_close`
        still comes, and nothing else. Does nothing when the connection is closing already."""
        if self.closing:
            return
        self._stop_writing()
        self.close_code_sent = code
        self.parts = None
        self._write_control(CLOSE, code.to_bytes(2, "big") + _cut(reason, 123))
        if code in (PROTOCOL_ERROR, BAD_TEXT, TOO_BIG):
            self._hang_up()  # what else such a peer says is not worth reading
            return
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Cut TCP at once, without a close frame."""
        self._stop_writing()
        self._transport.disconnect(False)

    def promote(self) -> None:
        """The client is in a room: what it says is read before what newcomers say."""
        transport = self._transport.underlying_transport
        if isinstance(transport, PolledTransport):
            transport.promote()

    def shorten(self, outbox: Outbox, gate: Gate) -> None:
        """Let plain cursors in through `gate` and `outbox` write to the socket itself, past all layers; the latter not
        over TLS, where there are bytes between."""
        self.gate = gate
        self._outbox = outbox
        transport = self._transport.underlying_transport
        if self._transport.is_secure:
            transport.set_write_buffer_limits(high=0)  # tell at once that something waits, and when nothing does
        else:
            outbox.use_socket(transport.get_extra_info("socket").fileno(), transport)

    def take_long(self) -> None:
        """Let whole messages in up to the size of a frame, and tell at once when the socket is full; for a handler
        that reads and writes other words than a session's."""
        self._max_message_bytes = self._max_frame_bytes
        if self._transport.is_secure:
            self._transport.underlying_transport.set_write_buffer_limits(high=0)

    # --- small things -----------------------------------------------------------------------------------------------

    def _write_control(self, kind: int, payload: bytes) -> None:
        self._transport.underlying_transport.write(bytes((0x80 | kind, len(payload))) + payload)

    def _stop_writing(self) -> None:
        self.closing = True
        if self._outbox is not None:  # before the descriptor is closed, and its number given to somebody else
            self._outbox.release_socket()

    def _hang_up(self) -> None:
        if not self.unsent_bytes and self._close_timer is not None:
            self._close_timer.cancel()
        elif self.unsent_bytes and self._close_timer is None:  # it may never take what waits
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)
        self._transport.disconnect()

    def _tell_close(self, code: int | None, *, clean: bool) -> None:
        self._told_close = True
        try:
            self.handler.on_close(self._peer_code if self._peer_code is not None else code, clean)
        except Exception:
            log.exception("the handler failed at the close")

    def _fail(self) -> None:
        log.exception("the handler failed; this connection is closed")
        self.close(INTERNAL, "internal error")


def _close_code(payload: bytes) -> tuple[int, str]:
    """The code of a close frame, and what is wrong with the frame: "", "code" or "reason" [RFC 6455 section 5.5.1]."""
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
    """At most `size` bytes of UTF-8, whole characters."""
    return text.encode()[:size].decode(errors="ignore").encode()
