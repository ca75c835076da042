from collections.abc import Callable
from typing import Any

from koko_presence.protocol.messages import Cursor

from .fanout import StreamFrame
from .outbox import WriteBatch
from .room_core import FlushQueue, MemberCore, RoomCore
from .rounds import Round

class FlushScheduler:
    plan: FlushQueue
    def __init__(
        self,
        plan: FlushQueue,
        timers: Any,
        clock: Callable[[], float],
        alarm: Any,
        deliver: Callable[[Any, list[StreamFrame], float], None],
        flushed: Callable[[float], None],
        judge: Callable[[float], None],
        advise: Callable[[Any], None],
    ) -> None: ...
    def shorten(self, feeds: dict[str, Any] | None, turn: WriteBatch | None) -> None: ...
    def pair(self, round: Round) -> None: ...
    def plan_flush(self, now: float) -> None: ...
    def run(self) -> None: ...

class CursorRoute:
    key: bytes
    def last(self) -> Cursor | None: ...
    def note_last(self, cursor: Cursor | None) -> None: ...
    def __init__(
        self, room: RoomCore, pointer: MemberCore, road: FlushScheduler, on_second: Callable[[Any, float], None]
    ) -> None: ...
