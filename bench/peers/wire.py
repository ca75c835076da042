"""Shared by the Python peers: the three messages of the generator, and the event with the fields and size of this
server's.
"""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

COLOR = "#6366F1"


class Auth(Struct, tag="auth"):
    token: str


class Join(Struct, tag="join", rename="camel"):
    room_id: str


class Cursor(Struct, tag="cursor", rename="camel"):
    room_id: str
    data: dict[str, Any]


class Moved(Struct, tag="cursor_moved", rename="camel"):
    room_id: str
    user_id: str
    session_id: str
    data: dict[str, Any]
    timestamp: datetime
    seq: int


class Authenticated(Struct, tag="authenticated", rename="camel"):
    user_id: str
    session_id: str


class Joined(Struct, tag="joined", rename="camel"):
    room_id: str
    seq: int


decode = msgspec.json.Decoder(Auth | Join | Cursor).decode
encode = msgspec.json.Encoder().encode


def user_of(token: str) -> str:
    """The `sub` of a token, unverified."""
    claims = token.split(".")[1]
    return str(msgspec.json.decode(base64.urlsafe_b64decode(claims + "=="))["sub"])


def moved(message: Cursor, user_id: str, session_id: str, seq: int) -> bytes:
    """Encode the event for the other members."""
    data = message.data
    data["color"] = COLOR
    return encode(Moved(message.room_id, user_id, session_id, data, datetime.now(UTC), seq))
