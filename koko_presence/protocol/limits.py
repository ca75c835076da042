"""Declares every limit of the specification in one frozen Struct; the unit of each is in its name.

The section `[limits]` of the configuration file has exactly these keys and defaults. References in brackets are to the
specification's tables ("Connection Limits", "Message Throttling") and to the numbered decisions.
"""

from typing import Annotated

from msgspec import Meta, Struct

from .models import ControlMode

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
    max_users_per_room: Annotated[Count, Meta(description="Maximum number of users in one room.")] = 100
    max_rooms_per_user: Annotated[Count, Meta(description="Maximum number of rooms of one user at a time.")] = 10
    max_sessions_per_user: Annotated[
        Count, Meta(description="Maximum number of sessions (connections, tabs) of one user.")
    ] = 5
    evict_oldest: Annotated[
        bool,
        Meta(description="A session above max_sessions_per_user replaces the oldest one instead of being refused."),
    ] = False

    # lifetimes of sessions and rooms [D2, D4, D11, C12, A1]
    heartbeat_interval_s: Annotated[Seconds, Meta(description="Interval at which a client sends heartbeats.")] = 30.0
    heartbeat_min_interval_s: Annotated[
        Seconds,
        Meta(
            description="Shortest interval between two answers to heartbeats. Heartbeats in between count, but are "
            "not answered."
        ),
    ] = 5.0
    missed_heartbeats: Annotated[
        Count, Meta(description="Number of heartbeat intervals without any message after which a session ends.")
    ] = 3
    grace_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=60.0,
            description="Time for which the place of a lost connection is kept so that it can resume. 0: not at all.",
        ),
    ] = 5.0
    idle_after_s: Annotated[Seconds, Meta(description="Time without activity after which a user is shown as idle.")] = (
        120.0
    )
    away_after_s: Annotated[Seconds, Meta(description="Time for which a user has to be idle to be shown as away.")] = (
        600.0
    )
    typing_stop_s: Annotated[Seconds, Meta(description="Time after which typing ends if it is not repeated.")] = 5.0
    room_linger_s: Annotated[Seconds, Meta(description="Time for which an empty room keeps its state.")] = 30.0
    auth_timeout_s: Annotated[
        float,
        Meta(gt=0.0, le=600.0, description="Time within which a connection has to authenticate, or it is closed."),
    ] = 10.0
    auth_warning_s: Annotated[
        Seconds,
        Meta(
            description="Time before the expiry of a token at which its client is warned, at most half of what is "
            "left when the token comes."
        ),
    ] = 60.0
    auth_grace_s: Annotated[
        Seconds,
        Meta(
            description="Time after the expiry of a token within which its client has to send a new one, or it is "
            "disconnected."
        ),
    ] = 30.0
    ping_interval_s: Annotated[
        float,
        Meta(
            gt=0.0,
            le=3600.0,
            description="Interval between pings to a client; the next one is sent after the answer to the last.",
        ),
    ] = 25.0
    ping_timeout_s: Annotated[
        float,
        Meta(
            gt=0.0, le=3600.0, description="Time within which a ping has to be answered, or the connection is closed."
        ),
    ] = 10.0
    control_request_s: Annotated[Seconds, Meta(description="Time for which a request for control stays pending.")] = (
        30.0
    )
    report_fresh_s: Annotated[Seconds, Meta(description="Time for which a viewer's playback report is valid.")] = 10.0

    # rates per second, with the burst where it is not 1 [Message Throttling, E2, I9, J1, L1, L2]
    cursor_hz: Annotated[
        Hertz, Meta(description="Cursor moves of one user in one room. Above that only the newest is sent, later.")
    ] = 20.0
    selection_hz: Annotated[
        Hertz, Meta(description="Selections of one user in one room. Above that only the newest is sent, later.")
    ] = 20.0
    presence_hz: Annotated[
        Hertz,
        Meta(description="Changes of one user's presence objects in one room. Above that they are sent later, as one."),
    ] = 20.0
    typing_hz: Annotated[Hertz, Meta(description="Typing messages of one user in one room.")] = 2.0
    typing_burst: Annotated[Count, Meta(description="Typing messages that may come at once.")] = 2
    playback_hz: Annotated[Hertz, Meta(description="Playback commands of one user in one room.")] = 5.0
    playback_burst: Annotated[Count, Meta(description="Playback commands that may come at once.")] = 5
    report_hz: Annotated[Hertz, Meta(description="Playback reports of one session in one room.")] = 5.0
    status_hz: Annotated[Hertz, Meta(description="Status changes of one session, over HTTP of one user.")] = 2.0
    status_burst: Annotated[Count, Meta(description="Status changes that may come at once.")] = 4
    control_hz: Annotated[Hertz, Meta(description="Requests for control by one user in one room.")] = 0.2
    control_burst: Annotated[Count, Meta(description="Requests for control that may come at once.")] = 2
    broadcast_hz: Annotated[Hertz, Meta(description="Custom broadcasts of one user in one room.")] = 10.0
    broadcast_burst: Annotated[Count, Meta(description="Custom broadcasts that may come at once.")] = 20
    join_hz: Annotated[Hertz, Meta(description="Joins of one session, over HTTP of one user.")] = 5.0
    join_burst: Annotated[Count, Meta(description="Joins that may come at once.")] = 20
    watch_hz: Annotated[Hertz, Meta(description="Lists of watched rooms of one session, over HTTP of one user.")] = 1.0
    watch_burst: Annotated[Count, Meta(description="Lists of watched rooms that may come at once.")] = 5
    connection_hz: Annotated[Hertz, Meta(description="Messages of any kind on one connection.")] = 100.0
    connection_bytes_hz: Annotated[
        int, Meta(ge=4096, le=1 << 30, description="Bytes that are read from one connection.")
    ] = 256 * 1024
    room_events_hz: Annotated[
        Hertz,
        Meta(
            description="Events that one room takes from its members. Above that clients are asked to send less "
            "often, cursors and selections are merged more, and other events are refused."
        ),
    ] = 2000.0

    # limits of one address on this machine, which apply before authentication [Q5]
    address_connections: Annotated[
        Count,
        Meta(
            description="Connections of one address (IPv6: of one /64) to this machine. Loopback is exempt unless it "
            "is a trusted proxy; this holds for all limits by address."
        ),
    ] = 2000
    address_unauthenticated: Annotated[
        Count, Meta(description="Connections of one address that have not authenticated yet.")
    ] = 200
    address_requests_hz: Annotated[
        Count, Meta(description="HTTP requests of one address, upgrades to WebSocket included.")
    ] = 200
    address_questions_hz: Annotated[
        Count, Meta(description="Requests to the application about unknown tokens that one address may cause.")
    ] = 20

    # abuse [B13, L3]
    flood_s: Annotated[Seconds, Meta(description="Time above the limits of a connection after which it is closed.")] = (
        5.0
    )
    max_errors: Annotated[
        Count, Meta(description="Number of errors within error_window_s that closes a connection.")
    ] = 50
    max_protocol_errors: Annotated[
        Count, Meta(description="Number of unreadable messages within error_window_s that closes a connection.")
    ] = 10
    error_window_s: Annotated[Seconds, Meta(description="Window in which errors are counted.")] = 10.0
    abuse_retry_after_s: Annotated[
        Seconds,
        Meta(description="Time after which a client that was disconnected for abuse may connect again, as it is told."),
    ] = 10.0

    # sizes [B10, C17, J2]
    max_message_bytes: Annotated[Bytes, Meta(description="Maximum size of a message from a client.")] = 16 * 1024
    max_frame_bytes: Annotated[Bytes, Meta(description="Maximum size of a WebSocket frame from a client.")] = 64 * 1024
    max_broadcast_bytes: Annotated[Bytes, Meta(description="Maximum size of `data` in a custom broadcast.")] = 8 * 1024
    room_broadcast_bytes: Annotated[
        Bytes,
        Meta(
            description="Size of a room's custom broadcasts in one second, each counted once for every visible "
            "receiver."
        ),
    ] = 16 * 1024 * 1024
    max_presence_bytes: Annotated[
        Bytes,
        Meta(
            description="Maximum size of a cursor, selection or typing message, and of a presence object as compact "
            "JSON."
        ),
    ] = 1024
    send_soft_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 30,
            description="Data that the kernel has not taken, above which a receiver gets only the newest cursors and "
            "selections. 0: as soon as the kernel has not taken everything.",
        ),
    ] = 0
    send_hard_bytes: Annotated[Bytes, Meta(description="Unsent data above which a slow receiver is disconnected.")] = (
        1024 * 1024
    )
    send_stuck_s: Annotated[
        float,
        Meta(
            gt=0.0,
            le=3600.0,
            description="Time for which a client may take none of the data that waits for it before it is "
            "disconnected.",
        ),
    ] = 10.0

    # fan-out [L4]: the flush window of a busy room, 0 switches it off, and the longest window while the worker is
    # loaded. In overload the window of every room grows to 33 ms, whatever the ceiling
    flush_window_ms: Annotated[
        float,
        Meta(
            ge=0.0,
            le=33.0,
            description="Time for which a busy room collects events before it sends them. 0: not at all.",
        ),
    ] = 5.0
    flush_ceiling_ms: Annotated[
        float,
        Meta(
            ge=0.0,
            le=33.0,
            description="Longest such time as the worker's core fills up. When the core is full, it grows to 33. One "
            "display frame is 16.",
        ),
    ] = 16.0

    @property
    def silence_s(self) -> float:
        """Seconds without any message after which a session counts as gone [presence.heartbeat rule 3, D4]."""
        return self.heartbeat_interval_s * self.missed_heartbeats


class RoomOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rooms behave where the decisions leave a choice [H1, H9, I6, I7]; section `[rooms]` of the configuration
    file. The back end may set some of it for a room of its own [Q10]."""

    control_mode: Annotated[
        ControlMode,
        Meta(
            description="Which members may command playback while no member has control; they need the scope "
            '`control` as well. "open": all. "controller": none. "moderators": moderators, who alone get control by a '
            "request."
        ),
    ] = "open"
    auto_grant: Annotated[
        bool,
        Meta(
            description="Control that its holder gives up or loses goes to the member with the oldest pending request."
        ),
    ] = False
    auto_grant_away_s: Annotated[
        Seconds,
        Meta(
            description="Time for which the holder of control may be away before it goes to the member with the "
            "oldest pending request, or to the next one that requests it. 0: any time."
        ),
    ] = 0.0
    wait_for_viewers_s: Annotated[
        float,
        Meta(
            ge=0.0,
            le=10.0,
            description="Time for which playback waits for a viewer whose player has run out of data. 0: not at all.",
        ),
    ] = 0.0
