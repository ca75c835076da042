# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Where frames begin and end, for those who look at them before picows does [RFC 6455 section 5.2].

picows parses every frame and knows what is wrong with it. Here is only as much as it takes to recognise a small whole
text, which may be a plain cursor, and to know where a frame ends.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline int header_size(const unsigned char* head) noexcept nogil:
    cdef int size = head[1] & 127
    return 2 + (2 if size == 126 else 8 if size == 127 else 0) + (4 if head[1] & 128 else 0)


cdef inline uint64_t payload_size(const unsigned char* head) noexcept nogil:
    cdef uint64_t size = head[1] & 127
    cdef int index
    if size == 126:
        return (<uint64_t>head[2] << 8) | head[3]
    if size == 127:
        size = 0
        for index in range(2, 10):
            size = (size << 8) | head[index]
    return size


cdef Py_ssize_t walk_one(Frames* frames, const char* data, Py_ssize_t size) noexcept nogil:
    """Go past `data` up to the end of the present frame at most; returns how many bytes that were."""
    cdef Py_ssize_t at = 0
    cdef uint64_t step
    while at < size:
        if frames.owed:
            step = frames.owed if frames.owed < <uint64_t>(size - at) else <uint64_t>(size - at)
            frames.owed -= step
            at += <Py_ssize_t>step
        else:
            frames.head[frames.head_size] = <unsigned char>data[at]
            frames.head_size += 1
            at += 1
            if frames.head_size < 2 or frames.head_size < header_size(frames.head):
                continue
            frames.owed = payload_size(frames.head)
            frames.head_size = 0
        if not frames.owed:
            break
    return at


cdef Py_ssize_t small_text(
    const char* data, Py_ssize_t size, char* text, Py_ssize_t longest, Py_ssize_t* used
) noexcept nogil:
    """When `data` begins with a whole, masked, final text frame of at most `longest` bytes: its payload into `text`, its
    length with the header into `used`. Returns the size of the payload, -1 for anything else."""
    cdef const unsigned char* head = <const unsigned char*>data
    cdef Py_ssize_t length, at, index
    cdef uint32_t mask
    cdef uint64_t wide, word
    if size < 6 or head[0] != 0x81 or not head[1] & 128:
        return -1
    length = head[1] & 127
    at = 6
    if length == 126:
        if size < 8:
            return -1
        length = (<Py_ssize_t>head[2] << 8) | head[3]
        at = 8
    elif length == 127:
        return -1
    if length > longest or at + length > size:
        return -1
    memcpy(&mask, data + at - 4, 4)
    wide = (<uint64_t>mask << 32) | mask
    index = 0
    while index + 8 <= length:
        memcpy(&word, data + at + index, 8)
        word ^= wide
        memcpy(text + index, &word, 8)
        index += 8
    while index < length:
        text[index] = data[at + index] ^ data[at - 4 + (index & 3)]
        index += 1
    used[0] = at + length
    return length


def boundaries(list pieces):
    """`walk_one` for tests: after each piece, would the next byte begin a frame?"""
    cdef Frames frames
    frames.head_size = 0
    frames.owed = 0
    told = []
    for piece in pieces:
        text, size = <bytes>piece, len(piece)
        at = 0
        while at < size:
            at += walk_one(&frames, PyBytes_AS_STRING(text) + <Py_ssize_t>at, size - at)
        told.append(frames.owed == 0 and frames.head_size == 0)
    return told


def unmasked(bytes data not None):
    """`small_text` for tests, up to 1,024 bytes: payload and length of the frame, or None."""
    cdef char[1024] text
    cdef Py_ssize_t used = 0
    cdef Py_ssize_t size = small_text(data, len(data), text, 1024, &used)
    return None if size < 0 else (text[:size], used)
