# cython: language_level=3, boundscheck=False, wraparound=False
"""Frames made once and copied from there on: server frames are not masked, so every receiver gets the same bytes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy


cpdef bytes frame_text(bytes payload):
    """`payload` (UTF-8 JSON) as one unmasked final text frame [RFC 6455 section 5.2]."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef Py_ssize_t head = 2 if size < 126 else (4 if size < 65536 else 10)
    cdef bytes framed = PyBytes_FromStringAndSize(NULL, head + size)
    cdef unsigned char* out = <unsigned char*>PyBytes_AS_STRING(framed)
    cdef int i
    out[0] = 0x81
    if head == 2:
        out[1] = <unsigned char>size
    elif head == 4:
        out[1] = 126
        out[2] = <unsigned char>(size >> 8)
        out[3] = <unsigned char>(size & 0xFF)
    else:
        out[1] = 127
        for i in range(8):
            out[2 + i] = <unsigned char>((size >> (8 * (7 - i))) & 0xFF)
    memcpy(out + head, PyBytes_AS_STRING(payload), size)
    return framed
