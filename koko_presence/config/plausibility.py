"""Warnings about valid values that are hardly meant: wrong units, and keys that contradict each other.

The ranges of the schema are what the server can be run with, for tests and experiments too. Here are the narrower ones
in which it serves people, and the relations between keys; a value outside gets a line that names its effect. The
defaults get none.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from koko_presence.protocol.limits import Limits

from .schema import Config, keys

LONGEST_TOKEN_MESSAGE_BYTES = 8192 + 1024  # `auth` with the longest token, without a resume token
SNAPSHOT_BYTES_PER_USER = 512  # of `joined`, with a name, a picture and a cursor
SDK_TYPING_S = 3.0  # the SDK repeats `typing` so often
PROXY_SILENCE_S = 60.0  # a proxy's usual time-out for a silent connection
KIB = 1024


class Range(NamedTuple):
    """The values of a number that need no warning, both ends included, and the effect of values below and above."""

    least: float
    below: str
    most: float = float("inf")
    above: str = ""


_DAY = 86_400.0
_UNIT_S = "the unit is seconds"

RANGES: dict[str, Range] = {
    "server.backlog": Range(64, "clients that come back at once after a restart are refused by the kernel"),
    "server.keepalive_s": Range(1.0, "HTTP connections close between two requests, which fail in a proxy with 502"),
    "server.drain_delay_s": Range(0.0, "", 300.0, f"a stop takes that long; {_UNIT_S}"),
    "server.drain_s": Range(0.0, "", 300.0, f"a stop takes that long; {_UNIT_S}"),
    "auth.leeway_s": Range(0.0, "", 60.0, f"an expired token is accepted for that long; {_UNIT_S}"),
    "auth.max_ttl_s": Range(60, f"most tokens of applications live longer and are refused; {_UNIT_S}"),
    "webhooks.queue_events": Range(100, "events are dropped as soon as the application is slow for a moment"),
    "limits.max_users_per_room": Range(2, "no user sees another one"),
    "limits.heartbeat_interval_s": Range(
        1.0, f"every client sends a heartbeat so often; {_UNIT_S}",
        300.0, f"a client whose connection hangs is noticed late; {_UNIT_S}",
    ),
    "limits.missed_heartbeats": Range(
        2, "a session ends when one heartbeat is late",
        20, "a session without any message stays for that many intervals",
    ),
    "limits.idle_after_s": Range(5.0, f"users are shown as idle while they read; {_UNIT_S}"),
    "limits.away_after_s": Range(5.0, f"idle users are shown as away almost at once; {_UNIT_S}"),
    "limits.typing_stop_s": Range(
        SDK_TYPING_S, f"typing ends before clients repeat it (the SDK: after {SDK_TYPING_S:g} s); {_UNIT_S}",
        60.0, f"a user who has stopped typing is shown as typing for that long; {_UNIT_S}",
    ),
    "limits.room_linger_s": Range(0.0, "", 3600.0, f"empty rooms take memory for that long; {_UNIT_S}"),
    "limits.auth_timeout_s": Range(
        2.0, f"clients on slow lines are disconnected before they have sent `auth`; {_UNIT_S}",
        60.0, f"connections without a token may stay for that long; {_UNIT_S}",
    ),
    "limits.auth_warning_s": Range(5.0, f"clients have too little time to fetch a new token; {_UNIT_S}"),
    "limits.auth_grace_s": Range(0.0, "", 600.0, f"a connection stays that long after the end of its token; {_UNIT_S}"),
    "limits.ping_interval_s": Range(
        1.0, f"every client is pinged so often; {_UNIT_S}",
        PROXY_SILENCE_S, f"proxies close connections that are silent for {PROXY_SILENCE_S:g} s; {_UNIT_S}",
    ),
    "limits.ping_timeout_s": Range(
        2.0, f"clients on slow lines are disconnected; {_UNIT_S}",
        120.0, f"a connection that hangs is noticed that late; {_UNIT_S}",
    ),
    "limits.control_request_s": Range(3.0, f"a request for control ends before it can be granted; {_UNIT_S}"),
    "limits.report_fresh_s": Range(2.0, f"viewers are shown as unknown, since players report every second; {_UNIT_S}"),
    "limits.cursor_hz": Range(1.0, "others see a cursor move less than once a second", 120.0, "no display shows more"),
    "limits.presence_hz": Range(
        1.0, "others see a presence object change less than once a second", 120.0, "no display shows more"
    ),
    "limits.selection_hz": Range(1.0, "others see a selection change less than once a second"),
    "limits.playback_hz": Range(0.5, "most seeks of a user are refused"),
    "limits.join_hz": Range(0.1, "a client that joins its rooms again after a lost connection is refused"),
    "limits.connection_hz": Range(10.0, "clients that behave are disconnected with 4429"),
    "limits.connection_bytes_hz": Range(16 * KIB, "clients that behave wait for their own messages"),
    "limits.address_connections": Range(10, "users of one office are refused, who share an address"),
    "limits.address_requests_hz": Range(5, "users of one office are refused, who share an address"),
    "limits.flood_s": Range(0.5, "one burst of messages disconnects a client with 4429"),
    "limits.error_window_s": Range(1.0, "errors are hardly counted"),
    "limits.abuse_retry_after_s": Range(0.0, "", 3600.0, f"a disconnected client stays away that long; {_UNIT_S}"),
    "limits.max_message_bytes": Range(
        LONGEST_TOKEN_MESSAGE_BYTES, "an `auth` with the longest token that is accepted, 8192 characters, does not fit"
    ),
    "limits.send_hard_bytes": Range(64 * KIB, "clients are disconnected with 4413 by one burst of events"),
    "limits.send_stuck_s": Range(1.0, f"clients on slow lines are disconnected with 4413; {_UNIT_S}"),
}  # fmt: skip

# a relation that needs a warning, and its text, which begins with the key to change
Relation = tuple[Callable[[Config], bool], Callable[[Config], str]]


def _limits(holds: Callable[[Limits], bool], text: Callable[[Limits], str]) -> Relation:
    return lambda config: holds(config.limits), lambda config: f"limits.{text(config.limits)}"


def _within_a_message(name: str) -> Relation:
    return _limits(
        lambda limits: getattr(limits, name) > limits.max_message_bytes,
        lambda limits: (
            f"{name}: is {getattr(limits, name)} and has no effect, since a message has "
            f"{limits.max_message_bytes} bytes at most (max_message_bytes)"
        ),
    )


RELATIONS: tuple[Relation, ...] = (
    (
        lambda config: config.server.port == 0 and not config.server.runtime_dir,
        lambda config: "server.port: is 0, so every start has another port, which only the log line `serving` names, "
        "and `koko-presence reload` does not find the server; set server.runtime_dir, or a port",
    ),
    (
        lambda config: config.operator.port == 0,
        lambda config: "operator.port: is 0, so every start has another port, which only the log line `operator port` "
        "names; `koko-presence health` and `top` need --url, and Prometheus a fixed one",
    ),
    (
        lambda config: bool(config.webhooks.url) and config.webhooks.queue_events < config.webhooks.batch_events,
        lambda config: f"webhooks.queue_events: is {config.webhooks.queue_events}, less than one batch "
        f"(webhooks.batch_events, {config.webhooks.batch_events})",
    ),
    _limits(
        lambda limits: limits.max_sessions_per_user == 1 and not limits.evict_oldest,
        lambda limits: "max_sessions_per_user: is 1: a user who reloads a page, or opens a second one, may be refused "
        "with TOO_MANY_SESSIONS until the first session has ended; with evict_oldest the first one ends instead",
    ),
    _limits(
        lambda limits: limits.heartbeat_min_interval_s > limits.heartbeat_interval_s,
        lambda limits: f"heartbeat_min_interval_s: is {limits.heartbeat_min_interval_s:g}, above heartbeat_interval_s "
        f"({limits.heartbeat_interval_s:g}): heartbeats that come in time are not answered, and clients that wait for "
        "the answer reconnect",
    ),
    _limits(
        lambda limits: limits.silence_s > 3600,
        lambda limits: f"missed_heartbeats: a session without any message stays for {limits.silence_s:g} s "
        "(heartbeat_interval_s times missed_heartbeats)",
    ),
    _limits(
        lambda limits: limits.connection_hz < limits.cursor_hz + limits.selection_hz,
        lambda limits: f"connection_hz: is {limits.connection_hz:g}, less than the cursors and selections that a "
        f"client may send ({limits.cursor_hz:g} and {limits.selection_hz:g} a second): it is disconnected for that",
    ),
    _limits(
        lambda limits: limits.room_events_hz < limits.cursor_hz,
        lambda limits: f"room_events_hz: is {limits.room_events_hz:g}, less than one member's cursors "
        f"(cursor_hz, {limits.cursor_hz:g})",
    ),
    _limits(
        lambda limits: limits.address_unauthenticated > limits.address_connections,
        lambda limits: f"address_unauthenticated: is {limits.address_unauthenticated} and has no effect, since an "
        f"address has {limits.address_connections} connections at most (address_connections)",
    ),
    _limits(
        lambda limits: limits.max_frame_bytes < limits.max_message_bytes,
        lambda limits: f"max_frame_bytes: is {limits.max_frame_bytes}, below max_message_bytes "
        f"({limits.max_message_bytes}): messages in between are not refused but disconnect the client with 1009",
    ),
    *(_within_a_message(name) for name in ("max_broadcast_bytes", "max_presence_bytes")),
    _limits(
        lambda limits: limits.room_broadcast_bytes < limits.max_broadcast_bytes * limits.max_users_per_room,
        lambda limits: f"room_broadcast_bytes: is {limits.room_broadcast_bytes}: one broadcast of max_broadcast_bytes "
        f"({limits.max_broadcast_bytes}) to a full room ({limits.max_users_per_room} users) is above it",
    ),
    _limits(
        lambda limits: limits.connection_bytes_hz < limits.max_message_bytes,
        lambda limits: f"connection_bytes_hz: is {limits.connection_bytes_hz}: a message of max_message_bytes "
        f"({limits.max_message_bytes}) takes longer than a second to be read",
    ),
    _limits(
        lambda limits: limits.send_hard_bytes < SNAPSHOT_BYTES_PER_USER * limits.max_users_per_room,
        lambda limits: f"send_hard_bytes: is {limits.send_hard_bytes}: the members of a full room "
        f"({limits.max_users_per_room} users) may not fit, so that a client that joins it is disconnected with 4413",
    ),
    _limits(
        lambda limits: 0 < limits.flush_ceiling_ms < limits.flush_window_ms,
        lambda limits: f"flush_ceiling_ms: is {limits.flush_ceiling_ms:g}, below flush_window_ms "
        f"({limits.flush_window_ms:g}), which it should limit",
    ),
)  # fmt: skip


def implausible(config: Config) -> Iterator[str]:
    """One line for each value of `config` that is hardly meant; it begins with the key."""
    for key in keys():
        found = RANGES.get(key.dotted)
        if found is None:
            continue
        value = key.of(config)
        effect = found.below if value < found.least else found.above if value > found.most else ""
        if effect:
            yield f"{key.dotted}: is {value:g}: {effect}"
    for holds, text in RELATIONS:
        if holds(config):
            yield text(config)
