"""Declares the survey requests that the operator port sends to all workers, and their answers [M10].

Every worker gets every request and answers for the rooms and users that it owns and the sessions that are connected to
it. The operator port merges the answers. The Structs whose names end in `Row`, and those of request bodies, are the
JSON of docs/server-api.md; between processes they are msgpack.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .models import Activity, RoomSettings, RoomType, Status, Wire
from .settings import SettingsChange

RoomIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A room's id.")]
UserIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A user's id, the `sub` of their tokens.")]
SessionIdText = Annotated[str, Meta(min_length=1, max_length=128, description="A session's id.")]
Transport = Annotated[Literal["http"], Meta(description="The session has no socket: it was made over HTTP [M2].")]
Count = Annotated[int, Meta(ge=0)]

SYSTEM = "system"  # the user id of server broadcasts; no token may have it [J4]


class SurveyRequest(Struct, kw_only=True, tag=True, tag_field="kind"):
    """Base of the survey requests."""


class ListRooms(SurveyRequest):
    """Requests up to `limit` rooms whose ids are greater than `after`, in the order of their ids."""

    after: str = ""
    limit: int = 100
    type: RoomType | None = None
    prefix: str = ""


class ShowRoom(SurveyRequest):
    room_id: str


class ShowUser(SurveyRequest):
    user_id: str


class Kick(SurveyRequest):
    """Kicks every session that matches all given fields; with `room_id` it is kicked from that room only."""

    user_id: str | None = None
    room_id: str | None = None
    session_id: str | None = None
    reason: str = ""


class Recheck(SurveyRequest):
    """Drops cached access decisions and checks access again for every matching session [A6, N12]."""

    user_id: str | None = None
    room_id: str | None = None


class SendBroadcast(SurveyRequest):
    """Sends a server broadcast to a room [J4]; `data` is a JSON object, `to` lists user ids, None means all."""

    room_id: str
    data: bytes
    to: list[str] | None = None


class ListLimited(SurveyRequest):
    """Requests the addresses of which something was refused in the last ten minutes [Q5]."""


class ChangeRoom(SurveyRequest):
    """Changes settings of a room [Q10]."""

    room_id: str
    change: SettingsChange


AnySurveyRequest = ListLimited | ListRooms | ShowRoom | ShowUser | Kick | Recheck | SendBroadcast | ChangeRoom


# --- answers ------------------------------------------------------------------------------------------------------


class RoomRow(Wire, omit_defaults=False, kw_only=True):
    """A room in the list. `userCount` and `sessionCount` are those that members see [C7]; invisible users and sessions
    are counted separately [K4]."""

    id: str
    type: RoomType
    user_count: Count
    session_count: Count
    invisible_user_count: Count
    invisible_session_count: Count
    controller: str | UnsetType = UNSET
    created_at: str


class MemberRow(Wire, omit_defaults=False, kw_only=True):
    """One session in a room. `invisible`: other members do not see it [K4]. `connected` is false while a lost session
    is held for the grace period [D2]."""

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
    presence_off: Annotated[
        bool,
        Meta(
            description="The user's presence is switched off: by the token, the answer to the access check, or "
            "`PATCH /api/users/{userId}`."
        ),
    ]
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
    """The playback state at `serverTime`, in ms since 1970."""

    is_playing: bool
    current_time: float
    playback_rate: float
    version: int
    server_time: int


class RoomDetail(RoomRow, omit_defaults=False, kw_only=True):
    """A room with all its members; invisible ones are flagged."""

    sync_enabled: bool
    seq: Annotated[int, Meta(description="Number of the room's last public event.")]
    advised_interval_ms: Annotated[
        int, Meta(description="The shortest interval, in ms, at which clients are asked to send.")
    ]
    playback: PlaybackNow | UnsetType = UNSET
    settings: RoomSettings | UnsetType = UNSET
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
    """A client address that has reached one of its limits on this machine."""

    address: Annotated[str, Meta(description="An IPv4 address, or the /64 of an IPv6 address.")]
    limit: Literal["connections", "unauthenticated", "requests", "questions"]
    refused: Annotated[
        int, Meta(ge=1, description="Number of refusals; reset after ten minutes in which nothing was refused.")
    ]
    last_at: Annotated[str, Meta(description="Time of the last refusal.")]


class LimitedFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    limited: list[LimitedRow]


class RoomsFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    """`more`: rooms with greater ids follow."""

    rooms: list[RoomRow]
    more: bool = False


class RoomFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    room: RoomDetail


class UserFound(Struct, kw_only=True, tag=True, tag_field="kind"):
    user: UserRow


class Kicked(Struct, kw_only=True, tag=True, tag_field="kind"):
    sessions: int


class Rechecked(Struct, kw_only=True, tag=True, tag_field="kind"):
    """`undecided`: checks that the authoriser has not answered yet; a session that is refused later is kicked then."""

    checked: int
    refused: int
    undecided: int


class BroadcastSent(Struct, kw_only=True, tag=True, tag_field="kind"):
    """The number of visible sessions to which the broadcast was sent [M5]."""

    delivered: int


class RoomChanged(Struct, kw_only=True, tag=True, tag_field="kind"):
    """The room's settings after the change."""

    settings: RoomSettings


class ChangeRefused(Struct, kw_only=True, tag=True, tag_field="kind"):
    """The room's settings were not changed: they would be too large."""

    code: str
    message: str


class NotHere(Struct, kw_only=True, tag=True, tag_field="kind"):
    """This worker has no such room or user. `moving`: a view change is running, so another worker may be about to
    take it over."""

    moving: bool = False


AnyAnswer = (
    LimitedFound
    | RoomsFound
    | RoomFound
    | UserFound
    | Kicked
    | Rechecked
    | BroadcastSent
    | RoomChanged
    | ChangeRefused
    | NotHere
)


class Answers(Struct, kw_only=True):
    """The workers' answers, and the slots of the workers that did not answer in time."""

    found: list[Any]
    missing: list[int]


_encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(AnySurveyRequest).decode
decode_answer = msgspec.msgpack.Decoder(AnyAnswer).decode


def encode(message: AnySurveyRequest | AnyAnswer) -> bytes:
    """Encode a survey request or an answer for transport between processes."""
    return _encode(message)
