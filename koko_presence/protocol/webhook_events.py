"""Declares the webhook events that are sent to the application's back end [M10]; docs/webhooks.md describes them.

The receiver detects a repeated event by its `id`. The id is derived from the event's content, so that the backup owner
of a lost worker, which may record an event again, gives it the same id. Counts are those of the room after the event
and include invisible users; `invisible` and the `visible...` counts give what other members may see [K4, K7].
"""

import hashlib
from typing import Literal, Protocol, get_args

from msgspec import Struct

from .models import RoomType


class RoomCounts(Struct, kw_only=True, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The numbers of users and of sessions (tabs) in the room after the event, and of those that others may see."""

    users: int
    sessions: int
    visible_users: int
    visible_sessions: int


class WebhookEvent(
    Struct, kw_only=True, frozen=True, rename="camel", tag_field="type", tag="", forbid_unknown_fields=True
):
    """Base of the webhook events: its id, time and room. `timestamp` is ISO 8601 in UTC."""

    id: str
    timestamp: str
    room_id: str
    room_type: RoomType
    room: RoomCounts


class UserEntered(WebhookEvent, frozen=True, kw_only=True, tag="user_entered"):
    """A session has joined; `session_count` is the number of the user's sessions in the room, 1 for the first."""

    user_id: str
    session_id: str
    name: str
    invisible: bool
    session_count: int


class UserLeft(WebhookEvent, frozen=True, kw_only=True, tag="user_left"):
    """A session has left, or its grace period is over; `session_count` 0: the user has left with it. `reason` is that
    of `user_left` [D2]."""

    user_id: str
    session_id: str
    name: str
    invisible: bool
    session_count: int
    reason: str


class RoomCreated(WebhookEvent, frozen=True, kw_only=True, tag="room_created"):
    """The first session has joined; no state of an earlier room of this id exists. `invisible`: for others the room
    does not exist yet [K7]."""

    invisible: bool = False


class RoomEmptied(WebhookEvent, frozen=True, kw_only=True, tag="room_emptied"):
    """The room has no member, and its state is deleted [C12]. `invisible`: for others it had ended before [K7]."""

    invisible: bool = False


class RoomShown(WebhookEvent, frozen=True, kw_only=True, tag="room_shown"):
    """The first visible member has joined a room of invisible ones: for others the room is created now [K7]."""


class RoomHidden(WebhookEvent, frozen=True, kw_only=True, tag="room_hidden"):
    """The last visible member has left and invisible ones remain: for others the room has ended with its state [K7]."""


class RoomFull(WebhookEvent, frozen=True, kw_only=True, tag="room_full"):
    """The last free place has been taken [C6]."""

    limit: int


class ControlChanged(WebhookEvent, frozen=True, kw_only=True, tag="control_changed"):
    """Playback has another controller, or none [I]. `version` is that of `control_granted` and `control_released`."""

    from_user_id: str | None
    to_user_id: str | None
    reason: str
    version: int


AnyWebhookEvent = (
    UserEntered | UserLeft | RoomCreated | RoomEmptied | RoomShown | RoomHidden | RoomFull | ControlChanged
)

WebhookEventType = Literal[
    "user_entered", "user_left", "room_created", "room_emptied", "room_shown", "room_hidden", "room_full",
    "control_changed",
]  # fmt: skip
WEBHOOK_EVENT_TYPES: tuple[WebhookEventType, ...] = get_args(WebhookEventType)


class Sink(Protocol):
    """Receives the webhook events of an owner, in order; a list is one."""

    def append(self, event: AnyWebhookEvent, /) -> None: ...


def webhook_event_id(*parts: object) -> str:
    """Return the event id of `parts`: equal for equal parts, and different for different ones."""
    text = "\0".join(str(part) for part in parts)
    return "evt_" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
