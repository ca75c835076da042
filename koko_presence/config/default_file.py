"""What `koko-presence default-config` prints: every key with its meaning, unit and default, as a TOML file.

The keys and defaults come from the schema. Only the meanings stand here; a key without one is a KeyError, which a test
turns into a red build.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from koko_presence import __version__

from .schema import Key, keys

UNITS = {"_s": "seconds", "_ms": "milliseconds", "_hz": "per second", "_bytes": "bytes"}

MEANINGS: Mapping[str, str] = {
    "server.host": "Address of the public port. 0.0.0.0 or :: for every interface.",
    "server.port": "Public port for WebSocket and HTTP. 0 lets the system choose.",
    "server.workers": 'Worker processes; "auto": one for each core. From 2 on a supervisor watches and replaces them.',
    "server.runtime_dir": "Folder for the workers' sockets and supervisor.pid, this user's alone (0700).\n"
    "Empty: systemd's RUNTIME_DIRECTORY, or koko-presence-<uid>-<port> in the folder for temporary files.",
    "server.backlog": "Connections the kernel may hold before they are accepted.",
    "server.origins": "Origins (scheme://host[:port]) whose pages may connect. Empty: the server's own pages and\n"
    "clients that send no Origin, which is every client that is not a browser.",
    "server.tls_cert": "Certificate chain, a PEM file. Empty: no TLS here, as behind a reverse proxy.",
    "server.tls_key": "The certificate's key, a PEM file.",
    "server.demo": "Serve the demo page at /demo.",
    "server.trusted_proxies": "Proxies whose word on their clients' addresses counts: addresses, networks, and\n"
    '"unix" for Unix sockets. Empty: limits by address count the peers themselves.',
    "server.forwarded_header": 'The header in which they say it, "x-forwarded-for" or "forwarded" (RFC 7239). The\n'
    "other one counts for nothing, and the proxy should remove it.",
    "server.proxy_protocol": "Connections begin with a PROXY header, version 2, and come from trusted_proxies alone.",
    "server.keepalive_s": "How long an HTTP connection stays open between two requests. A proxy should let go earlier.",
    "server.memory_bytes": "Memory that all workers together may use. From 90 % on newcomers are refused. 0: only\n"
    "the limit of the control group counts, if there is one.",
    "server.drain_delay_s": "How long new connections are still accepted after the server was told to stop, while\n"
    "/readyz already says 503, so that a balancer has the time to send them elsewhere.",
    "server.drain_s": "Over how long the clients are then sent away, with 1012. A second signal ends at once.",
    "operator.host": "Address of the operator port: metrics, readiness, server API. Keep it private.",
    "operator.port": "Operator port. 0 lets the system choose.",
    "operator.hosts": "Further names by which requests may ask for it, as in metrics.internal. Addresses, localhost\n"
    "and operator.host always may; others are refused, so that no web page can reach it by a name of its own.",
    "operator.api_key": "Bearer key of the server API. Empty: the server API is off.",
    "operator.api_key_file": "File that holds the key instead. ${CREDENTIALS_DIRECTORY} works.",
    "auth.verifiers": 'Who tells whose a token is, tried in this order. "jwt": tokens that say it and are signed;\n'
    '"introspect": tokens, such as session ids, that the application is asked about.',
    "auth.secret": "Secret that signs the tokens, at least 32 bytes, the same as in the application. Needed when an\n"
    "algorithm begins with HS; else it signs resume tokens only, and without one each start makes its own.",
    "auth.secret_file": "File that holds the secret instead. ${CREDENTIALS_DIRECTORY} works.",
    "auth.algorithms": "Signature algorithms accepted in tokens: HS256, HS384, HS512 with the secret; RS256, RS384,\n"
    "RS512, PS256, ES256, ES384, EdDSA with public keys.",
    "auth.public_key": "Public key as PEM text, or several, one below the other.",
    "auth.public_key_file": "File that holds them instead. Certificates do as well.",
    "auth.issuer": "The `iss` a token must have. Empty: not checked.",
    "auth.audience": "The `aud` a token must have. Empty: not checked.",
    "auth.leeway_s": "How far the clock of whoever issues tokens may be off.",
    "auth.max_ttl_s": "Longest life of a token; one that expires later is refused.",
    "auth.cookie": "Name of the application's session cookie, without __Secure-: pages on server.origins, which must\n"
    "be set then, get in without a token. Empty: cookies count for nothing.",
    "auth.jwks.url": "Where the identity provider publishes its public keys, https. Read every 10 minutes.",
    "auth.introspect.preset": '"better-auth-cookie", "better-auth-bearer": Better Auth\'s get-session. "generic": RFC\n'
    "7662. What is set below wins over the preset; empty is the preset's.",
    "auth.introspect.url": "Where the application says whose a token is, https, such as\n"
    "https://app.example.com/api/auth/get-session.",
    "auth.introspect.method": '"GET" or "POST".',
    "auth.introspect.token_in": 'Where the token goes: "bearer", "cookie", "header", "form" or "json".',
    "auth.introspect.token_name": "Name of that cookie, header or field.",
    "auth.introspect.authorization": "An Authorization header by which the application knows this server.",
    "auth.introspect.authorization_file": "File that holds it instead. ${CREDENTIALS_DIRECTORY} works.",
    "auth.introspect.id": 'Where the user id stands in the answer, as "user.id".',
    "auth.introspect.name": "Where the name stands.",
    "auth.introspect.image": "Where the picture stands.",
    "auth.introspect.expires": "Where the session's end stands: a date, unix seconds or milliseconds.",
    "auth.introspect.rooms": "Where the rooms and scopes stand, as in the claim `rooms`.",
    "auth.introspect.cache_s": "How long an answer is believed.",
    "auth.introspect.session_s": "How long one may stay before the application is asked again.",
    "auth.introspect.questions_hz": "Questions of one worker about tokens that it does not know; what comes above\n"
    "that is told to try again. Tokens that were good before do not count.",
    "access.mode": 'Who says who may enter a room. "claims": the token, in `rooms`. "webhook": the application,\n'
    'asked by a signed POST. "trpc": its own tRPC API, asked as the user. "allow_all": nobody, every token may\n'
    "enter every room.",
    "access.webhook.url": "Where the application is asked who may enter. See docs/access.md.",
    "access.webhook.secret": "Secret that signs the questions, at least 32 bytes. Needed with a url.",
    "access.webhook.secret_file": "File that holds the secret instead. ${CREDENTIALS_DIRECTORY} works.",
    "access.trpc.url": "Where the application's procedures are, as https://app.example.com/trpc.",
    "access.trpc.rules": 'Which rooms are what: "video_* -> video.getById(id)" asks for what the star stands for.\n'
    "The first rule that fits counts, a room without one is closed.",
    "access.trpc.scopes": "What those may do to whom the application shows it: join, control, broadcast, moderate.",
    "access.trpc.ttl_s": "How long a yes counts before the application is asked again.",
    "access.trpc.superjson": "The application's tRPC has superjson as its transformer.",
    "limits.max_users_per_room": "People in one room.",
    "limits.max_rooms_per_user": "Rooms one person is in at a time.",
    "limits.max_sessions_per_user": "Connections (tabs) of one person.",
    "limits.evict_oldest": "A session too many replaces the oldest instead of being refused.",
    "limits.heartbeat_interval_s": "How often a client sends a heartbeat.",
    "limits.heartbeat_min_interval_s": "Heartbeats count whenever they come, but are answered this far apart at least.",
    "limits.missed_heartbeats": "Heartbeats missed until a session counts as gone.",
    "limits.grace_s": "How long a lost connection's place is kept for its return. 0: not at all.",
    "limits.idle_after_s": "Without activity for this long a person shows as idle.",
    "limits.away_after_s": "A person who has been idle for this long shows as away.",
    "limits.typing_stop_s": "Typing ends by itself after this.",
    "limits.room_linger_s": "How long an empty room remembers its state.",
    "limits.auth_timeout_s": "A connection that has not authenticated by then is closed.",
    "limits.auth_warning_s": "How long before a token expires its client is told.",
    "limits.auth_grace_s": "How long after its token expired a client may stay to bring a new one.",
    "limits.ping_interval_s": "Silence on a connection after which the server sends a ping.",
    "limits.ping_timeout_s": "A ping unanswered for this long closes the connection.",
    "limits.control_request_s": "How long a request for control stands.",
    "limits.report_fresh_s": "How long a viewer's playback report counts.",
    "limits.cursor_hz": "Cursor moves one person may send to a room; the newest of the excess is sent late.",
    "limits.selection_hz": "Selections one person may send to a room; the newest of the excess is sent late.",
    "limits.typing_hz": "Typing messages.",
    "limits.typing_burst": "Typing messages that may be saved up.",
    "limits.playback_hz": "Playback commands.",
    "limits.playback_burst": "Playback commands that may be saved up.",
    "limits.report_hz": "Playback reports.",
    "limits.status_hz": "Status changes.",
    "limits.status_burst": "Status changes that may be saved up.",
    "limits.control_hz": "Requests for control.",
    "limits.control_burst": "Requests for control that may be saved up.",
    "limits.broadcast_hz": "Custom broadcasts.",
    "limits.broadcast_burst": "Custom broadcasts that may be saved up.",
    "limits.join_hz": "Joins.",
    "limits.join_burst": "Joins that may be saved up.",
    "limits.connection_hz": "Messages of any kind on one connection.",
    "limits.connection_bytes_hz": "Bytes a second that are read of one connection.",
    "limits.room_events_hz": "Events one room sends out, cursors and selections first to be thinned out.",
    "limits.address_connections": "Connections of one address (IPv6: of one /64) on this machine. Loopback is free,\n"
    "unless it is a trusted proxy; this holds for all limits by address.",
    "limits.address_unauthenticated": "Connections of one address that have not said whose they are.",
    "limits.address_requests_hz": "HTTP requests of one address, upgrades among them.",
    "limits.address_questions_hz": "Questions to the application about unknown tokens that one address may cause.",
    "limits.flood_s": "A connection over its limit for this long is closed.",
    "limits.max_errors": "Errors within error_window_s that close a connection.",
    "limits.max_protocol_errors": "Messages that cannot be read, within error_window_s, that close a connection.",
    "limits.error_window_s": "The window in which errors are counted.",
    "limits.abuse_retry_after_s": "How long a connection closed for abuse is told to stay away.",
    "limits.max_message_bytes": "Longest message from a client.",
    "limits.max_frame_bytes": "Longest WebSocket frame from a client.",
    "limits.max_broadcast_bytes": "Longest `data` of a custom broadcast.",
    "limits.room_broadcast_bytes": "What custom broadcasts of a room may be in a second, visible receivers counted.",
    "limits.max_presence_bytes": "Longest `data` of a cursor, selection or other presence message.",
    "limits.send_soft_bytes": "Bytes not taken by the kernel, above which a receiver gets the newest cursors alone.",
    "limits.send_hard_bytes": "Unsent data above which a slow receiver is closed.",
    "limits.flush_window_ms": "How long a busy room collects events before it writes. 0: not at all.",
    "limits.flush_ceiling_ms": (
        "How long at most, when the worker's core fills up; up to 33 when it is full. One display frame is 16."
    ),
    "limits.send_stuck_s": "How long a client may take nothing of what waits for it before it is cut off.",
    "rooms.control_mode": 'Who may command playback while nobody has control, given the scope control. "open": all;\n'
    '"controller": nobody; "moderators": moderators, who alone get control by asking.',
    "rooms.auto_grant": "Control that its holder gives up or loses goes to the member whose request is the oldest.",
    "webhooks.url": "Where events of rooms are told by POST. Empty: nowhere. See docs/webhooks.md.",
    "webhooks.secret": "Secret that signs them, at least 32 bytes. Needed with a url.",
    "webhooks.secret_file": "File that holds the secret instead. ${CREDENTIALS_DIRECTORY} works.",
    "webhooks.events": "Which ones: user_entered, user_left, room_created, room_emptied, room_shown, room_hidden, "
    "room_full, control_changed.",
    "webhooks.batch_events": "Events in one request at most.",
    "webhooks.batch_s": "How long events are collected for one request.",
    "webhooks.queue_events": "Events of one worker that may wait. Of more, those of the person with the most go first\n"
    "and are counted as dropped.",
    "webhooks.tries": "How often a request is tried, with growing pauses of up to a minute, before it is given up.",
    "log.level": '"debug", "info", "warning", "error" or "critical".',
    "log.format": '"json": one object per line. "console": for reading in a terminal.',
}


def unit(key: Key) -> str:
    """The unit that a key's name ends with; empty when it has none."""
    return next((unit for ending, unit in UNITS.items() if key.name.endswith(ending)), "")


def default_config_text() -> str:
    """A TOML file that says every key, its default and its unit; loading it gives the defaults."""
    lines = [
        f"# koko-presence {__version__}: every key with its default. Keep the lines you change, delete the rest.",
        "# Each key is also an environment variable, KOKO_PRESENCE_<SECTION>_<KEY>, which wins over this file:",
        "# KOKO_PRESENCE_LIMITS_CURSOR_HZ=10. Lists are comma separated there, and empty means unset.",
    ]
    section = ""
    for key in keys():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        meaning = MEANINGS[key.dotted]
        if unit(key):
            meaning = f"{meaning.removesuffix('.')} ({unit(key)})."
        lines += ["", *(f"# {line}" for line in meaning.split("\n")), f"{key.name} = {_toml(key.default)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    # JSON's booleans, numbers, lists and plain strings are TOML's as well
    return msgspec.json.encode(value).decode()
