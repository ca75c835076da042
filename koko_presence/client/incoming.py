"""Declares the messages that the client receives: events of rooms, replies and notices; `read` decodes them.

Decoding is as tolerant as that of `models`: an event of unknown type becomes an `OtherEvent`. A test compares the names
with those of `koko_presence.protocol.events`.
"""

from typing import Any, TypeAlias

import msgspec
from msgspec import field

from .models import Cursor, Model, Selection, Snapshot, User


class Event(Model, tag_field="type", kw_only=True):
    """One event of a room [PresenceEvent, B4, B5]; `data` depends on the type."""

    room_id: str
    user_id: str
    session_id: str
    timestamp: str
    seq: int | None = None

    @property
    def type(self) -> str:
        """The name on the wire, for example `cursor_moved`."""
        return str(self.__struct_config__.tag)


class JoinedData(Model, kw_only=True):
    name: str
    image: str | None = None
    color: str
    session_count: int
    status: str
    activity: str
    transport: str | None = None
    status_message: str = ""
    index: int | None = None


class UserJoined(Event, tag="user_joined", kw_only=True):
    data: JoinedData


class LeftData(Model, kw_only=True):
    reason: str = "left"
    session_count: int = 0


class UserLeft(Event, tag="user_left", kw_only=True):
    """A session has left. `data.session_count` 0: it was the user's last session in the room [D1]."""

    data: LeftData


class CursorShown(Cursor, kw_only=True):
    color: str = ""
    hidden: bool = False


class CursorMoved(Event, tag="cursor_moved", kw_only=True):
    data: CursorShown


class SelectionShown(Selection, kw_only=True):
    color: str = ""
    cleared: bool = False


class SelectionChanged(Event, tag="selection_changed", kw_only=True):
    data: SelectionShown


class TypingData(Model, kw_only=True):
    context: str | None = None
    reason: str | None = None


class TypingStarted(Event, tag="typing_started", kw_only=True):
    data: TypingData


class TypingStopped(Event, tag="typing_stopped", kw_only=True):
    data: TypingData


class StatusData(Model, kw_only=True):
    """The first three fields are the user's, the last two the session's [D8, D10, D15]."""

    status: str
    status_message: str = ""
    activity: str
    is_watching: bool
    connected: bool


class StatusChanged(Event, tag="status_changed", kw_only=True):
    data: StatusData


class PlaybackData(Model, kw_only=True):
    is_playing: bool
    current_time: float
    playback_rate: float
    action: str
    version: int
    server_time: int
    sync_enabled: bool = True
    duration: float | None = None
    target: str | None = None


class PlaybackSynced(Event, tag="playback_synced", kw_only=True):
    data: PlaybackData


class RequestedData(Model, kw_only=True):
    requester_name: str


class ControlRequested(Event, tag="control_requested", kw_only=True):
    data: RequestedData


class GrantedData(Model, kw_only=True):
    to_user_id: str
    to_user_name: str
    from_user_id: str | None
    controller_session_id: str
    version: int
    auto: bool = False


class ControlGranted(Event, tag="control_granted", kw_only=True):
    data: GrantedData


class DeniedData(Model, kw_only=True):
    to_user_id: str
    reason: str = ""


class ControlDenied(Event, tag="control_denied", kw_only=True):
    data: DeniedData


class ReleasedData(Model, kw_only=True):
    reason: str = ""
    version: int = 0


class ControlReleased(Event, tag="control_released", kw_only=True):
    data: ReleasedData


class ViewerData(Model, kw_only=True):
    state: str
    drift_ms: int
    synced: int
    total: int


class ViewerSynced(Event, tag="viewer_sync", kw_only=True):
    data: ViewerData


class BroadcastSent(Event, tag="broadcast", kw_only=True):
    """`data` is the application's object [J1]."""

    data: Any


class OtherEvent(Model, kw_only=True):
    """An event of a type that this version does not support."""

    type: str
    room_id: str
    user_id: str = ""
    session_id: str = ""
    timestamp: str = ""
    seq: int | None = None
    data: Any = None


# --- replies and notices [B7, section O] ------------------------------------------------------------


class Reply(Model, tag_field="type", kw_only=True):
    id: str | int | None = None


class Authenticated(Reply, tag="authenticated", kw_only=True):
    user_id: str
    session_id: str
    resume_token: str
    resumed: bool = False
    rooms: list[str] = field(default_factory=list)
    server_time: float
    heartbeat_interval: float = 30.0
    limits: dict[str, Any] = field(default_factory=dict)
    caps: list[str] = field(default_factory=list)


class Joined(Reply, tag="joined", kw_only=True):
    room_id: str
    room: Snapshot
    assigned_color: str
    session_id: str
    seq: int = 0
    server_time: float
    send_interval_ms: int = 0


class Left(Reply, tag="left", kw_only=True):
    room_id: str


class Active(Reply, tag="active", kw_only=True):
    """The answer to `get_active`: one row per session; `total_count` counts distinct users [C7, C14]."""

    room_id: str
    users: list[User]
    total_count: int
    session_count: int


class Pong(Reply, tag="pong", kw_only=True):
    server_time: float
    echo: float | None = None


class Ack(Reply, tag="ack", kw_only=True):
    """The result of an operation is beside the id [M5]; it is decoded as a plain dict."""


class Refusal(Reply, tag="error", kw_only=True):
    code: str
    message: str
    room_id: str | None = None
    retry_after_ms: int | None = None
    state: Any = None


class AuthExpiring(Model, tag_field="type", tag="auth_expiring", kw_only=True):
    expires_at: str


class Kicked(Model, tag_field="type", tag="kicked", kw_only=True):
    reason: str = ""
    room_id: str | None = None


class Notice(Model, tag_field="type", tag="server_notice", kw_only=True):
    code: str
    message: str
    room_id: str | None = None
    retry_after_ms: int | None = None
    send_interval_ms: int | None = None


Message: TypeAlias = (
    UserJoined
    | UserLeft
    | CursorMoved
    | SelectionChanged
    | TypingStarted
    | TypingStopped
    | StatusChanged
    | PlaybackSynced
    | ControlRequested
    | ControlGranted
    | ControlDenied
    | ControlReleased
    | ViewerSynced
    | BroadcastSent
    | Authenticated
    | Joined
    | Left
    | Active
    | Pong
    | Ack
    | Refusal
    | AuthExpiring
    | Kicked
    | Notice
)
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_other: msgspec.json.Decoder[OtherEvent] = msgspec.json.Decoder(OtherEvent)


def read(data: bytes) -> Message | OtherEvent | None:
    """Decode one message of the server. Returns an `OtherEvent` for an event of unknown type or with unknown data, and
    None for anything else that is not a known message."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        try:
            return _other.decode(data)
        except msgspec.DecodeError:
            return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
