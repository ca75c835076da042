# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What a cursor touches in its room: the stream of frames, the pointer of its member, and the plan of flushes.

Room and Member (domain/) are subclasses and own all the rules; here is their state that is read and written 20 times a
second per person, in C. A quiet room flushes in the same turn of the loop. A busy one waits for the end of a window
after its last flush, so that events share a write [L4]. In a large room the window is longer: its writes alone, one per
member and flush, may take a sixteenth of the worker's time, whoever else there is.
"""

from libc.math cimport INFINITY

from msgspec import UNSET

from koko_presence._fastpath.fanout cimport CursorTemplate, Item
from koko_presence._fastpath.throttle cimport Meter, TokenBucket, Trailing
from koko_presence._fastpath.wallclock cimport WallClock
from koko_presence.messages import Cursor

# A window that collects a single frame costs more than none, so a room waits only when it would collect several.
BUSY_FRAMES_PER_WINDOW = 3.0

cdef double BUSY = BUSY_FRAMES_PER_WINDOW
cdef double MEMORY_S = 0.1
cdef double WRITE_S = 5e-6  # what one socket write costs
cdef double SHARE = 1.0 / 16.0  # how much of a worker the writes of one room may take: 8 ms for 100 members


cdef class Pace:
    """When a room writes: at once while it is quiet, at the end of a window after its last write while it is busy."""

    def __init__(self):
        self._flushed_at = -1e9
        self._recent = 0.0  # frames in about the last tenth of a second

    cpdef double flush_at(self, double now, double window_s):
        """The monotonic second at which what is ready at `now` should be written."""
        cdef double at
        if self._recent * window_s < BUSY * MEMORY_S:
            return now
        at = self._flushed_at + window_s
        return at if at > now else now

    cpdef flushed(self, double now, Py_ssize_t frames):
        """Note that `frames` frames went out."""
        cdef double past = (now - self._flushed_at) / MEMORY_S
        # about exp(-past), without the library's call
        self._recent = self._recent / (1.0 + past + past * past / 2.0) + frames
        self._flushed_at = now


cdef class Stream:
    """One room's ordered stream: its number, its frames that wait for the next flush, and what it may take in [L2]."""

    def __init__(self, str id not None, WallClock wall not None, TokenBucket budget not None, Meter meter not None,
                 bint needs_timestamp):
        self.id = id
        self.wall = wall
        self.budget = budget
        self.meter = meter
        self.needs_timestamp = needs_timestamp  # a cursor in a room with a video says where in the video [E4]
        self.pace = Pace()
        self.members = {}
        self.out = []
        self.seq = 0
        self.urgent = False  # playback and control do not wait for a window
        self.planned_at = INFINITY

    cpdef list take_items(self, double now):
        """The frames that wait, which are going out now."""
        cdef list items = self.out
        self.out = []
        self.urgent = False
        self.pace.flushed(now, len(items))
        return items

    cdef show(
        self, Pointer pointer, bint has_timestamp, bint has_point, double timestamp, double x, double y, double now
    ):
        if pointer._template is None:
            pointer._template = CursorTemplate(
                self.id, pointer.user_id, pointer.session_id, pointer._color, pointer._index,
                "c" + pointer.session_id,
            )
        self.seq += 1
        self.out.append(
            pointer._template.item(
                has_timestamp, has_point, timestamp, x, y, self.wall.text(now), self.seq
            )
        )

    def show_cursor(self, Pointer pointer not None, cursor not None, double now):
        """Put a shown cursor without `target` into the stream."""
        cdef bint has_timestamp = cursor.timestamp is not UNSET
        cdef bint has_point = cursor.x is not UNSET
        self.show(
            pointer,
            has_timestamp,
            has_point,
            cursor.timestamp if has_timestamp else 0.0,
            cursor.x if has_point else 0.0,
            cursor.y if has_point else 0.0,
            now,
        )


cdef class Pointer:
    """One session's cursor in one room, and all that decides whether others may see it."""

    def __init__(self, str user_id not None, str session_id not None, TokenBucket cursor_bucket not None, double now):
        self.user_id = user_id
        self.session_id = session_id
        self.cursor_bucket = cursor_bucket  # the person's, shared by all tabs [E2]
        self.pending = Trailing()  # the newest value per kind that waits for its budget [E1, L1]
        self.connected = True
        self.attached = False  # receives the room's stream
        self.cursor_put_away = False  # hidden by a lost connection until it moves again [D2, C5]
        self.last_active_at = now
        self._color = ""

    @property
    def visible(self):
        """May others know that this session is here [K1, K2]?"""
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
        """The member's number in compact cursors; None while nobody may know of it."""
        return self._index

    @index.setter
    def index(self, value):
        self._index = value
        self._template = None

    @property
    def cursor(self):
        """What was shown last; made when somebody looks, which is seldom."""
        if self._unread:
            self._unread = False
            self._cursor = Cursor(
                timestamp=self._timestamp if self._has_timestamp else UNSET,
                x=self._x if self._has_point else UNSET,
                y=self._y if self._has_point else UNSET,
            )
        return self._cursor

    @cursor.setter
    def cursor(self, value):
        self._unread = False
        self._cursor = value

    cdef bint may_show(self):
        """Would a plain cursor go straight through, with no rule but the budgets?"""
        return (
            self.connected and self.attached and self.share_cursor and not self.invisible and not self.disabled
            and self.pending.empty()
        )


cdef class FlushPlan:
    """Which rooms have something to send, and when the first of them wants to. `window_s` is a busy room's window, up to
    `ceiling_s` in a large room; 0 switches windows off."""

    def __init__(self, double window_s, double ceiling_s):
        self._rooms = []
        self.ceiling_s = ceiling_s
        self.window_s = min(window_s, ceiling_s)
        self.soonest = INFINITY

    cpdef touch(self, Stream room, double now):
        """Plan the flush of a room that may have something to send."""
        if room.out:
            if room.planned_at == INFINITY:
                room.touched_at = now
            self.plan(room, now if room.urgent else room.pace.flush_at(now, self.window_for(len(room.members))))

    cpdef double window_for(self, Py_ssize_t members):
        """The window of a busy room of so many members, in seconds."""
        cdef double long_enough = members * (WRITE_S / SHARE)
        if long_enough <= self.window_s or self.window_s == 0.0:
            return self.window_s
        return min(long_enough, self.ceiling_s)

    cpdef urge(self, Stream room, double now):
        """The same, at once and whatever its pace: a room that ends says its last words."""
        if room.planned_at == INFINITY:
            room.touched_at = now
        self.plan(room, now)

    cdef plan(self, Stream room, double at):
        if at >= room.planned_at:
            return
        if room.planned_at == INFINITY:
            self._rooms.append(room)
        room.planned_at = at
        if at < self.soonest:
            self.soonest = at

    cpdef list take_due(self, double now):
        """Take out the rooms whose time has come, in the order in which they were first touched."""
        cdef Stream room
        cdef list due = [], later = []
        cdef double soonest = INFINITY
        for room in self._rooms:
            if room.planned_at <= now:
                room.planned_at = INFINITY
                room.flushing_since = room.touched_at if room.out else -1.0
                due.append(room)
            else:
                later.append(room)
                if room.planned_at < soonest:
                    soonest = room.planned_at
        self._rooms = later
        self.soonest = soonest
        return due
