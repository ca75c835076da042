"""What the application's back end is told by webhook [M10]: the vocabulary of docs/webhooks.md.

Each has an `id` by which a receiver knows a repeat; it is made from what has happened, so that the heir of a lost
worker, which may say a thing once more, gives it the same one. Counts are the room's after the event, and hold
everybody; `invisible` and the `visible...` counts tell what the others in the room may know [K4, K7].
"""

import hashlib
from typing import Literal, Protocol, get_args

from msgspec import Struct

from .messages import RoomType


class RoomCounts(Struct, kw_only=True, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Who is in the room after the event: people, their sessions (tabs), and as many of them as others may see."""

    users: int
    sessions: int
    visible_users: int
    visible_sessions: int


class Happening(
    Struct, kw_only=True, frozen=True, rename="camel", tag_field="type", tag="", forbid_unknown_fields=True
):
    """Base: where and when. `timestamp` is ISO 8601 in UTC."""

    id: str
    timestamp: str
    room_id: str
    room_type: RoomType
    room: RoomCounts


class UserEntered(Happening, frozen=True, kw_only=True, tag="user_entered"):
    """A session has joined; `session_count` is how many the user now has in the room: 1 for the first."""

    user_id: str
    session_id: str
    name: str
    invisible: bool
    session_count: int


class UserLeft(Happening, frozen=True, kw_only=True, tag="user_left"):
    """A session is gone, its grace included; `session_count` 0: and with it the user. `reason` is user_left's [D2]."""

    user_id: str
    session_id: str
    name: str
    invisible: bool
    session_count: int
    reason: str


class RoomCreated(Happening, frozen=True, kw_only=True, tag="room_created"):
    """The first has come; nothing is remembered of an earlier room of this id. `invisible`: to others there is no room
    yet [K7]."""

    invisible: bool = False


class RoomEmptied(Happening, frozen=True, kw_only=True, tag="room_emptied"):
    """No member is left, and the room's state is forgotten [C12]. `invisible`: to others it was gone before [K7]."""

    invisible: bool = False


class RoomShown(Happening, frozen=True, kw_only=True, tag="room_shown"):
    """Invisible members were in it, and the first visible one has come: to others the room is created now [K7]."""


class RoomHidden(Happening, frozen=True, kw_only=True, tag="room_hidden"):
    """The last visible member is gone, invisible ones are left: to others the room is gone with its state [K7]."""


class RoomFull(Happening, frozen=True, kw_only=True, tag="room_full"):
    """The last free place has been taken [C6]."""

    limit: int


class ControlChanged(Happening, frozen=True, kw_only=True, tag="control_changed"):
    """Playback has another controller, or none [I]. `version` is the one of control_granted and control_released."""

    from_user_id: str | None
    to_user_id: str | None
    reason: str
    version: int


AnyHappening = UserEntered | UserLeft | RoomCreated | RoomEmptied | RoomShown | RoomHidden | RoomFull | ControlChanged

HappeningType = Literal[
    "user_entered", "user_left", "room_created", "room_emptied", "room_shown", "room_hidden", "room_full",
    "control_changed",
]  # fmt: skip
HAPPENING_TYPES: tuple[HappeningType, ...] = get_args(HappeningType)


class Sink(Protocol):
    """Where an owner puts what has happened, if anybody wants to know: a list will do."""

    def append(self, happening: AnyHappening, /) -> None: ...


def happening_id(*parts: object) -> str:
    """The same for the same parts, and for no others."""
    text = "\0".join(str(part) for part in parts)
    return "evt_" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
