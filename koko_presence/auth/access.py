"""May this user enter this room, and do what there? Behind one interface, because others than the token may answer."""

from collections.abc import Awaitable
from typing import Protocol

from msgspec import Struct

from koko_presence.messages import RoomType

from .tokens import Identity

# What a room's name says of its type, so that the first to join cannot squat on it with a wrong one [C1].
_PREFIXES: tuple[tuple[str, RoomType], ...] = (
    ("video_", "video"),
    ("project_", "project"),
    ("comment_thread_", "comment_thread"),
    ("comment_", "comment_thread"),
    ("thread_", "comment_thread"),
    ("comparison_", "comparison"),
)

# One text for "there is no such room" and "it is not for you": an answer must not tell which rooms exist.
REFUSED = "This room is not open to you. Ask your application for access."


class Grant(Struct, frozen=True, kw_only=True):
    """What a user may do in a room. `room_type` is the authoriser's word on the type, if it has one [C1]."""

    allow: bool
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    room_type: RoomType | None = None
    reason: str = ""


class Access(Protocol):
    """Whatever can say who may enter, at once or after asking elsewhere."""

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None) -> Grant | Awaitable[Grant]:
        """What `identity` may do in `room_id`; `room_type` is what the client says it is. A refusal is a Grant too, and
        the same one whether the room is unknown or closed."""
        ...


_NO = Grant(allow=False, reason=REFUSED)


class ClaimsAccess:
    """The token's `rooms` claim: the exact id, or else the longest prefix with a trailing `*` [A6].

    Each scope stands for itself: `moderate` is having a say over others (who has control, who must go) and brings no
    `control` or `broadcast` with it. Without `join` the others count for nothing. Rooms are not looked up, so neither
    the answer nor its time tells whether one exists.
    """

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None) -> Grant:
        scopes = scopes_for(identity, room_id)
        if scopes is None or "join" not in scopes:
            return _NO
        return Grant(
            allow=True,
            can_control="control" in scopes,
            can_broadcast="broadcast" in scopes,
            moderator="moderate" in scopes,
        )


class AllowAll:
    """Everybody may enter, control and broadcast everywhere; who moderates is still the token's to say. For
    development, and for applications whose rooms are all public."""

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None) -> Grant:
        moderator = "moderate" in (scopes_for(identity, room_id) or ())
        return Grant(allow=True, can_control=True, can_broadcast=True, moderator=moderator)


def scopes_for(identity: Identity, room_id: str) -> tuple[str, ...] | None:
    """The scopes of the pattern that names `room_id` best, or None when none does."""
    rooms = identity.rooms
    exact = rooms.get(room_id)
    if exact is not None:
        return exact
    # from the longest prefix down: a room id has 128 characters at most [C17], a token may have hundreds of patterns
    for length in range(len(room_id), -1, -1):
        scopes = rooms.get(room_id[:length] + "*")
        if scopes is not None:
            return scopes
    return None


def room_type_of(room_id: str) -> RoomType | None:
    """The type that a known prefix implies [C1]."""
    return next((room_type for prefix, room_type in _PREFIXES if room_id.startswith(prefix)), None)
