"""Declares every limit of the specification in one frozen Struct; the unit of each is in its name.

The section `[limits]` of the configuration file has exactly these keys and defaults. References in brackets are to the
specification's tables ("Connection Limits", "Message Throttling") and to the numbered decisions.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=100_000)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
Hertz = Annotated[float, Meta(gt=0.0, le=100_000.0)]
Bytes = Annotated[int, Meta(ge=256, le=1 << 30)]


# Burst of merged kinds: 1 plus the share of an interval by which a value may be early. Messages sent every 50 ms arrive
# a little early or late; without slack one late value would delay all later ones. Below 2 the rule holds exactly: any
# closed window of one second has at most `hz` + 1 values [L1].
MERGED_BURST = 1.9


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of users, sessions, rooms, sockets and addresses. Errors: `msgspec.ValidationError` when a value is
    decoded out of range."""

    # counts [Connection Limits, C6, C10, C11]
    max_users_per_room: Count = 100
    max_rooms_per_user: Count = 10
    max_sessions_per_user: Count = 5
    evict_oldest: bool = False

    # lifetimes of sessions and rooms [D2, D4, D11, C12, A1]
    heartbeat_interval_s: Seconds = 30.0
    heartbeat_min_interval_s: Seconds = 5.0
    missed_heartbeats: Count = 3
    grace_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 5.0
    idle_after_s: Seconds = 120.0
    away_after_s: Seconds = 600.0
    typing_stop_s: Seconds = 5.0
    room_linger_s: Seconds = 30.0
    auth_timeout_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 10.0
    auth_warning_s: Seconds = 60.0
    auth_grace_s: Seconds = 30.0
    ping_interval_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 25.0
    ping_timeout_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 10.0
    control_request_s: Seconds = 30.0
    report_fresh_s: Seconds = 10.0

    # rates per second, with the burst where it is not 1 [Message Throttling, E2, I9, J1, L1, L2]
    cursor_hz: Hertz = 20.0
    selection_hz: Hertz = 20.0
    typing_hz: Hertz = 2.0
    typing_burst: Count = 2
    playback_hz: Hertz = 5.0
    playback_burst: Count = 5
    report_hz: Hertz = 5.0
    status_hz: Hertz = 2.0
    status_burst: Count = 4
    control_hz: Hertz = 0.2
    control_burst: Count = 2
    broadcast_hz: Hertz = 10.0
    broadcast_burst: Count = 20
    join_hz: Hertz = 5.0
    join_burst: Count = 20
    connection_hz: Hertz = 100.0
    connection_bytes_hz: Annotated[int, Meta(ge=4096, le=1 << 30)] = 256 * 1024
    room_events_hz: Hertz = 2000.0

    # limits of one client address on this machine; those of its users apply after authentication [Q5]
    address_connections: Count = 2000
    address_unauthenticated: Count = 200
    address_requests_hz: Count = 200
    address_questions_hz: Count = 20

    # abuse [B13, L3]
    flood_s: Seconds = 5.0
    max_errors: Count = 50
    max_protocol_errors: Count = 10
    error_window_s: Seconds = 10.0
    abuse_retry_after_s: Seconds = 10.0

    # sizes [B10, C17, J2]
    max_message_bytes: Bytes = 16 * 1024
    max_frame_bytes: Bytes = 64 * 1024
    max_broadcast_bytes: Bytes = 8 * 1024
    room_broadcast_bytes: Bytes = 16 * 1024 * 1024  # per second, to all receivers together
    max_presence_bytes: Bytes = 1024
    send_soft_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    send_hard_bytes: Bytes = 1024 * 1024
    send_stuck_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 10.0

    # fan-out [L4]: the flush window of a busy room, 0 switches it off, and the longest window while the worker is
    # loaded. In overload the window of every room grows to 33 ms, whatever the ceiling
    flush_window_ms: Annotated[float, Meta(ge=0.0, le=33.0)] = 5.0
    flush_ceiling_ms: Annotated[float, Meta(ge=0.0, le=33.0)] = 16.0

    @property
    def silence_s(self) -> float:
        """Seconds without any message after which a session counts as gone [presence.heartbeat rule 3, D4]."""
        return self.heartbeat_interval_s * self.missed_heartbeats


class RoomOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of rooms [H1, I6]; section `[rooms]` of the configuration file."""

    control_mode: Literal["open", "controller", "moderators"] = "open"
    auto_grant: bool = False
