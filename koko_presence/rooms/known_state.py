"""Restores the playback of a room from what its members know, after a restart of the whole service [H24]."""

from msgspec import UNSET

from koko_presence.protocol.events import EventData, MediaChanged
from koko_presence.protocol.models import Known

from .member import Member
from .playback import Playback
from .room_state import SYNCED_TYPES, RoomState
from .snapshot_view import synced

OPEN_S = 5.0  # for which a room without a command takes what its members know


def restore(room: RoomState, member: Member, known: Known, now: float) -> list[EventData]:
    """Take the playback, and where the room has no media those too, that a joining member knows. Return the events for
    the other members; none when nothing is taken: the room is older than 5 s, has had a command, has taken a higher
    version from another member or has other media, or the member may not command playback.

    Control is not restored. The room counts its versions from 1: clients take the version of their next snapshot."""
    playback, taken = room.playback, known.playback
    earlier = 0 if playback is None else playback.known_version
    is_open = now <= room.created_at + OPEN_S and (playback is None or playback.version == 0 or earlier > 0)
    if taken.version <= earlier or not is_open or not _may_restore(room, member):
        return []
    media = {} if known.media is UNSET else known.media
    present = room.targets.media
    if any(target in present and present[target].media_id != media[target].media_id for target in media):
        return []
    added = media if not present else {}
    for target, medium in added.items():
        room.targets.put(target, medium)
    if playback is None:
        playback = room.playback = Playback(now, room.targets)
    playback.restore(taken, room.context.wall, now)
    room.schedule_end()
    if not added:
        return [synced(room, "sync", now)]
    row = playback.row(room.context.wall)
    return [MediaChanged(target=target, medium=medium, playback=row) for target, medium in added.items()]


def _may_restore(room: RoomState, member: Member) -> bool:
    """Return whether the member may command playback in a room without a controller [H1]."""
    if not (room.shown and room.type in SYNCED_TYPES and room.sync_enabled and member.visible):
        return False
    return member.moderator or (member.can_control and room.control_mode != "moderators")
