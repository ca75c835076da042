"""Sets the media of a room [H17, H18]. `set_media` is the one way for members and for the back end."""

from collections.abc import Mapping

from msgspec import UNSET, structs

from koko_presence._fastpath.fanout import StreamFrame
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import MediaChanged
from koko_presence.protocol.messages import MediaMessage
from koko_presence.protocol.models import MAIN, MAX_TARGETS, Medium, in_medium
from koko_presence.protocol.survey import SYSTEM

from .member import Member
from .message_handlers import Result, handles
from .playback import Playback
from .playback_sync import check_age, check_has_playback, check_may_play, end_wait, note_superseded
from .presence_state import spend, submit
from .room import Room
from .targets import named


@handles(MediaMessage)
def handle_media(room: Room, member: Member, message: MediaMessage, now: float) -> Result:
    """presence.setMedia. Errors: SYNC_DISABLED in a room without playback, those of a playback command, FORBIDDEN where
    the back end has set the media, STALE with the state for a message that is older than its `max_age_ms` [H4] or a
    `base_version` that is not the present one [H16], INVALID_DATA for a fifth target."""
    check_has_playback(room, member)
    check_may_play(room, member)
    if room.targets.from_back_end:
        raise PresenceError("FORBIDDEN", "The back end sets the media of this room.")
    data = message.data
    check_age(room, data, now)
    if isinstance(data.base_version, int):
        playback = room.playback
        if data.base_version if playback is None else playback.is_late(data.base_version):
            state = playback.row(room.context.wall) if playback is not None and playback.version else None
            raise PresenceError("STALE", state=state)
    target = named(data.target)
    medium = data.medium()
    check_count(room, target, medium)
    spend(room, member, message, now)
    member.last_active_at = now
    before = room.targets.media.get(target)
    if medium is not None and before is not None and medium.media_id == before.media_id:
        medium = _completed(medium, before)
    author = (member.user_id, member.session_id)
    set_media(room, {target: medium}, now, keep_position=data.keep_position, author=author)
    playback = room.playback
    if playback is None or not playback.version:
        return {"success": True}
    return {"success": True, "playback": playback.row(room.context.wall)}


def check_count(room: Room, target: str, medium: Medium | None) -> None:
    """Errors: INVALID_DATA when `medium` would be that of a fifth target."""
    media = room.targets.media
    if medium is not None and target not in media and len(media) >= MAX_TARGETS:
        raise PresenceError(
            "INVALID_DATA",
            f"A room has at most {MAX_TARGETS} targets, here: {', '.join(media)}. Remove one with mediaId null.",
        )


def set_media(
    room: Room,
    changes: Mapping[str, Medium | None],
    now: float,
    *,
    keep_position: bool = False,
    author: tuple[str, str] = (SYSTEM, SYSTEM),
) -> bool:
    """Set the media of some targets, where None removes the target, and emit a `media_changed` for each that has
    changed. They all have the playback after the whole change. Return whether anything has changed.

    Another `media_id` pauses the room at 0, unless `keep_position`; a new description of the same medium never does. In
    both cases the version of the playback is increased, by 1 [H18].
    `author` are the user and the session in the events. A room that is not shown has no media, and nothing is done. The
    caller has checked the number of targets (`check_count`)."""
    targets = room.targets
    before = dict(targets.media)
    changed = {target: medium for target, medium in changes.items() if before.get(target) != medium}
    if not room.shown or not changed:
        return False
    for target, medium in changed.items():
        if target in before and not _is_same(before[target], medium):
            _keep_places(room, target, before[target].media_id, now)
    for target in sorted(changed, key=lambda target: changed[target] is not None):  # removals first, for `MAX_TARGETS`
        targets.put(target, changed[target])
    if room.playback is None:
        room.playback = Playback(now, targets)
    keeps = keep_position or all(_is_same(before.get(target), medium) for target, medium in changed.items())
    room.playback.media_changed(now, keep_position=keeps)
    room.schedule_end()
    if not keeps:
        end_wait(room, now)
    note_superseded(room)
    room.urgent = True
    playback = room.playback.row(room.context.wall)
    for target, medium in changed.items():
        data = MediaChanged(target=target, medium=medium, playback=playback)
        room.out.append(StreamFrame(room.frame(data, *author, now, public=True)))
    return True


def set_by_back_end(room: Room, media: Mapping[str, Medium] | None, now: float) -> None:
    """Give the room exactly these media, of the back end, by `set_media`; a target that has none any more is removed,
    and members may not set media. None: they may again, and the present media stay [H18, Q10].

    While one of the media stays and none is replaced by another one, the position stays, too: a film to compare with is
    added or removed."""
    room.targets.from_back_end = media is not None
    if media is None:
        return
    before = room.targets.media
    one_remains = any(_is_same(before.get(target), media[target]) for target in media)
    replaced = any(target in before and not _is_same(before[target], media[target]) for target in media)
    removed = dict.fromkeys(target for target in before if target not in media)
    set_media(room, {**removed, **media}, now, keep_position=one_remains and not replaced)


def _keep_places(room: Room, target: str, media_id: str, now: float) -> None:
    """Note the medium of all cursors and selections in a target that name none, because the target is about to get
    another one: they stay in the medium in which they were made. Clients do the same at `media_changed` [H19]."""
    room.settle()  # a cursor that is not encoded yet is an event before the change
    for member in room.members.values():
        if member.cursor is not None:
            member.cursor = in_medium(member.cursor, target, media_id)
        if member.selection is not None:
            member.selection = in_medium(member.selection, target, media_id)
        for kind in ("cursor", "selection"):
            if kind in member.pending:
                waiting = member.pending.take(kind)
                member.pending.hold(kind, None if waiting is None else in_medium(waiting, target, media_id))
        deferred = room.take_deferred(member) if target == MAIN else None
        if deferred is not None:
            submit(room, member, "cursor", in_medium(deferred, target, media_id), now)
    if room.context.replicated:  # the edges, which have the last cursors, do not know in which medium these are
        room.mark_changed(room.members)


def _is_same(before: Medium | None, medium: Medium | None) -> bool:
    return before is not None and medium is not None and before.media_id == medium.media_id


def _completed(medium: Medium, before: Medium) -> Medium:
    """Return a medium with the values of `before`, the same medium, in place of its absent ones. Errors: INVALID_DATA
    when they do not go together."""
    present = {name: getattr(before, name) for name in Medium.__struct_fields__ if getattr(medium, name) is UNSET}
    try:
        return structs.replace(medium, **present)
    except ValueError as error:
        raise PresenceError("INVALID_DATA", str(error)) from None
