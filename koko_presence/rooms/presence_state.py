"""Handles what a member shows: cursor, selection, typing, its presence object, broadcasts.

Cursor, selection, typing and playback reports are coalesced: a value over its budget waits as the one pending value of
its session and kind, a newer value replaces it, and it is applied as soon as a token is available. So the last value is
always applied, no stop is lost, and no rate is exceeded [E1, E2, G3, L1]. Changes of a presence object are merged key
by key, and the object itself holds what waits [P2].
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import StreamFrame
from koko_presence._fastpath.throttle import GO, WAITS, TokenBucket
from koko_presence.protocol.codec import check_free_data, check_free_object, presence_too_large
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import CursorShown, SelectionShown, TypingStarted, encode
from koko_presence.protocol.messages import (
    Broadcast,
    CursorMessage,
    PresenceMessage,
    RoomMessage,
    SelectionMessage,
    Typing,
    TypingData,
)
from koko_presence.protocol.models import Cursor, Selection, is_plain
from koko_presence.protocol.survey import SYSTEM

from .member import Member
from .message_handlers import Result, handles
from .presence_object import PresenceObject, raw, size_of
from .room import Room
from .room_state import SYNCED_TYPES


def submit(room: Room, member: Member, kind: str, value: Any, now: float) -> None:
    """Apply a coalesced value now, or keep it until its budget allows, in place of an earlier pending one. A public
    value of an invisible session is dropped, and an invisible session takes none of the room's budget [K3, K7]."""
    coalesced = COALESCED_VALUES[kind]
    if coalesced.public and not member.visible:
        return
    at = member.pending.offer(kind, value, coalesced.budget(member), room.budget if member.visible else None, now)
    if at == GO:
        coalesced.apply(room, member, value, now)
    elif at == WAITS:
        counters.superseded("playback" if kind == "report" else kind)
    else:
        room.context.deadlines.set((kind, room.id, member.session_id), at)


def release(room: Room, member: Member, kind: str, now: float) -> None:
    """Apply the pending value of `kind`, whose token is due; it waits again when another session of the user has taken
    that."""
    value = member.pending.take(kind)
    submit(room, member, kind, value, now)


def settle(room: Room, member: Member, now: float) -> None:
    """Apply a selection that waits for its budget when the connection is lost: it is the last one made [C5, E1]."""
    if "selection" in member.pending:
        _show_selection(room, member, member.pending.take("selection"), now)
        room.context.deadlines.cancel(("selection", room.id, member.session_id))


@handles(CursorMessage)
def handle_cursor(room: Room, member: Member, message: CursorMessage, now: float) -> Result:
    """presence.updateCursor. Errors: INVALID_DATA for a missing timestamp in a room with a video [E4]."""
    cursor = message.data
    if cursor is not None and cursor.hidden:
        cursor = None
    if cursor is not None and cursor.timestamp is UNSET and _needs_timestamp(room, member):
        raise PresenceError("INVALID_DATA", "A cursor in a video room needs data.timestamp, the second of the video.")
    member.last_active_at = now
    if is_plain(cursor) and member.shows_cursors and "cursor" not in member.pending:
        room.show_cursor(member, cursor, now)  # coalesced with cursors of the compiled path
        return None
    room.settle()
    if room.drop_deferred(member):
        counters.superseded("cursor")
    submit(room, member, "cursor", cursor, now)
    return None


def _needs_timestamp(room: Room, member: Member) -> bool:
    return room.needs_timestamp if room.shown else member.person.private_room.type in SYNCED_TYPES


def _show_cursor(room: Room, member: Member, cursor: Cursor | None, now: float) -> None:
    if not (member.visible and member.share_cursor):
        return  # acknowledged and dropped, not kept for later [K3, K5]
    was_shown = member.cursor_shown
    member.cursor, member.cursor_put_away = cursor, False
    if not member.cursor_shown:
        if was_shown:
            room.hide_cursor(member, now)  # once [E3]
        return
    assert cursor is not None
    if is_plain(cursor):
        room.show_now(member, cursor, now)
        return
    shown = CursorShown(
        timestamp=cursor.timestamp,
        x=cursor.x,
        y=cursor.y,
        color=member.color,
        target=cursor.target,
        media_id=cursor.media_id,
    )
    values = [None if each is UNSET else each for each in (cursor.timestamp, cursor.x, cursor.y, cursor.target)]
    if cursor.media_id is not UNSET:
        values.append(cursor.media_id)
    row = encode((member.index, *values))
    room.emit(member, shown, now, merge=f"c{member.session_id}", compact=row)


@handles(SelectionMessage)
def handle_selection(room: Room, member: Member, message: SelectionMessage, now: float) -> Result:
    """presence.updateSelection [F1]."""
    member.last_active_at = now
    submit(room, member, "selection", message.data, now)
    return None


def _show_selection(room: Room, member: Member, selection: Selection | None, now: float) -> None:
    if not (member.visible and member.share_selection):
        return
    was_shown = member.selection_shown
    member.selection = selection
    if member.selection_shown:
        assert selection is not None
        shown = SelectionShown(
            start_time=selection.start_time,
            end_time=selection.end_time,
            color=member.color,
            target=selection.target,
            media_id=selection.media_id,
        )
    elif was_shown:
        shown = SelectionShown(color=member.color, cleared=True)
    else:
        return
    room.emit(member, shown, now, merge=f"s{member.session_id}")


@handles(Typing)
def handle_typing(room: Room, member: Member, message: Typing, now: float) -> Result:
    """presence.startTyping / stopTyping."""
    if message.data.is_typing:
        member.last_active_at = now
    submit(room, member, "typing", message.data, now)
    return None


def _show_typing(room: Room, member: Member, data: TypingData, now: float) -> None:
    if not member.visible:
        return  # acknowledged and dropped [K3]
    context = data.context if isinstance(data.context, str) else ""
    if not data.is_typing:
        if member.typing is not None:
            room.stop_typing(member, "stopped", now)
        return
    if member.typing is not None and member.typing != context:
        room.stop_typing(member, "changed", now)  # one context at a time [G5]
    room.context.deadlines.set(("typing_stop", room.id, member.session_id), now + room.context.limits.typing_stop_s)
    if member.typing is None:  # a repeated true only extends the timer [G2]
        member.typing = context
        room.emit(member, TypingStarted(context=context or UNSET), now)


@handles(PresenceMessage)
def handle_presence(room: Room, member: Member, message: PresenceMessage, now: float) -> Result:
    """presence.setPresence. What is sent while invisible is kept, and shown once the session is visible again [P3]; the
    user's other sessions get it at once, and it takes no token of a budget that visible sessions share [K7]. Errors:
    INVALID_DATA, TOO_LARGE; nothing changes then [P4]."""
    presence = member.presence or PresenceObject()
    if message.data is not None:
        check_free_object(message.data)
    changes = presence.changes(message.data)
    whole = presence.merged_with(changes)
    max_bytes = room.context.limits.max_presence_bytes
    if changes and size_of(whole) > max_bytes:
        raise presence_too_large(max_bytes)
    if changes:
        member.presence = presence
    if not member.visible:
        if changes:
            presence.hide(changes)
            room.emit(member, raw(changes), now)
    else:
        presence.reveal()
        if changes:
            presence.wait(changes)
        if presence.waiting:
            submit(room, member, "presence", None, now)
    return {"success": True, "presence": raw(whole)}


def _show_presence(room: Room, member: Member, value: None, now: float) -> None:
    room.show_presence(member, now)


@handles(Broadcast)
def handle_broadcast(room: Room, member: Member, message: Broadcast, now: float) -> Result:
    """presence.broadcast: delivered at most once, in order, not stored [J]. Errors: FORBIDDEN, INVISIBLE, RATE_LIMITED,
    TOO_LARGE, INVALID_DATA."""
    if not member.visible:
        raise PresenceError("INVISIBLE")
    if not member.can_broadcast:
        raise PresenceError("FORBIDDEN", "Your token has no 'broadcast' scope for this room.")
    if len(bytes(message.data)) > room.context.limits.max_broadcast_bytes:
        raise PresenceError("TOO_LARGE", f"data may have {room.context.limits.max_broadcast_bytes} bytes.")
    check_budget(room, member, message, now)  # before parsing up to 8 KiB
    ready_at = room.load.broadcasts.ready_at(now)
    if ready_at > now:
        raise PresenceError("RATE_LIMITED", retry_after_s=ready_at - now)
    check_free_data(message.data)
    member.last_active_at = now
    spend(room, member, message, now)
    named = None if message.to is None else set(message.to)
    others = (m for m in room.members.values() if m.attached and m is not member)
    # invisible sessions are not charged, or the time until RATE_LIMITED would reveal their number [K7]
    recipients = sum(1 for m in others if m.visible and (named is None or m.user_id in named))
    room.load.broadcasts.spend(len(bytes(message.data)), recipients, now)
    if message.to is None:
        delivered = sum(1 for m in room.members.values() if m.attached and m.visible and m is not member)
        room.emit(member, message.data, now)
    else:
        delivered = _send_to(room, member, message, set(message.to), now)
    return {"success": True, "delivered": delivered}


def _send_to(room: Room, member: Member, message: Broadcast, users: set[str], now: float) -> int:
    frame = room.frame(message.data, member.user_id, member.session_id, now, public=False)
    targets = [m for m in room.members.values() if m.user_id in users and m.attached and m is not member]
    for target in targets:  # with its author, so that a slow client gets it after what the author has shown before
        room.out.append(StreamFrame(frame, skip=member.session_id, only=target.session_id))
    return sum(1 for target in targets if target.visible)


def broadcast_as_system(room: Room, data: bytes, to: list[str] | None, now: float) -> None:
    """Send a broadcast of the application's server, as user `system` [J4]. It is not charged to any budget."""
    frame = room.frame(Raw(data), SYSTEM, SYSTEM, now, public=to is None and room.shown)
    if to is None:
        room.out.append(StreamFrame(frame))
        return
    for member in _recipients(room, to):
        room.out.append(StreamFrame(frame, only=member.session_id))


def reach(room: Room, to: list[str] | None) -> int:
    """Return the number of sessions that a broadcast as `system` goes to, without the invisible ones [M5]."""
    return sum(1 for member in _recipients(room, to) if member.visible)


def _recipients(room: Room, to: list[str] | None) -> list[Member]:
    return [m for m in room.members.values() if m.attached and (to is None or m.user_id in to)]


def check_budget(room: Room, member: Member, message: RoomMessage, now: float) -> None:
    """Check that the room's budget and the person's for the rate of `message` have a token. Errors: RATE_LIMITED with
    the time to wait [L1, L2]."""
    ready_at = max(member.person.budget(message).ready_at(now), room.budget.ready_at(now))
    if ready_at > now:
        raise PresenceError("RATE_LIMITED", retry_after_s=ready_at - now)


def spend(room: Room, member: Member, message: RoomMessage, now: float) -> None:
    """Take a token from the room's budget and from the person's for the rate of `message`. Errors: RATE_LIMITED with
    the time to wait [L1, L2], TypeError when the message declares no rate."""
    check_budget(room, member, message, now)
    member.person.budget(message).take(now)
    room.budget.take(now)


class CoalescedValue:
    """A kind of value of which only the newest counts: the budget it is charged to, the function that applies it, and
    whether it is `public`, that is shown to other users."""

    __slots__ = ("apply", "budget", "public")

    def __init__(
        self,
        budget: Callable[[Member], TokenBucket],
        apply: Callable[[Room, Member, Any, float], None],
        *,
        public: bool = True,
    ) -> None:
        self.budget = budget
        self.apply = apply
        self.public = public


COALESCED_VALUES: dict[str, CoalescedValue] = {
    "cursor": CoalescedValue(lambda member: member.person.budgets["cursor"], _show_cursor),
    "selection": CoalescedValue(lambda member: member.person.budgets["selection"], _show_selection),
    "typing": CoalescedValue(lambda member: member.person.budgets["typing"], _show_typing),
    "presence": CoalescedValue(lambda member: member.person.budgets["presence"], _show_presence),
}
