"""One WebSocket connection with picows: complete text messages, and one close code at the end.

`Link` is the only writer of its state. Messages are passed on in order, and `on_closed` is called once, after them.
"""

import asyncio
import logging
import ssl
from typing import Any, Protocol

from picows import WSError, WSFrame, WSListener, WSTransport, ws_connect

from .errors import PresenceOffline

LOST, NO_CODE = 1006, 1005
CLOSE_TIMEOUT_S = 2.0
MAX_FRAME_BYTES = 16 * 1024 * 1024
CONTINUATION, TEXT, BINARY, CLOSE = 0, 1, 2, 8  # opcodes [RFC 6455 section 11.8]

# picows makes a logger for each connection and logs two lines, unless it is given an adapter
_silent = logging.getLogger("koko_presence.client.picows")
_silent.setLevel(logging.CRITICAL)
_SILENT = logging.LoggerAdapter(_silent, {})


class LinkHandler(Protocol):
    """Receives the events of a link. `on_closed` is called once and last."""

    def on_message(self, data: bytes) -> None: ...

    def on_closed(self, code: int) -> None: ...

    def on_unwritable(self) -> None: ...

    def on_writable(self) -> None: ...


class Link(WSListener):
    """The client's end of one WebSocket. picows answers pings."""

    def __init__(self, handler: LinkHandler) -> None:
        self.code = LOST  # meaningful once `closed` is set
        self._closed = asyncio.Event()
        self._handler = handler
        self._transport: Any = None
        self._parts = bytearray()
        self._closing = False

    # --- what picows calls ------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind: Any = frame.msg_type
        if kind == TEXT and frame.fin:
            self._handler.on_message(frame.get_payload_as_bytes())
        elif kind == CLOSE:
            payload = frame.get_payload_as_bytes()
            if not self._closing:
                self._closing = True
                self.code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_CODE
                self._transport.send(CLOSE, payload[:2])
            self._transport.disconnect()
        elif kind in (TEXT, CONTINUATION):  # a proxy may fragment messages
            self._parts += frame.get_payload_as_bytes()
            if len(self._parts) > MAX_FRAME_BYTES:
                self.abort()
            elif frame.fin:
                data, self._parts = bytes(self._parts), bytearray()
                self._handler.on_message(data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.closed:
            self._closed.set()
            self._handler.on_closed(self.code)

    def pause_writing(self) -> None:
        self._handler.on_unwritable()

    def resume_writing(self) -> None:
        self._handler.on_writable()

    # --- what the client calls --------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the handshake was completed, also after the connection has closed."""
        return self._transport is not None

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    async def wait_closed(self) -> int:
        """Wait until the connection is closed and return the close code [L7]."""
        await self._closed.wait()
        return self.code

    def send(self, data: bytes) -> None:
        """Send one text message; do nothing when the connection is closing."""
        if not self._closing:
            self._transport.send(TEXT, data)

    async def close(self, code: int) -> None:
        """Send a close frame with `code` and wait until the connection is closed; abort it after 2 s."""
        if not self._closing:
            self._closing = True
            self.code = code
            self._transport.send(CLOSE, code.to_bytes(2, "big"))
        try:
            await asyncio.wait_for(self._closed.wait(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Close the connection without a close frame."""
        self._transport.disconnect(False)


async def open_link(url: str, handler: LinkHandler, *, ssl_context: ssl.SSLContext | None, timeout_s: float) -> Link:
    """Connect within `timeout_s` seconds. Errors: `PresenceOffline`, with the reason."""
    link = Link(handler)
    try:
        async with asyncio.timeout(timeout_s):
            await ws_connect(
                lambda: link,
                url,
                ssl_context=ssl_context,
                websocket_handshake_timeout=timeout_s,
                logger_name=_SILENT,
                enable_auto_pong=True,
                max_frame_size=MAX_FRAME_BYTES,
                max_redirects=0,
            )
    except TimeoutError:
        raise PresenceOffline(f"No connection to {url} in {timeout_s:g} s. Is the address right?") from None
    except (OSError, WSError) as error:
        raise PresenceOffline(f"No connection to {url}: {error}. Is the server running there?") from error
    if not link.connected:  # ws_connect also returns when the server closes the connection before it has answered
        raise PresenceOffline(
            f"No connection to {url}: it was closed before the handshake. Is the server running there?"
        )
    return link
