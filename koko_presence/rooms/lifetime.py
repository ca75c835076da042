"""From when to when a room exists for others: from its first visible member to its last, and a while longer [C12, K7].

In between it is not `shown`: the invisible members are still there, but each user among them is alone in a room of
their own (`Person.alone`), so that none finds out about another by a room's age, type, numbers or playback. There is no
playback and no control in it, for whoever is invisible may not command any. When the room begins or ends for others,
the invisible members get a fresh `joined`.
"""

from koko_presence.protocol.messages import RoomType

from . import webhook_recorder
from .control import Control
from .load_control import Load
from .member import Member, PrivateRoom
from .room_state import SYNCED_TYPES, RoomState
from .snapshot_delivery import repeat_snapshot


def begin(room: RoomState, room_type: RoomType, now: float, but: Member | None = None) -> None:
    """A session that others may see is about to enter: the room is created, as far as they know. The invisible who are
    there are told, all but one, whose own change it is."""
    room.shown = True
    _reset(room, room_type, now)
    _tell(room, now, but)


def note_removal(room: RoomState, reason: str, now: float, *, visible: bool = True) -> None:
    """A session has left or vanished, for user_left's `reason`; `visible`: others knew of it. After the last one of
    these the room ends: at once if it left, which cannot be resumed, else after the time of a lone viewer's reload
    [C12]."""
    if not room.shown and not room.members:
        webhook_recorder.emptied(room, now, invisible=True)
    if not visible or any(member.visible for member in room.members.values()):
        return
    if reason == "left":
        end(room, now)
    else:
        room.setting.deadlines.set(("empty", room.id, ""), now + room.setting.limits.room_linger_s)


def end(room: RoomState, now: float) -> None:
    """The room is gone, as far as others know."""
    if not room.shown:
        if not room.members:  # taken over without anybody
            webhook_recorder.emptied(room, now, invisible=True)
        return
    room.shown = False
    (webhook_recorder.hidden if room.members else webhook_recorder.emptied)(room, now)
    for person in room.people.values():
        person.alone = PrivateRoom(room.type, now)
    for member in room.members.values():
        if member.viewer is not None:
            member.viewer.lapse()
    _reset(room, room.type, now)
    _tell(room, now, None)


def forget_deadlines(room: RoomState) -> None:
    """None of those rings any more that belong to the room, and not to a member."""
    cancel = room.setting.deadlines.cancel
    for kind in ("empty", "playback"):
        cancel((kind, room.id, ""))
    for user_id in room.gone:
        cancel(("forget", room.id, user_id))
    for user_id in room.control.requests:
        cancel(("control_request", room.id, user_id))


def _reset(room: RoomState, room_type: RoomType, now: float) -> None:
    setting = room.setting
    forget_deadlines(room)
    room.gone.clear()
    room.type, room.created_at = room_type, now
    room.playback = room.playback_waits = None
    room.sync_enabled = room_type in SYNCED_TYPES or not room.shown  # else by each one's own type
    room.control = Control()
    room.load = Load(setting.limits, now)
    room.begin_anew(room.load.budget, room.load.meter, room_type in SYNCED_TYPES)
    room.advised_ms = setting.advised_ms
    room.told_ms = room.send_interval_ms
    if setting.kept:
        room.changed.update(("", *room.members))


def _tell(room: RoomState, now: float, but: Member | None) -> None:
    """Nobody is visible yet, or any more, so that all snapshots together take time by the number of members."""
    for member in room.members.values():
        member.forget_row()
    for member in room.members.values():
        if member is not but:
            repeat_snapshot(room, member, now, alone=True)
