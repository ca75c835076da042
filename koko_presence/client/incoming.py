"""Decodes the messages that the client receives: an event of unknown type becomes an `OtherEvent`, so that a newer
server does not break the client."""

from typing import Any

import msgspec

from .model import Model
from .models import Message


class OtherEvent(Model, kw_only=True):
    """An event of a type that this version does not support."""

    type: str
    room_id: str
    user_id: str = ""
    session_id: str = ""
    timestamp: str = ""
    seq: int | None = None
    data: Any = None


_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_other: msgspec.json.Decoder[OtherEvent] = msgspec.json.Decoder(OtherEvent)


def read(data: bytes) -> Message | OtherEvent | None:
    """Decode one message of the server. Returns an `OtherEvent` for an event of unknown type or with unknown data, and
    None for anything else that is not a known message."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        try:
            return _other.decode(data)
        except msgspec.DecodeError:
            return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
