"""Defines the states of a session as a table, and the interface that a session uses of its connection.

`Session.move` alone takes the steps of `TRANSITIONS`.
"""

from typing import Protocol

# (state, event) -> next state. A session that is verifying or opening holds its client's messages [A2].
TRANSITIONS: dict[tuple[str, str], str] = {
    ("new", "auth"): "verifying",
    ("verifying", "verified"): "opening",
    ("opening", "opened"): "open",
    ("opening", "over"): "verifying",  # the session to be resumed by an unchecked token has ended
    ("new", "end"): "closed",
    ("verifying", "end"): "closed",
    ("opening", "end"): "closed",
    ("open", "end"): "closed",
}


class Link(Protocol):
    """The part of `Connection` that a session uses."""

    @property
    def unsent_bytes(self) -> int: ...

    def send_frames(self, data: bytes) -> None: ...

    def send_ping(self, data: bytes) -> None: ...

    def keep_alive(self, data: bytes) -> None: ...

    def promote(self) -> None: ...

    def lift_preauth_limit(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...


class ClosedLink:
    """The link of a session whose connection is closed: ignores all calls. It replaces the real one, so that session
    and connection hold no references to each other."""

    unsent_bytes = 0

    def send_frames(self, data: bytes) -> None: ...

    def send_ping(self, data: bytes) -> None: ...

    def keep_alive(self, data: bytes) -> None: ...

    def promote(self) -> None: ...

    def lift_preauth_limit(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...


CLOSED_LINK = ClosedLink()
