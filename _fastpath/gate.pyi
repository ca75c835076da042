from collections.abc import Callable

from koko_presence.messages import Cursor

from .road import Lane
from .throttle import TokenBucket

class Gate:
    seen_at: float
    stirred_at: float
    open: bool
    awake: bool
    crowded: bool
    def __init__(
        self,
        messages: TokenBucket,
        cursors: TokenBucket,
        max_bytes: int,
        clock: Callable[[], float],
        now: float,
        pass_on: Callable[[str, Cursor, float], None],
    ) -> None: ...
    def note_life(self, now: float) -> None: ...
    def note_stir(self, now: float) -> None: ...
    def add_lane(self, lane: Lane) -> None: ...
    def drop_lane(self, room_id: str) -> Cursor | None: ...
    def take_back(self, room_id: str) -> Cursor | None: ...
    def unsent(self, room_id: str) -> bool: ...
    def last_cursor(self, room_id: str) -> Cursor | None: ...
    def take(self, data: bytes) -> bool: ...
