"""Declares the models of a room as the client reads them: tolerant, so that a newer server does not break the client.

Where the server's Structs have `UNSET` and closed lists of names, these have None and plain strings; unknown fields are
ignored. A test compares the names with those of `koko_presence.protocol.events`.
"""

from msgspec import Struct


class Model(Struct, rename="camel", kw_only=True):
    """Base of all received messages and models."""


class Cursor(Model, kw_only=True):
    """A cursor: second `timestamp` of the video, `x` and `y` in 0..1 [E4, E5]."""

    timestamp: float | None = None
    x: float | None = None
    y: float | None = None
    target: str | None = None


class Selection(Model, kw_only=True):
    """A range of the timeline, in seconds of the video [F1]."""

    start_time: float = 0.0
    end_time: float = 0.0
    target: str | None = None


class PlayerState(Model, kw_only=True):
    """The state of a viewer's player as last reported [H6]."""

    is_playing: bool
    current_time: float
    playback_rate: float


class ViewerState(Model, kw_only=True):
    """A viewer's deviation from the room's playback: a state of H7, and the drift in ms, negative when behind."""

    state: str
    drift_ms: int


class User(Model, kw_only=True):
    """One session of a user [PresenceUser, C7]. The room's state changes it in place, so copy values to keep them."""

    user_id: str
    session_id: str
    name: str
    image: str | None = None
    color: str
    status: str
    status_message: str = ""
    activity: str
    connected: bool = True
    last_active_at: str
    room_id: str
    room_type: str
    index: int | None = None
    cursor: Cursor | None = None
    selection: Selection | None = None
    is_typing: bool = False
    typing_context: str | None = None
    is_watching: bool = False
    playback_state: PlayerState | None = None
    viewer_sync: ViewerState | None = None
    transport: str | None = None  # "http": a session without a socket [M2]


class Playback(Model, kw_only=True):
    """The room's playback: position `current_time` in seconds at server time `anchor` in ms [H4]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    version: int
    duration: float | None = None
    target: str | None = None

    def position(self, server_now_ms: float) -> float:
        """Return the position in seconds at a server time in ms; `client.server_now_ms()` is the present one."""
        position = self.current_time
        if self.is_playing:
            position += (server_now_ms - self.anchor) / 1000.0 * self.playback_rate
        position = max(position, 0.0)
        return position if self.duration is None else min(position, self.duration)


class ControlRequestRow(Model, kw_only=True):
    """A pending request for control [I5]."""

    user_id: str
    requester_name: str
    requested_at: str


class Snapshot(Model, kw_only=True):
    """The room in a `joined` message [PresenceRoom, C4]."""

    id: str
    type: str
    users: list[User]
    sync_enabled: bool
    controller: str | None = None
    controller_session_id: str | None = None
    control_requests: list[ControlRequestRow] = []
    playback: Playback | None = None
    created_at: str
