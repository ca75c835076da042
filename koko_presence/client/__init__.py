"""An asyncio client for bots, back ends, tests and benchmarks; docs/python-client.md describes it.

    async with PresenceClient("ws://127.0.0.1:8080/presence", token) as client:
        room = await client.join("video_123", "video")
        room.cursor(timestamp=15.5, x=0.45, y=0.62)

Layers, from the lowest: `link` (one WebSocket, picows), `reconnecting` (connects again after a loss; `renewal` replaces
tokens before they end), `presence` (the client, with `dispatcher` for received messages), `room` on `state` (the room's
state), `incoming` and `models` (the received messages; models.py is generated). `timing`, `pending` and `listeners` are
used by several of them.
"""

from koko_presence.protocol.models import Privacy

from .errors import AuthRefused, NoToken, PresenceOffline, PresenceRefused
from .incoming import OtherEvent
from .listeners import EventStream
from .model import Event
from .models import Active, Cursor, Playback, RoomSummary, Selection, User, Watching
from .presence import PresenceClient
from .room import Room

__all__ = [
    "Active",
    "AuthRefused",
    "Cursor",
    "Event",
    "EventStream",
    "NoToken",
    "OtherEvent",
    "Playback",
    "PresenceClient",
    "PresenceOffline",
    "PresenceRefused",
    "Privacy",
    "Room",
    "RoomSummary",
    "Selection",
    "User",
    "Watching",
]
