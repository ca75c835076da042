cdef Py_ssize_t write_decimal(char* out, double value) noexcept nogil
cdef Py_ssize_t write_integer(char* out, unsigned long long value) noexcept nogil
