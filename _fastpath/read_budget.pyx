# cython: language_level=3, boundscheck=False, wraparound=False
"""How much of one connection is read: frames of any kind and bytes by the second, and frames before `auth` [L3, A2].

Above the budgets nothing is refused or dropped: the connection is not read until `resume_at`, and TCP tells the sender to
wait. Both budgets are token buckets that may go into debt, since what has been read has been read.
"""

# A connection that is not read is looked at again after this long at the earliest, so that a flood costs a few wake-ups a
# second and not one for every frame.
cdef double LEAST_PAUSE_S = 0.02
cdef double ROUNDING_S = 1e-6  # of so many additions


cdef class Intake:
    """The budgets of one connection. Times are monotonic seconds, and those at which the data could have been read.

    `frames_hz` frames a second, `frames_burst` at once; likewise bytes, of which the burst must be a whole frame at least.
    Until `invite` is called at most `uninvited_frames` frames may come. `frames` counts all. One owner writes it.
    """

    def __init__(self, double frames_hz, double frames_burst, double bytes_hz, double bytes_burst,
                 int uninvited_frames):
        if frames_hz <= 0.0 or frames_burst < 1.0 or bytes_hz <= 0.0 or bytes_burst < 1.0:
            raise ValueError("rates must be above 0 and bursts at least 1")
        self._frame_s = 1.0 / frames_hz
        self._frames_slack_s = frames_burst / frames_hz
        self._byte_s = 1.0 / bytes_hz
        self._bytes_slack_s = bytes_burst / bytes_hz
        self._uninvited_frames = uninvited_frames

    def invite(self):
        """The client has said who it is."""
        self.invited = True

    def expel(self):
        """What the client has said was no good: from now on it is uninvited once more."""
        self.invited = False
        self.frames = 0

    cpdef bint frame(self, double now):
        """Count a frame. False: the budget is used up, and nothing is to be read before `resume_at`."""
        self.frames += 1
        self._frames_full_at = (self._frames_full_at if self._frames_full_at > now else now) + self._frame_s
        return self.allows(self._frames_full_at - self._frames_slack_s, now)

    cpdef bint bytes_read(self, Py_ssize_t size, double now):
        """Count bytes that were read. False: as in `frame`."""
        self._bytes_full_at = (self._bytes_full_at if self._bytes_full_at > now else now) + size * self._byte_s
        return self.allows(self._bytes_full_at - self._bytes_slack_s, now)

    cdef bint allows(self, double ready_at, double now) noexcept:
        if ready_at <= now + ROUNDING_S:
            return True
        ready_at = ready_at if ready_at > now + LEAST_PAUSE_S else now + LEAST_PAUSE_S
        if ready_at > self.resume_at:
            self.resume_at = ready_at
        return False

    cpdef bint is_uninvited(self):
        """Has the client sent more than it may before it says who it is?"""
        return not self.invited and self.frames > self._uninvited_frames
