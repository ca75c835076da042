"""Declares what the server sends to clients: the events of the specification, and the replies and notices of B7.

Each event is declared once, as the Struct of its `data`: class attributes say its type and who receives it. The sets
of events and replies, their metric labels and the generated files (`make generate`) are made from these classes, in
their order. `encode` makes the JSON once; after that only bytes are passed on.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from .errors import PresenceError
from .models import (
    Activity,
    AutoGrantAway,
    ControlMode,
    MaxUsers,
    MediaByTarget,
    Medium,
    MessageId,
    PlaybackRow,
    PresenceRoom,
    PresenceUser,
    RefusedRoom,
    Rights,
    Status,
    SummaryUser,
    SyncState,
    Title,
    WaitForViewers,
    Wire,
    one_of,
)

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


LeaveReason = Annotated[str, one_of("left", "disconnected", "timeout", "kicked")]


# --- events -------------------------------------------------------------------------------------------------------


class Event(Wire, kw_only=True):
    """Fields of all events of a room. `timestamp` is ISO 8601; `seq` counts the room's public events
    [PresenceEvent, B4, B5, B11]."""

    type: str
    room_id: str
    user_id: str
    session_id: str
    data: Any = UNSET
    timestamp: str
    seq: int | UnsetType = UNSET


class EventData(Wire, kw_only=True):
    """Base of the data of events.

    `event` is the type of the event, `to_self` whether the session that caused it receives it too [B9]. `by_system`: no
    message of a client causes it. `is_free`: the data is an object of the application, and not this Struct.
    """

    event: ClassVar[str]
    to_self: ClassVar[bool] = False
    by_system: ClassVar[bool] = False
    is_free: ClassVar[bool] = False


class CursorShown(EventData, kw_only=True):
    """A session's cursor has moved; `hidden`: it was removed [E3]."""

    event = "cursor_moved"

    timestamp: float | UnsetType = UNSET
    x: float | UnsetType = UNSET
    y: float | UnsetType = UNSET
    color: str
    target: str | UnsetType = UNSET
    media_id: str | UnsetType = UNSET
    hidden: bool = False


class SelectionShown(EventData, kw_only=True):
    """A session's selection has changed; `cleared`: it was removed [F1]."""

    event = "selection_changed"

    start_time: float | UnsetType = UNSET
    end_time: float | UnsetType = UNSET
    color: str
    target: str | UnsetType = UNSET
    media_id: str | UnsetType = UNSET
    cleared: bool = False


class StatusShown(EventData, kw_only=True):
    """A status has changed: the first three fields are the user's, the last two the session's [D8, D10, D15]."""

    event = "status_changed"
    to_self = True

    status: Status
    status_message: str | UnsetType = UNSET
    activity: Activity
    is_watching: bool
    connected: bool


class Joined(EventData, kw_only=True):
    """A session has joined; `index` is its number in compact cursors."""

    event = "user_joined"

    name: str
    image: str | UnsetType = UNSET
    color: str
    session_count: int
    status: Status
    activity: Activity
    status_message: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    transport: Literal["http"] | UnsetType = UNSET
    presence: Annotated[
        dict[str, Any] | UnsetType, Meta(description="Its presence object; absent while it is empty.")
    ] = UNSET


class UserChanged(EventData, kw_only=True):
    """A user has another name or image, by a new token, in all sessions; without `image` the user has none [A5]."""

    event = "user_changed"
    to_self = True

    name: str
    image: str | UnsetType = UNSET


class UserLeft(EventData, kw_only=True):
    """A session has left. `session_count` 0: it was the user's last session in the room [D1]."""

    event = "user_left"

    reason: LeaveReason
    session_count: int


class TypingStarted(EventData, kw_only=True):
    """A session types, in the place that `context` names [G1]."""

    event = "typing_started"

    context: str | UnsetType = UNSET


class TypingStopped(EventData, kw_only=True):
    """A session types no more [G1, G4]."""

    event = "typing_stopped"

    context: str | UnsetType = UNSET
    reason: Annotated[str, one_of("stopped", "timeout", "changed", "disconnected")]


class PlaybackSynced(EventData, kw_only=True):
    """The full playback state after a command [H3]."""

    event = "playback_synced"
    to_self = True

    is_playing: bool
    current_time: float
    playback_rate: float
    action: str
    version: int
    server_time: Annotated[int, Meta(description="ms of the server at which `currentTime` was right.")]
    sync_enabled: bool
    duration: Annotated[float | UnsetType, Meta(description="The end of the room, in seconds.")] = UNSET
    target: str | UnsetType = UNSET
    frame: Annotated[
        int | UnsetType, Meta(description="The frame that is shown, from 0: in a pause, with a known frame rate.")
    ] = UNSET
    frame_target: Annotated[
        str | UnsetType, Meta(description="The target of `frame`, where the room has several media.")
    ] = UNSET
    ended: Annotated[bool, Meta(description="The room has stopped at its end.")] = False
    effective_at: Annotated[
        int | UnsetType,
        Meta(description="ms of the server at which playing starts; `currentTime` stands until then."),
    ] = UNSET
    waiting_for: Annotated[
        list[str] | UnsetType, Meta(description="User ids of the viewers for whom the room waits, the first ten.")
    ] = UNSET


class MediaChanged(EventData, kw_only=True):
    """A target of the room has another medium, or its description has changed; `playback` is the state after it
    [H18]."""

    event = "media_changed"
    to_self = True

    target: str
    medium: Annotated[Medium | None, Meta(description="null: the target was removed.")]
    playback: PlaybackRow


class ViewerSync(EventData, kw_only=True):
    """A viewer's state has changed; `synced` of the `total` users that follow are in step [H7]."""

    event = "viewer_sync"
    to_self = True

    state: SyncState
    drift_ms: Annotated[int, Meta(description="Reported minus room: behind is negative.")]
    drift_frames: Annotated[int | UnsetType, Meta(description="The same in frames, with a known frame rate.")] = UNSET
    synced: int
    total: int


class BroadcastSent(EventData, kw_only=True):
    """The application's object: treat it as text, never as HTML [J1].

    The data of the event is that object itself, a `Raw`, and not this Struct.
    """

    event = "broadcast"
    is_free = True


class PresenceChanged(EventData, kw_only=True):
    """Keys of a session's presence object have changed: `data` has their new values, null for a removed key [P2].

    The data of the event is a dict of these keys, and not this Struct.
    """

    event = "presence_changed"
    is_free = True


class ControlRequested(EventData, kw_only=True):
    """A user requests control [I5]."""

    event = "control_requested"
    to_self = True

    requester_name: str


class ControlGranted(EventData, kw_only=True):
    """A user has control now; `auto`: the room itself granted it [I1, I3, I6]."""

    event = "control_granted"
    to_self = True

    to_user_id: str
    to_user_name: str
    from_user_id: Annotated[str | None, Meta(description="null: no user had control, the server granted it.")]
    controller_session_id: str
    version: int
    auto: bool = False


class ControlDenied(EventData, kw_only=True):
    """A request for control has ended without a grant [I5]."""

    event = "control_denied"
    to_self = True

    to_user_id: str
    reason: Annotated[str, one_of("denied", "cancelled", "expired")]


class ControlReleased(EventData, kw_only=True):
    """No user has control now [I6]."""

    event = "control_released"
    to_self = True

    reason: str
    version: int


class RoomChanged(EventData, kw_only=True):
    """The back end has changed settings of the room: those that changed, null for one that has its default again
    [Q10]."""

    event = "room_changed"
    to_self = True
    by_system = True

    title: Title | UnsetType | None = UNSET
    control_mode: ControlMode | UnsetType | None = UNSET
    auto_grant_away: AutoGrantAway | UnsetType | None = UNSET
    wait_for_viewers: WaitForViewers | UnsetType | None = UNSET
    max_users: MaxUsers | UnsetType | None = UNSET
    media: MediaByTarget | UnsetType | None = UNSET


# --- replies and notices [B7, section O] --------------------------------------------------------------------------


class ServerMessage(Wire, tag_field="type", kw_only=True):
    """Base of what the server sends besides events.

    `subscribed`: subscriptions of `presence.onEvent` get it; what only answers a call is in the call's own answer [M6].
    """

    subscribed: ClassVar[bool] = False


class Pong(ServerMessage, tag="pong", kw_only=True):
    """The answer to `heartbeat`; `echo` is its `client_time` [D7]."""

    id: MessageId | None = None
    timestamp: str
    server_time: int
    echo: float | UnsetType = UNSET


class Ack(ServerMessage, tag="ack", kw_only=True):
    """A message with an `id` was done; the result that M5 defines for it is beside the id."""

    id: MessageId
    success: bool


class ErrorReply(ServerMessage, tag="error", kw_only=True):
    """A message was refused [L6]."""

    code: str
    message: str
    id: MessageId | None = None
    room_id: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    state: Any = UNSET


class Authenticated(ServerMessage, tag="authenticated", kw_only=True):
    """The answer to `auth`, and the first event of every subscription: the session of this socket."""

    subscribed = True

    id: MessageId | None = None
    user_id: str
    session_id: str
    resume_token: Annotated[str, Meta(description="Pass it in connectionParams to resume the session.")]
    resumed: bool
    rooms: list[str]
    server_time: int
    heartbeat_interval: Annotated[float, Meta(description="Seconds.")]
    limits: dict[str, Any]
    caps: list[str]


class JoinedReply(ServerMessage, tag="joined", kw_only=True):
    """This session has joined: `room` at `seq`, plus the events after it, is the complete state of the room."""

    subscribed = True

    id: MessageId | None = None
    room_id: str
    room: PresenceRoom
    assigned_color: str
    session_id: str
    rights: Rights
    seq: int
    server_time: int
    send_interval_ms: Annotated[int, Meta(description="Send cursors and selections no more often than this.")]


class LeftReply(ServerMessage, tag="left", kw_only=True):
    """This session has left the room."""

    subscribed = True

    id: MessageId | None = None
    room_id: str


class ActiveReply(ServerMessage, tag="active", kw_only=True):
    """The answer to `get_active`: one row per session; `total_count` counts distinct users [C7, C14]."""

    id: MessageId | None = None
    room_id: str
    users: list[PresenceUser] | Raw
    total_count: int
    session_count: int


class Watching(ServerMessage, tag="watching", kw_only=True):
    """The rooms that this session watches, all of them: the answer to `watch`, which names the refused rooms of its
    list, or without an `id` the news that access to some was withdrawn [Q12, N12]."""

    id: MessageId | None = None
    rooms: list[str]
    refused: list[RefusedRoom]


class RoomSummary(ServerMessage, tag="room_summary", kw_only=True):
    """The visible users of a watched room: their number, and the first three [Q12]."""

    room_id: str
    user_count: int
    users: list[SummaryUser]


class ServerNotice(ServerMessage, tag="server_notice", kw_only=True):
    """How the client should behave from now on, for example `SEND_INTERVAL` [L2, L3]."""

    subscribed = True

    code: str
    message: str
    room_id: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    send_interval_ms: int | UnsetType = UNSET


class AuthExpiring(ServerMessage, tag="auth_expiring", kw_only=True):
    """The token ends soon: send `auth` with a new one [A4]."""

    subscribed = True

    expires_at: str


class Kicked(ServerMessage, tag="kicked", kw_only=True):
    """This session was removed from the room; without a `room_id` it was removed from the server."""

    subscribed = True

    room_id: str | UnsetType = UNSET
    reason: str


class Cursors(ServerMessage, tag="cursors", kw_only=True):
    """Compact cursors [B12]: rows of [index, timestamp, x, y, target, mediaId]. `_fastpath/fanout.pyx` writes the same
    bytes."""

    room_id: str
    timestamp: str
    data: list[list[Any]]


# --- all of them, by type -----------------------------------------------------------------------------------------


def _events(names: Mapping[str, Any]) -> dict[str, type[EventData]]:
    """Return the events among the values of `names`, by type. Errors: ImportError that says what is wrong."""
    found: dict[str, type[EventData]] = {}
    for data in names.values():
        if not (isinstance(data, type) and issubclass(data, EventData)) or data is EventData:
            continue
        if "event" not in vars(data):
            raise ImportError(f"events.py: {data.__name__} does not say its event, as in  event = 'hand_raised'")
        if data.event in found:
            raise ImportError(f"events.py: {data.__name__} and {found[data.event].__name__} are both {data.event!r}")
        found[data.event] = data
    return found


EVENTS = _events(globals())
SERVER_MESSAGES: dict[str, type[ServerMessage]] = {
    str(each.__struct_config__.tag): each for each in ServerMessage.__subclasses__()
}


AnyData = EventData | Raw | dict[str, Raw | None]


def declared(data: AnyData) -> type[EventData]:
    """Return the event that has this data: a `Raw` is the object of a broadcast [J1], a dict has the changed keys of a
    presence object [P2]."""
    if isinstance(data, EventData):
        return type(data)
    return BroadcastSent if isinstance(data, Raw) else PresenceChanged


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
