"""The wall clock as a pure function of the monotonic one, so that timestamps too can be tested without waiting.

Everything inside counts monotonic seconds (`now`). Only what leaves the server as a date passes through here. The
worker, the one place that reads clocks, tells the offset at start and again every second, so that NTP is followed.
"""

from datetime import UTC, datetime


class WallClock:
    """Turns a monotonic second into server milliseconds and into ISO 8601 UTC with milliseconds and `Z` [B6]."""

    __slots__ = ("_iso", "_ms", "_offset_s", "_second", "_second_text")

    def __init__(self, offset_s: float = 0.0) -> None:
        self._offset_s = offset_s
        self._ms = -1
        self._iso = ""
        self._second = -1
        self._second_text = ""

    def sync(self, now: float, unix_s: float) -> None:
        """Say that monotonic second `now` is `unix_s` seconds after 1970."""
        self._offset_s = unix_s - now

    def ms(self, now: float) -> int:
        """Server time in whole milliseconds since 1970."""
        return int((now + self._offset_s) * 1000.0)

    def iso(self, now: float) -> str:
        """`2025-01-15T10:30:00.000Z`; made once per millisecond, since strftime costs three times a whole encode."""
        ms = self.ms(now)
        if ms != self._ms:
            self._ms = ms
            second, rest = divmod(ms, 1000)
            if second != self._second:
                self._second = second
                self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._iso = f"{self._second_text}{rest:03d}Z"
        return self._iso
