"""Checks a room's id and type before a join, for sockets and HTTP alike, and awaits access checks. Holds no state."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import UNSET

from koko_presence.access.policy import UNSURE, Grant
from koko_presence.access.policy import settled_type as settled
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import GetActive, Join
from koko_presence.protocol.models import RefusedRoom, RoomType

log = logging.getLogger("koko_presence.rooms")

CHECKS_AT_ONCE = 4  # of the rooms of one list: half of the requests that a user may have pending at an authoriser


class CheckedSession(Protocol):
    """A session that waits for an access check."""

    @property
    def state(self) -> str: ...


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


def checked_type(room_id: str, grant: Grant) -> RoomType | None:
    """The type of the room that the grant opens, from the authoriser or a known prefix of the id; None for any type."""
    return settled(room_id, None, grant)


def refused_room(room_id: str, error: PresenceError) -> RefusedRoom:
    """Return how a room of a list is refused with `error`."""
    return RefusedRoom(
        room_id=room_id,
        code=error.code,
        message=error.message,
        retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
    )


async def await_grant(session: CheckedSession, answer: Awaitable[Grant], then: Callable[[Grant], None]) -> None:
    """Call `then` with the answer of an access check, unless the session has ended meanwhile. A check that fails is one
    without an answer."""
    try:
        grant = await answer
    except Exception:  # fail closed: a join is refused, and messages held for the room are handled
        log.exception("access check failed")
        grant = UNSURE
    if session.state == "open":
        then(grant)
