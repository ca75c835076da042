"""Decisions L: limits and abuse."""

import pytest

from koko_presence.protocol.errors import CLOSES, ERRORS, ReconnectPolicy
from koko_presence.rooms import colors
from tests.world import Client, World


def test_l1_status_2_a_second_burst_4(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(5):
        ann.send(type="status", data={"status": "busy", "statusMessage": str(number)}, id=number)
    assert [m["type"] for m in ann.take("ack", "error")] == ["ack"] * 4 + ["error"]
    assert ann.last("error")["code"] == "RATE_LIMITED" and ann.last("error")["retryAfterMs"] <= 500
    assert len(bob.take("status_changed")) == 4


def test_l2_above_the_rooms_budget_cursors_merge_and_others_are_refused() -> None:
    world = World(room_events_hz=10, cursor_hz=1000, connection_hz=10_000)
    ann, bob = world.person("ann"), world.person("bob")
    bob.take()
    for number in range(60):
        ann.post(type="cursor", roomId="video_123", data={"timestamp": number})
        world.sleep(0.01)
    for _ in range(3):
        ann.send(type="broadcast", roomId="video_123", data={}, id=1)
    assert ann.last("error")["code"] == "RATE_LIMITED" and ann.last("error")["retryAfterMs"] > 0
    world.sleep(2)
    shown = [e["data"]["timestamp"] for e in bob.take("cursor_moved")]
    assert 12 <= len(shown) <= 20 and shown[-1] == 59


def test_l2_a_loaded_room_advises_a_longer_interval_and_takes_it_back() -> None:
    world = World(room_events_hz=20, connection_hz=1000)
    ann, bob = world.person("ann"), world.person("bob")
    assert ann.last("joined")["sendIntervalMs"] == 50
    for _ in range(250):
        ann.post(type="cursor", roomId="video_123", data={"timestamp": 1})
        bob.post(type="cursor", roomId="video_123", data={"timestamp": 1})
        world.sleep(0.01)
    advised = ann.last("server_notice")
    assert advised["code"] == "SEND_INTERVAL" and advised["sendIntervalMs"] > 50
    late = world.client().auth("late").join()
    assert late.last("joined")["sendIntervalMs"] == advised["sendIntervalMs"]
    for _ in range(30):
        world.sleep(1)
        ann.post(type="cursor", roomId="video_123", data={"timestamp": 1})
        bob.post(type="heartbeat")
    assert ann.last("server_notice")["sendIntervalMs"] == 50


def test_l3_a_fast_mouse_is_only_merged(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(900):  # 90 a second for ten seconds
        ann.post(type="cursor", roomId="video_123", data={"timestamp": number})
        ann.world.sleep(1 / 90)
    ann.world.sleep(0.1)
    assert ann.closed is None and not ann.take("error", "server_notice")
    assert bob.take("cursor_moved")[-1]["data"]["timestamp"] == 899


def test_l3_a_flood_for_5_s_is_cut_with_a_time_to_come_back(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    elapsed = 0
    while ann.closed is None and elapsed < 2000:
        for _ in range(3):  # one by one: several in one loop iteration count once
            ann.post(type="cursor", roomId="video_123", data={"timestamp": 1})
            ann.world.sleep(0.01 / 3)
        elapsed += 1
    assert ann.closed == 4429 and 500 <= elapsed <= 600
    notice = ann.last("server_notice")
    assert notice["code"] == "RATE_LIMITED" and notice["retryAfterMs"] == 10_000
    assert bob.closed is None
    assert ann.world.client().auth("ann").of("authenticated")  # never a ban


def test_l3_50_errors_in_10_s_warn_and_cut(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for count in range(1, 51):
        assert ann.closed is None, count
        ann.send(type="cursor", roomId="elsewhere", data=None)
        if count == 25:
            assert ann.take("server_notice")
    assert ann.closed == 4429 and ann.last("server_notice")["retryAfterMs"] == 10_000


def test_l3_errors_of_the_rooms_owner_count_too(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.send(type="control_request", roomId="video_123")
    for _ in range(50):
        ann.send(type="playback", roomId="video_123", data={"action": "play"})
    assert ann.closed == 4429


def test_l6_the_error_shape(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(type="leave", roomId="elsewhere", id="x")
    error = ann.last("error")
    assert set(error) == {"type", "code", "message", "id", "roomId"} and error["message"]
    expected = (
        "UNAUTHENTICATED FORBIDDEN NOT_IN_ROOM ROOM_FULL ROOM_TYPE_MISMATCH TOO_MANY_ROOMS TOO_MANY_SESSIONS RATE_LIMITED "
        "INVALID_JSON INVALID_MESSAGE INVALID_DATA UNKNOWN_TYPE TOO_LARGE NOT_CONTROLLER TARGET_NOT_IN_ROOM SYNC_DISABLED "
        "SESSION_REQUIRED ALREADY_AUTHENTICATED BINARY_NOT_SUPPORTED SLOW_CONSUMER INVISIBLE STALE INTERNAL "
        "METHOD_NOT_SUPPORTED UNAVAILABLE"
    )
    assert set(ERRORS) == set(expected.split())


def test_l7_close_codes_define_whether_to_reconnect() -> None:
    assert {4400, 4401, 4403, 4408, 4409, 4413, 4429, 1012} <= set(CLOSES)
    assert CLOSES[4403].come_back is ReconnectPolicy.NO and CLOSES[4401].come_back is ReconnectPolicy.NEW_TOKEN
    assert CLOSES[1012].come_back is CLOSES[4413].come_back is ReconnectPolicy.RESUME


def test_l8_colours_are_unique_per_session_and_follow_the_user() -> None:
    world = World()
    seen = set()
    for user in range(100):
        for _ in range(2):
            seen.add(world.client().auth(f"user{user}").join().last("joined")["assignedColor"])
    assert len(seen) == 200
    one = World().client().auth("ann").join("video_1").last("joined")["assignedColor"]
    two = World().client().auth("ann").join("video_2").last("joined")["assignedColor"]
    assert one == two


def test_l8_a_colour_is_kept_through_a_resume_and_freed_by_a_leave(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    color = ann.last("joined")["assignedColor"]
    ann.hang_up(1006)
    other = ann.world.client().auth("ann").join()
    assert other.last("joined")["assignedColor"] != color
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    assert again.last("joined")["assignedColor"] == color
    again.send(type="leave", roomId="video_123")
    assert again.join().last("joined")["assignedColor"] == color


def test_l8_the_palette() -> None:
    assert len(set(colors.PALETTE)) == 24 and colors.PALETTE[:2] == ("#3B82F6", "#10B981")
    assert len({colors.nth(index) for index in range(600)}) >= 560
    taken = set(colors.PALETTE)
    for _ in range(600):
        taken.add(colors.choose("ann", taken))
    assert len(taken) == 624
    assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in taken)


def test_j2_a_receiver_that_does_not_read_is_cut_with_4413_and_may_resume(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.unsent_bytes = 1024 * 1024 + 1
    ann.send(type="broadcast", roomId="video_123", data={"a": 1})
    assert bob.closed == 4413 and ann.closed is None
    assert ann.take("status_changed")[0]["data"]["connected"] is False
    again = bob.world.client().auth("bob", resumeToken=bob.resume_token)
    assert again.last("authenticated")["resumed"] is True


def test_heartbeats_cannot_flood_a_room_with_status_changes(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(50):
        ann.send(type="heartbeat", status="idle" if number % 2 else "active")
        ann.world.sleep(0.02)
    assert len(bob.take("status_changed")) <= 5


def test_control_handed_to_and_fro_is_limited(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="control_request", roomId="video_123")
    for _ in range(20):
        ann.send(type="control_grant", roomId="video_123", data={"toUserId": "bob"})
        bob.send(type="control_grant", roomId="video_123", data={"toUserId": "ann"})
    assert len(bob.take("control_granted")) <= 13
    assert "RATE_LIMITED" in {error["code"] for client in pair for error in client.of("error")}


@pytest.mark.one_worker
def test_a_slow_receiver_gets_only_the_newest_cursors_once_it_drains(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    carol = ann.world.person("carol")
    ann.take(), bob.take()

    def move(number: int) -> None:
        for client in (ann, carol):
            client.post(type="cursor", roomId="video_123", data={"timestamp": number})
        ann.world.sleep(0.06)

    bob.unsent_bytes = 65 * 1024
    move(0)
    assert len(bob.take("cursor_moved")) == 2, "that it is slow shows with the first flush"
    for number in range(1, 50):
        move(number)
    assert bob.take() == [] and len(ann.take("cursor_moved")) == 50
    ann.send(type="typing", roomId="video_123", data={"isTyping": True})
    got = bob.take()
    assert [e["type"] for e in got] == ["cursor_moved", "typing_started"], (
        "what may not be skipped comes in order, behind what its author showed before; others' cursors can wait"
    )
    assert [(e["userId"], e["data"].get("timestamp")) for e in got] == [("ann", 49), ("ann", None)]
    for number in range(50, 60):
        move(number)
    carol.hang_up(1000)
    got = bob.take()
    assert [(e["type"], e["userId"]) for e in got] == [("cursor_moved", "carol"), ("user_left", "carol")]
    move(60)
    bob.unsent_bytes = 0
    bob.session.on_writable()
    ann.world.settle()
    assert [e["data"]["timestamp"] for e in bob.take("cursor_moved")] == [60]
    move(61)
    assert [e["data"]["timestamp"] for e in bob.take("cursor_moved")] == [61]
    assert bob.closed is None


def test_regression_heartbeats_that_change_nothing_do_not_use_up_the_changes(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for _ in range(8):
        ann.send(type="heartbeat", status="active")
    ann.send(type="heartbeat", status="idle")
    assert [e["data"]["status"] for e in bob.take("status_changed")] == ["idle"]


def test_n1_a_receiver_that_takes_nothing_for_10_s_is_cut_and_may_resume(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.unsent_bytes = 30_000
    bob.session.on_unwritable()
    ann.world.sleep(9.9)
    assert bob.closed is None
    ann.world.sleep(0.2)
    assert bob.closed == 4413 and ann.closed is None
    assert bob.world.client().auth("bob", resumeToken=bob.resume_token).last("authenticated")["resumed"] is True


def test_regression_n1_a_subscriber_that_reads_all_the_time_is_not_stuck_though_more_and_more_waits(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    bob.unsent_bytes = 100
    bob.session.on_unwritable()
    for _ in range(40):  # 1,000 bytes are sent, 900 are accepted
        ann.send(type="broadcast", roomId="video_123", data={"a": "x" * 800})
        bob.unsent_bytes += 100
        ann.world.sleep(1)
    assert bob.closed is None


def test_regression_n1_droppable_values_of_others_do_not_count_as_undroppable(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    crowd = [ann.world.person(f"u{number}") for number in range(50)]
    bob.unsent_bytes = 65 * 1024
    for person in crowd:
        person.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    before = sum(map(len, bob.raw))
    ann.send(type="typing", roomId="video_123", data={"isTyping": True})
    assert [message["type"] for message in bob.got[-1:]] == ["typing_started"]
    assert sum(map(len, bob.raw)) - before < 400, "the cursors of all others still wait for the drain"


def test_n1_a_receiver_that_reads_slowly_stays(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.unsent_bytes = 30_000
    bob.session.on_unwritable()
    for _ in range(8):
        ann.world.sleep(5)
        bob.unsent_bytes -= 1000
        ann.send(type="heartbeat"), bob.send(type="heartbeat")
    assert bob.closed is None
    bob.session.on_writable()
    ann.world.sleep(20)
    assert bob.closed is None
