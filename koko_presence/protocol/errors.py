"""What can go wrong, as two tables: error codes a client is told, and close codes a socket ends with.

A `PresenceError` travels from where a rule is broken to the edge, which writes it as the message
`{"type":"error","code","message",...}` [L6] or, for HTTP, as the tRPC error with the mapping of M6b.
"""

from enum import Enum
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """How one error code shows over HTTP [M6, M6b], and what it says when its raiser has nothing better to say."""

    trpc: str
    http_status: int
    message: str


ERRORS: dict[str, Kind] = {
    "UNAUTHENTICATED": Kind("UNAUTHORIZED", 401, 'Send {"type":"auth","token":...} first, with a valid token.'),
    "FORBIDDEN": Kind("FORBIDDEN", 403, "Your token does not allow this here."),
    "NOT_IN_ROOM": Kind("PRECONDITION_FAILED", 412, "Join the room first."),
    "ROOM_FULL": Kind("TOO_MANY_REQUESTS", 429, "This room is full."),
    "ROOM_TYPE_MISMATCH": Kind("CONFLICT", 409, "The room exists with another roomType."),
    "TOO_MANY_ROOMS": Kind("TOO_MANY_REQUESTS", 429, "You are in as many rooms as one user may be. Leave one first."),
    "TOO_MANY_SESSIONS": Kind("TOO_MANY_REQUESTS", 429, "You have as many sessions as one user may have. Close one."),
    "RATE_LIMITED": Kind("TOO_MANY_REQUESTS", 429, "Too many of these. Wait retryAfterMs and try again."),
    "INVALID_JSON": Kind("BAD_REQUEST", 400, "The message is not valid JSON."),
    "INVALID_MESSAGE": Kind("BAD_REQUEST", 400, "The message has a missing or wrong field."),
    "INVALID_DATA": Kind("BAD_REQUEST", 400, "The message's data is missing or out of range."),
    "UNKNOWN_TYPE": Kind("BAD_REQUEST", 400, "There is no message of this type."),
    "TOO_LARGE": Kind("PAYLOAD_TOO_LARGE", 413, "The message is too large."),
    "NOT_CONTROLLER": Kind("FORBIDDEN", 403, "Someone else has control. Send control_request to ask for it."),
    "TARGET_NOT_IN_ROOM": Kind("NOT_FOUND", 404, "That user is not in the room."),
    "SYNC_DISABLED": Kind("PRECONDITION_FAILED", 412, "Playback is not synchronised in this room."),
    "SESSION_REQUIRED": Kind("PRECONDITION_FAILED", 412, "Name the session this is for."),
    "ALREADY_AUTHENTICATED": Kind("CONFLICT", 409, "This connection belongs to another user already."),
    "BINARY_NOT_SUPPORTED": Kind("BAD_REQUEST", 400, "Send text frames with JSON, not binary frames."),
    "SLOW_CONSUMER": Kind("TOO_MANY_REQUESTS", 429, "You read too slowly. Reconnect and resume."),
    "INVISIBLE": Kind("FORBIDDEN", 403, "You are invisible. Become visible first."),
    "STALE": Kind("CONFLICT", 409, "The room has moved on since baseVersion. See state."),
    "METHOD_NOT_SUPPORTED": Kind("METHOD_NOT_SUPPORTED", 405, "Over HTTP there is no such thing. Use the WebSocket."),
    "UNAVAILABLE": Kind("SERVICE_UNAVAILABLE", 503, "This cannot be done just now. Try again."),
    "INTERNAL": Kind("INTERNAL_SERVER_ERROR", 500, "Something went wrong here. It was logged."),
}


class ComeBack(Enum):
    """What a client does after a close code."""

    NO = "no"  # stop; the person did it or is not wanted
    NEW_TOKEN = "new_token"  # fetch a new token, then come back
    RESUME = "resume"  # come back now, jittered, with the resume token
    LATER = "later"  # come back after retryAfterMs or a long back-off


class Close(NamedTuple):
    """One close code [L7]: its reason text and whether the client may come back."""

    reason: str
    come_back: ComeBack


CLOSES: dict[int, Close] = {
    1000: Close("done", ComeBack.NO),
    1001: Close("going away", ComeBack.RESUME),
    1002: Close("protocol error", ComeBack.RESUME),
    1003: Close("unsupported data", ComeBack.NO),
    1006: Close("connection lost", ComeBack.RESUME),
    1007: Close("invalid UTF-8", ComeBack.RESUME),
    1009: Close("message too big", ComeBack.RESUME),
    1011: Close("internal error", ComeBack.LATER),
    1012: Close("restart", ComeBack.RESUME),
    1013: Close("try again later", ComeBack.LATER),
    4400: Close("too many protocol errors", ComeBack.LATER),
    4401: Close("not authenticated", ComeBack.NEW_TOKEN),
    4403: Close("kicked", ComeBack.NO),
    4408: Close("timed out", ComeBack.RESUME),
    4409: Close("replaced by a newer connection of this session", ComeBack.NO),
    4413: Close("slow consumer", ComeBack.RESUME),
    4429: Close("limits exceeded", ComeBack.LATER),
}


# Nobody who could be asked has said yes or no.
NOT_CHECKED = "Whether you may enter could not be checked. Try again in a moment."
NOT_CHECKED_RETRY_S = 2.0


class PresenceError(Exception):
    """A rule said no. `code` is a key of ERRORS; `state` is what the client needs to snap back [H1, H16]."""

    def __init__(self, code: str, message: str = "", *, retry_after_s: float | None = None, state: Any = None) -> None:
        self.code = code
        self.message = message or ERRORS[code].message
        self.retry_after_ms = None if retry_after_s is None else max(1, round(retry_after_s * 1000))
        self.state = state
        super().__init__(f"{code}: {self.message}")
