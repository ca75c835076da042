"""What a member may do for the length of one message: the lesser of its own rights and those of the calling token
[M1, Q11], or what it might when that was sent [K3]."""

from collections.abc import Iterator
from contextlib import contextmanager

from koko_presence.protocol.commands import Scopes
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.messages import CursorMessage, PlaybackMessage, RoomMessage, SelectionMessage, Typing

from .member import Member


@contextmanager
def narrowed(member: Member, scopes: Scopes | None) -> Iterator[None]:
    """Within the block `member` may do what both its session and `scopes` allow; None is no limit. Afterwards it is as
    it was: the scopes of a session come with its own token only."""
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
    """Within the block `member` is invisible, as when it sent what is handled: that is dropped, or refused [K3]."""
    before, member.invisible = member.invisible, True
    try:
        yield
    finally:
        member.invisible = before


def is_dropped(member: Member, message: RoomMessage, scopes: Scopes | None) -> bool:
    """Is presence switched off for the caller, though not for the session that acts, and `message` one that is accepted
    and dropped then, as for a session that is invisible itself [K1, K3]? Errors: INVISIBLE for what that may not do."""
    if scopes is None or scopes.presence or member.disabled:
        return False
    action = message.data.action if isinstance(message, PlaybackMessage) else ""
    if action == "resync":  # reaches nobody else
        return False
    if action == "report" or isinstance(message, CursorMessage | SelectionMessage | Typing):
        return True
    raise PresenceError("INVISIBLE")
