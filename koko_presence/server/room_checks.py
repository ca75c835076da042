"""What is checked of a room before anybody enters, over a socket or by HTTP: its name and its type."""

from typing import Any

from msgspec import UNSET

from koko_presence.access.policy import Grant
from koko_presence.access.policy import settled_type as settled
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import GetActive, Join, RoomType


def check_room_id(room_id: str) -> None:
    """Errors: INVALID_MESSAGE for what no room is called."""
    if not room_id.isprintable():  # control characters, and separators that look like nothing [C17]
        raise PresenceError("INVALID_MESSAGE", "A roomId has 1 to 128 printable characters.")


def claimed_type(room_type: Any) -> RoomType | None:
    """The type that a client's message names, None when it names none."""
    return None if room_type is UNSET else room_type


def settled_type(message: Join | GetActive, grant: Grant) -> RoomType | None:
    """The room's type from the authoriser, the known prefix or the message [C1, C2]. Errors: ROOM_TYPE_MISMATCH."""
    return settled(message.room_id, claimed_type(message.room_type), grant)
