"""Restricts a member's rights for the handling of one message: to those of the calling token [M1, Q11], or to those of
an invisible session [K3]."""

from collections.abc import Iterator
from contextlib import contextmanager

from koko_presence.protocol.commands import Scopes
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import CursorMessage, PlaybackMessage, RoomMessage, SelectionMessage, Typing

from .member import Member


@contextmanager
def narrowed(member: Member, scopes: Scopes | None) -> Iterator[None]:
    """Within the block, `member` has only the rights that both its session and `scopes` grant; None restricts nothing.
    Afterwards the member's own rights are restored: the scopes of a session change only with its own token."""
    before = member.can_control, member.can_broadcast, member.moderator
    if scopes is not None:
        member.can_control = member.can_control and scopes.can_control
        member.can_broadcast = member.can_broadcast and scopes.can_broadcast
        member.moderator = member.moderator and scopes.moderator
    try:
        yield
    finally:
        member.can_control, member.can_broadcast, member.moderator = before


@contextmanager
def hidden(member: Member) -> Iterator[None]:
    """Within the block, `member` is invisible, as it was when it sent the handled message: the message is dropped or
    refused [K3]."""
    before, member.invisible = member.invisible, True
    try:
        yield
    finally:
        member.invisible = before


def is_dropped(member: Member, message: RoomMessage, scopes: Scopes | None) -> bool:
    """Return whether `message` is acknowledged and dropped because the caller's token disables presence, although the
    acting session has it; an invisible session is treated the same [K1, K3]. Errors: INVISIBLE for a message that such
    a caller may not send."""
    if scopes is None or scopes.presence or member.disabled:
        return False
    action = message.data.action if isinstance(message, PlaybackMessage) else ""
    if action == "resync":  # answered to the caller only
        return False
    if action == "report" or isinstance(message, CursorMessage | SelectionMessage | Typing):
        return True
    raise PresenceError("INVISIBLE")
