"""Every message on the wire, one Struct each; `decode` for what clients send, `encode` for what the server sends.

Field names on the wire are camelCase, in Python snake_case. Unknown fields are ignored, an absent optional field is
UNSET and stays absent when encoded [C15]. The section of the specification or the decision stands beside each message.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .errors import PresenceError

RoomType = Literal["project", "video", "comment_thread", "comparison"]
Status = Literal["active", "idle", "away", "busy", "reviewing"]
Activity = Literal["active", "idle", "away"]
PlaybackAction = Literal["sync", "play", "pause", "seek", "rate", "report", "resync", "enable", "disable"]

# Eleven days of video. Finite is not enough: 1e308 seconds times a rate of 16 is infinity again [B14].
MAX_MEDIA_TIME_S = 1e6

MediaTime = Annotated[float, Meta(ge=0.0, le=MAX_MEDIA_TIME_S)]
Normalised = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(ge=0.0625, le=16.0)]
ServerMs = Annotated[float, Meta(ge=0.0, le=1e15)]
RoomId = Annotated[str, Meta(min_length=1, max_length=128)]
UserId = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(max_length=64)]
MessageId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]


class BadMessage(PresenceError):
    """A message that cannot be accepted, with as much of its address as could be read [B8, L6]."""

    def __init__(self, code: str, message: str = "", *, id: Any = None, room_id: str | None = None, type: str = "?"):
        super().__init__(code, message)
        self.id, self.room_id, self.type = id, room_id, type


# --- parts --------------------------------------------------------------------------------------------------------


class Wire(Struct, rename="camel", omit_defaults=True):
    """Base of everything on the wire."""


class Cursor(Wire, kw_only=True):
    """Where someone points: video second `timestamp`, normalised `x`, `y`, both or neither [E4, E5, E7]."""

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


class Selection(Wire, kw_only=True):
    """A stretch of the timeline in video seconds; equal ends are allowed [F1]."""

    start_time: MediaTime
    end_time: MediaTime
    target: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.end_time < self.start_time:
            raise ValueError("startTime must not be after endTime")


class Privacy(Wire, kw_only=True):
    """What others may see of this session, or of all sessions of the user [K1, K6]."""

    invisible: bool | UnsetType = UNSET
    share_cursor: bool | UnsetType = UNSET
    share_selection: bool | UnsetType = UNSET
    scope: Literal["session", "user"] = "session"


# --- client to server ---------------------------------------------------------------------------------------------


class ClientMessage(Wire, tag_field="type", kw_only=True):
    """Base of what a client sends; `id` is echoed in the reply, the error or the `ack` [B8]."""

    id: MessageId | None = None


class Auth(ClientMessage, tag="auth", kw_only=True):
    token: Annotated[str, Meta(max_length=8192)]
    resume_token: Annotated[str, Meta(max_length=512)] | None = None
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
    room_id: RoomId
    data: Cursor | None


class SelectionMessage(ClientMessage, tag="selection", kw_only=True):
    room_id: RoomId
    data: Selection | None


class StatusData(Wire, kw_only=True):
    status: Status
    status_message: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        # zod's max(100) counts UTF-16 units, so both ends agree only if we do [B15]
        if self.status_message is not UNSET and len(self.status_message.encode("utf-16-le")) > 200:
            raise ValueError("statusMessage may have at most 100 characters (UTF-16 units)")


class SetStatus(ClientMessage, tag="status", kw_only=True):
    data: StatusData


class SetStatusAlias(SetStatus, tag="set_status", kw_only=True):
    """The name of the endpoint is accepted as well [B2]."""


class TypingData(Wire, kw_only=True):
    is_typing: bool
    context: Label | UnsetType = UNSET


class Typing(ClientMessage, tag="typing", kw_only=True):
    room_id: RoomId
    data: TypingData


class PlaybackData(Wire, kw_only=True):
    """One playback command or report; which fields an action needs is in H3, `at` is server ms [H4]."""

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
    room_id: RoomId
    data: PlaybackData


class ToUser(Wire, kw_only=True):
    to_user_id: UserId


class ControlRequest(ClientMessage, tag="control_request", kw_only=True):
    room_id: RoomId


class ControlGrant(ClientMessage, tag="control_grant", kw_only=True):
    room_id: RoomId
    data: ToUser


class ControlDeny(ClientMessage, tag="control_deny", kw_only=True):
    room_id: RoomId
    data: ToUser


class ControlRelease(ClientMessage, tag="control_release", kw_only=True):
    room_id: RoomId


class ControlCancel(ClientMessage, tag="control_cancel", kw_only=True):
    room_id: RoomId


class Broadcast(ClientMessage, tag="broadcast", kw_only=True):
    """`data` is the application's own object, carried unchanged; `to` names at most 20 users [J1, J3]."""

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

_client_decoder: msgspec.json.Decoder[AnyClientMessage] = msgspec.json.Decoder(AnyClientMessage)
_any_decoder = msgspec.json.Decoder()


def decode(data: bytes) -> AnyClientMessage:
    """One client message from a whole, valid UTF-8 text message. Errors: BadMessage with a code of L6."""
    try:
        return _client_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(data, error) from None


def _explained(data: bytes, error: Exception) -> BadMessage:
    """What is wrong with a message that the typed decoder refused; the slow path, taken for bad messages only."""
    if isinstance(error, RecursionError):
        return BadMessage("INVALID_JSON", "The message is nested too deeply.")
    if not isinstance(error, msgspec.ValidationError):
        return BadMessage("INVALID_JSON", f"The message is not valid JSON: {error}.")
    try:
        message = _any_decoder.decode(data)
    except msgspec.ValidationError:
        message = _address_only(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        return BadMessage("INVALID_JSON", f"The message is not valid JSON: {worse}.")
    if not isinstance(message, dict):
        return BadMessage("INVALID_MESSAGE", "A message is a JSON object with a type.")
    type_, room_id, id_ = message.get("type"), message.get("roomId"), message.get("id")
    address: dict[str, Any] = {
        "id": id_ if _is_message_id(id_) else None,
        "room_id": room_id if isinstance(room_id, str) and 0 < len(room_id) <= 128 else None,
    }
    if not isinstance(type_, str):
        return BadMessage("INVALID_MESSAGE", 'A message needs a type, as in {"type":"heartbeat"}.', **address)
    if type_ not in CLIENT_TYPES:
        return BadMessage("UNKNOWN_TYPE", f"There is no message of type {type_[:64]!r}.", **address)
    address["type"] = type_
    text = str(error)
    if "`$.data" in text or "field `data`" in text:
        return BadMessage("INVALID_DATA", f"{text}.", **address)
    return BadMessage("INVALID_MESSAGE", f"{text}.", **address)


class _Address(Struct):
    """What is left to read of a message in which some number is out of range for any decoder."""

    type: Raw = Raw(b"null")
    id: Raw = Raw(b"null")
    roomId: Raw = Raw(b"null")


def _address_only(data: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(data, type=_Address)
    values = {}
    for name in ("type", "id", "roomId"):
        try:
            values[name] = _any_decoder.decode(getattr(found, name))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            values[name] = None
    return values


def _is_message_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 64
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


def _agreed(name: str, top: Any, under_data: Any) -> Any:
    """One field that may stand at the top or under `data`; both and different is an error [B3]."""
    if top is not UNSET and under_data is not UNSET and top != under_data:
        raise ValueError(f"{name} stands twice with different values")
    return under_data if top is UNSET else top


MAX_DATA_DEPTH = 8
_POISONED_KEYS = frozenset(("__proto__", "constructor", "prototype"))


def check_free_data(data: Raw) -> None:
    """A broadcast's data: a JSON object, finite, not deep, with no key that poisons a JavaScript prototype.

    Raw does not look inside: an escaped lone surrogate, 1e400 or `__proto__` would travel on to every member [B14, J1].
    Errors: PresenceError INVALID_DATA.
    """
    try:
        value = _any_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PresenceError("INVALID_DATA", f"data cannot be relayed: {error}.") from None
    if not isinstance(value, dict):
        raise PresenceError("INVALID_DATA", "A broadcast's data is a JSON object.")
    level: list[Any] = [value]
    for _ in range(MAX_DATA_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise PresenceError("INVALID_DATA", f"data is nested deeper than {MAX_DATA_DEPTH} levels.")


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        if not _POISONED_KEYS.isdisjoint(item):
            raise PresenceError("INVALID_DATA", "data holds a key that JavaScript treats specially.")
        return [value for value in item.values() if isinstance(value, (dict, list))]
    return [value for value in item if isinstance(value, (dict, list))]
