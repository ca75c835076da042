from typing import Any

from koko_presence.protocol.models import Cursor

from .fanout import StreamFrame
from .throttle import Coalescer, Meter, TokenBucket
from .wallclock import WallClock

BUSY_FRAMES_PER_WINDOW: float

class FlushPacing:
    def flush_at(self, now: float, window_s: float) -> float: ...
    def flushed(self, now: float, frames: int) -> None: ...

class RoomCore:
    id: str
    needs_timestamp: bool
    wall: WallClock
    budget: TokenBucket
    meter: Meter
    pacing: FlushPacing
    members: dict[str, Any]
    out: list[StreamFrame]
    urgent: bool
    advised_ms: int
    seq: int
    def __init__(self, id: str, wall: WallClock, budget: TokenBucket, meter: Meter, needs_timestamp: bool) -> None: ...
    def begin_anew(self, budget: TokenBucket, meter: Meter, needs_timestamp: bool) -> None: ...
    def settle(self) -> None: ...
    def take_items(self, now: float) -> list[StreamFrame]: ...
    def show_cursor(self, member: MemberCore, cursor: Cursor, now: float) -> None: ...
    def show_now(self, member: MemberCore, cursor: Cursor, now: float) -> None: ...
    def drop_deferred(self, member: MemberCore) -> bool: ...
    def take_deferred(self, member: MemberCore) -> Cursor | None: ...
    def admit_deferred(self, now: float) -> None: ...

class MemberCore:
    user_id: str
    session_id: str
    cursor_bucket: TokenBucket
    pending: Coalescer
    connected: bool
    attached: bool
    disabled: bool
    invisible: bool
    share_cursor: bool
    cursor_put_away: bool
    last_active_at: float
    color: str
    index: int | None
    cursor: Cursor | None
    visible: bool
    def __init__(self, user_id: str, session_id: str, cursor_bucket: TokenBucket, now: float) -> None: ...

class FlushQueue:
    soonest: float
    window_s: float
    ceiling_s: float
    full: bool
    advised_ms: int
    def __init__(self, window_s: float, ceiling_s: float) -> None: ...
    def window_for(self, members: int) -> float: ...
    def touch(self, room: RoomCore, now: float) -> None: ...
    def schedule_now(self, room: RoomCore, now: float) -> None: ...
    def take_due(self, now: float) -> list[RoomCore]: ...
