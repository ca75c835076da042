"""Declares the interface of authorisers, which decide whether a user may enter a room and with which permissions, and
implements the two that need no request: the token's claim `rooms`, and access for all. The module holds no state.
"""

import logging
from collections.abc import Awaitable, Collection, Mapping
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from koko_presence.auth.identity import Identity
from koko_presence.protocol.errors import NOT_CHECKED, NOT_CHECKED_RETRY_S, PresenceError
from koko_presence.protocol.models import RoomSettings, RoomType

log = logging.getLogger("koko_presence.access")

Value = TypeVar("Value")

# The room type by prefix of the room id, so that the first client to join cannot set a wrong type [C1].
_PREFIXES: tuple[tuple[str, RoomType], ...] = (
    ("video_", "video"),
    ("project_", "project"),
    ("comment_thread_", "comment_thread"),
    ("comment_", "comment_thread"),
    ("thread_", "comment_thread"),
    ("comparison_", "comparison"),
)

# One text for unknown rooms and closed ones: an answer must not reveal which rooms exist.
REFUSED = "This room is not open to you. Ask your application for access."


class Grant(Struct, frozen=True, kw_only=True):
    """The permissions of a user in a room. `presence` False: the user may enter and see, but is not shown [K1, Q11].
    `room_type` is the authoriser's room type, and `settings` those of the room, if it has given any [C1, Q10].

    `retry_after_s`, in seconds, is set when the authoriser has given no answer. Such a refusal applies to sessions that
    want to join; present members stay.
    """

    allow: bool
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    presence: bool = True
    room_type: RoomType | None = None
    reason: str = ""
    retry_after_s: float | None = None
    settings: RoomSettings | None = None

    def refusal(self) -> PresenceError:
        """Return the error for a user who may not enter."""
        return PresenceError("FORBIDDEN", self.reason, retry_after_s=self.retry_after_s)


Action = Literal["join", "get_active"]

NO = Grant(allow=False, reason=REFUSED)
UNSURE = Grant(allow=False, reason=NOT_CHECKED, retry_after_s=NOT_CHECKED_RETRY_S)


class Access(Protocol):
    """An authoriser: decides at once, or after a request to another server."""

    def check(
        self,
        identity: Identity,
        room_id: str,
        room_type: RoomType | None,
        *,
        session_id: str = "",
        action: Action = "join",
    ) -> Grant | Awaitable[Grant]:
        """Return the permissions of `identity` in `room_id`. `room_type` is the type given by the client, `session_id`
        the session for which the check is made. A refusal is a `Grant` too, the same for unknown and closed rooms."""
        ...

    def forget(self, user_id: str | None = None, room_id: str | None = None) -> None:
        """Drop cached answers about this user, this room, or both, so that the next check sends a request [N12]. None
        matches all."""
        return

    @property
    def answers_within_s(self) -> float:
        """The seconds after which a check has an answer at the latest; 0 for one that has it at once."""
        return 0.0

    @property
    def breaker_open(self) -> bool:
        """True while the circuit breaker is open and checks fail without a request."""
        return False

    async def close(self) -> None:
        """Cancel all pending requests."""
        return


class ClaimsAccess(Access):
    """Access by the token's claim `rooms`: the exact id, otherwise the longest prefix with a trailing `*` [A6].

    Each scope is independent: `moderate` permits decisions about other users (control, kicks) and does not include
    `control` or `broadcast`. Without `join` the other scopes have no effect. Rooms are not looked up, so neither the
    answer nor its time reveals whether a room exists.
    """

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None, **_: str) -> Grant:
        if not identity.rooms_known:
            return UNSURE
        scopes = scopes_for(identity, room_id)
        if scopes is None or "join" not in scopes:
            lacking = "no entry for it" if scopes is None else "an entry for it without the scope join"
            log.debug(
                "no access to the room %s: the claim rooms of the token of %s has %s",
                room_id,
                identity.user_id,
                lacking,
            )
            return NO
        return granted(scopes)


class AllowAll(Access):
    """Every user may enter, control and broadcast in every room; the scope `moderate` comes from the token. For
    development, and for applications whose rooms are all public."""

    def check(self, identity: Identity, room_id: str, room_type: RoomType | None, **_: str) -> Grant:
        moderator = "moderate" in (scopes_for(identity, room_id) or ())
        return Grant(allow=True, can_control=True, can_broadcast=True, moderator=moderator)


def granted(
    scopes: Collection[str],
    room_type: RoomType | None = None,
    settings: RoomSettings | None = None,
    *,
    presence: bool = True,
) -> Grant:
    """Return the grant of a user who may enter and has these scopes; `presence` False: the user is not shown [K1]."""
    return Grant(
        allow=True,
        can_control="control" in scopes,
        can_broadcast="broadcast" in scopes,
        moderator="moderate" in scopes,
        presence=presence,
        room_type=room_type,
        settings=settings,
    )


def scopes_for(identity: Identity, room_id: str) -> tuple[str, ...] | None:
    """Return the scopes of the pattern that matches `room_id` best, or None when none matches."""
    return _best_match(identity.rooms, room_id)


def settings_for(identity: Identity, room_id: str, grant: Grant) -> RoomSettings | None:
    """Return the settings that the room gets if this user makes it: those of the authoriser's answer, else those of the
    pattern in the token that matches `room_id` best; None when there are none [Q10]."""
    return _best_match(identity.settings, room_id) if grant.settings is None else grant.settings


def _best_match(patterns: Mapping[str, Value], room_id: str) -> Value | None:
    exact = patterns.get(room_id)
    if exact is not None or not patterns:
        return exact
    # longest prefix first: a room id has at most 128 characters [C17], a token may have hundreds of patterns
    for length in range(len(room_id), -1, -1):
        found = patterns.get(room_id[:length] + "*")
        if found is not None:
            return found
    return None


def room_type_of(room_id: str) -> RoomType | None:
    """Return the room type that a known prefix of the id implies, or None [C1]."""
    return next((room_type for prefix, room_type in _PREFIXES if room_id.startswith(prefix)), None)


def settled_type(room_id: str, claimed: RoomType | None, grant: Grant) -> RoomType | None:
    """Return a room's type: that of the authoriser, of a known prefix, or of the client [C1, C2]. Errors:
    ROOM_TYPE_MISMATCH when the client's type differs from the other."""
    implied = grant.room_type or room_type_of(room_id)
    if claimed is None:
        return implied
    if implied is not None and implied != claimed:
        raise PresenceError("ROOM_TYPE_MISMATCH", f"By its name this is a {implied} room.")
    return claimed
