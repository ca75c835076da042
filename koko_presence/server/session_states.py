"""A session's life as a table, and what a session needs of the connection under it."""

from typing import Protocol

# state, event -> next state. `message` is anything but auth; a session that is opening holds messages back [A2].
LIFE: dict[tuple[str, str], str] = {
    ("new", "auth"): "verifying",
    ("verifying", "verified"): "opening",
    ("opening", "opened"): "open",
    ("opening", "over"): "verifying",  # the session that a resume token alone was to lead back to is not there any more
    ("new", "end"): "closed",
    ("verifying", "end"): "closed",
    ("opening", "end"): "closed",
    ("open", "end"): "closed",
}


class Link(Protocol):
    """A Connection, as a session uses it."""

    @property
    def unsent_bytes(self) -> int: ...

    def send_frames(self, data: bytes) -> None: ...

    def send_ping(self, data: bytes) -> None: ...

    def promote(self) -> None: ...

    def invite(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...


class ClosedLink:
    """The link of a session whose connection is gone: takes the place of the real one, so that the two do not keep each
    other, and whatever is still said to it is dropped."""

    unsent_bytes = 0

    def send_frames(self, data: bytes) -> None: ...

    def send_ping(self, data: bytes) -> None: ...

    def promote(self) -> None: ...

    def invite(self) -> None: ...

    def close(self, code: int, reason: str = "") -> None: ...

    def abort(self) -> None: ...


CLOSED_LINK = ClosedLink()
