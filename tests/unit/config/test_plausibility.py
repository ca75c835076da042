"""check-config warns of values that the server takes and that are hardly meant: wrong units and contradictions."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.config.plausibility import RANGES, implausible
from koko_presence.config.schema import keys, load
from tests.unit.config.test_schema import WITH_SECRET, written

# numbers with a unit for which every value of the schema's range makes sense, or that only a relation limits
ANY_VALUE = {
    "server.memory_bytes",  # checks.py compares it with the number of workers
    "auth.introspect.cache_s", "auth.introspect.session_s", "auth.introspect.questions_hz", "access.trpc.ttl_s",
    "webhooks.batch_s", "limits.grace_s", "limits.heartbeat_min_interval_s", "limits.typing_hz", "limits.report_hz",
    "limits.status_hz", "limits.watch_hz", "limits.control_hz", "limits.broadcast_hz", "limits.room_events_hz",
    "limits.address_questions_hz", "limits.max_frame_bytes", "limits.max_broadcast_bytes", "limits.max_presence_bytes",
    "limits.room_broadcast_bytes", "limits.send_soft_bytes", "limits.flush_window_ms", "limits.flush_ceiling_ms",
    "rooms.auto_grant_away_s", "rooms.wait_for_viewers_s",
}  # fmt: skip


def warned(folder: Path, toml: str) -> list[str]:
    return list(implausible(load(written(folder, toml), WITH_SECRET)))


def section(dotted: str, value: Any) -> str:
    return f"[{dotted.rpartition('.')[0]}]\n{dotted.rpartition('.')[2]} = {value}\n"


def test_the_defaults_need_no_warning(tmp_path: Path) -> None:
    assert warned(tmp_path, "") == []


def test_every_number_with_a_unit_has_a_range_or_needs_none() -> None:
    with_unit = {key.dotted for key in keys() if key.name.endswith(("_s", "_ms", "_hz", "_bytes"))}
    assert with_unit <= {*RANGES, *ANY_VALUE}
    assert ANY_VALUE.isdisjoint(RANGES) and with_unit >= ANY_VALUE
    assert {*RANGES} <= {key.dotted for key in keys()}


def allowed(dotted: str, value: float) -> bool:
    (kind,) = (key.type for key in keys() if key.dotted == dotted)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("dotted", RANGES)
def test_a_value_outside_its_range_is_a_warning_that_names_the_key_and_the_effect(tmp_path: Path, dotted: str) -> None:
    found = RANGES[dotted]
    (kind,) = (type(key.default) for key in keys() if key.dotted == dotted)
    for value, effect in ((kind(found.least / 2), found.below), (kind(min(found.most * 2, 1e9)), found.above)):
        if effect:
            assert allowed(dotted, value), "a range that the schema refuses anyhow"
            assert f"{dotted}: is {value:g}: {effect}" in warned(tmp_path, section(dotted, value))


@pytest.mark.parametrize("dotted", RANGES)
def test_the_ends_of_a_range_are_fine(tmp_path: Path, dotted: str) -> None:
    (kind,) = (type(key.default) for key in keys() if key.dotted == dotted)
    for value in (RANGES[dotted].least, RANGES[dotted].most):
        if value != float("inf") and allowed(dotted, kind(value)):
            told = warned(tmp_path, section(dotted, kind(value)))
            assert [line for line in told if line.startswith(f"{dotted}: is {value:g}: ")] == []


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[server]\nport = 0", "server.port: is 0, so every start has another port"),
        ("[operator]\nport = 0", "operator.port: is 0, so every start has another port"),
        (
            "[webhooks]\nurl = 'https://a.example'\nsecret = 'ssssssssssssssssssssssssssssssssssss'\n"
            "queue_events = 100\nbatch_events = 200",
            "webhooks.queue_events: is 100, less than one batch",
        ),
        ("[limits]\nmax_sessions_per_user = 1", "limits.max_sessions_per_user: is 1: a user who reloads a page"),
        ("[limits]\nheartbeat_interval_s = 4", "limits.heartbeat_min_interval_s: is 5, above heartbeat_interval_s (4)"),
        (
            "[limits]\nheartbeat_interval_s = 300\nmissed_heartbeats = 20",
            "limits.missed_heartbeats: a session without any message stays for 6000 s",
        ),
        ("[limits]\nconnection_hz = 30", "limits.connection_hz: is 30, less than the cursors and selections"),
        ("[limits]\nroom_events_hz = 10", "limits.room_events_hz: is 10, less than one member's cursors"),
        ("[limits]\naddress_connections = 100", "limits.address_unauthenticated: is 200 and has no effect"),
        ("[limits]\nmax_frame_bytes = 10000", "limits.max_frame_bytes: is 10000, below max_message_bytes (16384)"),
        ("[limits]\nmax_broadcast_bytes = 20000", "limits.max_broadcast_bytes: is 20000 and has no effect"),
        ("[limits]\nmax_presence_bytes = 20000", "limits.max_presence_bytes: is 20000 and has no effect"),
        ("[limits]\nroom_broadcast_bytes = 65536", "limits.room_broadcast_bytes: is 65536: one broadcast of"),
        (
            "[limits]\nconnection_bytes_hz = 16384\nmax_message_bytes = 32768",
            "limits.connection_bytes_hz: is 16384: a message of max_message_bytes (32768) takes longer",
        ),
        ("[limits]\nmax_users_per_room = 10000", "limits.send_hard_bytes: is 1048576: the members of a full room"),
        ("[limits]\nflush_window_ms = 20", "limits.flush_ceiling_ms: is 16, below flush_window_ms (20)"),
    ],
)
def test_a_contradiction_is_a_warning_that_names_the_key_to_change(tmp_path: Path, toml: str, told: str) -> None:
    assert any(line.startswith(told) for line in warned(tmp_path, toml)), warned(tmp_path, toml)


def test_what_resolves_a_contradiction_needs_no_warning(tmp_path: Path) -> None:
    for toml in (
        "[server]\nport = 0\nruntime_dir = '/run/x'",
        "[limits]\nmax_sessions_per_user = 1\nevict_oldest = true",
        "[limits]\naddress_connections = 100\naddress_unauthenticated = 100",
        "[limits]\nflush_window_ms = 20\nflush_ceiling_ms = 20",
        "[limits]\nping_timeout_s = 30\nping_interval_s = 20",  # the next ping follows the answer to the last one
    ):
        assert warned(tmp_path, toml) == [], toml
