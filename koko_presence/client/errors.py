"""The exceptions of the client. Every message names the remedy."""

from typing import Any


class PresenceRefused(Exception):
    """The server has refused a message [L6]. `code` is one of the codes of docs/protocol.md; `state` is the room's
    playback when the refusal has it [H1, H16]; the same call may succeed after `retry_after_ms`."""

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
    """The server has refused the token, or the user has the maximum number of sessions [A1, C11]."""


class NoToken(PresenceRefused):
    """The token function returned None: there is no user, and the client does not connect."""

    def __init__(self) -> None:
        super().__init__("UNAUTHENTICATED", "The token function returned None: sign in, and make a new PresenceClient.")


class PresenceOffline(ConnectionError):
    """There is no connection, or no answer came in time. It is unknown whether a sent call took effect. `close_code` is
    the close code [L7], if there was one."""

    def __init__(self, message: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code
