from collections.abc import Callable
from typing import Any

from koko_presence.protocol.models import Cursor

from .fanout import StreamFrame
from .outbox import WriteBatch
from .room_core import FlushQueue, MemberCore, RoomCore
from .rounds import Round

class FlushScheduler:
    flush_queue: FlushQueue
    def __init__(
        self,
        flush_queue: FlushQueue,
        timers: Any,
        clock: Callable[[], float],
        alarm: Any,
        deliver: Callable[[Any, list[StreamFrame], float], None],
        flushed: Callable[[float], None],
        judge: Callable[[float], None],
        advise: Callable[[Any], None],
    ) -> None: ...
    def use_fast_path(self, subscriptions: dict[str, Any] | None, write_batch: WriteBatch | None) -> None: ...
    def use_round(self, round: Round) -> None: ...
    def schedule_flush(self, now: float) -> None: ...
    def run(self) -> None: ...

class CursorRoute:
    key: bytes
    def last(self) -> Cursor | None: ...
    def note_last(self, cursor: Cursor | None) -> None: ...
    def __init__(
        self, room: RoomCore, member: MemberCore, scheduler: FlushScheduler, on_second: Callable[[Any, float], None]
    ) -> None: ...
