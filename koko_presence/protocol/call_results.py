"""Declares the results of calls over HTTP that have more than the fields of an acknowledgement [M5].

The owner encodes the results of join and getActive; the edge that has the call passes the bytes on.
"""

from msgspec import UNSET, Raw, UnsetType

from .events import PresenceRoom, PresenceUser
from .messages import Wire


class JoinResult(Wire, kw_only=True):
    """The result of join; `lease_seconds` is set for a session held over HTTP [M2]."""

    room: PresenceRoom
    assigned_color: str
    session_id: str
    lease_seconds: float | UnsetType = UNSET
    seq: int
    server_time: int
    send_interval_ms: int


class ActiveResult(Wire, kw_only=True):
    """The result of getActive."""

    users: list[PresenceUser] | Raw
    total_count: int
    session_count: int


class HeartbeatResult(Wire, kw_only=True):
    """The result of heartbeat: the number of renewed leases, and the fields of `pong` [D7]."""

    success: bool
    renewed: int
    lease_seconds: float | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    server_time: int | UnsetType = UNSET
    echo: float | UnsetType = UNSET
