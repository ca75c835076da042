"""Holds which session controls the playback and which users have requested control [I]. State only, written by its
room, which emits the events."""

from typing import NamedTuple


class Request(NamedTuple):
    """A pending request for control [I5]; times are monotonic seconds."""

    name: str
    requested_at: float
    expires_at: float


class Control:
    """The control of one room: at most one controller, and at most one pending request per user. `away_since` is the
    monotonic second since which the controller is shown as away, 0.0 while it is not [I7]."""

    __slots__ = ("away_since", "requests", "session_id", "user_id", "version")

    def __init__(self) -> None:
        self.user_id: str | None = None
        self.session_id: str | None = None
        self.requests: dict[str, Request] = {}
        self.version = 0
        self.away_since = 0.0

    def give(self, user_id: str, session_id: str) -> None:
        """Give control to a session; a pending request of its user is thereby granted."""
        if user_id != self.user_id:
            self.away_since = 0.0
        self.user_id, self.session_id = user_id, session_id
        self.requests.pop(user_id, None)
        self.version += 1

    def release(self) -> None:
        self.user_id = self.session_id = None
        self.away_since = 0.0
        self.version += 1

    def add_request(self, user_id: str, name: str, now: float, lifetime_s: float) -> bool:
        """Record a request that expires `lifetime_s` seconds after `now`. Return False when one was pending; that one
        only gets a new expiry [I5]."""
        earlier = self.requests.get(user_id)
        self.requests[user_id] = Request(name, earlier.requested_at if earlier else now, now + lifetime_s)
        return earlier is None

    def rename(self, user_id: str, name: str) -> None:
        """Record another name of a user whose request may be pending."""
        earlier = self.requests.get(user_id)
        if earlier is not None:
            self.requests[user_id] = earlier._replace(name=name)

    def withdraw(self, user_id: str) -> bool:
        """Remove a pending request. Return False when there was none."""
        return self.requests.pop(user_id, None) is not None

    def by_age(self) -> list[str]:
        """Return the requesting users, the longest waiting first."""
        return sorted(self.requests, key=lambda user: self.requests[user].requested_at)
