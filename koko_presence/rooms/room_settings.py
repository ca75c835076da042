"""Applies a change of the back end to a room's settings [Q10]."""

from msgspec import UNSET

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence.protocol.events import RoomChanged
from koko_presence.protocol.models import ControlMode
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
    if "control_mode" in changed:
        changed["control_mode"] = _shown_mode(room)
    _emit(room, RoomChanged(**changed), now)
    if "media" in changed and room.type in SYNCED_TYPES:
        set_by_back_end(room, None if after.media is UNSET else after.media, now)
    return True


def note_default_mode(room: Room, mode: ControlMode, now: float) -> None:
    """Emit `room_changed` when the members know another control mode, `mode`, than applies at this owner: its
    configuration has another default than that of the owner before."""
    if room.shown and room.type in SYNCED_TYPES and mode != room.control_mode:
        _emit(room, RoomChanged(control_mode=_shown_mode(room)), now)


def _shown_mode(room: Room) -> ControlMode | None:
    """Return the control mode as members see it; None when neither the back end nor the configuration names one."""
    mode = room.shown_settings(room.settings, room.type).control_mode
    return None if mode is UNSET else mode


def _emit(room: Room, data: RoomChanged, now: float) -> None:
    room.urgent = True
    room.out.append(StreamFrame(room.frame(data, SYSTEM, SYSTEM, now, public=True)))
