"""Declares what the client receives, as it reads it. Written by `make generate` from `protocol`."""

from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from .model import Event, Model, PlaybackModel, Reply


class Cursor(Model, kw_only=True):
    """A cursor: second `timestamp` of the video, and normalised `x` and `y`, both or neither [E4, E5, E7]."""

    timestamp: float | None = None
    x: float | None = None
    y: float | None = None
    target: str | None = None
    media_id: str | None = None


class Selection(Model, kw_only=True):
    """A range of the timeline in seconds of the video; equal ends are allowed [F1]."""

    start_time: float = 0.0
    end_time: float = 0.0
    target: str | None = None
    media_id: str | None = None


class PlayerState(Model, kw_only=True):
    """The state of a viewer's player as last reported; `current_time` in seconds of the video [H6]."""

    is_playing: bool
    current_time: float
    playback_rate: float


class ViewerState(Model, kw_only=True):
    """A viewer's deviation from the room's playback [H7]."""

    state: str
    drift_ms: int
    drift_frames: int | None = None


class User(Model, kw_only=True):
    """One session (a tab, a device) of one user [PresenceUser, C7]."""

    user_id: str
    session_id: str
    name: str
    image: str | None = None
    color: str
    status: str
    status_message: str = ""
    activity: str
    connected: bool
    last_active_at: str
    room_id: str
    room_type: str
    index: int | None = None
    cursor: Cursor | None = None
    selection: Selection | None = None
    is_typing: bool
    typing_context: str | None = None
    is_watching: bool
    playback_state: PlayerState | None = None
    viewer_sync: ViewerState | None = None
    transport: str | None = None
    presence: dict[str, Any] | None = None


class Playback(PlaybackModel, kw_only=True):
    """The room's playback: `current_time` was right at `anchor`, in ms of the server [H4, H5]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    version: int
    duration: float | None = None
    target: str | None = None
    frame: int | None = None
    frame_target: str | None = None
    ended: bool = False


class ControlRequestRow(Model, kw_only=True):
    """A pending request for control [I5]."""

    user_id: str
    requester_name: str
    requested_at: str


class Medium(Model, kw_only=True):
    """The video of one target of a room: position in it = position of the room + `offset` [H17]."""

    media_id: str
    title: str | None = None
    duration: float | None = None
    frame_rate: float | str | None = None
    offset: float | None = None


class RoomSettings(Model, kw_only=True):
    """What the back end has set for one room. A key that is absent has its default, which `[rooms]` of the
    configuration holds [Q10]. Members see a default control mode other than `open` as if it were set."""

    title: str | None = None
    control_mode: str | None = None
    auto_grant_away: float | None = None
    wait_for_viewers: float | None = None
    max_users: int | None = None
    media: dict[str, Medium] | None = None


class Rights(Model, kw_only=True):
    """What a session may do in a room, by its token and the answer of the back end [A6]."""

    control: bool
    broadcast: bool
    moderate: bool


class Snapshot(Model, kw_only=True):
    """A room as its members see it [PresenceRoom, C7, I5]."""

    id: str
    type: str
    users: list[User]
    user_count: int
    session_count: int
    sync_enabled: bool
    controller: str | None = None
    controller_session_id: str | None = None
    control_requests: list[ControlRequestRow]
    playback: Playback | None = None
    media: dict[str, Medium] | None = None
    settings: RoomSettings | None = None
    created_at: str


class SummaryUser(Model, kw_only=True):
    """A user in the summary of a room; `color` is that of the user's first session there [Q12, L8]."""

    user_id: str
    name: str
    image: str | None = None
    color: str


class RefusedRoom(Model, kw_only=True):
    """A room whose summary is refused, and why [Q12]."""

    room_id: str
    code: str
    message: str
    retry_after_ms: int | None = None


class CursorMovedData(Cursor, kw_only=True):
    """A session's cursor has moved; `hidden`: it was removed [E3]."""

    color: str
    hidden: bool = False


class CursorMoved(Event, tag="cursor_moved", kw_only=True):
    data: CursorMovedData


class SelectionChangedData(Selection, kw_only=True):
    """A session's selection has changed; `cleared`: it was removed [F1]."""

    color: str
    cleared: bool = False


class SelectionChanged(Event, tag="selection_changed", kw_only=True):
    data: SelectionChangedData


class StatusChangedData(Model, kw_only=True):
    """A status has changed: the first three fields are the user's, the last two the session's [D8, D10, D15]."""

    status: str
    status_message: str = ""
    activity: str
    is_watching: bool
    connected: bool


class StatusChanged(Event, tag="status_changed", kw_only=True):
    data: StatusChangedData


class UserJoinedData(Model, kw_only=True):
    """A session has joined; `index` is its number in compact cursors."""

    name: str
    image: str | None = None
    color: str
    session_count: int
    status: str
    activity: str
    status_message: str = ""
    index: int | None = None
    transport: str | None = None
    presence: dict[str, Any] | None = None


class UserJoined(Event, tag="user_joined", kw_only=True):
    data: UserJoinedData


class UserChangedData(Model, kw_only=True):
    """A user has another name or image, by a new token, in all sessions; without `image` the user has none [A5]."""

    name: str
    image: str | None = None


class UserChanged(Event, tag="user_changed", kw_only=True):
    data: UserChangedData


class UserLeftData(Model, kw_only=True):
    """A session has left. `session_count` 0: it was the user's last session in the room [D1]."""

    reason: str
    session_count: int


class UserLeft(Event, tag="user_left", kw_only=True):
    data: UserLeftData


class TypingStartedData(Model, kw_only=True):
    """A session types, in the place that `context` names [G1]."""

    context: str | None = None


class TypingStarted(Event, tag="typing_started", kw_only=True):
    data: TypingStartedData


class TypingStoppedData(Model, kw_only=True):
    """A session types no more [G1, G4]."""

    context: str | None = None
    reason: str


class TypingStopped(Event, tag="typing_stopped", kw_only=True):
    data: TypingStoppedData


class PlaybackSyncedData(Model, kw_only=True):
    """The full playback state after a command [H3]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    action: str
    version: int
    server_time: int
    sync_enabled: bool
    duration: float | None = None
    target: str | None = None
    frame: int | None = None
    frame_target: str | None = None
    ended: bool = False
    effective_at: int | None = None
    waiting_for: list[str] | None = None


class PlaybackSynced(Event, tag="playback_synced", kw_only=True):
    data: PlaybackSyncedData


class MediaChangedData(Model, kw_only=True):
    """A target of the room has another medium, or its description has changed; `playback` is the state after it
    [H18]."""

    target: str
    medium: Medium | None
    playback: Playback


class MediaChanged(Event, tag="media_changed", kw_only=True):
    data: MediaChangedData


class ViewerSyncData(Model, kw_only=True):
    """A viewer's state has changed; `synced` of the `total` users that follow are in step [H7]."""

    state: str
    drift_ms: int
    drift_frames: int | None = None
    synced: int
    total: int


class ViewerSync(Event, tag="viewer_sync", kw_only=True):
    data: ViewerSyncData


class Broadcast(Event, tag="broadcast", kw_only=True):
    """The application's object: treat it as text, never as HTML [J1]."""

    data: Any


class PresenceChanged(Event, tag="presence_changed", kw_only=True):
    """Keys of a session's presence object have changed: `data` has their new values, null for a removed key [P2]."""

    data: dict[str, Any]


class ControlRequestedData(Model, kw_only=True):
    """A user requests control [I5]."""

    requester_name: str


class ControlRequested(Event, tag="control_requested", kw_only=True):
    data: ControlRequestedData


class ControlGrantedData(Model, kw_only=True):
    """A user has control now; `auto`: the room itself granted it [I1, I3, I6]."""

    to_user_id: str
    to_user_name: str
    from_user_id: str | None
    controller_session_id: str
    version: int
    auto: bool = False


class ControlGranted(Event, tag="control_granted", kw_only=True):
    data: ControlGrantedData


class ControlDeniedData(Model, kw_only=True):
    """A request for control has ended without a grant [I5]."""

    to_user_id: str
    reason: str


class ControlDenied(Event, tag="control_denied", kw_only=True):
    data: ControlDeniedData


class ControlReleasedData(Model, kw_only=True):
    """No user has control now [I6]."""

    reason: str
    version: int


class ControlReleased(Event, tag="control_released", kw_only=True):
    data: ControlReleasedData


class RoomChangedData(Model, kw_only=True):
    """The back end has changed settings of the room: those that changed, null for one that has its default again
    [Q10]."""

    title: str | UnsetType | None = UNSET
    control_mode: str | UnsetType | None = UNSET
    auto_grant_away: float | UnsetType | None = UNSET
    wait_for_viewers: float | UnsetType | None = UNSET
    max_users: int | UnsetType | None = UNSET
    media: dict[str, Medium] | UnsetType | None = UNSET


class RoomChanged(Event, tag="room_changed", kw_only=True):
    data: RoomChangedData


class Pong(Reply, tag="pong", kw_only=True):
    """The answer to `heartbeat`; `echo` is its `client_time` [D7]."""

    timestamp: str
    server_time: int
    echo: float | None = None


class Ack(Reply, tag="ack", kw_only=True):
    """A message with an `id` was done; the result that M5 defines for it is beside the id."""

    success: bool


class Refusal(Reply, tag="error", kw_only=True):
    """A message was refused [L6]."""

    code: str
    message: str
    room_id: str | None = None
    retry_after_ms: int | None = None
    state: Any = None


class Authenticated(Reply, tag="authenticated", kw_only=True):
    """The answer to `auth`, and the first event of every subscription: the session of this socket."""

    user_id: str
    session_id: str
    resume_token: str
    resumed: bool
    rooms: list[str]
    server_time: int
    heartbeat_interval: float
    limits: dict[str, Any]
    caps: list[str]


class Joined(Reply, tag="joined", kw_only=True):
    """This session has joined: `room` at `seq`, plus the events after it, is the complete state of the room."""

    room_id: str
    room: Snapshot
    assigned_color: str
    session_id: str
    rights: Rights
    seq: int
    server_time: int
    send_interval_ms: int


class Left(Reply, tag="left", kw_only=True):
    """This session has left the room."""

    room_id: str


class Active(Reply, tag="active", kw_only=True):
    """The answer to `get_active`: one row per session; `total_count` counts distinct users [C7, C14]."""

    room_id: str
    users: list[User]
    total_count: int
    session_count: int


class Watching(Reply, tag="watching", kw_only=True):
    """The rooms that this session watches, all of them: the answer to `watch`, which names the refused rooms of its
    list, or without an `id` the news that access to some was withdrawn [Q12, N12]."""

    rooms: list[str]
    refused: list[RefusedRoom]


class RoomSummary(Model, tag_field="type", tag="room_summary", kw_only=True):
    """The visible users of a watched room: their number, and the first three [Q12]."""

    room_id: str
    user_count: int
    users: list[SummaryUser]


class Notice(Model, tag_field="type", tag="server_notice", kw_only=True):
    """How the client should behave from now on, for example `SEND_INTERVAL` [L2, L3]."""

    code: str
    message: str
    room_id: str | None = None
    retry_after_ms: int | None = None
    send_interval_ms: int | None = None


class AuthExpiring(Model, tag_field="type", tag="auth_expiring", kw_only=True):
    """The token ends soon: send `auth` with a new one [A4]."""

    expires_at: str


class Kicked(Model, tag_field="type", tag="kicked", kw_only=True):
    """This session was removed from the room; without a `room_id` it was removed from the server."""

    room_id: str | None = None
    reason: str


Message: TypeAlias = (
    CursorMoved
    | SelectionChanged
    | StatusChanged
    | UserJoined
    | UserChanged
    | UserLeft
    | TypingStarted
    | TypingStopped
    | PlaybackSynced
    | MediaChanged
    | ViewerSync
    | Broadcast
    | PresenceChanged
    | ControlRequested
    | ControlGranted
    | ControlDenied
    | ControlReleased
    | RoomChanged
    | Pong
    | Ack
    | Refusal
    | Authenticated
    | Joined
    | Left
    | Active
    | Watching
    | RoomSummary
    | Notice
    | AuthExpiring
    | Kicked
)
