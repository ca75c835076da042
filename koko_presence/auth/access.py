"""Placeholder until the real one lands."""

from collections.abc import Awaitable
from typing import Protocol

from msgspec import Struct


class Grant(Struct, frozen=True, kw_only=True):
    allow: bool
    can_control: bool = False
    can_broadcast: bool = False
    moderator: bool = False
    room_type: str | None = None
    reason: str = ""


class Access(Protocol):
    def check(self, identity, room_id: str, room_type: str | None) -> Grant | Awaitable[Grant]: ...


class AllowAll:
    def check(self, identity, room_id, room_type):
        return Grant(allow=True, can_control=True, can_broadcast=True)


class ClaimsAccess(AllowAll):
    pass


def room_type_of(room_id: str):
    for p in ("video", "project", "comment_thread", "comparison"):
        if room_id.startswith(p + "_"):
            return p
    return None
