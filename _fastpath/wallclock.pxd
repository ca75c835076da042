cdef class WallClock:
    cdef double _offset_s
    cdef long long _ms
    cdef long long _day
    cdef char[24] _text
    cdef str _iso

    cpdef long long ms(self, double now)
    cdef const char* text(self, double now) except NULL
