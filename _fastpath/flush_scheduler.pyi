from collections.abc import Callable
from typing import Any

from koko_presence.protocol.messages import Cursor

from .fanout import Item
from .outbox import Turn
from .room_core import FlushPlan, Pointer, Stream
from .rounds import Round

class LocalRoad:
    plan: FlushPlan
    def __init__(
        self,
        plan: FlushPlan,
        timers: Any,
        clock: Callable[[], float],
        alarm: Any,
        deliver: Callable[[Any, list[Item], float], None],
        flushed: Callable[[float], None],
        judge: Callable[[float], None],
        advise: Callable[[Any], None],
    ) -> None: ...
    def shorten(self, feeds: dict[str, Any] | None, turn: Turn | None) -> None: ...
    def pair(self, round: Round) -> None: ...
    def plan_flush(self, now: float) -> None: ...
    def run(self) -> None: ...

class Lane:
    key: bytes
    def last(self) -> Cursor | None: ...
    def note_last(self, cursor: Cursor | None) -> None: ...
    def __init__(
        self, room: Stream, pointer: Pointer, road: LocalRoad, on_second: Callable[[Any, float], None]
    ) -> None: ...
