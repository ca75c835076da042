# cython: language_level=3, boundscheck=False, wraparound=False
"""Encodes the events of a room once as frames, and copies each flush to the outboxes of its subscribers.

Server frames are not masked, so all subscribers get the same bytes [RFC 6455 section 5.2]. Subscribers without an event
of their own in a flush share one byte string; the others get a copy without their own events. Clients with compact
cursors get one `cursors` message in place of each run of cursor events [B12]. The order of the flush is kept for each
subscriber.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from msgspec.json import encode

from koko_presence._fastpath.counters cimport CURSOR_KIND, hot, kind_of
from koko_presence._fastpath.float_format cimport write_decimal, write_integer
from koko_presence._fastpath.framing cimport frame_text, put_head
from koko_presence._fastpath.outbox cimport Outbox

cdef enum:
    LONGEST_HEAD = 4096  # room id, user id and session id, escaped: 128 characters of at most 12 bytes each

# the buffer in which an event is encoded before it is copied at its size; one thread, and not used across a call
cdef char[LONGEST_HEAD + 512] scratch


@cython.no_gc  # its fields cannot form cycles, so the garbage collector need not visit it
@cython.freelist(64)
cdef class StreamFrame:
    """One frame of a room's stream and its recipients.

    `skip` is the author's session, `only` restricts it to a single subscriber. `merge` marks a frame that a newer one
    with the same mark replaces (cursor and selection of one session). `compact` is the same event as a row of a
    `cursors` message, for clients with compact cursors. `attach` subscribes `only` from this frame on, `detach` ends
    its subscription after it. `refusal` marks an error message, which the edge counts against abuse [L3].
    """

    def __init__(
        self, bytes frame not None, str skip="", str only="", str merge="", bytes compact=None, bint attach=False,
        bint detach=False, bint refusal=False,
    ):
        self.frame = frame
        self.skip = skip
        self.only = only
        self.merge = merge
        self.compact = compact
        self.attach = attach
        self.detach = detach
        self.refusal = refusal


cdef class RoomFlush:
    """The frames of one room for one edge in one flush, in order [B11]; `timestamp` is the time of the flush, ISO 8601
    [B6]."""

    def __init__(self, str room_id not None, list items not None, str timestamp not None):
        self.room_id = room_id
        self.items = items
        self.timestamp = timestamp


# --- encoding -----------------------------------------------------------------------------------------------------


cdef inline char* put(char* out, const char* text, Py_ssize_t size) noexcept:
    memcpy(out, text, size)
    return out + size


cdef inline char* put_bytes(char* out, bytes text) noexcept:
    memcpy(out, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return out + PyBytes_GET_SIZE(text)


cdef char* put_number(char* out, double value) except NULL:
    cdef Py_ssize_t size = write_decimal(out, value)
    if size:
        return out + size
    return put_bytes(out, encode(value))  # below 1e-5: with an exponent


cdef class CursorTemplate:
    """The constant parts of one member's `cursor_moved` events, escaped once and copied for each event; position, time
    and `seq` are encoded per event. The result is byte for byte what msgspec encodes for the same event.

    `index` is the member's number in compact cursors.
    """

    def __init__(self, str room_id, str user_id, str session_id, str color, index, str merge):
        # session ids and colours are made by the server; room and user ids may contain any character
        head = b'{"type":"cursor_moved","roomId":%b,"userId":%b,"sessionId":%b,"data":{' % (
            encode(room_id), encode(user_id), encode(session_id)
        )
        if len(head) > LONGEST_HEAD:
            raise ValueError("the ids of a room and its member are too long")
        self._head = head
        self._tail = b'"color":%b},"timestamp":"' % encode(color)
        self._row = None if index is None else b"[%d" % index
        self._skip = session_id
        self._merge = merge

    cdef StreamFrame item(
        self, bint has_timestamp, bint has_point, double timestamp, double x, double y, const char* iso,
        unsigned long long seq,
    ):
        cdef char* start = scratch + 10  # space for the header, which is written once the size is known
        cdef char* out = put_bytes(start, self._head)
        cdef char* x_at
        cdef char* y_at
        cdef char* timestamp_at
        cdef Py_ssize_t timestamp_size = 0, x_size = 0, y_size = 0, size, head_size
        cdef unsigned char[10] head
        cdef StreamFrame item = StreamFrame.__new__(StreamFrame)
        timestamp_at = x_at = y_at = out
        if has_timestamp:
            out = timestamp_at = put(out, b'"timestamp":', 12)
            out = put_number(out, timestamp)
            timestamp_size = out - timestamp_at
            out[0] = 44
            out += 1
        if has_point:
            out = x_at = put(out, b'"x":', 4)
            out = put_number(out, x)
            x_size = out - x_at
            out = y_at = put(out, b',"y":', 5)
            out = put_number(out, y)
            y_size = out - y_at
            out[0] = 44
            out += 1
        out = put_bytes(out, self._tail)
        out = put(out, iso, 24)
        out = put(out, b'","seq":', 8)
        out += write_integer(out, seq)
        out[0] = 125
        out += 1
        size = out - start
        head_size = put_head(head, size)
        memcpy(start - head_size, head, head_size)
        item.frame = PyBytes_FromStringAndSize(start - head_size, head_size + size)
        item.skip = self._skip
        item.only = ""
        item.merge = self._merge
        item.kind = CURSOR_KIND
        if self._row is not None:
            item.compact = self.row(timestamp_at, timestamp_size, x_at, x_size, y_at, y_size)
        return item

    cdef bytes row(
        self, const char* timestamp, Py_ssize_t timestamp_size, const char* x, Py_ssize_t x_size, const char* y,
        Py_ssize_t y_size,
    ):
        cdef char[128] text
        cdef char* out = put_bytes(text, self._row)
        out[0] = 44
        if timestamp_size:
            out = put(out + 1, timestamp, timestamp_size)
        else:
            out = put(out + 1, b"null", 4)
        if x_size:
            out[0] = 44
            out = put(out + 1, x, x_size)
            out[0] = 44
            out = put(out + 1, y, y_size)
        out[0] = 93
        return PyBytes_FromStringAndSize(text, out + 1 - text)

    def make(self, timestamp, x, y, str iso not None, unsigned long long seq):
        """Encode one event, with None for a missing number. `iso` is the time of the event, 24 characters [B6]."""
        cdef bytes text = iso.encode("ascii")
        if PyBytes_GET_SIZE(text) != 24:
            raise ValueError("not a time of 24 characters")
        return self.item(
            timestamp is not None,
            x is not None,
            0.0 if timestamp is None else timestamp,
            0.0 if x is None else x,
            0.0 if y is None else y,
            PyBytes_AS_STRING(text),
            seq,
        )


# --- fan-out ------------------------------------------------------------------------------------------------------


cdef inline bint is_for(StreamFrame item, str session_id):
    return item.skip != session_id and (not item.only or item.only == session_id)


cdef inline bytes joined(list frames):
    if not frames:
        return None
    return <bytes>frames[0] if len(frames) == 1 else b"".join(frames)


def is_plain(list items not None):
    """Whether the flush neither changes the subscribers nor contains an error message."""
    cdef StreamFrame item
    for item in items:
        if item.attach or item.detach or item.refusal:
            return False
    return True


cdef class RoomSubscription:
    """One room's stream at one edge: `outboxes` are the outboxes of its subscribers by session id, `wrapping` those of
    /trpc, which get single messages and not frames; None without any. `any_compact` is set once a subscriber has
    requested compact cursors."""

    def __init__(self, str room_id not None):
        self.room_id = room_id
        self.outboxes = {}

    def add(self, str session_id not None, Outbox outbox not None):
        """Add the outbox of a subscriber."""
        if outbox.wraps():
            self.wrapping = {**(self.wrapping or {}), session_id: outbox}
        else:
            self.outboxes[session_id] = outbox
            self.any_compact = self.any_compact or outbox.compact

    def discard(self, str session_id not None):
        """Remove the outbox of a subscriber, if it is here."""
        self.outboxes.pop(session_id, None)
        if self.wrapping is not None and session_id in self.wrapping:
            self.wrapping = {each: outbox for each, outbox in self.wrapping.items() if each != session_id} or None

    cpdef fan_out(self, list items, str timestamp):
        """Append one flush to the outboxes of all subscribers: to each every frame that is not its own, and those for
        it only."""
        cdef StreamFrame item
        cdef Outbox outbox
        cdef set special
        cdef str session_id
        cdef bytes frames, all_plain = None, all_compact = None
        cdef bint made_plain = False, made_compact = False
        cdef Py_ssize_t subscribers
        if len(items) == 1:
            self.fan_out_one(<StreamFrame>items[0], timestamp)
            return
        subscribers = len(self.outboxes)
        special = set()
        for item in items:
            special.add(item.skip)
            special.add(item.only)
            if not item.kind:
                item.kind = kind_of(item.frame)
            if not item.only:  # reduced below for each subscriber that does not get it
                hot.sent[item.kind] += subscribers
        for session_id, found in self.outboxes.items():
            outbox = <Outbox>found
            if outbox.slow:
                self.one_by_one(outbox, items, session_id, timestamp)
                continue
            if outbox.compact:
                if session_id in special:
                    frames = self.compact_for(items, session_id, timestamp)
                else:
                    if not made_compact:
                        all_compact, made_compact = self.compact_for(items, "", timestamp), True
                    frames = all_compact
            elif session_id in special:
                frames = self.plain_for(items, session_id)
            else:
                if not made_plain:
                    all_plain, made_plain = self.plain_for(items, ""), True
                frames = all_plain
            if frames is not None:
                outbox.write(frames)
        if self.wrapping is not None:
            self.to_wrapping(items, timestamp)

    cdef to_wrapping(self, list items, str timestamp):
        """Pass the messages of a flush to the outboxes that wrap them, one by one."""
        cdef StreamFrame item
        for session_id, outbox in self.wrapping.items():
            for item in items:
                if not item.only:  # reduced below if this subscriber does not get it
                    hot.sent[item.kind] += 1
            self.one_by_one(<Outbox>outbox, items, session_id, timestamp)

    cdef fan_out_one(self, StreamFrame item, str timestamp):
        """Append a flush of a single frame, without joining."""
        cdef Outbox outbox
        cdef str session_id
        cdef dict subscribers = self.outboxes
        if not item.kind:
            item.kind = kind_of(item.frame)
        if item.only:  # looked up by id, without a scan of all subscribers
            found = subscribers.get(item.only)
            subscribers = {} if found is None else {item.only: found}
            if found is not None and not (<Outbox>found).slow:
                hot.sent[item.kind] += 1
        else:
            hot.sent[item.kind] += len(subscribers)
        for session_id, found in subscribers.items():
            if item.skip == session_id:
                hot.sent[item.kind] -= 1
                continue
            outbox = <Outbox>found
            if outbox.slow:
                self.one_by_one(outbox, [item], session_id, timestamp)
            elif outbox.compact and item.compact is not None:
                outbox.write(self.single(item, timestamp))
            else:
                outbox.write(item.frame)
        if self.wrapping is not None:
            self.to_wrapping([item], timestamp)

    cdef bytes single(self, StreamFrame item, str timestamp):
        """A cursor as a `cursors` message of its own, encoded once for all subscribers."""
        if item._single is None:
            item._single = self.cursors([item.compact], timestamp)
        return item._single

    cdef bytes plain_for(self, list items, str session_id):
        """Join the frames for one session; None if there are none. "" stands for all sessions that no frame names."""
        cdef StreamFrame item
        cdef list own = []
        for item in items:
            if not item.only:
                if session_id and item.skip == session_id:
                    hot.sent[item.kind] -= 1
                    continue
            elif item.only != session_id or item.skip == session_id:
                continue
            else:
                hot.sent[item.kind] += 1
            own.append(item.frame)
        return joined(own)

    cdef bytes compact_for(self, list items, str session_id, str timestamp):
        """As `plain_for`, with each run of cursors as one message; other events keep their order between the runs [B11,
        B12]."""
        cdef StreamFrame item
        cdef list own = [], rows = []
        for item in items:
            if not item.only:
                if session_id and item.skip == session_id:
                    hot.sent[item.kind] -= 1
                    continue
            elif item.only != session_id or item.skip == session_id:
                continue
            else:
                hot.sent[item.kind] += 1
            if item.compact is not None:
                rows.append(item.compact)
                continue
            if rows:
                own.append(self.cursors(rows, timestamp))
                rows = []
            own.append(item.frame)
        if rows:
            own.append(self.cursors(rows, timestamp))
        return joined(own)

    cdef bytes cursors(self, list rows, str timestamp):
        if self._head is None:
            self._head = b'{"type":"cursors","roomId":%b,"timestamp":"' % encode(self.room_id)
        return frame_text(b'%b%b","data":[%b]}' % (self._head, timestamp.encode("ascii"), b",".join(rows)))

    cdef one_by_one(self, Outbox outbox, list items, str session_id, str timestamp):
        """Append the frames of a flush one by one: to a slow outbox, which keeps the newest value of each mark only, or
        to one that wraps messages."""
        cdef StreamFrame item
        cdef bytes frame
        for item in items:
            if not is_for(item, session_id):
                if not item.only:
                    hot.sent[item.kind] -= 1
                continue
            frame = item.frame
            if outbox.compact and item.compact is not None:
                frame = self.single(item, timestamp)
            if item.merge and outbox.slow:  # counted when it is written
                hot.sent[item.kind] -= 1
                outbox.merge((self.room_id, item.merge), frame)
                continue
            if item.only:
                hot.sent[item.kind] += 1
            # the author's earlier values are written before it; values of other authors may still be replaced
            if item.skip:
                outbox.catch_up_with(self.room_id, item.skip)
            outbox.write_frame(frame)
