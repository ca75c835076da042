"""May this user enter this room, and do what there? Behind one interface, because others than the token may answer."""

from collections.abc import Awaitable, Collection
from typing import Literal, Protocol

from msgspec import Struct

from koko_presence.auth.identity import Identity
from koko_presence.protocol.errors import NOT_CHECKED, NOT_CHECKED_RETRY_S, PresenceError
from koko_presence.protocol.messages import RoomType

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
    """What a user may do in a room. `room_type` is the authoriser's word on the type, if it has one [C1].

    `retry_after_s` goes with a refusal for want of an answer: nobody who could be asked has said no. It keeps out who
    wants in, and changes nothing for who is in.
    """

    allow: bool
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    room_type: RoomType | None = None
    reason: str = ""
    retry_after_s: float | None = None

    def refusal(self) -> PresenceError:
        """What somebody is told who may not enter."""
        return PresenceError("FORBIDDEN", self.reason, retry_after_s=self.retry_after_s)


Action = Literal["join", "get_active"]

NO = Grant(allow=False, reason=REFUSED)
UNSURE = Grant(allow=False, reason=NOT_CHECKED, retry_after_s=NOT_CHECKED_RETRY_S)


class Access(Protocol):
    """Whatever can say who may enter, at once or after asking elsewhere."""

    def check(
        self,
        identity: Identity,
        room_id: str,
        room_type: RoomType | None,
        *,
        session_id: str = "",
        action: Action = "join",
    ) -> Grant | Awaitable[Grant]:
        """What `identity` may do in `room_id`; `room_type` is what the client says it is, `session_id` the session that
        wants to know. A refusal is a Grant too, and the same one whether the room is unknown or closed."""
        ...

    def forget(self, user_id: str | None = None, room_id: str | None = None) -> None:
        """Answers about this user, this room, or both count no more: the next check asks anew [N12]. None is any."""
        return

    @property
    def breaker_open(self) -> bool:
        """Whether questions are refused unasked, since nobody answers."""
        return False

    async def close(self) -> None:
        """Nothing is asked any more."""
        return


class ClaimsAccess(Access):
    """The token's `rooms` claim: the exact id, or else the longest prefix with a trailing `*` [A6].

    Each scope stands for itself: `moderate` is having a say over others (who has control, who must go) and brings no
    `control` or `broadcast` with it. Without `join` the others count for nothing. Rooms are not looked up, so neither
    the answer nor its time tells whether one exists.
    """

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None, **_: str) -> Grant:
        if not identity.rooms_known:
            return UNSURE
        scopes = scopes_for(identity, room_id)
        return NO if scopes is None or "join" not in scopes else granted(scopes)


class AllowAll(Access):
    """Everybody may enter, control and broadcast everywhere; who moderates is still the token's to say. For
    development, and for applications whose rooms are all public."""

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None, **_: str) -> Grant:
        moderator = "moderate" in (scopes_for(identity, room_id) or ())
        return Grant(allow=True, can_control=True, can_broadcast=True, moderator=moderator)


def granted(scopes: Collection[str], room_type: RoomType | None = None) -> Grant:
    """The Grant of somebody who may enter and has these scopes."""
    return Grant(
        allow=True,
        can_control="control" in scopes,
        can_broadcast="broadcast" in scopes,
        moderator="moderate" in scopes,
        room_type=room_type,
    )


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


def settled_type(room_id: str, claimed: RoomType | None, grant: Grant) -> RoomType | None:
    """A room's type from the authoriser, the known prefix or the client; they must not disagree [C1, C2].

    Errors: ROOM_TYPE_MISMATCH."""
    implied = grant.room_type or room_type_of(room_id)
    if claimed is None:
        return implied
    if implied is not None and implied != claimed:
        raise PresenceError("ROOM_TYPE_MISMATCH", f"By its name this is a {implied} room.")
    return claimed
