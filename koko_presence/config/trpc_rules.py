"""Rules that choose the procedure of the application's tRPC API for a room, one line of the configuration each [A6]."""

import re
from typing import NamedTuple

from koko_presence.protocol.models import RoomType

ROOM_TYPES: tuple[RoomType, ...] = ("project", "video", "comment_thread", "comparison")

_RULE = re.compile(
    r"\s*(?:(?P<prefix>[^\s*>]+)\*|(?P<type>[a-z_]+))\s*->\s*(?P<procedure>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)"
    r"\(\s*(?P<input>[A-Za-z0-9_]+)\s*(?:=\s*(?P<whole>roomId)\s*)?\)\s*"
)


class Rule(NamedTuple):
    """For rooms of `room_type`, or when that is None with an id that begins with `prefix`, `procedure` is called. Its
    input has the room id in `field`: the whole id if `whole`, else the part after the prefix."""

    prefix: str
    room_type: RoomType | None
    procedure: str
    field: str
    whole: bool

    def covers(self, room_id: str, room_type: RoomType | None) -> bool:
        """Whether the rule applies to this room. A prefix alone is no room id of the rule."""
        if self.room_type is not None:
            return room_type == self.room_type
        return room_id.startswith(self.prefix) and len(room_id) > len(self.prefix)


def parse_rule(text: str) -> Rule:
    """Parse one rule. `video_* -> video.getById(id)`: the part of the room id after `video_` is the field `id` of the
    input; with `(id=roomId)` the whole room id is. `video -> video.getById(id)`: all rooms of that type, always with
    the whole room id.

    Errors: ValueError with the reason."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError("is no rule: write it like  video_* -> video.getById(id)")
    room_type = next((each for each in ROOM_TYPES if each == found["type"]), None)
    if found["prefix"] is None and room_type is None:
        raise ValueError(f"names no type of room ({', '.join(ROOM_TYPES)}) and has no prefix, which ends with a *")
    whole = found["whole"] is not None or room_type is not None
    return Rule(found["prefix"] or "", room_type, found["procedure"], found["input"], whole)
