"""What is checked of a room before anybody enters, over a socket or by HTTP: its name and its type."""

from typing import Any

from msgspec import UNSET

from koko_presence.auth.access import Grant, room_type_of
from koko_presence.errors import PresenceError
from koko_presence.messages import Join


def check_room_id(room_id: str) -> None:
    """Errors: INVALID_MESSAGE for what no room is called."""
    if not room_id.isprintable():  # control characters, and separators that look like nothing [C17]
        raise PresenceError("INVALID_MESSAGE", "A roomId has 1 to 128 printable characters.")


def settled_type(message: Join, grant: Grant) -> Any:
    """The room's type from the authoriser, the known prefix or the message; they must not disagree [C1, C2]. Errors:
    ROOM_TYPE_MISMATCH."""
    implied = grant.room_type or room_type_of(message.room_id)
    if message.room_type is UNSET:
        return implied
    if implied is not None and implied != message.room_type:
        raise PresenceError("ROOM_TYPE_MISMATCH", f"By its name this is a {implied} room.")
    return message.room_type
