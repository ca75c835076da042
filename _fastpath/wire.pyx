# cython: language_level=3, boundscheck=False, wraparound=False
"""The binary format of messages between workers: length-prefixed peer messages, batches of cursors, and flushes of a
room.

A message is 4 bytes of length, 1 byte of kind, and a body. The length counts kind and body. Consecutive cursors share a
message, 32 bytes each, so that a cursor creates no object on either side. All workers run on one host and in one
version, so integers and doubles are in native byte order. Messages keep the order in which they were put.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from msgspec import UNSET

from koko_presence._fastpath.counters cimport hot
from koko_presence._fastpath.fanout cimport StreamFrame, RoomFlush
from koko_presence._fastpath.flush_scheduler cimport CursorRoute, FlushScheduler
from koko_presence._fastpath.cursor_parser cimport CursorText
from koko_presence.protocol.models import Cursor

CURSORS = 1  # the kind of a cursor batch; all other kinds are in cluster/wire_messages.py

cdef struct CursorRecord:
    double timestamp
    double x
    double y
    unsigned int handle
    unsigned int has  # 1: a timestamp, 2: a point

cdef unsigned long long NO_BATCH = <unsigned long long>-1

cdef enum:
    HEAD = 5
    HAS_COMPACT = 1
    ATTACH = 2
    DETACH = 4
    REFUSAL = 8
    CURSOR_OF_SKIP = 16  # `merge` is "c" + `skip`, as for every cursor, and is not sent


cdef class PeerBuffer:
    """The outgoing messages to one worker, in order. `schedule()` is called for the first message since the last
    `take`."""

    def __init__(self, schedule):
        self._schedule = schedule
        self._batch_at = -1

    def __dealloc__(self):
        free(self._data)

    cdef char* grow(self, Py_ssize_t more) except NULL:
        """Reserve `more` bytes at the end, which count as used."""
        cdef char* data
        cdef Py_ssize_t capacity = self._capacity
        if self._size + more > capacity:
            capacity = max(4096, 2 * (self._size + more))
            data = <char*>realloc(self._data, capacity)
            if data == NULL:
                raise MemoryError()
            self._data, self._capacity = data, capacity
        data = self._data + self._size
        self._size += more
        self.put_bytes += more
        return data

    cdef schedule(self):
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    cpdef put(self, int kind, bytes body):
        """Append one message."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
        cdef unsigned int length = <unsigned int>(size + 1)
        cdef char* out = self.grow(HEAD + size)
        self._batch_at = -1
        self._batch += 1
        memcpy(out, &length, 4)
        out[4] = <char>kind
        memcpy(out + HEAD, PyBytes_AS_STRING(body), size)
        self.schedule()

    cdef Py_ssize_t put_cursor(self, unsigned int handle, CursorText* cursor) except -1:
        """Append a cursor to the current batch. Returns its position, at which a newer one may replace it within the
        same batch."""
        cdef CursorRecord record
        cdef unsigned int length
        cdef char* out
        if self._batch_at < 0:
            self._batch_at = self._size
            out = self.grow(HEAD)
            length = 1
            memcpy(out, &length, 4)
            out[4] = 1
            self.schedule()
        fill_record(&record, handle, cursor)
        hot.forwards += 1
        out = self.grow(sizeof(CursorRecord))
        memcpy(out, &record, sizeof(CursorRecord))
        memcpy(&length, self._data + self._batch_at, 4)
        length += sizeof(CursorRecord)
        memcpy(self._data + self._batch_at, &length, 4)
        return self._size - <Py_ssize_t>sizeof(CursorRecord)

    cpdef bytes take(self):
        """Take all outgoing bytes, to be written now."""
        cdef bytes data = PyBytes_FromStringAndSize(self._data, self._size)
        hot.mesh_bytes += self._size
        self._size = 0
        self._batch_at = -1
        self._batch += 1
        self._scheduled = False
        if self._capacity > 1 << 20:  # a large buffer is freed after a burst
            free(self._data)
            self._data, self._capacity = NULL, 0
        return data


cdef inline void fill_record(CursorRecord* record, unsigned int handle, CursorText* cursor) noexcept:
    record.handle = handle
    record.has = (1 if cursor.has_timestamp else 0) | (2 if cursor.has_point else 0)
    record.timestamp, record.x, record.y = cursor.timestamp, cursor.x, cursor.y


class PeerMessageTooLong(ValueError):
    """The message exceeds the limit, so the sender is no valid worker."""


cdef class FrameDecoder:
    """Splits a byte stream into messages of at most `longest` bytes."""

    cdef bytes _rest
    cdef Py_ssize_t _longest

    def __init__(self, Py_ssize_t longest):
        self._rest = b""
        self._longest = longest

    def feed(self, bytes data):
        """The messages, as (kind, body), that are complete with `data`. Errors: `PeerMessageTooLong`."""
        cdef list found = []
        cdef Py_ssize_t at = 0, size
        cdef unsigned int length
        cdef const char* text
        if self._rest:
            data = self._rest + data
        text = PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
        while size - at >= HEAD:
            memcpy(&length, text + at, 4)
            if length < 1 or length > self._longest:
                raise PeerMessageTooLong(f"a peer message of {length} bytes")
            if size - at - 4 < length:
                break
            found.append((<unsigned char>text[at + 4], PyBytes_FromStringAndSize(text + at + HEAD, length - 1)))
            at += 4 + length
        self._rest = data[at:]
        return found


cdef class RemoteCursorRoute(CursorRoute):
    """Routes the plain cursors of one session to a room of another worker. The owner of the room checks them; those
    that any rule concerns take the Python path there."""

    def __init__(
        self,
        str room_id not None,
        unsigned int handle,
        PeerBuffer outgoing not None,
        FlushScheduler scheduler not None,
    ):
        """`scheduler` is the flush scheduler of the edge: it releases cursors that wait for the session's budget."""
        self.key = room_id.encode()
        self.at = -INFINITY
        self._scheduler = scheduler
        self.room_id = room_id
        self.handle = handle
        self._outgoing = outgoing
        self._batch = NO_BATCH
        self.open = True

    cdef bint admits(self, CursorText* cursor) except -1:
        return self.open

    cdef bint unsent(self) except -1:
        return self._batch == self._outgoing._batch

    cdef put(self, CursorText* cursor, double now):
        cdef CursorRecord record
        if self.unsent():
            fill_record(&record, self.handle, cursor)
            memcpy(self._outgoing._data + self._record_at, &record, sizeof(CursorRecord))
            hot.cursors_superseded += 1
        else:
            self._record_at = self._outgoing.put_cursor(self.handle, cursor)
            self._batch = self._outgoing._batch
        self._last = cursor[0]
        self._has_last = True

    def last(self):
        """The last cursor on this route, or the one recorded by `note_last`, for the room's next owner; None without
        one."""
        if not self._has_last:
            return self._noted
        return Cursor(
            timestamp=self._last.timestamp if self._last.has_timestamp else UNSET,
            x=self._last.x if self._last.has_point else UNSET,
            y=self._last.y if self._last.has_point else UNSET,
        )

    def note_last(self, cursor):
        self._has_last, self._noted = False, cursor


def show_cursors(bytes body not None, dict routes not None, double now, refused):
    """Pass a batch of cursors to their rooms; `routes` are the owner's cursor routes by handle. `refused(handle,
    cursor)` is called for each cursor that has to take the Python path. An unknown handle is ignored."""
    cdef CursorRecord record
    cdef CursorText cursor
    cdef Py_ssize_t at = 0, size = PyBytes_GET_SIZE(body)
    cdef CursorRoute route
    while at + <Py_ssize_t>sizeof(CursorRecord) <= size:
        memcpy(&record, PyBytes_AS_STRING(body) + at, sizeof(CursorRecord))
        at += sizeof(CursorRecord)
        found = routes.get(record.handle)
        if found is None:
            continue
        route = <CursorRoute>found
        cursor.room, cursor.room_size = NULL, 0
        cursor.has_timestamp, cursor.has_point = record.has & 1, record.has >> 1
        cursor.timestamp, cursor.x, cursor.y = record.timestamp, record.x, record.y
        if route.admits(&cursor):
            route.put(&cursor, now)
        else:
            refused(
                record.handle,
                Cursor(
                    timestamp=record.timestamp if record.has & 1 else UNSET,
                    x=record.x if record.has & 2 else UNSET,
                    y=record.y if record.has & 2 else UNSET,
                ),
            )


# --- flushes of a room --------------------------------------------------------------------------------------------


cdef inline char* put_text(char* out, bytes text) noexcept:
    cdef unsigned int size = <unsigned int>PyBytes_GET_SIZE(text)
    memcpy(out, &size, 4)
    memcpy(out + 4, PyBytes_AS_STRING(text), size)
    return out + 4 + size


def pack_flush(
    RoomFlush flush not None, unsigned long long epoch, unsigned long long before, unsigned long long seq,
    bytes delta not None,
):
    """Encode a flush as the body of a message. The room's number was `before`, and is `seq` after the flush. `delta` is
    the room's delta for replica holders."""
    cdef list parts = [flush.room_id.encode(), flush.timestamp.encode(), delta]
    cdef StreamFrame item
    cdef bytes compact, skip, only, merge, data
    cdef Py_ssize_t size = 24 + 12
    cdef unsigned char flags
    cdef char* out
    for part in parts:
        size += PyBytes_GET_SIZE(<bytes>part)
    cdef list heads = []
    for item in flush.items:
        skip, only = item.skip.encode(), item.only.encode()
        flags = (ATTACH if item.attach else 0) | (DETACH if item.detach else 0) | (REFUSAL if item.refusal else 0)
        if item.merge and item.merge[0] == "c" and item.merge[1:] == item.skip:
            flags |= CURSOR_OF_SKIP
            merge = b""
        else:
            merge = item.merge.encode()
        compact = b""
        if item.compact is not None:
            flags |= HAS_COMPACT
            compact = item.compact
        heads.append((flags, item.frame, skip, only, merge, compact))
        size += 21 + PyBytes_GET_SIZE(item.frame) + PyBytes_GET_SIZE(skip) + PyBytes_GET_SIZE(only)
        size += PyBytes_GET_SIZE(merge) + PyBytes_GET_SIZE(compact)
    data = PyBytes_FromStringAndSize(NULL, size)
    out = PyBytes_AS_STRING(data)
    memcpy(out, &epoch, 8)
    memcpy(out + 8, &before, 8)
    memcpy(out + 16, &seq, 8)
    out += 24
    for part in parts:
        out = put_text(out, <bytes>part)
    for head in heads:
        out[0] = <char><unsigned char>head[0]
        out += 1
        for part in head[1:]:
            out = put_text(out, <bytes>part)
    return data


cdef class _FieldReader:
    """Reads length-prefixed texts in sequence. Errors: ValueError if the body ends within one."""

    cdef const char* text
    cdef Py_ssize_t left

    cdef bytes read(self):
        cdef unsigned int size
        cdef bytes found
        if self.left < 4:
            raise ValueError("a flush that ends too early")
        memcpy(&size, self.text, 4)
        if self.left - 4 < size:
            raise ValueError("a flush that ends too early")
        found = PyBytes_FromStringAndSize(self.text + 4, size)
        self.text += 4 + size
        self.left -= 4 + size
        return found

    cdef str read_str(self):
        return self.read().decode()


def unpack_flush(bytes data not None):
    """Decode the flush in a message body: the flush, epoch, before, seq and delta. Errors: ValueError for a body that
    is not from `pack_flush`."""
    cdef _FieldReader reader = _FieldReader.__new__(_FieldReader)
    cdef StreamFrame item
    cdef unsigned long long epoch, before, seq
    cdef unsigned char flags
    cdef list items = []
    cdef bytes delta
    cdef str room_id, timestamp
    if PyBytes_GET_SIZE(data) < 24:
        raise ValueError("a flush that ends too early")
    reader.text = PyBytes_AS_STRING(data) + 24
    reader.left = PyBytes_GET_SIZE(data) - 24
    memcpy(&epoch, PyBytes_AS_STRING(data), 8)
    memcpy(&before, PyBytes_AS_STRING(data) + 8, 8)
    memcpy(&seq, PyBytes_AS_STRING(data) + 16, 8)
    room_id, timestamp, delta = reader.read_str(), reader.read_str(), reader.read()
    while reader.left > 0:
        flags = <unsigned char>reader.text[0]
        reader.text += 1
        reader.left -= 1
        item = StreamFrame.__new__(StreamFrame)
        item.frame = reader.read()
        item.skip = reader.read_str()
        item.only = reader.read_str()
        item.merge = reader.read_str()
        if flags & CURSOR_OF_SKIP:
            item.merge = "c" + item.skip
        item.compact = reader.read()
        if not flags & HAS_COMPACT:
            item.compact = None
        item.attach, item.detach = flags & ATTACH != 0, flags & DETACH != 0
        item.refusal = flags & REFUSAL != 0
        items.append(item)
    return RoomFlush(room_id, items, timestamp), epoch, before, seq, delta
