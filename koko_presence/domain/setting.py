"""What every room and user of a shard shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from koko_presence._fastpath.wallclock import WallClock
from koko_presence.limits import Limits, RoomOptions

from .deadlines import Deadlines

if TYPE_CHECKING:
    from .room import Room


class Setting:
    """Written once, when the shard is made; limits again on reload."""

    __slots__ = ("deadlines", "effects", "freed", "kept", "limits", "options", "touched_users", "wall")

    def __init__(self, limits: Limits, options: RoomOptions, wall: WallClock, deadlines: Deadlines) -> None:
        self.limits = limits
        self.options = options
        self.wall = wall
        self.deadlines = deadlines
        self.effects: list[Any] = []
        self.kept = False  # do other workers keep records of what is here?
        self.touched_users: set[str] = set()  # whose record is not what it was
        self.freed: list[Room] = []  # of which nothing needs to be kept any more
