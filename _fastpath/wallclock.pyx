# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Converts monotonic time to wall-clock time as a pure function, so that tests can set both.

All modules use monotonic seconds (`now`); only times that leave the server as dates are converted here. `Worker`, which
alone reads the clocks, sets the offset at the start and every second, so that adjustments by NTP are followed.
"""

from datetime import UTC, datetime

from libc.string cimport memcpy

cdef long long DAY_MS = 86_400_000


cdef class WallClock:
    """Converts a monotonic second to server milliseconds and to ISO 8601 UTC with milliseconds and `Z` [B6].

    The text is formatted at most once per millisecond, digit by digit: strftime alone costs three times as much as
    encoding an event.
    """

    def __init__(self, double offset_s=0.0):
        self._offset_s = offset_s
        self._ms = self._day = -1
        self._iso = None

    def sync(self, double now, double unix_s):
        """Set the offset: monotonic second `now` is `unix_s` seconds after 1970."""
        self._offset_s = unix_s - now

    cpdef long long ms(self, double now):
        """Server time in whole milliseconds since 1970."""
        return <long long>((now + self._offset_s) * 1000.0)

    cdef const char* text(self, double now) except NULL:
        """The 24 bytes of `iso(now)`, valid until the next call."""
        cdef long long ms = self.ms(now)
        cdef long long rest
        if ms == self._ms:
            return self._text
        if ms // DAY_MS != self._day:
            self._day = ms // DAY_MS
            start = datetime.fromtimestamp(self._day * 86_400, UTC).strftime("%Y-%m-%dT00:00:00.000Z").encode()
            memcpy(self._text, <char*><bytes>start, 24)
        rest = ms % DAY_MS
        put_digits(self._text + 20, rest % 1000, 3)
        rest //= 1000
        put_digits(self._text + 17, rest % 60, 2)
        rest //= 60
        put_digits(self._text + 14, rest % 60, 2)
        put_digits(self._text + 11, rest // 60, 2)
        self._ms = ms
        self._iso = None
        return self._text

    def iso(self, double now):
        """The text of a time, such as `2025-01-15T10:30:00.000Z`."""
        cdef const char* text = self.text(now)
        if self._iso is None:
            self._iso = text[:24].decode("ascii")
        return self._iso


cdef inline void put_digits(char* out, long long value, int count) noexcept:
    while count:
        count -= 1
        out[count] = <char>(48 + value % 10)
        value //= 10
