from koko_presence._fastpath.outbox cimport WriteBatch
from koko_presence._fastpath.rounds cimport Round
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence._fastpath.room_core cimport FlushQueue, MemberCore, RoomCore


cdef double read_clock(clock) except? -1.0


cdef class DeferredSender:
    cdef bint listed

    cdef double release(self, double now) except? -1.0


cdef class FlushScheduler:
    cdef readonly FlushQueue flush_queue
    cdef object _timers
    cdef object _clock
    cdef object _alarm
    cdef object _deliver
    cdef object _flushed
    cdef object _judge
    cdef object _advise
    cdef double _judge_at
    cdef dict _subscriptions
    cdef WriteBatch _write_batch
    cdef bint _soon
    cdef double _alarm_at
    cdef list _backlog
    cdef Round _round
    cdef list _senders
    cdef double _senders_at

    cpdef schedule_flush(self, double now)
    cdef wait(self, DeferredSender sender, double at, double now)
    cdef release(self, double now)
    cdef write(self, double now)
    cdef list order(self, list due)
    cdef count(self, list served, Py_ssize_t size, double now)
    cdef deliver(self, RoomCore room, list items, double now)


cdef class CursorRoute:
    cdef readonly bytes key
    cdef double at  # when the last accepted cursor arrived
    cdef bint has_deferred  # `value` waits for the session's own budget
    cdef CursorText value
    cdef RoomCore _room
    cdef MemberCore _member
    cdef FlushScheduler _scheduler
    cdef object _on_second

    cdef bint admits(self, CursorText* cursor) except -1
    cdef bint unsent(self) except -1
    cdef put(self, CursorText* cursor, double now)
