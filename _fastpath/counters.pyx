# cython: language_level=3, boundscheck=False, wraparound=False
"""The counters of a worker process: incremented where an event occurs, and read together as one `CounterTotals`.

They only grow; the count for a period is the difference of two readings. Counts of every cursor are fields of `hot`,
written by the modules that cimport it; all others are incremented through calls of `counters`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy

from koko_presence.protocol.metric_types import (
    AUTH_RESULTS,
    BOUNDS_S,
    CLOSE_CODES,
    COALESCED_TYPES,
    INVALID,
    OTHER,
    RECEIVED_TYPES,
    SENT_TYPES,
    SLOW_CONSUMER,
    SUPERSEDED,
    CounterTotals,
)
from koko_presence.protocol.metric_types import Histogram as Reading

cdef enum:
    LONGEST_NAME = 32

cdef char[KINDS][LONGEST_NAME] names  # by kind; 0 stands for a frame whose kind is not determined yet
cdef Py_ssize_t[KINDS] sizes
cdef int other = 0


def _prepare():
    global other
    if len(BOUNDS_S) != BOUNDS or len(SENT_TYPES) >= KINDS or SENT_TYPES[CURSOR_KIND - 1] != "cursor_moved":
        raise ImportError("koko_presence/protocol/metric_types.py and _fastpath/counters.pxd differ")
    for i, bound in enumerate(BOUNDS_S):
        bounds[i] = bound
    for i, name in enumerate(SENT_TYPES):
        text = name.encode()
        if len(text) > LONGEST_NAME:
            raise ImportError(f"events.py: {name!r} is longer than the {LONGEST_NAME} bytes of _fastpath/counters.pyx")
        memcpy(names[i + 1], PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        sizes[i + 1] = PyBytes_GET_SIZE(text)
    other = SENT_TYPES.index(OTHER) + 1


_prepare()


cdef unsigned char kind_of(bytes frame) noexcept:
    """The index of the type of a server message, framed or not, in SENT_TYPES, from 1; the last one is `other`."""
    cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(frame)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(frame), length = 0
    cdef int head = 0, i
    if size > 2 and text[0] == 0x81:  # the header of a final text frame
        head = 2 if text[1] < 126 else (4 if text[1] == 126 else 10)
    text += head
    size -= head
    if size < 10 or memcmp(text, b'{"type":"', 9) != 0:  # every Struct and Event is encoded with its type first
        return <unsigned char>other
    text += 9
    size -= 9
    while length < size and length < LONGEST_NAME and text[length] != 34:
        length += 1
    for i in range(1, other):
        if sizes[i] == length and memcmp(text, names[i], length) == 0:
            return <unsigned char>i
    if length == 7 and memcmp(text, b"cursors", 7) == 0:
        return CURSOR_KIND
    return <unsigned char>other


cdef reading(Histogram* histogram):
    return Reading(buckets=[histogram.buckets[i] for i in range(BOUNDS + 1)], sum_s=histogram.sum_s)


cdef class CounterSet:
    """The counters outside a cursor's path. Not thread-safe."""

    cdef public unsigned long long accepted
    cdef public unsigned long long turned_away
    cdef public unsigned long long joins
    cdef dict _auth
    cdef dict _disconnects
    cdef dict _received
    cdef dict _dropped

    def __init__(self):
        self._auth = dict.fromkeys(AUTH_RESULTS, 0)
        self._disconnects = dict.fromkeys((*CLOSE_CODES, OTHER), 0)
        self._received = dict.fromkeys(RECEIVED_TYPES, 0)
        # coalesced values are dropped by design; any other pair is added at its first occurrence
        self._dropped = {(kind, SUPERSEDED): 0 for kind in COALESCED_TYPES}

    def auth(self, str result not None):
        """Count an answer to `auth`; `result` is one of AUTH_RESULTS."""
        self._auth[result] += 1

    def closed(self, code):
        """Count a closed WebSocket; `code` is the close code, None if there was none."""
        name = "1006" if code is None else str(code)
        self._disconnects[name if name in self._disconnects else OTHER] += 1

    def received(self, message):
        """Count a client message that has not passed through a rate limiter."""
        self._received[message.__struct_config__.tag] += 1

    def bad(self, error):
        """Count an invalid message; `error` is the PresenceError of the answer."""
        type_ = getattr(error, "type", INVALID)  # as far as it could be decoded
        type_ = type_ if type_ in self._received else INVALID
        self._received[type_] += 1
        self._drop(type_, error.code)

    def sent(self, bytes message not None, Py_ssize_t clients=1):
        """Count a message, framed or not, that is sent to so many clients outside `fan_out`."""
        hot.sent[kind_of(message)] += clients

    def refused(self, message, str code not None):
        """Count a client message, or one of type `message`, that was answered with an error; `code` is a key of
        ERRORS."""
        self._drop(message.__struct_config__.tag, code)

    def superseded(self, str type not None):
        """Count a deferred value that a newer one of the same sender has replaced."""
        self._drop(type, SUPERSEDED)

    cdef _drop(self, str type, str reason):
        key = (type, reason.lower())
        self._dropped[key] = self._dropped.get(key, 0) + 1

    def joined(self, double seconds):
        """Count a join; its snapshot was written `seconds` after its arrival."""
        self.joins += 1
        observe(&hot.join, seconds)

    def lagged(self, double seconds):
        """Record that the loop ran a timer `seconds` too late."""
        observe(&hot.lag, seconds)

    def read(self):
        """Return all counters as `CounterTotals`."""
        cdef int i
        received, dropped = dict(self._received), {}
        received["cursor"] += hot.cursors_received
        merged = {
            ("cursor", SLOW_CONSUMER): hot.cursors_merged,
            ("selection", SLOW_CONSUMER): hot.selections_merged,
            ("presence", SLOW_CONSUMER): hot.presence_merged,
        }
        for (type_, reason), count in {**self._dropped, **merged}.items():
            dropped.setdefault(type_, {})[reason] = count
        dropped["cursor"][SUPERSEDED] += hot.cursors_superseded
        return CounterTotals(
            accepted=self.accepted,
            turned_away=self.turned_away,
            joins=self.joins,
            auth=dict(self._auth),
            disconnects=dict(self._disconnects),
            received=received,
            sent={name: hot.sent[i + 1] for i, name in enumerate(SENT_TYPES)},
            dropped=dropped,
            fanout_bytes=hot.fanout_bytes,
            flushes=hot.flushes,
            forwards=hot.forwards,
            mesh_bytes=hot.mesh_bytes,
            broadcast=reading(&hot.broadcast),
            join=reading(&hot.join),
            lag=reading(&hot.lag),
        )


counters = CounterSet()
