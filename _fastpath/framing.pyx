# cython: language_level=3, boundscheck=False, wraparound=False
"""Encodes messages as text frames of a server, which are not masked [RFC 6455 section 5.2]. Holds no state."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy


cpdef bytes frame_text(bytes payload):
    """Return `payload` (UTF-8 JSON) as one final text frame."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef Py_ssize_t head = 2 if size < 126 else (4 if size < 65536 else 10)
    cdef bytes framed = PyBytes_FromStringAndSize(NULL, head + size)
    cdef char* out = PyBytes_AS_STRING(framed)
    put_head(<unsigned char*>out, size)
    memcpy(out + head, PyBytes_AS_STRING(payload), size)
    return framed


cpdef bytes payload_of(bytes frame):
    """Return the payload of one frame made by `frame_text`."""
    cdef unsigned char length = <unsigned char>PyBytes_AS_STRING(frame)[1]
    cdef Py_ssize_t head = 2 if length < 126 else (4 if length == 126 else 10)
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(frame) + head, PyBytes_GET_SIZE(frame) - head)
