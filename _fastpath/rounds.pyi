from collections.abc import Callable

class Round:
    started_at: float
    until: float
    open: bool
    number: int
    longest_s: float
    longest_admission_s: float
    longest_behind_s: float
    behind: bool
    socket_s: float
    socket_bytes: int
    def __init__(self, clock: Callable[[], float] = ...) -> None: ...
    def admission_waits_for(self, now: float) -> float: ...
    def received_at(self, now: float) -> float: ...
