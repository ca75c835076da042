# cython: language_level=3, boundscheck=False, wraparound=False
"""The base class for receivers of frames: passes plain cursors to the session's rate limiter, all other frames to
Python.
"""

import logging

from koko_presence._fastpath.session_limits cimport SessionRateLimiter
from koko_presence._fastpath.read_budget cimport ReadBudget

log = logging.getLogger("koko_presence.connection")


cdef class FrameListener:
    """Base of the connection. `closing` is set once a close frame was sent or received, after which only a close frame
    is handled; `ignores_input` once nothing is handled any more. `parts` is a list while a fragmented message is
    incomplete, `rate_limiter` the rate limiter of the session, None before there is one. `read_budget` has the
    connection's budgets; None means no limits.

    Subclasses implement `on_frame(kind, fin, payload)` for every frame that is not a plain cursor, `on_bad_frame(code,
    reason)` for a protocol error, after which they must set `ignores_input`, `pause_writing`, `resume_writing`, and
    `on_lost`, the last call, which occurs once. With a `read_budget` also `on_pings(payload, count)` and
    `on_pongs(payload, count)` for those of one read, `on_throttled(until)` when the connection exceeds its budgets and
    is not read before monotonic second `until`, `on_preauth_limit` for each frame beyond those allowed before
    authentication, and `on_flood_after_close`.
    """

    cdef bint take_text(self, const char* text, Py_ssize_t size):
        """Handle a complete text message if it is a plain cursor that the rate limiter accepts; False for any other."""
        if self.rate_limiter is None or self.parts is not None or self.closing:
            return False
        try:
            return self.rate_limiter.pass_through(text, size)
        except Exception:  # a fault in one cursor must not affect other messages, as on the bus
            log.exception("a cursor failed")
            return True
