"""Converts positions to frames and back, exactly: with fractions, because floats would be a frame off now and then
[H21]. Pure."""

from fractions import Fraction
from math import ceil, floor

from msgspec import UNSET

from koko_presence.protocol.models import Medium

# A position this little before a frame is in it: WebM rounds the time of a frame to a ms, and Chromium to a µs.
EARLY_S = Fraction(1, 2000)
HALF = Fraction(1, 2)


class FrameGrid:
    """The frames of one medium on the time of its room: frame n, from 0, is shown from n / `rate` - `offset` on, in
    seconds. `last` is the number of the last frame, None when the duration is not known: a container's duration is
    rounded, so the number of frames is the nearest one."""

    __slots__ = ("_begins_at", "_ends_at", "last", "offset", "rate")

    def __init__(self, rate: Fraction, offset: Fraction, duration: Fraction | None) -> None:
        self.rate = rate
        self.offset = offset
        self.last = None if duration is None else max(ceil(duration * rate - HALF) - 1, 0)
        self._begins_at = float(-offset - EARLY_S)
        self._ends_at = None if duration is None else float(duration - offset + EARLY_S)

    def runs_at(self, position: float) -> bool:
        """Return whether the medium has begun and is not over at a position of the room."""
        return position >= self._begins_at and (self._ends_at is None or position <= self._ends_at)

    def frame_at(self, position: float) -> int:
        """Return the frame that is shown at a position of the room in seconds: before the medium begins its first, and
        after its end its last one."""
        return self.limited(floor((Fraction(position) + self.offset + EARLY_S) * self.rate))

    def limited(self, number: int) -> int:
        """Return the number of the medium's frame that is nearest to `number`."""
        return max(number if self.last is None else min(number, self.last), 0)

    def middle_of(self, frame: int) -> float:
        """Return the position of the room, in seconds, at the middle of a frame; every decoder shows that frame there.
        Where the room begins within the frame, after its middle, it is 0."""
        return max(float((frame + HALF) / self.rate - self.offset), 0.0)


def grid_of(medium: Medium, duration: float | None) -> FrameGrid | None:
    """Return the frames of a medium that lasts `duration` seconds; None when it has no frame rate."""
    if medium.frame_rate is UNSET:
        return None
    offset = Fraction(0) if medium.offset is UNSET else Fraction(medium.offset)
    return FrameGrid(Fraction(medium.frame_rate), offset, None if duration is None else Fraction(duration))
