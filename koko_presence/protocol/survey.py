"""What the operator port asks the workers, and what they answer [M10].

Every worker gets every inquiry and answers for what is its own: rooms and users it owns, sessions that are connected to
it. The operator port puts the answers together. Structs that end in Row, and those the API takes, are JSON of
docs/server-api.md as they stand; between processes they travel as msgpack.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .messages import Activity, RoomType, Status, Wire

RoomIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A room's id.")]
UserIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A user's id, the `sub` of their tokens.")]
SessionIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A session's id.")]
Transport = Annotated[Literal["http"], Meta(description="The session has no socket: it was made over HTTP [M2].")]
Count = Annotated[int, Meta(ge=0)]

SYSTEM = "system"  # the sender of the server's own broadcasts; no token may name it [J4]


class Inquiry(Struct, kw_only=True, tag=True, tag_field="kind"):
    """Base of the questions."""


class ListRooms(Inquiry):
    """Up to `limit` rooms whose ids come after `after`, by id."""

    after: str = ""
    limit: int = 100
    type: RoomType | None = None
    prefix: str = ""


class ShowRoom(Inquiry):
    room_id: str


class ShowUser(Inquiry):
    user_id: str


class Kick(Inquiry):
    """Throw out every session that fits all that is named; out of the room alone when `room_id` is."""

    user_id: str | None = None
    room_id: str | None = None
    session_id: str | None = None
    reason: str = ""


class Recheck(Inquiry):
    """Forget what was answered about access, and ask again for every session that fits [A6, N12]."""

    user_id: str | None = None
    room_id: str | None = None


class Say(Inquiry):
    """A broadcast of the server's own to a room [J4]; `data` is a JSON object."""

    room_id: str
    data: bytes
    to: list[str] | None = None


class ListLimited(Inquiry):
    """Addresses that were refused something in the last ten minutes [Q5]."""


AnyInquiry = ListLimited | ListRooms | ShowRoom | ShowUser | Kick | Recheck | Say


# --- what is answered ---------------------------------------------------------------------------------------------


class RoomRow(Wire, omit_defaults=False, kw_only=True):
    """A room in the list. `userCount` and `sessionCount` are what members see [C7]; the invisible are apart [K4]."""

    id: str
    type: RoomType
    user_count: Count
    session_count: Count
    invisible_user_count: Count
    invisible_session_count: Count
    controller: str | UnsetType = UNSET
    created_at: str


class MemberRow(Wire, omit_defaults=False, kw_only=True):
    """One session in a room. `invisible`: others do not know of it [K4]. `connected` is false while a lost session's
    place is held for the grace [D2]."""

    user_id: str
    session_id: str
    name: str
    image: str | UnsetType = UNSET
    color: str
    status: Status
    status_message: str | UnsetType = UNSET
    activity: Activity
    connected: bool
    invisible: bool
    presence_off: Annotated[bool, Meta(description="The user's token says `presence: false`.")]
    share_cursor: bool
    share_selection: bool
    can_control: bool
    can_broadcast: bool
    moderator: bool
    is_controller: bool
    is_typing: bool
    is_watching: bool
    transport: Transport | UnsetType = UNSET
    joined_at: str
    last_active_at: str


class PlaybackNow(Wire, kw_only=True, omit_defaults=False):
    """Playback as of `serverTime`, ms since 1970."""

    is_playing: bool
    current_time: float
    playback_rate: float
    version: int
    server_time: int


class RoomDetail(RoomRow, omit_defaults=False, kw_only=True):
    """A room with all its members, the invisible ones flagged."""

    sync_enabled: bool
    seq: Annotated[int, Meta(description="Number of the room's last public event.")]
    advised_interval_ms: Annotated[int, Meta(description="How often clients are asked to send at most.")]
    playback: PlaybackNow | UnsetType = UNSET
    members: list[MemberRow]


class SessionRow(Wire, omit_defaults=False, kw_only=True):
    """One session of a user, wherever it is connected."""

    session_id: str
    connected: bool
    activity: Activity
    invisible: bool
    presence_off: bool
    share_cursor: bool
    share_selection: bool
    transport: Transport | UnsetType = UNSET
    rooms: list[str]


class UserRow(Wire, omit_defaults=False, kw_only=True):
    """A user with all sessions."""

    user_id: str
    status: Status
    status_message: str
    activity: Activity
    sessions: list[SessionRow]


class LimitedRow(Wire, omit_defaults=False, kw_only=True):
    """An address that had as much of something as one may have on this machine."""

    address: Annotated[str, Meta(description="An IPv4 address, or the /64 of an IPv6 address.")]
    limit: Literal["connections", "unauthenticated", "requests", "questions"]
    refused: Annotated[int, Meta(ge=1, description="How often, until ten minutes pass in which nothing was refused.")]
    last_at: Annotated[str, Meta(description="When last.")]


class LimitedFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    limited: list[LimitedRow]


class RoomsFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    """`more`: there are rooms behind these."""

    rooms: list[RoomRow]
    more: bool = False


class RoomFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    room: RoomDetail


class UserFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    user: UserRow


class Kicked(Struct, kw_only=True, tag=True, tag_field="kind"):
    sessions: int


class Rechecked(Struct, kw_only=True, tag=True, tag_field="kind"):
    """`undecided`: whoever says who may enter has not answered yet; the refused are thrown out when it does."""

    checked: int
    refused: int
    undecided: int


class Said(Struct, kw_only=True, tag=True, tag_field="kind"):
    """To how many visible sessions it went [M5]."""

    delivered: int


class NotHere(Struct, kw_only=True, tag=True, tag_field="kind"):
    """This worker knows of no such room or user. `moving`: it may just be on its way from one worker to another."""

    moving: bool = False


AnyAnswer = LimitedFound | RoomsFound | RoomFound | UserFound | Kicked | Rechecked | Said | NotHere


class Answers(Struct, kw_only=True):
    """What the workers said, and the slots of those who did not answer in time."""

    found: list[Any]
    missing: list[int]


_encode = msgspec.msgpack.Encoder().encode
decode_inquiry = msgspec.msgpack.Decoder(AnyInquiry).decode
decode_answer = msgspec.msgpack.Decoder(AnyAnswer).decode


def encode(message: AnyInquiry | AnyAnswer) -> bytes:
    """An inquiry or an answer as it travels between processes."""
    return _encode(message)
