"""Converts positions to frames and back, exactly: with fractions, because floats would be a frame off now and then
[H21]. Pure."""

from fractions import Fraction
from math import ceil, floor, inf

# A position this little before a frame is in it: WebM rounds the time of a frame to a ms, and Chromium to a µs.
EARLY_S = Fraction(1, 2000)
HALF = Fraction(1, 2)
# Floats are enough this far from a frame's begin, in frames: at 1e6 s and 1000 frames a second they are off by less
# than 1e-5 of a frame.
CLEAR = 1e-4


class FrameGrid:
    """The frames of one medium on the time of its room: frame n, from 0, is shown from n / `rate` - `offset` on, in
    seconds. `last` is the number of the last frame; None when it is not known.

    `rate` is a number or a fraction as text, `duration` that of the medium in seconds, None when it is not known. A
    container's duration is rounded, so the number of frames is the nearest one."""

    __slots__ = ("_begins", "_ends", "_offset", "_offset_s", "_rate", "last", "per_second")

    def __init__(self, rate: float | str, offset: float, duration: float | None) -> None:
        self._rate, self._offset = Fraction(rate), Fraction(offset)
        self.per_second = float(self._rate)
        self._offset_s = offset + float(EARLY_S)
        self.last = None if duration is None else max(ceil(Fraction(duration) * self._rate - HALF) - 1, 0)
        self._begins = float(-self._offset - EARLY_S)
        self._ends = inf if duration is None else float(Fraction(duration) - self._offset + EARLY_S)

    def runs_at(self, position: float) -> bool:
        """Return whether the medium has begun and is not over at a position of the room."""
        return self._begins <= position <= self._ends

    def frame_at(self, position: float) -> int:
        """Return the frame that is shown at a position of the room in seconds: before the medium begins its first, and
        after its end its last one."""
        found = (position + self._offset_s) * self.per_second
        frame = floor(found)
        if not CLEAR < found - frame < 1.0 - CLEAR:
            frame = floor((Fraction(position) + self._offset + EARLY_S) * self._rate)
        return self.limited(frame)

    def limited(self, number: int) -> int:
        """Return the number of the medium's frame that is nearest to `number`."""
        return max(number if self.last is None else min(number, self.last), 0)

    def middle_of(self, frame: int) -> float:
        """Return the position of the room, in seconds, at the middle of a frame; every decoder shows that frame there.
        Where the room begins within the frame, after its middle, it is 0."""
        return max(float((frame + HALF) / self._rate - self._offset), 0.0)
