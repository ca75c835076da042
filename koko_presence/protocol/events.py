"""Declares what the server sends to clients: the events of the specification, the replies of B7, and their models.

Each Struct is one message or model of docs/protocol.md. `encode` makes the JSON once; after that only bytes are passed
on.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .errors import PresenceError
from .messages import Activity, Cursor, MessageId, RoomType, Selection, Status, Wire

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


# --- models [Data Models, section O] ------------------------------------------------------------------------------


class ViewerState(Wire, kw_only=True):
    """The state of a viewer's player as last reported [H6]; `current_time` in seconds of the video."""

    is_playing: bool
    current_time: float
    playback_rate: float


class PlaybackRow(Wire, kw_only=True):
    """The room's playback: position `current_time` in seconds at server time `anchor` in ms [H4, H5]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    version: int
    duration: float | UnsetType = UNSET
    target: str | UnsetType = UNSET


class SyncRow(Wire, kw_only=True):
    state: str
    drift_ms: int


class PresenceUser(Wire, kw_only=True):
    """One session of a user as other members see it [PresenceUser, C7]."""

    user_id: str
    session_id: str
    name: str
    image: str | UnsetType = UNSET
    color: str
    status: Status
    status_message: str | UnsetType = UNSET
    activity: Activity
    connected: bool
    last_active_at: str
    room_id: str
    room_type: RoomType
    index: int | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    selection: Selection | UnsetType = UNSET
    is_typing: bool
    typing_context: str | UnsetType = UNSET
    is_watching: bool
    playback_state: ViewerState | UnsetType = UNSET
    viewer_sync: SyncRow | UnsetType = UNSET
    transport: Literal["http"] | UnsetType = UNSET  # an HTTP session [M2]; absent for a session with a socket


class ControlRequestRow(Wire, kw_only=True):
    user_id: str
    requester_name: str
    requested_at: str


class PresenceRoom(Wire, kw_only=True):
    """A room as its members see it [PresenceRoom, C7, I5]."""

    id: str
    type: RoomType
    users: list[PresenceUser] | Raw
    user_count: int
    session_count: int
    sync_enabled: bool
    controller: str | UnsetType = UNSET
    controller_session_id: str | UnsetType = UNSET
    control_requests: list[ControlRequestRow]
    playback: PlaybackRow | UnsetType = UNSET
    created_at: str


# --- events -------------------------------------------------------------------------------------------------------


class Event(Wire, kw_only=True):
    """The envelope of every event [PresenceEvent, B4, B5]; `seq` counts the room's public events [B11]."""

    type: str
    room_id: str
    user_id: str
    session_id: str
    data: Any = UNSET
    timestamp: str
    seq: int | UnsetType = UNSET


class Joined(Wire, kw_only=True):
    """The data of `user_joined`; `index` is the member's number in compact cursors."""

    name: str
    image: str | UnsetType = UNSET
    color: str
    session_count: int
    status: Status
    activity: Activity
    status_message: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    transport: Literal["http"] | UnsetType = UNSET


class CursorShown(Wire, kw_only=True):
    timestamp: float | UnsetType = UNSET
    x: float | UnsetType = UNSET
    y: float | UnsetType = UNSET
    color: str
    target: str | UnsetType = UNSET
    hidden: bool = False


class Cursors(Wire, tag_field="type", tag="cursors", kw_only=True):
    """Compact cursors [B12]: rows of [index, timestamp, x, y, target]. `_fastpath/fanout.pyx` writes the same bytes."""

    room_id: str
    timestamp: str
    data: list[list[Any]]


class SelectionShown(Wire, kw_only=True):
    start_time: float | UnsetType = UNSET
    end_time: float | UnsetType = UNSET
    color: str
    target: str | UnsetType = UNSET
    cleared: bool = False


class StatusShown(Wire, kw_only=True):
    """The data of `status_changed`: the first three fields are the user's, the last two the session's
    [D8, D10, D15]."""

    status: Status
    status_message: str | UnsetType = UNSET
    activity: Activity
    is_watching: bool
    connected: bool


class PlaybackSynced(Wire, kw_only=True):
    """The full playback state after a command [H3]; `current_time` in seconds is the position at `server_time` in
    ms."""

    is_playing: bool
    current_time: float
    playback_rate: float
    action: str
    version: int
    server_time: int
    sync_enabled: bool
    duration: float | UnsetType = UNSET
    target: str | UnsetType = UNSET


class ControlGranted(Wire, omit_defaults=False, kw_only=True):
    to_user_id: str
    to_user_name: str
    from_user_id: str | None
    controller_session_id: str
    version: int
    auto: bool = False


class ViewerSync(Wire, kw_only=True):
    state: str
    drift_ms: int
    synced: int
    total: int


# --- replies [B7, section O] --------------------------------------------------------------------------------------


class Authenticated(Wire, tag_field="type", tag="authenticated", kw_only=True):
    id: MessageId | None = None
    user_id: str
    session_id: str
    resume_token: str
    resumed: bool
    rooms: list[str]
    server_time: int
    heartbeat_interval: float
    limits: dict[str, Any]
    caps: list[str]


class JoinedReply(Wire, tag_field="type", tag="joined", kw_only=True):
    id: MessageId | None = None
    room_id: str
    room: PresenceRoom
    assigned_color: str
    session_id: str
    seq: int
    server_time: int
    send_interval_ms: int


class LeftReply(Wire, tag_field="type", tag="left", kw_only=True):
    id: MessageId | None = None
    room_id: str


class ActiveReply(Wire, tag_field="type", tag="active", kw_only=True):
    id: MessageId | None = None
    room_id: str
    users: list[PresenceUser] | Raw
    total_count: int
    session_count: int


class Pong(Wire, tag_field="type", tag="pong", kw_only=True):
    id: MessageId | None = None
    timestamp: str
    server_time: int
    echo: float | UnsetType = UNSET


class ErrorReply(Wire, tag_field="type", tag="error", kw_only=True):
    code: str
    message: str
    id: MessageId | None = None
    room_id: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    state: Any = UNSET


class AuthExpiring(Wire, tag_field="type", tag="auth_expiring", kw_only=True):
    expires_at: str


class Kicked(Wire, tag_field="type", tag="kicked", kw_only=True):
    room_id: str | UnsetType = UNSET
    reason: str


class ServerNotice(Wire, tag_field="type", tag="server_notice", kw_only=True):
    code: str
    message: str
    room_id: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    send_interval_ms: int | UnsetType = UNSET


def encode_ack(id_: MessageId | None, result: dict[str, Any]) -> bytes | None:
    """Encode `ack` with the result that M5 defines for the operation. Returns None when the client sent no `id`: it
    gets no acknowledgement then [B8]."""
    if id_ is None:
        return None
    return encode({"type": "ack", "id": id_, **result})


def error_reply(error: PresenceError, id_: MessageId | None = None, room_id: str | None = None) -> bytes:
    """Encode `error` as the error message of L6."""
    return encode(
        ErrorReply(
            code=error.code,
            message=error.message,
            id=id_,
            room_id=UNSET if room_id is None else room_id,
            retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
            state=UNSET if error.state is None else error.state,
        )
    )
