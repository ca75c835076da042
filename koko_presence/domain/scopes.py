"""What a member may do for the length of one message: with another token [M1], or as it was when that was sent [K3]."""

from collections.abc import Iterator
from contextlib import contextmanager

from koko_presence.commands import Scopes

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
