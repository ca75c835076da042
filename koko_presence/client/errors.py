"""What can go wrong for a user of the client. Every message says what to do next."""

from typing import Any


class PresenceRefused(Exception):
    """The server said no [L6]. `code` is one of the codes of docs/protocol.md; `state` is the room's playback where the
    refusal carries it [H1, H16]; `retry_after_ms` says when the same call may work."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after_ms: int | None = None,
        state: Any = None,
        room_id: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.state = state
        self.room_id = room_id


class AuthRefused(PresenceRefused):
    """The server did not take the token, or has no session left for this user [A1, C11]."""


class PresenceOffline(ConnectionError):
    """There is no connection, or no answer came in time. Whether a call that had been sent took effect is unknown.
    `close_code` is the close code [L7], where there was one."""

    def __init__(self, message: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code
