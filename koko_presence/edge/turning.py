"""From HTTP to WebSocket on a connection that has carried requests before: proxies keep connections, and use them for
whatever comes next. What aiohttp's protocol has to be asked for that, its state, has no public name."""

import asyncio
from collections.abc import Callable
from typing import Any

from .upgrade import Head, read_head

MAX_HEAD_BYTES, MAX_FIELDS = 16 * 1024, 32  # of every request's head
HEAD_TOO_LARGE = f"The request's head is too large: {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields are allowed."
TRIES, TRY_S = 8, 0.002  # the answer before has been written, but aiohttp may not have come back from it yet


def upgrade_in(data: bytes) -> Head | None:
    """The head of the upgrade that `data` begins with, if it does and the head is whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(b"GET ") or b"websocket" not in data[:end].lower():
        return None
    head = read_head(data[:end])
    return head if head is not None and head.wants_websocket else None


def begun(http: Any, data: bytes) -> bool:
    """Is `data` the beginning of a GET's head, which may become an upgrade? It comes in pieces when it is long. What is
    never ended is closed with the connection that idles, as `http` does not hear of it."""
    return _waits(http) and b"GET ".startswith(data[:4]) and b"\r\n\r\n" not in data and len(data) <= MAX_HEAD_BYTES


def _waits(http: Any) -> bool:
    """Is it between two requests?"""
    return http._waiter is not None and not http._waiter.done() and not http._messages


def turn(http: Any, transport: Any, data: bytes, turned: Callable[[], None], tries: int = TRIES) -> None:
    """Take the connection from `http`, an aiohttp RequestHandler, and call `turned`; when that is busy for long it gets
    `data` itself, as a request like any other."""
    if transport.is_closing():
        return
    waits = _waits(http)
    if not waits and tries:
        if tries == TRIES:
            transport.pause_reading()
        asyncio.get_running_loop().call_later(TRY_S, turn, http, transport, data, turned, tries - 1)
        return
    if tries < TRIES:
        transport.resume_reading()
    if waits:
        http.transport = None  # or it would close it
        http.connection_lost(None)
        turned()
    else:
        http.data_received(data)
