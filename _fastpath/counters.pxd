cdef enum:
    BOUNDS = 16  # the length of BOUNDS_S in koko_presence/protocol/metric_types.py
    KINDS = 64  # more than the length of SENT_TYPES there
    CURSOR_KIND = 1

cdef struct Histogram:
    unsigned long long[17] buckets
    double sum_s

# the counters on a cursor's path
cdef struct Hot:
    unsigned long long cursors_received
    unsigned long long cursors_superseded  # replaced by a newer one of the same session before encoding
    unsigned long long cursors_merged  # replaced by a newer one before a slow client took it
    unsigned long long selections_merged
    unsigned long long presence_merged
    unsigned long long fanout_bytes
    unsigned long long flushes
    unsigned long long forwards  # cursors to rooms of other workers
    unsigned long long mesh_bytes
    unsigned long long[64] sent  # by kind
    Histogram broadcast
    Histogram join
    Histogram lag

cdef Hot hot
cdef double[16] bounds

cdef unsigned char kind_of(bytes frame) noexcept


cdef inline void observe(Histogram* histogram, double seconds) noexcept:
    cdef int i = 0
    while i < BOUNDS and seconds > bounds[i]:
        i += 1
    histogram.buckets[i] += 1
    histogram.sum_s += seconds if seconds > 0.0 else 0.0
