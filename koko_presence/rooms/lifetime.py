"""Begins and ends a room as other users see it: from its first visible member until its last one, plus a linger time
[C12, K7].

In between, the room is not `shown`: its invisible members remain, and each user among them sees a room of their own
(`Person.private_room`). So none of them can detect another by the room's age, type, sequence numbers or playback. A
room that is not shown has no playback and no control, because an invisible session may not command any. When the room
begins or ends for others, its invisible members receive a new `joined`.
"""

from msgspec import UNSET

from koko_presence.protocol.models import RoomSettings, RoomType
from koko_presence.protocol.settings import NO_SETTINGS

from . import webhook_recorder
from .control import Control
from .load_control import Load
from .member import Member, PrivateRoom
from .room_state import SYNCED_TYPES, RoomState
from .snapshot_delivery import repeat_snapshot
from .targets import Targets
from .wait import WaitTimes


def begin(
    room: RoomState, room_type: RoomType, settings: RoomSettings, now: float, except_for: Member | None = None
) -> None:
    """Begin the room for others, just before its first visible session enters, with the `settings` that came with that
    session's join [Q10]. Its invisible members receive a new snapshot, except `except_for`, whose own change of privacy
    begins the room."""
    room.shown = True
    _reset(room, room_type, settings, now)
    _repeat_snapshots(room, now, except_for)


def note_removal(room: RoomState, reason: str, now: float, *, visible: bool = True) -> None:
    """Record that a session has left or become invisible, with the `reason` of `user_left`; `visible`: other users knew
    of it. After the last visible member the room ends: at once when that member left, which cannot be resumed, else
    after `room_linger_s`, which covers the page reload of a lone viewer [C12]."""
    if not room.shown and not room.members:
        webhook_recorder.emptied(room, now, invisible=True)
    if not visible or any(member.visible for member in room.members.values()):
        return
    if reason == "left":
        end(room, now)
    else:
        room.context.deadlines.set(("empty", room.id, ""), now + room.context.limits.room_linger_s)


def end(room: RoomState, now: float) -> None:
    """End the room for other users."""
    if not room.shown:
        if not room.members:  # restored without members
            webhook_recorder.emptied(room, now, invisible=True)
        return
    room.shown = False
    (webhook_recorder.hidden if room.members else webhook_recorder.emptied)(room, now)
    for person in room.people.values():
        person.private_room = PrivateRoom(room.type, now, person.private_room.settings)
    for member in room.members.values():
        if member.viewer is not None:
            member.viewer.lapse()
    _reset(room, room.type, NO_SETTINGS, now)
    _repeat_snapshots(room, now, None)


def forget_deadlines(room: RoomState) -> None:
    """Cancel the deadlines that belong to the room and not to a member."""
    cancel = room.context.deadlines.cancel
    for kind in ("empty", "playback", "end", "holder_away", "wait"):
        cancel((kind, room.id, ""))
    for user_id in room.gone:
        cancel(("forget", room.id, user_id))
    for user_id in room.control.requests:
        cancel(("control_request", room.id, user_id))


def _reset(room: RoomState, room_type: RoomType, settings: RoomSettings, now: float) -> None:
    context = room.context
    forget_deadlines(room)
    room.gone.clear()
    room.type, room.created_at = room_type, now
    room.playback = room.playback_waits = room.wait = None
    room.wait_times = WaitTimes()
    room.targets = Targets()
    if settings.media is not UNSET and room_type in SYNCED_TYPES:
        room.targets.put_by_back_end(settings.media)
    room.sync_enabled = room_type in SYNCED_TYPES or not room.shown  # when not shown: `type_for` decides by user
    room.control = Control()
    room.settings = settings
    room.load = Load(context.limits, now)
    room.begin_anew(room.load.budget, room.load.meter, room_type in SYNCED_TYPES)
    room.advised_ms = context.advised_ms
    room.sent_interval_ms = room.send_interval_ms
    if context.replicated:
        room.mark_changed(("", *room.members))


def _repeat_snapshots(room: RoomState, now: float, except_for: Member | None) -> None:
    """Send a new snapshot to each member but `except_for`. No member is visible at this point, so all snapshots
    together take time proportional to the number of members."""
    for member in room.members.values():
        member.forget_row()
    for member in room.members.values():
        if member is not except_for:
            repeat_snapshot(room, member, now, own_only=True)
