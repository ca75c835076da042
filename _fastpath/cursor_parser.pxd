cdef struct CursorText:
    const char* room  # the room id within the text: UTF-8 without escapes
    Py_ssize_t room_size
    bint has_timestamp
    bint has_point
    double timestamp
    double x
    double y


cdef bint scan_cursor(const char* text, Py_ssize_t size, CursorText* found) noexcept nogil
