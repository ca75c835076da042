"""What a room consists of, as a client reads it: tolerant, so that a newer server does not break an older client.

Where the server's own Structs know UNSET and closed lists of names, these know None and plain strings; unknown fields
are ignored. A test holds the names against koko_presence.protocol.events.
"""

from msgspec import Struct


class Model(Struct, rename="camel", kw_only=True):
    """Base of everything that is read."""


class Cursor(Model, kw_only=True):
    """Where someone points: video second `timestamp`, `x` and `y` in 0..1 [E4, E5]."""

    timestamp: float | None = None
    x: float | None = None
    y: float | None = None
    target: str | None = None


class Selection(Model, kw_only=True):
    """A stretch of the timeline, in video seconds [F1]."""

    start_time: float = 0.0
    end_time: float = 0.0
    target: str | None = None


class PlayerState(Model, kw_only=True):
    """A viewer's own player as last reported [H6]."""

    is_playing: bool
    current_time: float
    playback_rate: float


class ViewerState(Model, kw_only=True):
    """How far a viewer is from the room: a name of H7, and ms (behind is negative)."""

    state: str
    drift_ms: int


class User(Model, kw_only=True):
    """One session of one person [PresenceUser, C7]. The room changes it in place; copy what you want to keep."""

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
    """The room's playback: position `current_time` (s) at server time `anchor` (ms) [H4]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    version: int
    duration: float | None = None
    target: str | None = None

    def position(self, server_now_ms: float) -> float:
        """The video second at a server time; `client.server_now_ms()` is the present one."""
        position = self.current_time
        if self.is_playing:
            position += (server_now_ms - self.anchor) / 1000.0 * self.playback_rate
        position = max(position, 0.0)
        return position if self.duration is None else min(position, self.duration)


class ControlWish(Model, kw_only=True):
    """A pending request for control [I5]."""

    user_id: str
    requester_name: str
    requested_at: str


class Snapshot(Model, kw_only=True):
    """A room as `joined` shows it [PresenceRoom, C4]."""

    id: str
    type: str
    users: list[User]
    sync_enabled: bool
    controller: str | None = None
    controller_session_id: str | None = None
    control_requests: list[ControlWish] = []
    playback: Playback | None = None
    created_at: str
