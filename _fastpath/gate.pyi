from collections.abc import Callable
from typing import Protocol

from koko_presence.messages import Cursor

from .road import Lane
from .rounds import Round
from .throttle import TokenBucket

class Rooms(Protocol):
    def show_late(self, room_id: str, cursor: Cursor, now: float) -> None: ...
    def note_flood(self, now: float) -> bool: ...

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
        rooms: Rooms,
        round: Round,
    ) -> None: ...
    def note_life(self, now: float) -> None: ...
    def note_stir(self, now: float) -> None: ...
    def add_lane(self, lane: Lane) -> None: ...
    def drop_lane(self, room_id: str) -> Cursor | None: ...
    def take_back(self, room_id: str) -> Cursor | None: ...
    def unsent(self, room_id: str) -> bool: ...
    def last_cursor(self, room_id: str) -> Cursor | None: ...
    def take(self, data: bytes) -> bool: ...
