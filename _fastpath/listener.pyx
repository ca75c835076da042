# cython: language_level=3, boundscheck=False, wraparound=False
"""Where picows hands over a frame: plain cursors go through the session's gate at once, all else to Python.

picows' classes are cimported, so their memory layout is compiled in: the very first thing is to make sure that it is the
layout of the picows that runs.
"""

import logging

from koko_presence._fastpath.build_info import check_abi

check_abi()

from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

from koko_presence._fastpath.gate cimport Gate

log = logging.getLogger("koko_presence.connection")


cdef class FrameListener(WSListener):
    """Base of the connection. `parts` is a list while the pieces of a message come in, `gate` the session's, once it
    has one; `on_frame(frame)` gets every frame that is not a plain cursor."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if (
            frame.msg_type == WSMsgType.TEXT and frame.fin and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
            and self.take_text(frame.payload_ptr, frame.payload_size)
        ):
            return
        self.on_frame(frame)

    cdef bint take_text(self, const char* text, Py_ssize_t size):
        """A whole text message has come; True when it was a plain cursor and is on its way."""
        if self.gate is None or self.parts is not None or self.closing:
            return False
        try:
            return self.gate.pass_through(text, size)
        except Exception:  # a fault of ours in one cursor; as on the bus, it takes nothing else with it
            log.exception("a cursor failed")
            return True


def forget_handshake(WSTransport transport not None):
    """Let go of the request and the answer, a kilobyte or two that nobody looks at after the handshake."""
    transport.request = None
    transport.response = None
