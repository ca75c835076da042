"""Declares the messages from owners to edges: about a session, for a session, or the answer of a call over HTTP.

Between workers they are msgpack, as commands are (`cluster/wire_messages.py`).
"""

from .commands import ClusterMessage
from .models import Activity, Privacy, RoomType


class EdgeMessage(ClusterMessage):
    """Base of the messages from owners to edges."""


class SessionOpened(EdgeMessage, kw_only=True):
    """The owner has assigned the session to the connection, with version `session_version`. `privacy_version` is the
    version of its privacy settings."""

    user_id: str
    connection: int
    session_id: str
    resumed: bool
    rooms: list[str]
    activity: Activity
    privacy: Privacy
    session_version: int
    privacy_version: int


class SessionRefused(EdgeMessage, kw_only=True):
    connection: int
    code: str


class SessionReplaced(EdgeMessage, kw_only=True):
    """A newer connection has resumed this session [D16]: the edge closes `connection` with 4409."""

    session_id: str
    connection: int


class SessionEvicted(EdgeMessage, kw_only=True):
    """The session was ended in favour of a new one of the same user [C11, `limits.evict_oldest`]: the edge closes
    `connection` with 4429."""

    session_id: str
    connection: int


class Reply(EdgeMessage, kw_only=True):
    """A complete message for one session. `refusal`: it is an error, which the edge counts against the client.
    `shown_room_id` is the room whose content it shows, if any: the edge drops it for a session that was expelled from
    that room meanwhile."""

    session_id: str
    payload: bytes
    refusal: bool = False
    shown_room_id: str = ""


class SessionLost(EdgeMessage, kw_only=True):
    """After the loss of a worker no owner has the memberships that this session's edge holds: the edge closes the
    connection with 1012, so that the client reconnects."""

    session_id: str


class RoomRefused(EdgeMessage, kw_only=True):
    """The join failed; `payload` is the error message. `out`: the session is not a member of the room; false when an
    earlier membership remains."""

    session_id: str
    room_id: str
    payload: bytes
    out: bool = True


class Left(EdgeMessage, kw_only=True):
    """The session has left a room whose events it does not get. Its edge writes `payload` to the client, unless the
    edge has already acknowledged the leave, or the client has sent another join since."""

    session_id: str
    room_id: str
    payload: bytes


class SessionActed(EdgeMessage, kw_only=True):
    """A command changed this session by another way than its socket [M1]. The edge counts `activity` as the session's
    own, and stores `privacy`, of version `privacy_version`, which includes the first `received_privacy_seq` privacy
    messages of `connection`. `idle_at`: the user was set to idle then, in monotonic seconds; a session that has acted
    later stays active [D8]. `beat`: it is a heartbeat, by a caller whose `token` or `cookie`, as in `BeatStream`, ends
    at unix second `expires_at_s` [M6c]."""

    session_id: str
    activity: Activity | None = None
    privacy: Privacy | None = None
    privacy_version: int = 0
    connection: int = 0
    received_privacy_seq: int = 0
    idle_at: float = 0.0
    beat: bool = False
    token: str = ""
    cookie: tuple[str, str] | None = None
    expires_at_s: float = 0.0


class SummaryChanged(EdgeMessage, kw_only=True):
    """The summary of a room that the edge watches, as the complete message for its clients [Q12]. `room_type` is that
    of the edge's command. A message with a lower `version` than the last one is outdated."""

    room_id: str
    version: int
    payload: bytes
    room_type: RoomType | None = None


class CallAnswered(EdgeMessage, kw_only=True):
    """The answer of call `number`: its result as JSON, or the error message of L6 when it was `refused`."""

    number: int
    payload: bytes
    refused: bool = False


EDGE_MESSAGES: tuple[type[EdgeMessage], ...] = tuple(EdgeMessage.__subclasses__())
