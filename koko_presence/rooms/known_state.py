"""Restores the playback of a room from what its members know, after a restart of the whole service [H24]."""

from msgspec import UNSET, structs

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.protocol.events import EventData, MediaChanged
from koko_presence.protocol.models import (
    MAX_MEDIA_TIME_S,
    MAX_RATE,
    MAX_SERVER_MS,
    MAX_VERSION,
    MIN_RATE,
    Known,
    KnownPlayback,
    Medium,
)

from .member import Member
from .playback import Playback
from .room_state import SYNCED_TYPES, RoomState
from .snapshot_view import synced

OPEN_S = 5.0  # for which a room without a command takes what its members know
# Older than this, what was playing is taken paused: a client hears from the server each 30 s, and a restart takes time.
PLAYS_ON_S = 60.0
OUTDATED_S = 600.0  # older than this, nothing is taken


def restore(room: RoomState, member: Member, known: Known, now: float) -> list[EventData]:
    """Take the playback, and where the room has no media those too, that a joining member knows. Return the events for
    the other members; none when nothing is taken: the room is older than 5 s, has had a command, has taken a higher
    version from another member or has media of the back end and other ones are known, what is known is more than 10
    minutes old or has an impossible value, or the member may not command playback.

    Media that have come from another member with a lower version are replaced. Control is not restored. The room counts
    its versions from 1: clients take the version of their next snapshot."""
    playback, present = room.playback, room.targets.media
    taken = _aged(known, room.context.wall, now)
    earlier = 0 if playback is None else playback.known_version
    is_open = now <= room.created_at + OPEN_S and (playback is None or playback.version == 0 or earlier > 0)
    if taken is None or taken.version <= earlier or not is_open or not _may_restore(room, member):
        return []
    media = present if known.media is UNSET else known.media
    if present and not earlier:  # of the back end
        if any(target in present and present[target].media_id != media[target].media_id for target in media):
            return []
        media = present
    changed: dict[str, Medium | None] = dict.fromkeys(target for target in present if target not in media)
    changed.update({target: medium for target, medium in media.items() if present.get(target) != medium})
    for target, medium in changed.items():
        room.targets.put(target, medium)
    if playback is None:
        playback = room.playback = Playback(now, room.targets)
    playback.restore(taken, room.context.wall, now)
    room.schedule_end()
    if not changed:
        return [synced(room, "sync", now)]
    row = playback.row(room.context.wall)
    return [MediaChanged(target=target, medium=medium, playback=row) for target, medium in changed.items()]


def _aged(known: Known, wall: WallClock, now: float) -> KnownPlayback | None:
    """Return what is known as it can be taken: paused where it was when the client last heard from the server, if that
    is more than 60 s ago. None: it is outdated, or has an impossible value."""
    playback = known.playback
    if not _is_possible(playback):
        return None
    if known.at is UNSET:
        return playback
    age_s = (wall.ms(now) - known.at) / 1000.0
    if age_s > OUTDATED_S:
        return None
    if age_s <= PLAYS_ON_S or not playback.is_playing:
        return playback
    played_s = max(known.at - playback.anchor, 0.0) / 1000.0 * playback.playback_rate
    position = min(playback.current_time + played_s, MAX_MEDIA_TIME_S)
    return structs.replace(playback, is_playing=False, current_time=position)


def _is_possible(playback: KnownPlayback) -> bool:
    return (
        0.0 <= playback.current_time <= MAX_MEDIA_TIME_S
        and MIN_RATE <= playback.playback_rate <= MAX_RATE
        and 0.0 <= playback.anchor <= MAX_SERVER_MS
        and 0 <= playback.version <= MAX_VERSION
        and (playback.duration is UNSET or 0.0 < playback.duration <= MAX_MEDIA_TIME_S)
    )


def _may_restore(room: RoomState, member: Member) -> bool:
    """Return whether the member may command playback [H1]. In the mode "controller" that needs control, which is not
    restored, but the member gets it by a request: so those count who may request it."""
    if not (room.shown and room.type in SYNCED_TYPES and room.sync_enabled and member.visible):
        return False
    if room.control.user_id not in (None, member.user_id):
        return False
    return member.moderator or (member.can_control and room.control_mode != "moderators")
