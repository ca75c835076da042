"""Declares all errors in two tables: the error codes that clients receive, and the codes with which sockets are closed.

A `PresenceError` is raised where a rule is broken. The edge writes it as the message
`{"type":"error","code","message",...}` [L6] or, for HTTP, as the tRPC error with the mapping of M6b.
"""

from enum import Enum
from typing import Any, NamedTuple


class ErrorSpec(NamedTuple):
    """The form of one error code over HTTP [M6, M6b], and its default message."""

    trpc: str
    http_status: int
    message: str


ERRORS: dict[str, ErrorSpec] = {
    "UNAUTHENTICATED": ErrorSpec("UNAUTHORIZED", 401, 'Send {"type":"auth","token":...} first, with a valid token.'),
    "FORBIDDEN": ErrorSpec("FORBIDDEN", 403, "Your token does not allow this here."),
    "NOT_IN_ROOM": ErrorSpec("PRECONDITION_FAILED", 412, "Join the room first."),
    "ROOM_FULL": ErrorSpec("TOO_MANY_REQUESTS", 429, "This room is full."),
    "ROOM_TYPE_MISMATCH": ErrorSpec("CONFLICT", 409, "The room exists with another roomType."),
    "TOO_MANY_ROOMS": ErrorSpec(
        "TOO_MANY_REQUESTS", 429, "You are in as many rooms as one user may be. Leave one first."
    ),
    "TOO_MANY_SESSIONS": ErrorSpec(
        "TOO_MANY_REQUESTS", 429, "You have as many sessions as one user may have. Close one."
    ),
    "RATE_LIMITED": ErrorSpec("TOO_MANY_REQUESTS", 429, "Too many of these. Wait retryAfterMs and try again."),
    "INVALID_JSON": ErrorSpec("BAD_REQUEST", 400, "The message is not valid JSON."),
    "INVALID_MESSAGE": ErrorSpec("BAD_REQUEST", 400, "The message has a missing or wrong field."),
    "INVALID_DATA": ErrorSpec("BAD_REQUEST", 400, "The message's data is missing or out of range."),
    "UNKNOWN_TYPE": ErrorSpec("BAD_REQUEST", 400, "There is no message of this type."),
    "TOO_LARGE": ErrorSpec("PAYLOAD_TOO_LARGE", 413, "The message is too large."),
    "NOT_CONTROLLER": ErrorSpec("FORBIDDEN", 403, "Someone else has control. Send control_request to ask for it."),
    "TARGET_NOT_IN_ROOM": ErrorSpec("NOT_FOUND", 404, "That user is not in the room."),
    "SYNC_DISABLED": ErrorSpec("PRECONDITION_FAILED", 412, "Playback is not synchronised in this room."),
    "SESSION_REQUIRED": ErrorSpec("PRECONDITION_FAILED", 412, "Name the session this is for."),
    "ALREADY_AUTHENTICATED": ErrorSpec("CONFLICT", 409, "This connection belongs to another user already."),
    "BINARY_NOT_SUPPORTED": ErrorSpec("BAD_REQUEST", 400, "Send text frames with JSON, not binary frames."),
    "SLOW_CONSUMER": ErrorSpec("TOO_MANY_REQUESTS", 429, "You read too slowly. Reconnect and resume."),
    "INVISIBLE": ErrorSpec("FORBIDDEN", 403, "You are invisible. Become visible first."),
    "STALE": ErrorSpec("CONFLICT", 409, "The room has moved on since baseVersion. See state."),
    "METHOD_NOT_SUPPORTED": ErrorSpec(
        "METHOD_NOT_SUPPORTED", 405, "Over HTTP there is no such thing. Use the WebSocket."
    ),
    "UNAVAILABLE": ErrorSpec("SERVICE_UNAVAILABLE", 503, "This cannot be done just now. Try again."),
    "INTERNAL": ErrorSpec("INTERNAL_SERVER_ERROR", 500, "Something went wrong here. It was logged."),
}


class ReconnectPolicy(Enum):
    """What a client does after a close code."""

    NO = "no"  # do not reconnect
    NEW_TOKEN = "new_token"  # fetch a new token, then reconnect
    RESUME = "resume"  # reconnect at once, with jitter and the resume token
    LATER = "later"  # reconnect after `retryAfterMs` or a long back-off


class Close(NamedTuple):
    """One close code [L7]: its reason text and how the client reconnects."""

    reason: str
    come_back: ReconnectPolicy


CLOSES: dict[int, Close] = {
    1000: Close("done", ReconnectPolicy.NO),
    1001: Close("going away", ReconnectPolicy.RESUME),
    1002: Close("protocol error", ReconnectPolicy.RESUME),
    1003: Close("unsupported data", ReconnectPolicy.NO),
    1006: Close("connection lost", ReconnectPolicy.RESUME),
    1007: Close("invalid UTF-8", ReconnectPolicy.RESUME),
    1009: Close("message too big", ReconnectPolicy.RESUME),
    1011: Close("internal error", ReconnectPolicy.LATER),
    1012: Close("restart", ReconnectPolicy.RESUME),
    1013: Close("try again later", ReconnectPolicy.LATER),
    4400: Close("too many protocol errors", ReconnectPolicy.LATER),
    4401: Close("not authenticated", ReconnectPolicy.NEW_TOKEN),
    4403: Close("kicked", ReconnectPolicy.NO),
    4408: Close("timed out", ReconnectPolicy.RESUME),
    4409: Close("replaced by a newer connection of this session", ReconnectPolicy.NO),
    4413: Close("slow consumer", ReconnectPolicy.RESUME),
    4429: Close("limits exceeded", ReconnectPolicy.LATER),
}


# No authoriser has given an answer.
NOT_CHECKED = "Whether you may enter could not be checked. Try again in a moment."
NOT_CHECKED_RETRY_S = 2.0


class PresenceError(Exception):
    """A rule was broken. `code` is a key of `ERRORS`; `retry_after_s` is in seconds; `state` is the room state that the
    client needs to undo its optimistic change [H1, H16]."""

    def __init__(self, code: str, message: str = "", *, retry_after_s: float | None = None, state: Any = None) -> None:
        self.code = code
        self.message = message or ERRORS[code].message
        self.retry_after_ms = None if retry_after_s is None else max(1, round(retry_after_s * 1000))
        self.state = state
        super().__init__(f"{code}: {self.message}")
