# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The state of rooms and members that cursors use, and the schedule of flushes: `RoomCore`, `MemberCore`,
`FlushPacing`, `FlushQueue`.

`Room` and `Member` (rooms/) are subclasses with all the rules; the fields here are read and written 20 times a second
per user, so they are C fields. A quiet room flushes in the same loop iteration. A busy one waits for the end of a
window after its last flush, so that events share a write [L4]. A large room has a longer window: its writes alone, one
per member and flush, may take a sixteenth of the worker's time.

A plain cursor is a coalesced value of its member core. Once its tokens are taken it is FRESH until the room is flushed,
or until anything else is appended to the stream, and only then encoded: a newer one of the same session replaces it and
costs no token. Above its budgets it is DEFERRED: the newest one is kept, and every flush of the room admits those whose
tokens are available. So the work depends on the number of users and flushes, not of messages [E1, L1].
"""

from libc.math cimport INFINITY

from msgspec import UNSET

from koko_presence._fastpath.counters cimport hot
from koko_presence._fastpath.fanout cimport CursorTemplate, StreamFrame
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence._fastpath.throttle cimport SHARED_BUDGET_WAIT_S, Meter, TokenBucket, Coalescer
from koko_presence._fastpath.wallclock cimport WallClock
from koko_presence.protocol.models import Cursor

# A window costs more than it saves if it collects one frame, so a room waits only if it would collect several.
BUSY_FRAMES_PER_WINDOW = 3.0

cdef double BUSY = BUSY_FRAMES_PER_WINDOW
cdef double MEMORY_S = 0.1
cdef double WRITE_S = 5e-6  # the cost of one socket write
cdef double SHARE = 1.0 / 16.0  # of a worker's time for the writes of one room: 8 ms for 100 members
cdef double TAKEN_OUT = -INFINITY  # `scheduled_at` of a room that is about to be flushed


cdef class FlushPacing:
    """The time of a room's next flush: at once while the room is quiet, at the end of a window after its last flush
    while busy."""

    def __init__(self):
        self._flushed_at = -1e9
        self._recent = 0.0  # frames in about the last tenth of a second

    cpdef double flush_at(self, double now, double window_s):
        """The monotonic second at which frames that are ready at `now` should be written."""
        if self._recent * window_s < BUSY * MEMORY_S:
            return now
        return self.after(now, window_s)

    cdef double after(self, double now, double window_s):
        """The end of the window after the last write, or `now` if that has passed; independent of the frame rate."""
        cdef double at = self._flushed_at + window_s
        return at if at > now else now

    cpdef flushed(self, double now, Py_ssize_t frames):
        """Record a flush of `frames` frames."""
        cdef double past = (now - self._flushed_at) / MEMORY_S
        # about exp(-past), without the library call
        self._recent = self._recent / (1.0 + past + past * past / 2.0) + frames
        self._flushed_at = now


cdef class RoomCore:
    """The ordered stream of one room: its sequence number, its frames for the next flush, and its budgets [L2].

    Reading `out` or `seq` encodes the FRESH cursors first, so the stream keeps the order of arrival.
    """

    def __init__(self, str id not None, WallClock wall not None, TokenBucket budget not None, Meter meter not None,
                 bint needs_timestamp):
        self.id = id
        self.wall = wall
        self.budget = budget
        self.meter = meter
        self.needs_timestamp = needs_timestamp  # a cursor in a room with a video has a media time [E4]
        self.pacing = FlushPacing()
        self.members = {}
        self._out = []
        self._deferred = []
        self.urgent = False  # playback and control do not wait for a window
        self.scheduled_at = INFINITY

    @property
    def out(self):
        """The frames for the next flush, to append to."""
        self.encode_all()
        self.eventful = True
        return self._out

    @out.setter
    def out(self, list items not None):
        self.encode_all()
        self.eventful = True
        self._out = items

    @property
    def seq(self):
        """The number of the last public event [B11]."""
        self.encode_all()
        return self._seq

    @seq.setter
    def seq(self, unsigned long long seq):
        self.encode_all()
        self._seq = seq

    def begin_anew(self, TokenBucket budget not None, Meter meter not None, bint needs_timestamp):
        """Restart the sequence at 1, with new budgets and the pacing of a quiet room. Frames already in the stream keep
        their numbers and are sent first."""
        self.encode_all()
        self._seq = 0
        self.budget = budget
        self.meter = meter
        self.needs_timestamp = needs_timestamp
        self.pacing = FlushPacing()

    def settle(self):
        """Encode the FRESH cursors now: other events follow, or their visibility is about to change."""
        self.encode_all()

    cdef encode_all(self):
        cdef MemberCore member
        while self._first is not None:
            member = self._first
            self._first = member._after
            member._after = None
            member._state = IDLE
            if self._first is None:
                self._last = None
            self.encode(member)

    cpdef list take_items(self, double now):
        """Admit the cursors whose tokens are available, and take all frames out of the stream."""
        cdef list items
        if self._deferred:
            self.release(now)
        self.encode_all()
        items = self._out
        self._out = []
        self.urgent = self.eventful = False
        self.pacing.flushed(now, len(items))
        return items

    def show_cursor(self, MemberCore member not None, cursor not None, double now):
        """Accept a plain cursor from the Python path: into the stream if its budgets allow it, otherwise as the
        deferred one."""
        cdef CursorText text
        read_cursor(&text, cursor)
        self.offer(member, &text, now)

    def show_now(self, MemberCore member not None, cursor not None, double now):
        """Accept a plain cursor whose tokens are taken."""
        cdef CursorText text
        read_cursor(&text, cursor)
        self.encode_all()
        self.drop_deferred(member)
        copy_value(&member._newest, &text)
        self.admit(member, now)

    def drop_deferred(self, MemberCore member not None):
        """Drop the deferred cursor of a member; returns whether there was one."""
        if member._state != DEFERRED:
            return False
        member._state = IDLE
        self._deferred.remove(member)
        return True

    def take_deferred(self, MemberCore member not None):
        """Drop the deferred cursor of a member and return it; None without one."""
        return cursor_of(&member._newest) if self.drop_deferred(member) else None

    def admit_deferred(self, double now):
        """Admit all deferred cursors regardless of their budgets, since they are not part of the room's record."""
        deferred, self._deferred = self._deferred, []
        for member in deferred:
            self.admit(<MemberCore>member, now)

    cdef offer(self, MemberCore member, CursorText* cursor, double now):
        if member._state == IDLE and member.cursor_bucket.ready_at(now) <= now and self.budget.take(now):
            member.cursor_bucket.take(now)
            copy_value(&member._newest, cursor)
            self.admit(member, now)
            return
        if member._state == FRESH:
            copy_value(&member._shown, cursor)
            member._unread = True
            member._came_at = now
            hot.cursors_superseded += 1
            return
        copy_value(&member._newest, cursor)
        if member._state == DEFERRED:
            hot.cursors_superseded += 1
            return
        member._state = DEFERRED
        self._deferred.append(member)

    cdef admit(self, MemberCore member, double now):
        """Make the newest cursor the shown one; it is encoded later."""
        member._shown = member._newest
        member._unread = True
        member.cursor_put_away = False
        member._came_at = now
        member._state = FRESH
        if self._last is None:
            self._first = member
        else:
            self._last._after = member
        self._last = member

    cdef release(self, double now):
        """Admit deferred cursors, the earliest first, as far as their budgets allow."""
        cdef MemberCore member
        cdef list deferred = self._deferred, still = []
        for each in deferred:
            member = <MemberCore>each
            if member.cursor_bucket.ready_at(now) <= now and self.budget.take(now):
                member.cursor_bucket.take(now)
                self.admit(member, now)
            else:
                still.append(member)
        self._deferred = still

    cdef double deferred_until(self, double now):
        """Return when the first deferred cursor may get its token; a shared budget is checked again after
        SHARED_BUDGET_WAIT_S."""
        cdef double at = INFINITY, ready_at
        for each in self._deferred:
            ready_at = (<MemberCore>each).cursor_bucket.ready_at(now)
            if ready_at < at:
                at = ready_at
        if self.budget.ready_at(now) > now and at < now + SHARED_BUDGET_WAIT_S:
            at = now + SHARED_BUDGET_WAIT_S
        return at

    cdef encode(self, MemberCore member):
        cdef CursorValue* value = &member._shown
        if member._template is None:
            member._template = CursorTemplate(
                self.id, member.user_id, member.session_id, member._color, member._index,
                "c" + member.session_id,
            )
        self._seq += 1
        self._out.append(
            member._template.item(
                value.has_timestamp, value.has_point, value.timestamp, value.x, value.y,
                self.wall.text(member._came_at), self._seq,
            )
        )


cdef read_cursor(CursorText* text, cursor):
    text.has_timestamp = cursor.timestamp is not UNSET
    text.has_point = cursor.x is not UNSET
    text.timestamp = cursor.timestamp if text.has_timestamp else 0.0
    text.x = cursor.x if text.has_point else 0.0
    text.y = cursor.y if text.has_point else 0.0


cdef cursor_of(CursorValue* value):
    return Cursor(
        timestamp=value.timestamp if value.has_timestamp else UNSET,
        x=value.x if value.has_point else UNSET,
        y=value.y if value.has_point else UNSET,
    )


cdef inline void copy_value(CursorValue* value, CursorText* cursor) noexcept:
    value.has_timestamp = cursor.has_timestamp
    value.has_point = cursor.has_point
    value.timestamp = cursor.timestamp
    value.x = cursor.x
    value.y = cursor.y


cdef class MemberCore:
    """The cursor of one session in one room, and the fields that decide on its visibility."""

    def __init__(self, str user_id not None, str session_id not None, TokenBucket cursor_bucket not None, double now):
        self.user_id = user_id
        self.session_id = session_id
        self.cursor_bucket = cursor_bucket  # of the user, shared by all sessions [E2]
        self.pending = Coalescer()  # the newest deferred value of each kind [E1, L1]
        self.connected = True
        self.attached = False  # receives the room's stream
        self.cursor_put_away = False  # hidden by a lost connection until it moves again [D2, C5]
        self.last_active_at = now
        self._color = ""

    @property
    def visible(self):
        """Whether other users may see this session [K1, K2]."""
        return not (self.invisible or self.disabled)

    @property
    def color(self):
        return self._color

    @color.setter
    def color(self, str value not None):
        self._color = value
        self._template = None

    @property
    def index(self):
        """The member's number in compact cursors; None while others must not see the member."""
        return self._index

    @index.setter
    def index(self, value):
        self._index = value
        self._template = None

    @property
    def cursor(self):
        """The cursor shown last; the object is created on access, which is rare."""
        if self._unread:
            self._unread = False
            self._cursor = cursor_of(&self._shown)
        return self._cursor

    @cursor.setter
    def cursor(self, value):
        self._unread = False
        self._cursor = value

    cdef bint may_show(self):
        """Whether a plain cursor would be shown with no check left but the budgets."""
        return (
            self.connected and self.attached and self.share_cursor and not self.invisible and not self.disabled
            and not self.pending.holds("cursor")
        )

    cdef bint is_fresh(self):
        """Whether the last cursor is not encoded yet."""
        return self._state == FRESH


cdef class FlushQueue:
    """The rooms with scheduled flushes. `window_s` is the window of a busy room, up to `ceiling_s` in a large room; 0
    disables windows. While `full`, every room waits for the end of its window, however quiet it is."""

    def __init__(self, double window_s, double ceiling_s):
        self._rooms = []
        self.ceiling_s = ceiling_s
        self.window_s = min(window_s, ceiling_s)
        self.soonest = INFINITY

    cpdef touch(self, RoomCore room, double now):
        """Schedule the flush of a room that may have frames or deferred cursors."""
        cdef double at
        if room._first is not None or room._out:
            if room.scheduled_at == INFINITY or room.touched_at > now:
                room.touched_at = now
            self.schedule(room, now if room.urgent else self.paced_at(room, now))
        elif room._deferred:  # else the flush above admits them or schedules the next one
            at = room.deferred_until(now)
            if room.scheduled_at == INFINITY:
                room.touched_at = at
            self.schedule(room, self.paced_at(room, at))

    cpdef double window_for(self, Py_ssize_t members):
        """The window of a busy room with this many members, in seconds."""
        cdef double long_enough = members * (WRITE_S / SHARE)
        if long_enough <= self.window_s or self.window_s == 0.0:
            return self.window_s
        return max(self.window_s, min(long_enough, self.ceiling_s))

    cdef double paced_at(self, RoomCore room, double at):
        """Return when to flush a room whose frames are ready at monotonic second `at`."""
        cdef double window_s = self.window_for(len(room.members))
        return room.pacing.after(at, window_s) if self.full else room.pacing.flush_at(at, window_s)

    cpdef schedule_now(self, RoomCore room, double now):
        """Schedule a flush of the room now, regardless of its pacing: it sends its last frames."""
        if room.scheduled_at == INFINITY or room.touched_at > now:
            room.touched_at = now
        self.schedule(room, now)

    cdef schedule(self, RoomCore room, double at):
        if at >= room.scheduled_at:
            return
        if room.scheduled_at == INFINITY:
            self._rooms.append(room)
        room.scheduled_at = at
        if at < self.soonest:
            self.soonest = at

    cpdef list take_due(self, double now):
        """Remove and return the due rooms, in the order in which they were scheduled. They are not scheduled again
        before `begun`."""
        cdef RoomCore room
        cdef list due = [], later = []
        cdef double soonest = INFINITY
        for room in self._rooms:
            if room.scheduled_at <= now:
                room.scheduled_at = TAKEN_OUT
                due.append(room)
            else:
                later.append(room)
                if room.scheduled_at < soonest:
                    soonest = room.scheduled_at
        self._rooms = later
        self.soonest = soonest
        return due

    cdef begun(self, RoomCore room):
        """The flush of a removed room begins: later frames belong to the next flush."""
        room.scheduled_at = INFINITY
        room.flushing_since = room.touched_at if room._first is not None or room._out or room._deferred else -1.0
