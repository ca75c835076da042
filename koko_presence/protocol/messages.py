"""Declares every message that clients send, one Struct each; `codec` decodes them, `events` has what the server sends.

Field names are camelCase on the wire and snake_case in Python. Unknown fields are ignored; an absent optional field is
`UNSET` and stays absent when encoded [C15]. Each message names its section of the specification or its decision.
"""

from typing import Annotated, Any, Literal, TypeGuard

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .delivery import Delivery

RoomType = Literal["project", "video", "comment_thread", "comparison"]
Status = Literal["active", "idle", "away", "busy", "reviewing"]
Activity = Literal["active", "idle", "away"]
PlaybackAction = Literal["sync", "play", "pause", "seek", "rate", "report", "resync", "enable", "disable"]

# Eleven days of video. A finite position is not enough: 1e308 seconds times a rate of 16 is infinite [B14].
MAX_MEDIA_TIME_S = 1e6

MediaTime = Annotated[float, Meta(ge=0.0, le=MAX_MEDIA_TIME_S)]
Normalised = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(ge=0.0625, le=16.0)]
ServerMs = Annotated[float, Meta(ge=0.0, le=1e15)]
RoomId = Annotated[str, Meta(min_length=1, max_length=128)]
UserId = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(max_length=64)]
MessageId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]


# --- parts --------------------------------------------------------------------------------------------------------


class Wire(Struct, rename="camel", omit_defaults=True):
    """Base of every message and model of the client protocol."""


class Cursor(Wire, kw_only=True):
    """A cursor: second `timestamp` of the video, and normalised `x` and `y`, both or neither [E4, E5, E7]."""

    timestamp: MediaTime | UnsetType = UNSET
    x: Normalised | UnsetType = UNSET
    y: Normalised | UnsetType = UNSET
    target: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.x is UNSET) != (self.y is UNSET):
            raise ValueError("x and y belong together: send both or neither")

    @property
    def hidden(self) -> bool:
        """`data: {}` hides the cursor, as `data: null` does [E3]."""
        return self.timestamp is UNSET and self.x is UNSET


def is_plain(cursor: Cursor | None) -> TypeGuard[Cursor]:
    """Return True for a cursor that has a point or a second of the video, and no `target`."""
    return cursor is not None and cursor.target is UNSET and not cursor.hidden


class Selection(Wire, kw_only=True):
    """A range of the timeline in seconds of the video; equal ends are allowed [F1]."""

    start_time: MediaTime
    end_time: MediaTime
    target: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.end_time < self.start_time:
            raise ValueError("startTime must not be after endTime")


class Privacy(Wire, kw_only=True):
    """What other users may see of this session, or of all sessions of the user [K1, K6]; an `UNSET` field changes
    nothing."""

    invisible: bool | UnsetType = UNSET
    share_cursor: bool | UnsetType = UNSET
    share_selection: bool | UnsetType = UNSET
    scope: Literal["session", "user"] = "session"


def _agreed(name: str, top: Any, under_data: Any) -> Any:
    """Return a field that may be at the top level or under `data`. Errors: ValueError when both values are present and
    differ [B3]."""
    if top is not UNSET and under_data is not UNSET and top != under_data:
        raise ValueError(f"{name} stands twice with different values")
    return under_data if top is UNSET else top


# --- client to server ---------------------------------------------------------------------------------------------


class ClientMessage(Wire, tag_field="type", kw_only=True):
    """Base of the messages of clients; `id` is repeated in the reply, the error or the `ack` [B8]."""

    id: MessageId | None = None


class Auth(ClientMessage, tag="auth", kw_only=True):
    token: Annotated[str, Meta(max_length=8192)] | UnsetType = UNSET
    resume_token: Annotated[str, Meta(max_length=6144)] | None = None
    caps: Annotated[list[Label], Meta(max_length=16)] = []
    privacy: Privacy | None = None


class JoinData(Wire, kw_only=True):
    room_type: RoomType | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET


class Join(ClientMessage, tag="join", kw_only=True):
    room_id: RoomId
    room_type: RoomType | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET
    data: JoinData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:  # the same fields under `data` are accepted too [B3]
            self.room_type = _agreed("roomType", self.room_type, self.data.room_type)
            self.privacy = _agreed("privacy", self.privacy, self.data.privacy)


class Leave(ClientMessage, tag="leave", kw_only=True):
    room_id: RoomId


class GetActive(ClientMessage, tag="get_active", kw_only=True):
    room_id: RoomId
    room_type: RoomType | UnsetType = UNSET
    data: JoinData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            self.room_type = _agreed("roomType", self.room_type, self.data.room_type)


class HeartbeatData(Wire, kw_only=True):
    status: Activity | UnsetType = UNSET
    client_time: float | UnsetType = UNSET


class Heartbeat(ClientMessage, tag="heartbeat", kw_only=True):
    status: Activity | UnsetType = UNSET
    client_time: float | UnsetType = UNSET
    data: HeartbeatData | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            self.status = _agreed("status", self.status, self.data.status)
            self.client_time = _agreed("clientTime", self.client_time, self.data.client_time)


class CursorMessage(ClientMessage, tag="cursor", kw_only=True):
    delivery = Delivery.AT_MOST_ONCE  # a cursor is followed by the next one

    room_id: RoomId
    data: Cursor | None


class SelectionMessage(ClientMessage, tag="selection", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId
    data: Selection | None


class StatusData(Wire, kw_only=True):
    status: Status
    status_message: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        # the specification's zod max(100) counts UTF-16 units [B15]
        if self.status_message is not UNSET and len(self.status_message.encode("utf-16-le")) > 200:
            raise ValueError("statusMessage may have at most 100 characters (UTF-16 units)")


class SetStatus(ClientMessage, tag="status", kw_only=True):
    data: StatusData


class SetStatusAlias(SetStatus, tag="set_status", kw_only=True):
    """`SetStatus` under the procedure's name, which is accepted as well [B2]."""


class TypingData(Wire, kw_only=True):
    is_typing: bool
    context: Label | UnsetType = UNSET


class Typing(ClientMessage, tag="typing", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId
    data: TypingData


class PlaybackData(Wire, kw_only=True):
    """One playback command or report. H3 defines the fields that each action needs; `at` is server time in ms [H4]."""

    action: PlaybackAction
    is_playing: bool | UnsetType = UNSET
    current_time: MediaTime | UnsetType = UNSET
    playback_rate: Rate | UnsetType = UNSET
    at: ServerMs | UnsetType = UNSET
    base_version: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET
    duration: Annotated[float, Meta(gt=0.0, le=MAX_MEDIA_TIME_S)] | UnsetType = UNSET
    buffering: bool = False
    follow: bool = True
    target: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in _REQUIRED[self.action]:
            if getattr(self, name) is UNSET:
                raise ValueError(f"action '{self.action}' needs {_CAMEL[name]}")


_ALL_THREE = ("is_playing", "current_time", "playback_rate")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "sync": _ALL_THREE,
    "report": _ALL_THREE,
    "seek": ("current_time",),
    "rate": ("playback_rate",),
    "play": (),
    "pause": (),
    "resync": (),
    "enable": (),
    "disable": (),
}
_CAMEL = {"is_playing": "isPlaying", "current_time": "currentTime", "playback_rate": "playbackRate"}


class PlaybackMessage(ClientMessage, tag="playback", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId
    data: PlaybackData


class ToUser(Wire, kw_only=True):
    to_user_id: UserId


class ControlRequest(ClientMessage, tag="control_request", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId


class ControlGrant(ClientMessage, tag="control_grant", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId
    data: ToUser


class ControlDeny(ClientMessage, tag="control_deny", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId
    data: ToUser


class ControlRelease(ClientMessage, tag="control_release", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId


class ControlCancel(ClientMessage, tag="control_cancel", kw_only=True):
    delivery = Delivery.BUS_REPEATS

    room_id: RoomId


class Broadcast(ClientMessage, tag="broadcast", kw_only=True):
    """`data` is the application's object, relayed unchanged; `to` lists at most 20 users [J1, J3]."""

    delivery = Delivery.AT_MOST_ONCE  # [J2]

    room_id: RoomId
    data: Raw
    to: Annotated[list[UserId], Meta(max_length=20)] | None = None


class SetPrivacy(ClientMessage, tag="privacy", kw_only=True):
    data: Privacy


AnyClientMessage = (
    Auth
    | Join
    | Leave
    | GetActive
    | Heartbeat
    | CursorMessage
    | SelectionMessage
    | SetStatus
    | SetStatusAlias
    | Typing
    | PlaybackMessage
    | ControlRequest
    | ControlGrant
    | ControlDeny
    | ControlRelease
    | ControlCancel
    | Broadcast
    | SetPrivacy
)
RoomMessage = (
    CursorMessage
    | SelectionMessage
    | Typing
    | PlaybackMessage
    | ControlRequest
    | ControlGrant
    | ControlDeny
    | ControlRelease
    | ControlCancel
    | Broadcast
)
CLIENT_TYPES: frozenset[str] = frozenset(str(cls.__struct_config__.tag) for cls in AnyClientMessage.__args__)
