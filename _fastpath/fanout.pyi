from .outbox import Outbox

class StreamFrame:
    frame: bytes
    skip: str
    only: str
    merge: str
    compact: bytes | None
    attach: bool
    detach: bool
    refusal: bool
    def __init__(
        self,
        frame: bytes,
        skip: str = "",
        only: str = "",
        merge: str = "",
        compact: bytes | None = None,
        attach: bool = False,
        detach: bool = False,
        refusal: bool = False,
    ) -> None: ...

def is_plain(items: list[StreamFrame]) -> bool: ...

class RoomFlush:
    room_id: str
    items: list[StreamFrame]
    timestamp: str
    def __init__(self, room_id: str, items: list[StreamFrame], timestamp: str) -> None: ...

class CursorTemplate:
    def __init__(
        self, room_id: str, user_id: str, session_id: str, color: str, index: int | None, merge: str
    ) -> None: ...
    def make(self, timestamp: float | None, x: float | None, y: float | None, iso: str, seq: int) -> StreamFrame: ...

class RoomSubscription:
    room_id: str
    outboxes: dict[str, Outbox]
    any_compact: bool
    def __init__(self, room_id: str) -> None: ...
    def add(self, session_id: str, outbox: Outbox) -> None: ...
    def discard(self, session_id: str) -> None: ...
    def fan_out(self, items: list[StreamFrame], timestamp: str) -> None: ...
