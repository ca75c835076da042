cdef struct Frames:
    unsigned char[14] head  # the first bytes of a header that has not come in whole
    int head_size
    unsigned long long owed  # payload bytes of the present frame that are still to come


cdef Py_ssize_t walk_one(Frames* frames, const char* data, Py_ssize_t size) noexcept nogil
cdef Py_ssize_t small_text(const char* data, Py_ssize_t size, char* text, Py_ssize_t longest, Py_ssize_t* used) noexcept nogil
