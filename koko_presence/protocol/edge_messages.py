"""What owners tell edges: of a session, for a session, or what a call over HTTP gets.

Between workers it travels as msgpack, as commands do (cluster/wire_messages.py).
"""

from .commands import ClusterMessage
from .messages import Activity, Privacy


class SessionOpened(ClusterMessage, kw_only=True):
    """The connection has the session, by version `opening`; what it hides is of `privacy_version`."""

    user_id: str
    connection: int
    session_id: str
    resumed: bool
    rooms: list[str]
    activity: Activity
    privacy: Privacy
    opening: int
    privacy_version: int


class SessionRefused(ClusterMessage, kw_only=True):
    connection: int
    code: str


class SessionReplaced(ClusterMessage, kw_only=True):
    """A newer connection resumed this session [D16]: close the old one with 4409."""

    session_id: str
    connection: int


class SessionEvicted(ClusterMessage, kw_only=True):
    """The session was ended to make place for a new one of the same user [C11, evict_oldest]."""

    session_id: str
    connection: int


class Reply(ClusterMessage, kw_only=True):
    """A whole message for one session. `tells_of` names the room that it shows, if any: nobody who was thrown out of
    that meanwhile gets it."""

    session_id: str
    payload: bytes
    refusal: bool = False
    tells_of: str = ""


class SessionLost(ClusterMessage, kw_only=True):
    """The owners know nothing of what this session believes, after the loss of a worker: it has to come again."""

    session_id: str


class RoomRefused(ClusterMessage, kw_only=True):
    """The join failed; `payload` is the error message. `out`: so the session is not in the room."""

    session_id: str
    room_id: str
    payload: bytes
    out: bool = True


class Left(ClusterMessage, kw_only=True):
    """The session has left the room, which it did not hear; `payload` tells its client, unless its edge has done so."""

    session_id: str
    room_id: str
    payload: bytes


class SessionActed(ClusterMessage, kw_only=True):
    """Something was done for this session by another way than its socket [M1]: its edge counts that as its own, and
    knows what the session hides from now on: `privacy`, of `privacy_version`, in which the first `heard` words of
    `connection` on its privacy are counted."""

    session_id: str
    activity: Activity | None = None
    privacy: Privacy | None = None
    privacy_version: int = 0
    connection: int = 0
    heard: int = 0


class CallAnswered(ClusterMessage, kw_only=True):
    """What a call gets: its result as JSON, or the error message of L6 when it was `refused`."""

    number: int
    payload: bytes
    refused: bool = False


EdgeMessage = (
    SessionOpened
    | SessionRefused
    | SessionReplaced
    | SessionEvicted
    | SessionLost
    | Reply
    | RoomRefused
    | Left
    | SessionActed
    | CallAnswered
)
