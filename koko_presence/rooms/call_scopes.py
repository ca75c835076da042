"""Restricts a member's rights for the handling of one message: to those of the calling token [M1, Q11], or to those of
an invisible session [K3]."""

from collections.abc import Iterator
from contextlib import contextmanager

from koko_presence.protocol.commands import Authority
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import CursorMessage, PlaybackMessage, RoomMessage, SelectionMessage, Typing

from .member import Member


@contextmanager
def restricted(member: Member, authority: Authority | None, *, hidden: bool) -> Iterator[None]:
    """Within the block, `member` has only the rights that both its session and `authority` grant; None restricts
    nothing. `hidden`: it is invisible, as it was when it sent the handled message, which is dropped or refused [K3].
    Afterwards the member's own rights are restored: the scopes of a session change only with its own token."""
    before = member.can_control, member.can_broadcast, member.moderator, member.invisible
    if authority is not None:
        member.can_control = member.can_control and authority.can_control
        member.can_broadcast = member.can_broadcast and authority.can_broadcast
        member.moderator = member.moderator and authority.moderator
    member.invisible = member.invisible or hidden
    try:
        yield
    finally:
        member.can_control, member.can_broadcast, member.moderator, member.invisible = before


def is_dropped(member: Member, message: RoomMessage, authority: Authority | None) -> bool:
    """Return whether `message` is acknowledged and dropped because the caller's token disables presence, although the
    acting session has it; an invisible session is treated the same [K1, K3]. Errors: INVISIBLE for a message that such
    a caller may not send."""
    if authority is None or authority.presence or member.disabled:
        return False
    action = message.data.action if isinstance(message, PlaybackMessage) else ""
    if action == "resync":  # answered to the caller only
        return False
    if action == "report" or isinstance(message, CursorMessage | SelectionMessage | Typing):
        return True
    raise PresenceError("INVISIBLE")
