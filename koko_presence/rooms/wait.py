"""Holds for which viewers the playback of a room waits, and for how long it has waited [H9]. State only, written by its
room and playback_sync.py."""

WAITS_AGAIN_S = 30.0  # a user causes at most one wait in this time, and all waits in it together have a limit
SHORTEST_WAIT_S = 1.0  # of a longer limit, less than this is not worth a stop of everybody
MOST_NAMED = 10


class Wait:
    """A wait that began at monotonic second `began` and ends at `until`, or when all `viewers` can play: session ids
    with the ids of their users, in the order in which they began to buffer."""

    __slots__ = ("began", "until", "viewers")

    def __init__(self, began: float, until: float, viewers: dict[str, str] | None = None) -> None:
        self.began = began
        self.until = until
        self.viewers: dict[str, str] = viewers or {}

    @property
    def users(self) -> list[str]:
        """The ids of the users that are waited for, each once; the first ten."""
        return list(dict.fromkeys(self.viewers.values()))[:MOST_NAMED]


class WaitTimes:
    """When a room has waited lately, so that many viewers, or one with many accounts, cannot stop it for most of the
    time. Times are monotonic seconds."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []

    def add(self, wait: Wait, ended: float) -> None:
        """Record a wait that has ended."""
        earliest = ended - WAITS_AGAIN_S
        self._times = [(began, until) for began, until in self._times if until > earliest]
        self._times.append((wait.began, ended))

    def left_s(self, limit_s: float, now: float) -> float:
        """Return how long a wait that begins now may last, in seconds: all waits in 30 s last `limit_s` at most. 0.0:
        too short to be worth it."""
        earliest = now - WAITS_AGAIN_S
        left_s = limit_s - sum(max(ended - max(began, earliest), 0.0) for began, ended in self._times)
        return left_s if left_s >= min(limit_s, SHORTEST_WAIT_S) else 0.0
