"""From HTTP to WebSocket on a connection that has carried requests before: proxies keep connections, and use them for
whatever comes next.

Where a request ends only aiohttp's parser knows, so that finds the upgrade among the requests. The upgrade's handler
gives the connection away (`wants_websocket`, `take`).
"""

import asyncio
from typing import Any

from aiohttp import web

from .handshake import Head

MAX_HEAD_BYTES, MAX_FIELDS = 16 * 1024, 32  # of every request's head
HEAD_TOO_LARGE = f"The request's head is too large: {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields are allowed."


class _Rest:
    """What aiohttp has read behind the head of an upgrade: given to this, as to a parser of the next protocol."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...


def wants_websocket(request: web.BaseRequest) -> bool:
    """Is it an upgrade to WebSocket, behind which aiohttp's parser has stopped to read?"""
    return (
        request.method == "GET"
        and request.headers.get("upgrade", "").lower() == "websocket"
        and _head_of(request).wants_websocket
    )


def take(request: web.BaseRequest) -> tuple[Head, bytes]:
    """Take the connection from aiohttp: the upgrade's head, and the bytes from its beginning on. The request's handler
    has to raise `given_away()` then."""
    http: Any = request.protocol
    rest = _Rest()
    http.set_parser(rest)
    http.transport = None  # or it would close it
    http.connection_lost(None)
    lines = [b"GET %b HTTP/1.1" % _raw_path(request)]
    lines += [name + b": " + value for name, value in request.raw_headers]
    return _head_of(request), b"\r\n".join(lines) + b"\r\n\r\n" + rest.data


def _head_of(request: web.BaseRequest) -> Head:
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.raw_headers]
    return Head(request.method, _raw_path(request).decode("latin-1"), headers)


def _raw_path(request: web.BaseRequest) -> bytes:
    return request.raw_path.encode(errors="surrogateescape")


def given_away() -> asyncio.CancelledError:
    """What a handler raises when it has given its connection away."""
    return asyncio.CancelledError("the connection carries WebSocket now")
