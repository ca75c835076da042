# cython: language_level=3, boundscheck=False, wraparound=False
"""What the frames of a connection are for: plain cursors go through the session's gate at once, all else to Python."""

import logging

from koko_presence._fastpath.session_limits cimport SessionRateLimiter
from koko_presence._fastpath.read_budget cimport Intake

log = logging.getLogger("koko_presence.connection")


cdef class FrameListener:
    """Base of the connection. `closing` is true once a close frame has been sent or received: of what comes then only a
    close frame is heard; `deaf` once nothing at all is. `parts` is a list while the pieces of a message come in, `gate`
    the session's, once it has one. `intake` has the connection's budgets; without one everything is read and told of.

    Subclasses have `on_frame(kind, fin, payload)` for every frame that is not a plain cursor, `on_bad_frame(code, reason)`
    for one that ends the connection, after which they must be deaf, `pause_writing`, `resume_writing`, and `on_lost`,
    which comes once and last. With an intake, moreover, `on_pings(payload, count)` and `on_pongs(count)` for those that were
    read in one go, `on_rest(until)` when the connection is above its budgets and not read before monotonic second `until`,
    `on_uninvited` for each frame above those that may come before the client says who it is, and `on_flood_after_close`.
    """

    cdef bint take_text(self, const char* text, Py_ssize_t size):
        """A whole text message has come; True when it was a plain cursor and is on its way."""
        if self.gate is None or self.parts is not None or self.closing:
            return False
        try:
            return self.gate.pass_through(text, size)
        except Exception:  # a fault of ours in one cursor; as on the bus, it takes nothing else with it
            log.exception("a cursor failed")
            return True
