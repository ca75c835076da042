# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Frames of a client as they stand in its bytes: headers, masks, and what is wrong with them [RFC 6455 section 5.2].

Pure C over bytes of somebody else's; nothing is read past `size`.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline int header_size(const unsigned char* head) noexcept nogil:
    cdef int size = head[1] & 127
    return 6 + (2 if size == 126 else 8 if size == 127 else 0)


cdef int read_header(const char* data, Py_ssize_t size, Py_ssize_t longest, Header* header) noexcept nogil:
    """Read the header that `data` begins with. Returns its size, 0 while it is not whole, or what is wrong with it
    (BAD_OPCODE and so on), as soon as that can be seen. `longest` bounds the payload."""
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
        # the shortest form only, and no sign bit
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
    """Up to where a frame is known to go of which `size` bytes have come, and whose header is right as far as it has:
    more than `size` unless the frame is whole."""
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
    """`size` bytes of `payload` without their mask."""
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
    """When `data` begins with a whole, masked, final text frame of at most `longest` bytes: its payload into `text`, its
    length with the header into `used`. Returns the size of the payload, -1 for anything else."""
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
    """`read_header` for tests: (size, opcode, fin, length of the payload), a fault below 0, or None while not whole."""
    cdef Header found
    cdef int size = read_header(data, len(data), longest, &found)
    if size <= 0:
        return size or None
    return size, found.opcode, bool(found.fin), found.length


def unmasked(bytes data not None):
    """`small_text` for tests, up to 1,024 bytes: payload and length of the frame, or None."""
    cdef char[1024] text
    cdef Py_ssize_t used = 0
    cdef Py_ssize_t size = small_text(data, len(data), text, 1024, &used)
    return None if size < 0 else (text[:size], used)
