"""Checks a room's id and type before a join, for sockets and HTTP alike. Holds no state."""

from typing import Any

from msgspec import UNSET

from koko_presence.access.policy import Grant
from koko_presence.access.policy import settled_type as settled
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import GetActive, Join
from koko_presence.protocol.models import RoomType


def check_room_id(room_id: str) -> None:
    """Errors: INVALID_MESSAGE for an id with characters that are not printable."""
    if not room_id.isprintable():  # control characters and invisible separators [C17]
        raise PresenceError("INVALID_MESSAGE", "A roomId has 1 to 128 printable characters.")


def requested_type(room_type: Any) -> RoomType | None:
    """The room type in a client's message, None when it has none."""
    return None if room_type is UNSET else room_type


def settled_type(message: Join | GetActive, grant: Grant) -> RoomType | None:
    """The room's type from the authoriser, a known prefix of its id, or the message [C1, C2]. Errors:
    ROOM_TYPE_MISMATCH when the message's differs from the others."""
    return settled(message.room_id, requested_type(message.room_type), grant)
