cdef inline Py_ssize_t put_head(unsigned char* out, Py_ssize_t size) noexcept:
    """Write the header of one final text frame with `size` bytes of payload; returns its length."""
    cdef int i
    out[0] = 0x81
    if size < 126:
        out[1] = <unsigned char>size
        return 2
    if size < 65536:
        out[1] = 126
        out[2] = <unsigned char>(size >> 8)
        out[3] = <unsigned char>(size & 0xFF)
        return 4
    out[1] = 127
    for i in range(8):
        out[2 + i] = <unsigned char>((size >> (8 * (7 - i))) & 0xFF)
    return 10


cpdef bytes frame_text(bytes payload)
cpdef bytes payload_of(bytes frame)
