"""Declares the procedures of the specification: how a message is called over HTTP, and what the call returns.

A message lists its procedures (`messages.py`); the input is the message with the fields of its `data` flat beside
`roomId`, unless the procedure has an input of its own. Owners make the results of commands as objects with these
fields; a socket gets them in its `ack` [M5].
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import UNSET, Meta, Raw, UnsetType

from .models import (
    Activity,
    PlaybackRow,
    PresenceRoom,
    PresenceUser,
    RefusedRoom,
    Rights,
    RoomId,
    Status,
    SummaryRow,
    Wire,
)

SessionId = Annotated[str, Meta(min_length=1, max_length=128)]
ClientKey = Annotated[str, Meta(min_length=1, max_length=64)]


# --- inputs -------------------------------------------------------------------------------------------------------


class Target(Wire, kw_only=True):
    """Which session a call is for: `session_id` names one that is connected (the header `x-presence-session` does the
    same; over wsLink the socket's own is meant). Without one it is the session held over HTTP; `client_key`
    distinguishes several [M1, M2]."""

    session_id: SessionId | UnsetType = UNSET
    client_key: ClientKey | UnsetType = UNSET


class RoomTarget(Target, kw_only=True):
    """The session that a call is for, and the room."""

    room_id: RoomId


class LeaveInput(RoomTarget, kw_only=True):
    """The room to leave [M3]."""

    all: Annotated[bool, Meta(description="Every session of the user in the room.")] = False


class HeartbeatInput(Target, kw_only=True):
    """Without a room it renews every lease of the user; `client_time` is returned as `echo` [D6, D7]."""

    room_id: RoomId | UnsetType = UNSET
    status: Activity | UnsetType = UNSET
    client_time: float | UnsetType = UNSET


# --- results [M5] -------------------------------------------------------------------------------------------------


class JoinResult(Wire, kw_only=True):
    """The room at `seq`, and the session that has joined it [M2]."""

    room: PresenceRoom
    assigned_color: str
    session_id: str
    rights: Rights
    lease_seconds: Annotated[
        float | UnsetType, Meta(description="There when the session is held over HTTP: renew it within this time.")
    ] = UNSET  # [M2]
    seq: int
    server_time: int
    send_interval_ms: int


class ActiveResult(Wire, kw_only=True):
    """One row for each session; `total_count` counts users [C14]."""

    users: list[PresenceUser] | Raw
    total_count: int
    session_count: int


class SummariesResult(Wire, kw_only=True):
    """One row for each room that the caller may enter, in the order of the input [Q12]."""

    summaries: list[SummaryRow] | Raw
    refused: list[RefusedRoom]


class HeartbeatResult(Wire, kw_only=True):
    """The number of renewed leases, and the fields of `pong` [D7]."""

    success: bool
    renewed: int
    lease_seconds: float | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    server_time: int | UnsetType = UNSET
    echo: float | UnsetType = UNSET


class Success(Wire, kw_only=True):
    success: Annotated[bool, Meta(extra_json_schema={"const": True})]


class LeaveResult(Success, kw_only=True):
    left: Annotated[int, Meta(description="How many sessions have left.")]


class StatusResult(Success, kw_only=True):
    status: Status
    status_message: Annotated[str, Meta(description="Empty when there is none.")]


class PlaybackResult(Success, kw_only=True):
    """The room's state after the command; `sync_enabled` alone after `enable` and `disable`, nothing after a
    report."""

    is_playing: bool | UnsetType = UNSET
    current_time: float | UnsetType = UNSET
    playback_rate: float | UnsetType = UNSET
    anchor: int | UnsetType = UNSET
    version: int | UnsetType = UNSET
    duration: float | UnsetType = UNSET
    target: str | UnsetType = UNSET
    frame: int | UnsetType = UNSET
    frame_target: str | UnsetType = UNSET
    ended: bool = False
    sync_enabled: bool | UnsetType = UNSET


class MediaResult(Success, kw_only=True):
    """The room's playback after the change."""

    playback: PlaybackRow | UnsetType = UNSET


class RequestControlResult(Success, kw_only=True):
    granted: bool
    controller: str | None


class GrantControlResult(Success, kw_only=True):
    controller: str


class BroadcastResult(Success, kw_only=True):
    delivered: Annotated[int, Meta(description="Sessions that received it, without invisible ones.")]


class PresenceResult(Success, kw_only=True):
    presence: Annotated[dict[str, Any], Meta(description="The whole object after the change.")]


class PrivacyResult(Success, kw_only=True):
    invisible: bool
    share_cursor: bool
    share_selection: bool


# --- the declaration of a procedure -------------------------------------------------------------------------------


class Procedure(NamedTuple):
    """A procedure of the router `presence`.

    `fixed` are values of `data` that the name stands for, `default` values of `data` that may be left out. `input` is
    set where the input is not the message; `input_name` where the generated type of the input has another name than
    that of the procedure.
    """

    name: str
    kind: Literal["query", "mutation"] = "mutation"
    returns: type[Wire] = Success
    fixed: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}
    input: type[Target] | None = None
    input_name: str = ""
