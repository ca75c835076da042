"""Who holds the playback, who asked for it [I]. A small table; the room turns its answers into events."""

from typing import NamedTuple


class Request(NamedTuple):
    """A pending wish for control [I5]."""

    name: str
    requested_at: float
    expires_at: float


class Control:
    """At most one controller per room; at most one pending request per user."""

    __slots__ = ("requests", "session_id", "user_id", "version")

    def __init__(self) -> None:
        self.user_id: str | None = None
        self.session_id: str | None = None
        self.requests: dict[str, Request] = {}
        self.version = 0

    def give(self, user_id: str, session_id: str) -> None:
        """Hand control over; whatever the new holder had asked for is answered by that."""
        self.user_id, self.session_id = user_id, session_id
        self.requests.pop(user_id, None)
        self.version += 1

    def release(self) -> None:
        self.user_id = self.session_id = None
        self.version += 1

    def ask(self, user_id: str, name: str, now: float, life_s: float) -> bool:
        """Note a request; False when one was pending already, which is refreshed silently [I5]."""
        earlier = self.requests.get(user_id)
        self.requests[user_id] = Request(name, earlier.requested_at if earlier else now, now + life_s)
        return earlier is None

    def withdraw(self, user_id: str) -> bool:
        """Take a pending request away; False when there was none."""
        return self.requests.pop(user_id, None) is not None

    def by_age(self) -> list[str]:
        """The users who ask, who has waited longest first."""
        return sorted(self.requests, key=lambda user: self.requests[user].requested_at)
