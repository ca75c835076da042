"""Which procedure of the application's tRPC API is asked for which room, as one line of the configuration each [A6]."""

import re
from typing import NamedTuple

from koko_presence.protocol.messages import RoomType

ROOM_TYPES: tuple[RoomType, ...] = ("project", "video", "comment_thread", "comparison")

_RULE = re.compile(
    r"\s*(?:(?P<prefix>[^\s*>]+)\*|(?P<type>[a-z_]+))\s*->\s*(?P<procedure>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)"
    r"\(\s*(?P<input>[A-Za-z0-9_]+)\s*(?:=\s*(?P<whole>roomId)\s*)?\)\s*"
)


class Rule(NamedTuple):
    """Rooms whose id begins with `prefix`, or of `room_type`, are asked for with `procedure` and an input that has
    the id, as a whole or what comes behind the prefix, in `field`."""

    prefix: str
    room_type: RoomType | None
    procedure: str
    field: str
    whole: bool

    def covers(self, room_id: str, room_type: RoomType | None) -> bool:
        if self.room_type is not None:
            return room_type == self.room_type
        return room_id.startswith(self.prefix) and len(room_id) > len(self.prefix)


def parse_rule(text: str) -> Rule:
    """`video_* -> video.getById(id)`: what the star stands for is the input's `id`; with `(id=roomId)` it is the whole
    room id. `video -> video.getById(id)`: all rooms of that type, always by their whole id.

    Errors: ValueError, which says what is wrong."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError("is no rule: write it like  video_* -> video.getById(id)")
    room_type = next((each for each in ROOM_TYPES if each == found["type"]), None)
    if found["prefix"] is None and room_type is None:
        raise ValueError(f"names no type of room ({', '.join(ROOM_TYPES)}) and has no prefix, which ends with a *")
    whole = found["whole"] is not None or room_type is not None
    return Rule(found["prefix"] or "", room_type, found["procedure"], found["input"], whole)
