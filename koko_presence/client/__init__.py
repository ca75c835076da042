"""An asyncio client for bots, back ends, tests and benches; docs/python-client.md shows how.

    async with PresenceClient("ws://127.0.0.1:8080/presence", token) as client:
        room = await client.join("video_123", "video")
        room.cursor(timestamp=15.5, x=0.45, y=0.62)

models, incoming (what comes in) <- state (events folded into a room) <- room <- presence (the client) over lifeline
(the connection that comes back) over link (picows); timing, requests and listeners stand beside them.
"""

from koko_presence.protocol.messages import Privacy

from .errors import AuthRefused, PresenceOffline, PresenceRefused
from .incoming import Active, Event, OtherEvent
from .listeners import EventStream
from .models import Cursor, Playback, Selection, User
from .presence import PresenceClient
from .room import Room

__all__ = [
    "Active",
    "AuthRefused",
    "Cursor",
    "Event",
    "EventStream",
    "OtherEvent",
    "Playback",
    "PresenceClient",
    "PresenceOffline",
    "PresenceRefused",
    "Privacy",
    "Room",
    "Selection",
    "User",
]
