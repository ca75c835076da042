"""Moves a connection from HTTP to WebSocket after it has carried other requests, as proxies reuse connections for
upgrades, and from HTTP to an event stream.

Only aiohttp's parser has the boundaries of requests, so it finds the upgrade among them. The request's handler then
releases the connection: `wants_websocket`, `take`, `given_away`, in this order. Holds no state.
"""

import asyncio
from typing import Any

from aiohttp import web

from .handshake import Head

MAX_HEAD_BYTES, MAX_FIELDS = 16 * 1024, 32  # of every request's head
HEAD_TOO_LARGE = f"The request's head is too large: {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields are allowed."


class _Rest:
    """Collects the bytes that aiohttp has read after the head of an upgrade; aiohttp passes them to it as to the parser
    of the next protocol."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...


def wants_websocket(request: web.BaseRequest) -> bool:
    """True for an upgrade to WebSocket, after which aiohttp's parser has stopped."""
    return (
        request.method == "GET"
        and request.headers.get("upgrade", "").lower() == "websocket"
        and _head_of(request).wants_websocket
    )


def take(request: web.BaseRequest) -> tuple[Head, bytes]:
    """Detach the connection from aiohttp. Returns the request's head, and the bytes from its beginning on, the head
    written anew. The request's handler has to raise `given_away()` afterwards."""
    http: Any = request.protocol
    rest = _Rest()
    http.set_parser(rest)
    http.transport = None  # aiohttp would close it
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
    """The exception that a request handler raises after `take`."""
    return asyncio.CancelledError("the connection does not carry HTTP any more")
