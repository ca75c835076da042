from libc.stdint cimport uint32_t


cdef enum:
    CONTINUATION = 0x0
    TEXT = 0x1
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

cdef enum:
    BAD_OPCODE = -1
    RESERVED_BITS = -2
    CUT_CONTROL = -3
    UNMASKED = -4
    LONG_CONTROL = -5
    BAD_LENGTH = -6
    TOO_BIG = -7


cdef struct Header:
    int opcode
    bint fin
    uint32_t mask  # in the byte order of the frame
    Py_ssize_t length  # of the payload


cdef int read_header(const char* data, Py_ssize_t size, Py_ssize_t longest, Header* header) noexcept nogil
cdef Py_ssize_t known_size(const char* data, Py_ssize_t size) noexcept nogil
cdef void unmask(char* target, const char* payload, Py_ssize_t size, uint32_t mask) noexcept nogil
cdef Py_ssize_t small_text(
    const char* data, Py_ssize_t size, char* text, Py_ssize_t longest, Py_ssize_t* used
) noexcept nogil
