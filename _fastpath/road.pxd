from koko_presence._fastpath.outbox cimport Turn
from koko_presence._fastpath.scan cimport CursorText
from koko_presence._fastpath.stream cimport FlushPlan, Pointer, Stream


cdef double read_clock(clock) except? -1.0


cdef class LocalRoad:
    cdef readonly FlushPlan plan
    cdef object _timers
    cdef object _clock
    cdef object _alarm
    cdef object _deliver
    cdef object _flushed
    cdef object _judge
    cdef double _judge_at
    cdef dict _feeds
    cdef Turn _turn
    cdef bint _soon
    cdef double _alarm_at

    cpdef plan_flush(self, double now)
    cdef count(self, list due, double now)
    cdef deliver(self, Stream room, list items, double now)


cdef class Lane:
    cdef readonly bytes key
    cdef Stream _room
    cdef Pointer _pointer
    cdef LocalRoad _road
    cdef object _on_second

    cdef bint put(self, CursorText* cursor, double now) except -1
