# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Parses plain cursors, the only message that every client may send 20 times a second:

    {"type":"cursor","roomId":"video_123","data":{"timestamp":15.5,"x":0.45,"y":0.3}}

with the keys in any order and with any white space. Any other text (an `id`, a `target`, `data: null`, an escape in a
string, a sign, an exponent, a number out of range, a syntax error) is left to msgspec, which decodes it or reports the
error. Whatever is accepted here is decoded as msgspec decodes it; a test compares the two. Keeps no state.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from koko_presence.protocol.models import MAX_MEDIA_TIME_S

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* text, char** end, object overflow) except? -1.0

cdef double LONGEST_S = MAX_MEDIA_TIME_S
cdef double[23] POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
]

cdef enum Key:
    TYPE = 1
    ROOM = 2
    DATA = 4
    TIMESTAMP = 8
    X = 16
    Y = 32


cdef struct Reader:
    const char* at
    const char* end


cdef inline void skip_space(Reader* reader) noexcept nogil:
    while reader.at < reader.end and (reader.at[0] == 32 or 9 <= reader.at[0] <= 10 or reader.at[0] == 13):
        reader.at += 1


cdef inline bint skip(Reader* reader, char wanted) noexcept nogil:
    """Skip white space, the character `wanted`, and white space; False if another character follows."""
    skip_space(reader)
    if reader.at >= reader.end or reader.at[0] != wanted:
        return False
    reader.at += 1
    skip_space(reader)
    return True


cdef inline Py_ssize_t read_text(Reader* reader, const char** text) noexcept nogil:
    """Read a string without escapes: returns its size and sets `text`; -1 if it has escapes or does not end."""
    cdef unsigned char here
    if reader.at >= reader.end or reader.at[0] != 34:
        return -1
    reader.at += 1
    text[0] = reader.at
    while reader.at < reader.end:
        here = <unsigned char>reader.at[0]
        if here == 34:
            reader.at += 1
            return reader.at - 1 - text[0]
        if here == 92 or here < 32:
            return -1
        reader.at += 1
    return -1


cdef double slowly(const char* text, Py_ssize_t size) noexcept nogil:
    """The double nearest to a decimal of many digits, by CPython's conversion; -1 on error."""
    cdef char[40] copy
    cdef double value
    memcpy(copy, text, size)
    copy[size] = 0
    with gil:
        try:
            value = PyOS_string_to_double(copy, NULL, None)
        except Exception:
            value = -1.0
    return value


cdef inline bint read_number(Reader* reader, double highest, double* value) noexcept nogil:
    """Read a JSON number from 0 to `highest`, without sign and exponent, of at most 19 digits; False for any other."""
    cdef const char* start = reader.at
    cdef uint64_t digits = 0
    cdef int count = 0, after_point = 0
    cdef bint point = False
    cdef char here
    while reader.at < reader.end:
        here = reader.at[0]
        if 48 <= here <= 57:
            digits = digits * 10 + <uint64_t>(here - 48)
            count += 1
            after_point += point
            if count > 19 + (start[0] == 48):  # a leading zero needs no bits
                return False
        elif here == 46 and count and not point:
            point = True
        else:
            break
        reader.at += 1
    if not count or (point and not after_point) or (start[0] == 48 and count - after_point > 1):
        return False
    if reader.at < reader.end and (reader.at[0] == 101 or reader.at[0] == 69):
        return False
    if digits <= 1ULL << 53:  # both are exact, so the single division rounds correctly [Clinger 1990]
        value[0] = <double>digits / POWERS[after_point]
    else:
        value[0] = slowly(start, reader.at - start)
    return 0.0 <= value[0] <= highest


cdef bint read_data(Reader* reader, CursorText* found) noexcept nogil:
    cdef const char* name
    cdef Py_ssize_t size
    cdef int seen = 0, key
    cdef double* into
    if not skip(reader, 123):
        return False
    while True:
        size = read_text(reader, &name)
        if size == 9 and memcmp(name, b"timestamp", 9) == 0:
            key, into = TIMESTAMP, &found.timestamp
        elif size == 1 and name[0] == 120:
            key, into = X, &found.x
        elif size == 1 and name[0] == 121:
            key, into = Y, &found.y
        else:
            return False
        if seen & key or not skip(reader, 58) or not read_number(reader, LONGEST_S if key == TIMESTAMP else 1.0, into):
            return False
        seen |= key
        skip_space(reader)
        if reader.at >= reader.end:
            return False
        if reader.at[0] == 44:
            skip(reader, 44)
        else:
            break
    found.has_timestamp = seen & TIMESTAMP != 0
    found.has_point = seen & X != 0
    return (seen & X != 0) == (seen & Y != 0) and skip(reader, 125)


cdef bint scan_cursor(const char* text, Py_ssize_t size, CursorText* found) noexcept nogil:
    """Parse a plain cursor into `found`, whose `room` points into `text`; False for any other text."""
    cdef Reader reader
    cdef const char* name
    cdef Py_ssize_t name_size, value_size
    cdef int seen = 0, key
    memset(found, 0, sizeof(CursorText))
    reader.at = text
    reader.end = text + size
    if not skip(&reader, 123):
        return False
    while True:
        name_size = read_text(&reader, &name)
        if name_size == 4 and memcmp(name, b"type", 4) == 0:
            key = TYPE
        elif name_size == 6 and memcmp(name, b"roomId", 6) == 0:
            key = ROOM
        elif name_size == 4 and memcmp(name, b"data", 4) == 0:
            key = DATA
        else:
            return False
        if seen & key or not skip(&reader, 58):
            return False
        seen |= key
        if key == DATA:
            if not read_data(&reader, found):
                return False
        elif key == TYPE:
            value_size = read_text(&reader, &name)
            if value_size != 6 or memcmp(name, b"cursor", 6) != 0:
                return False
        else:
            found.room_size = read_text(&reader, &found.room)
            if found.room_size < 1:
                return False
        skip_space(&reader)
        if reader.at >= reader.end:
            return False
        if reader.at[0] == 44:
            skip(&reader, 44)
        else:
            break
    return seen == (TYPE | ROOM | DATA) and skip(&reader, 125) and reader.at == reader.end


def scanned(bytes data not None):
    """`scan_cursor` for tests: room id, timestamp, x, y; None for any other text."""
    cdef CursorText found
    if not scan_cursor(data, len(data), &found):
        return None
    return (
        found.room[: found.room_size],
        found.timestamp if found.has_timestamp else None,
        found.x if found.has_point else None,
        found.y if found.has_point else None,
    )
