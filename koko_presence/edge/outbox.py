"""What waits to be written to one socket. Recorded while a loop turn runs, written once at its end.

A socket write costs about 5 us of kernel time whatever its size, so everything for a receiver goes out in one. What we
hold for a receiver that does not read is bounded: past the hard limit the connection is cut with 4413 and may resume
[J2].
"""

from collections.abc import Callable
from typing import Protocol


class Wire(Protocol):
    """The part of a Connection that an outbox needs."""

    @property
    def unsent_bytes(self) -> int: ...

    def send_frames(self, data: bytes) -> None: ...


class Outbox:
    """Ready frames for one connection, in order. `on_dirty` is called when the first one comes."""

    __slots__ = ("_frames", "_hard_bytes", "_on_dirty", "_on_slow", "_wire")

    def __init__(
        self, wire: Wire, hard_bytes: int, on_dirty: Callable[["Outbox"], None], on_slow: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._hard_bytes = hard_bytes
        self._on_dirty = on_dirty
        self._on_slow = on_slow
        self._frames: list[bytes] = []

    def write(self, frames: bytes) -> None:
        """Add ready frames to what goes out at the end of this turn."""
        if not self._frames:
            self._on_dirty(self)
        self._frames.append(frames)

    def flush(self) -> None:
        """Write everything that waits in one go."""
        frames, self._frames = self._frames, []
        if not frames:
            return
        if self._wire.unsent_bytes > self._hard_bytes:
            self._on_slow()
            return
        self._wire.send_frames(frames[0] if len(frames) == 1 else b"".join(frames))
