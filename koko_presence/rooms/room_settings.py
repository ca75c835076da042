"""Applies a change of the back end to a room's settings [Q10]."""

from msgspec import UNSET

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence.protocol.events import RoomChanged
from koko_presence.protocol.settings import SettingsChange, difference, merged
from koko_presence.protocol.survey import SYSTEM

from .media import set_by_back_end
from .room import Room
from .room_state import SYNCED_TYPES


def change_settings(room: Room, change: SettingsChange, now: float) -> bool:
    """Change the settings of a room that other users see, and emit `room_changed` with the keys that have changed.
    Media that have changed are set, each with its own event [H18]. It is not charged to any budget. Return whether a
    key has changed. Errors: those of `merged`, and nothing changes."""
    before, after = room.settings, merged(room.settings, change)
    changed = difference(before, after)
    if not changed:
        return False
    room.settings = after
    room.urgent = True
    room.out.append(StreamFrame(room.frame(RoomChanged(**changed), SYSTEM, SYSTEM, now, public=True)))
    if "media" in changed and room.type in SYNCED_TYPES:
        set_by_back_end(room, None if after.media is UNSET else after.media, now)
    return True
