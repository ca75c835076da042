# cython: language_level=3, boundscheck=False, wraparound=False
"""Limits how much of one connection is read: frames and bytes per second, and frames before authentication [L3, A2].

Above the limits no data are refused or dropped: the connection is not read until `resume_at`, and TCP holds the sender
back. Both budgets are token buckets that may go into debt, since data are counted after they were read.
"""

# The shortest pause, so that a flood causes a few wake-ups per second and not one per frame.
cdef double LEAST_PAUSE_S = 0.02
cdef double ROUNDING_S = 1e-6  # of many additions


cdef class ReadBudget:
    """The budgets of one connection. Times are monotonic seconds, at which the data could have been read.

    `frames_hz` frames per second with `frames_burst` at once; likewise bytes, whose burst must hold one whole frame.
    Before `lift_preauth_limit` at most `preauth_frames` frames are allowed. `frames` counts all frames. Written by
    `FrameReader` and the connection.
    """

    def __init__(self, double frames_hz, double frames_burst, double bytes_hz, double bytes_burst,
                 int preauth_frames):
        if frames_hz <= 0.0 or frames_burst < 1.0 or bytes_hz <= 0.0 or bytes_burst < 1.0:
            raise ValueError("rates must be above 0 and bursts at least 1")
        self._frame_s = 1.0 / frames_hz
        self._frames_slack_s = frames_burst / frames_hz
        self._byte_s = 1.0 / bytes_hz
        self._bytes_slack_s = bytes_burst / bytes_hz
        self._preauth_frames = preauth_frames

    def lift_preauth_limit(self):
        """The client is authenticated: lift the limit on frames."""
        self.preauth_lifted = True

    def restore_preauth_limit(self):
        """The authentication has failed: apply the limit on frames again, from 0."""
        self.preauth_lifted = False
        self.frames = 0

    cpdef bint frame(self, double now):
        """Count a frame. False: the budget is exceeded, and nothing is to be read before `resume_at`."""
        self.frames += 1
        self._frames_full_at = (self._frames_full_at if self._frames_full_at > now else now) + self._frame_s
        return self.allows(self._frames_full_at - self._frames_slack_s, now)

    cpdef bint bytes_read(self, Py_ssize_t size, double now):
        """Count bytes that were read. False as in `frame`."""
        self._bytes_full_at = (self._bytes_full_at if self._bytes_full_at > now else now) + size * self._byte_s
        return self.allows(self._bytes_full_at - self._bytes_slack_s, now)

    cdef bint allows(self, double ready_at, double now) noexcept:
        if ready_at <= now + ROUNDING_S:
            return True
        ready_at = ready_at if ready_at > now + LEAST_PAUSE_S else now + LEAST_PAUSE_S
        if ready_at > self.resume_at:
            self.resume_at = ready_at
        return False

    cpdef bint exceeds_preauth_limit(self):
        """Whether the client has sent more frames than are allowed before authentication."""
        return not self.preauth_lifted and self.frames > self._preauth_frames
