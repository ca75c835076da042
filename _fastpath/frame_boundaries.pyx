# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Parses client frames: headers, masks and protocol errors [RFC 6455 section 5.2].

Pure C over untrusted bytes; never reads beyond `size`.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline int header_size(const unsigned char* head) noexcept nogil:
    cdef int size = head[1] & 127
    return 6 + (2 if size == 126 else 8 if size == 127 else 0)


cdef int read_header(const char* data, Py_ssize_t size, Py_ssize_t longest, Header* header) noexcept nogil:
    """Read the header at the start of `data`. Returns its size, 0 if it is incomplete, or an error (BAD_OPCODE etc.) as
    soon as one is detectable. `longest` bounds the payload."""
    cdef const unsigned char* head = <const unsigned char*>data
    cdef uint64_t length
    cdef int index, whole
    if size < 2:
        return 0
    header.opcode = head[0] & 15
    header.fin = head[0] >> 7
    if head[0] & 0x70:
        return RESERVED_BITS
    if 2 < header.opcode < 8 or header.opcode > 10:
        return BAD_OPCODE
    if not head[1] & 128:
        return UNMASKED
    length = head[1] & 127
    if header.opcode >= 8:
        if not header.fin:
            return CUT_CONTROL
        if length > 125:
            return LONG_CONTROL
    whole = header_size(head)
    if length >= 126:
        if size < whole - 4:
            return 0
        length = 0
        for index in range(2, whole - 4):
            length = (length << 8) | head[index]
        # the shortest form only, without the sign bit
        if length < 126 or (whole == 14 and (length < 65536 or length >> 63)):
            return BAD_LENGTH
    if length > <uint64_t>longest:
        return TOO_BIG
    header.length = <Py_ssize_t>length
    if size < whole:
        return 0
    memcpy(&header.mask, data + whole - 4, 4)
    return whole


cdef Py_ssize_t known_size(const char* data, Py_ssize_t size) noexcept nogil:
    """The size up to which a frame is known to extend, given its first `size` bytes with a valid header: more than
    `size` unless the frame is complete."""
    cdef const unsigned char* head = <const unsigned char*>data
    cdef int whole, index
    cdef uint64_t length
    if size < 2:
        return 2
    whole = header_size(head)
    if size < whole:
        return whole
    length = head[1] & 127
    if length >= 126:
        length = 0
        for index in range(2, whole - 4):
            length = (length << 8) | head[index]
    return whole + <Py_ssize_t>length


cdef void unmask(char* target, const char* payload, Py_ssize_t size, uint32_t mask) noexcept nogil:
    """Write `size` bytes of `payload` without their mask to `target`."""
    cdef uint64_t wide = (<uint64_t>mask << 32) | mask
    cdef uint64_t word
    cdef Py_ssize_t index = 0
    cdef const char* each = <const char*>&mask
    while index + 8 <= size:
        memcpy(&word, payload + index, 8)
        word ^= wide
        memcpy(target + index, &word, 8)
        index += 8
    while index < size:
        target[index] = payload[index] ^ each[index & 3]
        index += 1


cdef Py_ssize_t small_text(
    const char* data, Py_ssize_t size, char* text, Py_ssize_t longest, Py_ssize_t* used
) noexcept nogil:
    """If `data` begins with a complete, masked, final text frame of at most `longest` bytes, write its payload to
    `text` and the size of the frame to `used`. Returns the size of the payload, -1 for anything else."""
    cdef const unsigned char* head = <const unsigned char*>data
    cdef Py_ssize_t length, at
    cdef uint32_t mask
    if size < 6 or head[0] != 0x81 or not head[1] & 128:
        return -1
    length = head[1] & 127
    at = 6
    if length == 126:
        if size < 8:
            return -1
        length = (<Py_ssize_t>head[2] << 8) | head[3]
        at = 8
        if length < 126:
            return -1
    elif length == 127:
        return -1
    if length > longest or at + length > size:
        return -1
    memcpy(&mask, data + at - 4, 4)
    unmask(text, data + at, length, mask)
    used[0] = at + length
    return length


def header(bytes data not None, Py_ssize_t longest):
    """`read_header` for tests: (size, opcode, fin, length of the payload), an error below 0, or None if incomplete."""
    cdef Header found
    cdef int size = read_header(data, len(data), longest, &found)
    if size <= 0:
        return size or None
    return size, found.opcode, bool(found.fin), found.length


def unmasked(bytes data not None):
    """`small_text` for tests, up to 1,024 bytes: payload and size of the frame, or None."""
    cdef char[1024] text
    cdef Py_ssize_t used = 0
    cdef Py_ssize_t size = small_text(data, len(data), text, 1024, &used)
    return None if size < 0 else (text[:size], used)
