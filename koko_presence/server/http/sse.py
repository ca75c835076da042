"""Encodes the events of a tRPC subscription over server-sent events, as @trpc/server 11.25 does [M6]. Pure.

The stream begins with `connected`; each value of the subscription is an event without a name; `serialized-error` is
the error that ends it, `ping` a sign of life. An id, which an EventSource sends as Last-Event-ID when it reconnects, is
set by `restore_id`: a value with an id of its own would be a tracked one, which has another form at the client.
"""

from typing import Any

import msgspec

HEADERS = (  # those of @trpc/server; the body ends with the connection, which therefore is not kept
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
    ("Connection", "close"),
)
PING = b"event: ping\ndata: \n\n\n"


def connected(reconnect_after_s: float) -> bytes:
    """The first event. A client that receives nothing for `reconnect_after_s` seconds opens a new stream."""
    options = {"reconnectAfterInactivityMs": round(reconnect_after_s * 1000)}
    return b"event: connected\ndata: %b\n\n\n" % msgspec.json.encode(options)


def value(payload: bytes, *, clears_id: bool) -> bytes:
    """A value of the subscription; `payload` is JSON. `clears_id`: the client may have an id, which is not this
    value's."""
    if b"\n" in payload or b"\r" in payload:  # white space between tokens, which a client has sent so
        payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"data: %b\nid: \n\n\n" % payload if clears_id else b"data: %b\n\n\n" % payload


def restore_id(id_: bytes) -> bytes:
    """Sets the id that the client's EventSource sends when it reconnects."""
    return b"event: restore-id\ndata: \nid: %b\n\n\n" % id_


def failed(shape: Any) -> bytes:
    """The error that ends the stream; `shape` is tRPC's, wrapped if the client uses superjson."""
    return b"event: serialized-error\ndata: %b\n\n\n" % msgspec.json.encode(shape)


def retry(wait_s: float) -> bytes:
    """Sets the time after which an EventSource reconnects when the stream ends [HTML, section 9.2.6]."""
    return b"retry: %d\n\n" % round(wait_s * 1000)
