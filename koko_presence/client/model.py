"""The bases of the models in models.py: what is not derived from the protocol's declarations."""

from msgspec import Struct


class Model(Struct, rename="camel", kw_only=True):
    """Base of all received messages and models. Unknown fields are ignored."""


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


class Reply(Model, tag_field="type", kw_only=True):
    """Base of the messages that may answer a message with this `id` [B8]."""

    id: str | int | None = None


class PlaybackModel(Model, kw_only=True):
    """Base of the room's playback, with its arithmetic [H4]."""

    is_playing: bool
    current_time: float
    playback_rate: float
    anchor: int
    duration: float | None = None

    def position(self, server_now_ms: float) -> float:
        """Return the position in seconds at a server time in ms; `client.server_now_ms()` is the present one."""
        position = self.current_time
        if self.is_playing:
            # before a delayed start, whose anchor is in the future, the position stands [H10]
            position += max(0.0, server_now_ms - self.anchor) / 1000.0 * self.playback_rate
        position = max(position, 0.0)
        return position if self.duration is None else min(position, self.duration)
