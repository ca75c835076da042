"""Converts positions to frames and back, exactly: with fractions, because floats would be a frame off now and then
[H21]. Pure."""

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from msgspec import UNSET

from koko_presence.protocol.models import Medium

# A position this little before a frame is in it: WebM rounds the time of a frame to a ms, and Chromium to a µs.
EARLY_S = Fraction(1, 2000)
HALF = Fraction(1, 2)


class FrameGrid(NamedTuple):
    """The frames of one medium on the time of its room: frame n, from 0, is shown from n / `rate` - `offset` on, in
    seconds. `duration` is that of the medium, None when it is not known."""

    rate: Fraction
    offset: Fraction
    duration: Fraction | None

    @property
    def last(self) -> int | None:
        """The number of the last frame; None when it is not known. A container's duration is rounded, so the number of
        frames is the nearest one."""
        return None if self.duration is None else max(ceil(self.duration * self.rate - HALF) - 1, 0)

    def runs_at(self, position: float) -> bool:
        """Return whether the medium has begun and is not over at a position of the room."""
        own = Fraction(position) + self.offset
        return own >= -EARLY_S and (self.duration is None or own <= self.duration + EARLY_S)

    def frame_at(self, position: float) -> int:
        """Return the frame that is shown at a position of the room in seconds: before the medium begins its first, and
        after its end its last one."""
        return self.limited(floor((Fraction(position) + self.offset + EARLY_S) * self.rate))

    def limited(self, number: int) -> int:
        """Return the number of the medium's frame that is nearest to `number`."""
        last = self.last
        return max(number if last is None else min(number, last), 0)

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
