"""Decisions D: sessions, heartbeats, statuses."""

from typing import Any

import pytest

from koko_presence.process.survey_handlers import SurveyHandlers
from koko_presence.protocol.commands import ChangeStatus, ReplyTo, ReportActivity
from koko_presence.protocol.messages import StatusData
from koko_presence.protocol.survey import Kick, Kicked
from tests.world import Client, World

REPORT = {
    "type": "playback",
    "roomId": "video_123",
    "data": {"action": "report", "isPlaying": True, "currentTime": 1, "playbackRate": 1},
}


def keep_alive(client: Client, seconds: float, status: str = "idle") -> None:
    """Let `seconds` pass while the client sends a heartbeat every 30 s."""
    while seconds > 0:
        step = min(30.0, seconds)
        client.world.sleep(step)
        client.send(type="heartbeat", status=status)
        seconds -= step


def test_d1_joined_and_left_come_per_session_with_the_persons_count(pair: tuple[Client, Client]) -> None:
    _, bob = pair
    tab = pair[0].world.person("ann")
    assert bob.take("user_joined")[0]["data"]["sessionCount"] == 2
    tab.hang_up(1000)
    (left,) = bob.take("user_left")
    assert left["data"] == {"reason": "left", "sessionCount": 1} and left["sessionId"] == tab.session_id
    pair[0].hang_up(1000)
    assert bob.take("user_left")[0]["data"]["sessionCount"] == 0


@pytest.mark.parametrize("code", [1000, 1005])
def test_d2_a_normal_close_is_a_leave_at_once(pair: tuple[Client, Client], code: int) -> None:
    ann, bob = pair
    ann.hang_up(code)
    assert [event["type"] for event in bob.take()] == ["user_left"]
    assert bob.last("user_left")["data"] == {"reason": "left", "sessionCount": 0}


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 3000])
def test_d2_any_other_loss_is_held_for_5_s(pair: tuple[Client, Client], code: int) -> None:
    ann, bob = pair
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    ann.send(type="typing", roomId="video_123", data={"isTyping": True})
    bob.take()
    ann.hang_up(code)
    events = bob.take()
    assert [event["type"] for event in events] == ["cursor_moved", "typing_stopped", "status_changed"]
    assert events[0]["data"]["hidden"] is True and events[1]["data"]["reason"] == "disconnected"
    assert events[2]["data"]["status"] == "away" and events[2]["data"]["connected"] is False
    bob.send(type="get_active", roomId="video_123")
    row = bob.last("active")["users"][0]
    assert (row["status"], row["connected"], row["isTyping"]) == ("away", False, False) and "cursor" not in row
    bob.take()
    ann.world.sleep(4.9)
    assert bob.take() == []
    ann.world.sleep(0.1)
    (left,) = bob.take()
    assert left["type"] == "user_left" and left["data"] == {"reason": "disconnected", "sessionCount": 0}


def test_d2_resumed_in_time_nothing_but_a_status_changed(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    color = ann.last("joined")["assignedColor"]
    ann.hang_up(1006)
    bob.take()
    ann.world.sleep(4)
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token)
    reply = again.last("authenticated")
    assert reply["resumed"] and reply["sessionId"] == "session_1" and reply["rooms"] == ["video_123"]
    again.join()
    assert again.last("joined")["assignedColor"] == color
    events = bob.take()
    assert [event["type"] for event in events] == ["status_changed"]
    assert events[0]["data"]["connected"] is True and events[0]["data"]["status"] == "active"
    ann.world.sleep(20)
    assert bob.take() == []
    again.send(type="cursor", roomId="video_123", data={"timestamp": 2})
    assert bob.take("cursor_moved")
    bob.send(type="cursor", roomId="video_123", data={"timestamp": 2})
    assert again.take("cursor_moved")


@pytest.mark.parametrize("grace_s", [0, 5])
def test_d2_a_client_that_is_sent_to_another_worker_is_not_shown_as_away(grace_s: float) -> None:
    """A client on its way to another worker is not shown as away. In a rolling reload all other members saw each user
    become away and return."""
    world = World(grace_s=grace_s)
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    bob.take()
    ann.session.finish(1012, migrates=True)
    world.sleep(2.9)
    again = world.client().auth("ann", resumeToken=ann.resume_token)
    assert again.last("authenticated")["resumed"] and again.last("authenticated")["rooms"] == ["video_123"]
    again.join()
    world.sleep(10)
    assert bob.take() == []
    again.send(type="cursor", roomId="video_123", data={"timestamp": 2})
    assert bob.take("cursor_moved")


@pytest.mark.parametrize("grace_s", [0, 5])
def test_d2_a_client_that_does_not_come_to_the_other_worker_is_shown_as_away_after_3_s(grace_s: float) -> None:
    world = World(grace_s=grace_s)
    ann, bob = world.person("ann"), world.person("bob")
    bob.take()
    ann.session.finish(1012, migrates=True)
    world.sleep(2.9)
    assert bob.take() == []
    world.sleep(0.1)
    if grace_s:
        (event,) = bob.take()
        assert event["type"] == "status_changed" and event["data"]["connected"] is False
        world.sleep(1.9)
        assert bob.take() == []
        world.sleep(0.1)
    (left,) = bob.take()
    assert left["type"] == "user_left" and left["data"] == {"reason": "disconnected", "sessionCount": 0}


@pytest.mark.parametrize("room_id", [None, "video_123"])
def test_d2_a_client_on_its_way_to_another_worker_can_be_kicked(room_id: str | None) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    world.sleep(10)  # new workers accept any resume token for a moment
    bob.take()
    ann.session.finish(1012, migrates=True)
    world.settle()
    told: list[Kicked] = []
    for node in world.nodes.values():
        survey_handlers = SurveyHandlers(node.hub, node.shard, node.bus, world.timers, None)  # type: ignore[arg-type]
        survey_handlers.handle(Kick(user_id="ann", session_id=None, room_id=room_id, reason=None), told.append)  # type: ignore[arg-type]
    world.settle()
    assert sum(each.sessions for each in told) == 1
    assert [event["type"] for event in bob.take()] == ["user_left"]
    again = world.client().auth("ann", resumeToken=ann.resume_token).last("authenticated")
    assert again["rooms"] == [] and again["resumed"] is (room_id is not None)


@pytest.mark.parametrize("evict_oldest", [False, True])
def test_d2_a_client_on_its_way_to_another_worker_makes_place_for_a_new_one(evict_oldest: bool) -> None:
    world = World(max_sessions_per_user=2, evict_oldest=evict_oldest)
    first, second = world.person("ann"), world.person("ann")
    second.session.finish(1012, migrates=True)
    world.settle()
    third = world.client().auth("ann")
    assert third.last("authenticated")["resumed"] is False and first.closed is None


def test_d2_a_short_grace_is_longer_too_while_the_service_is_behind() -> None:
    world = World(grace_s=2)
    ann, bob = world.person("ann"), world.person("bob")
    bob.take()
    began = world.now
    ann.session.finish(1012, migrates=True)
    for _ in range(40):
        world.sleep(0.1)
        for node in world.nodes.values():
            node.shard.context.delays.note(began, world.now)
    assert [event["type"] for event in bob.take()] == ["status_changed"]
    again = world.client().auth("ann", resumeToken=ann.resume_token).last("authenticated")
    assert again["resumed"] and again["rooms"] == ["video_123"]


def test_d2_a_client_that_is_just_coming_when_its_worker_is_replaced_is_not_shown_as_away() -> None:
    world = World(workers=4)
    ann, bob = world.person("ann"), world.person("bob")
    bob.take()
    ann.session.finish(1012, migrates=True)
    again = world.client()
    again.post({"type": "auth", "token": "ann", "resumeToken": ann.resume_token})
    hub = again.session.hub
    hub.drains = True
    again.session.finish(1012, migrates=True)  # before its session was opened
    world.sleep(0.5)
    third = world.client().auth("ann", resumeToken=ann.resume_token)
    world.sleep(0.5)
    assert third.last("authenticated")["resumed"] and not hub.migrating
    assert bob.take() == []


def test_d2_after_the_grace_the_session_is_new(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.hang_up(1006)
    ann.world.sleep(6)
    reply = ann.world.client().auth("ann", resumeToken=ann.resume_token).last("authenticated")
    assert reply["resumed"] is False and reply["sessionId"] != ann.session_id and reply["rooms"] == []


def test_d2_a_grace_of_zero_is_a_leave_at_once() -> None:
    world = World(grace_s=0)
    ann, bob = world.person("ann"), world.person("bob")
    ann.hang_up(1006)
    assert [event["type"] for event in bob.take()] == ["user_left"]


def test_d3_early_heartbeats_are_never_refused_and_answered_every_5_s(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for _ in range(10):
        ann.send(type="heartbeat", status="active")
        ann.world.sleep(1)
    kinds = [message["type"] for message in ann.take()]
    assert kinds == ["pong", "pong"]


def test_d4_90_s_without_any_message_is_gone(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for _ in range(2):
        ann.world.sleep(44)
        bob.send(type="heartbeat")
    assert ann.closed is None
    bob.take()
    ann.world.sleep(2.1)
    assert ann.closed == 4408
    (left,) = bob.take()
    assert left["type"] == "user_left" and left["data"]["reason"] == "timeout"


def test_d4_any_message_counts_as_activity(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for _ in range(5):
        ann.world.sleep(60)
        ann.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    assert ann.closed is None


def test_d4_a_silent_transport_is_found_within_35_s(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.answers_pings = False
    ann.world.sleep(34)
    assert ann.pings == 1 and ann.closed is None
    bob.send(type="heartbeat")
    bob.take()
    ann.world.sleep(1.1)
    assert ann.closed == 1006
    assert bob.take("status_changed")[0]["data"]["connected"] is False
    ann.world.sleep(5)
    assert bob.take("user_left")[0]["data"]["reason"] == "disconnected"


def test_d7_pong_echoes_the_clients_time(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(type="heartbeat", status="active", clientTime=1234.5)
    (pong,) = ann.take()
    assert pong == {
        "type": "pong",
        "timestamp": "2025-01-15T10:30:00.024Z",
        "serverTime": 1736937000024,
        "echo": 1234.5,
    }


@pytest.mark.parametrize("manual", ["busy", "reviewing", "away"])
def test_d8_d9_a_manual_status_wins_over_activity(pair: tuple[Client, Client], manual: str) -> None:
    ann, bob = pair
    ann.send(type="status", data={"status": manual})
    data = bob.take("status_changed")[0]["data"]
    assert (data["status"], data["activity"]) == (manual, "active")
    ann.world.sleep(10)
    ann.send(type="heartbeat", status="active")
    assert bob.take() == []
    ann.send(type="heartbeat", status="idle")
    data = bob.take("status_changed")[0]["data"]
    assert (data["status"], data["activity"]) == (manual, "idle")
    ann.send(type="status", data={"status": "active"})
    assert bob.take("status_changed")[0]["data"]["status"] == "active"


def test_d9_an_active_heartbeat_moves_last_active_at(pair: tuple[Client, Client]) -> None:
    ann, bob = pair

    def last_active() -> str:
        bob.send(type="get_active", roomId="video_123")
        return str(bob.last("active")["users"][0]["lastActiveAt"])

    before = last_active()
    ann.world.sleep(10)
    ann.send(type="heartbeat", status="idle")
    assert last_active() == before
    ann.world.sleep(10)
    ann.send(type="heartbeat", status="active")
    assert last_active() > before


def test_d10_the_persons_activity_is_the_best_of_the_tabs(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    tab = ann.world.person("ann")
    bob.take()
    ann.send(type="heartbeat", status="idle")
    assert bob.take() == []
    tab.send(type="heartbeat", status="idle")
    (event,) = bob.take()
    assert event["data"]["status"] == "idle"
    ann.world.sleep(6)
    tab.send(type="heartbeat", status="idle")
    assert bob.take() == []  # no repeats
    tab.send(type="heartbeat", status="active")
    assert [e["data"]["status"] for e in bob.take()] == ["active"]


def test_k7_an_invisible_tab_does_not_keep_its_visible_owner_active(pair: tuple[Client, Client]) -> None:
    """The activity of an invisible tab does not count for others. They saw a user active that was idle in all tabs
    visible to them."""
    ann, bob = pair
    tab = ann.world.person("ann")
    tab.send(type="privacy", data={"invisible": True})
    bob.take()
    ann.send(type="heartbeat", status="idle")
    assert [e["data"]["status"] for e in bob.take()] == ["idle"]
    tab.send(type="heartbeat", status="active")
    assert bob.take() == []
    tab.send(type="privacy", data={"invisible": False})
    assert [e["data"]["status"] for e in bob.take("status_changed")] == ["active"]
    tab.send(type="privacy", data={"invisible": True})
    assert [e["data"]["status"] for e in bob.take("status_changed")] == ["idle"]


def test_d10_a_manual_status_holds_in_all_rooms_one_event_each() -> None:
    world = World()
    ann = world.person("ann", "video_1")
    ann.join("video_2")
    bob = world.person("bob", "video_1").join("video_2")
    bob.take()
    ann.send(type="status", data={"status": "busy"})
    events = bob.take()
    assert sorted((e["type"], e["roomId"]) for e in events) == [
        ("status_changed", "video_1"),
        ("status_changed", "video_2"),
    ]
    ann.send(type="status", data={"status": "busy"})
    assert bob.take() == []


def test_d10_an_invisible_tab_gets_a_status_that_a_tab_in_other_rooms_has_set() -> None:
    world = World()
    bob = world.person("bob", "video_1")
    hidden = world.person("ann", "video_1", privacy={"invisible": True})
    world.person("ann", "video_2").send(type="status", data={"status": "busy"})
    assert [(e["sessionId"], e["data"]["status"]) for e in hidden.take("status_changed")] == [
        (hidden.session_id, "busy")
    ]
    assert bob.take() == []


def test_d11_the_server_turns_idle_at_2_minutes_and_away_at_10_more(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    bob.answers_pings = True
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    for _ in range(24):
        ann.world.sleep(30)
        ann.send(type="heartbeat")
        bob.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    statuses = [e["data"]["status"] for e in bob.take("status_changed") if e["userId"] == "ann"]
    assert statuses == ["idle", "away"]
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 2})
    assert [e["data"]["status"] for e in bob.take("status_changed")] == ["active"]


def test_d11_an_idle_session_is_not_idle_before_2_minutes(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    for client in (ann, bob, ann, bob):
        ann.world.sleep(29)
        client.send(type="heartbeat")
    assert not bob.take("status_changed")
    ann.world.sleep(5)
    assert bob.take("status_changed")


@pytest.mark.parametrize(
    ("message", "moves"),
    [
        ({"type": "cursor", "roomId": "video_123", "data": {"timestamp": 1}}, True),
        ({"type": "selection", "roomId": "video_123", "data": {"startTime": 1, "endTime": 1}}, True),
        ({"type": "typing", "roomId": "video_123", "data": {"isTyping": True}}, True),
        ({"type": "typing", "roomId": "video_123", "data": {"isTyping": False}}, False),
        ({"type": "playback", "roomId": "video_123", "data": {"action": "play"}}, True),
        ({"type": "control_request", "roomId": "video_123"}, True),
        ({"type": "broadcast", "roomId": "video_123", "data": {}}, True),
        ({"type": "status", "data": {"status": "busy"}}, True),
        ({"type": "heartbeat", "status": "active"}, True),
        ({"type": "heartbeat", "status": "idle"}, False),
        ({"type": "heartbeat"}, False),
        (REPORT, False),
    ],
)
def test_d12_what_moves_last_active_at(pair: tuple[Client, Client], message: object, moves: bool) -> None:
    ann, bob = pair
    before = ann.last("joined")["room"]["users"][0]["lastActiveAt"]
    ann.world.sleep(10)
    ann.send(message)
    bob.send(type="get_active", roomId="video_123")
    assert (bob.last("active")["users"][0]["lastActiveAt"] > before) is moves


def test_d13_the_status_message_is_cleared_by_the_empty_text_and_with_the_last_session(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    ann.send(type="status", data={"status": "busy", "statusMessage": "x" * 100})
    assert bob.take()[0]["data"]["statusMessage"] == "x" * 100
    ann.send(type="status", data={"status": "busy"})
    assert bob.take() == []
    ann.send(type="status", data={"status": "busy", "statusMessage": ""})
    assert "statusMessage" not in bob.take()[0]["data"]
    ann.send(type="status", data={"status": "busy", "statusMessage": "still here"})
    ann.hang_up(1000)
    row = next(u for u in ann.world.client().auth("ann").join().last("joined")["room"]["users"] if u["userId"] == "ann")
    assert row["status"] == "active" and "statusMessage" not in row


def test_d14_a_resume_does_not_make_an_idle_user_active(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="heartbeat", status="idle")
    bob.send(type="get_active", roomId="video_123")
    before = bob.last("active")["users"][0]["lastActiveAt"]
    ann.hang_up(1006)
    ann.world.sleep(2)
    bob.take()
    ann.world.client().auth("ann", resumeToken=ann.resume_token)
    (event,) = bob.take("status_changed")
    assert event["data"]["status"] == "idle"
    bob.send(type="get_active", roomId="video_123")
    row = bob.last("active")["users"][0]
    assert row["lastActiveAt"] == before and row["status"] == "idle"


def test_d15_watching_needs_a_fresh_report(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(REPORT)
    assert [e["data"]["isWatching"] for e in bob.take("status_changed")] == [True]
    ann.world.sleep(9)
    ann.send(REPORT)
    ann.world.sleep(9)
    assert not bob.take("status_changed")
    ann.world.sleep(1.1)
    assert [e["data"]["isWatching"] for e in bob.take("status_changed")] == [False]


def test_d16_a_resume_of_a_live_session_replaces_the_old_socket(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token)
    assert again.last("authenticated")["resumed"] and ann.closed == 4409
    again.join()
    ann.session.on_close(1006, False)  # its late close changes nothing
    ann.world.sleep(20)
    assert bob.take() == []
    bob.send(type="cursor", roomId="video_123", data={"timestamp": 1})
    assert again.take("cursor_moved") and not ann.take("cursor_moved")


def test_d16_a_forged_or_foreign_resume_token_gives_a_new_session(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for user, token in (("bob", ann.resume_token), ("ann", ann.resume_token[:-2] + "xx"), ("ann", "")):
        reply = ann.world.client().auth(user, resumeToken=token).last("authenticated")
        assert reply["resumed"] is False and reply["sessionId"] != ann.session_id
    assert ann.closed is None


def test_d16_resume_twice_in_a_row(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.hang_up(1006)
    two = ann.world.client().auth("ann", resumeToken=ann.resume_token).join()
    two.hang_up(1006)
    three = ann.world.client().auth("ann", resumeToken=two.resume_token).join()
    assert three.session_id == ann.session_id
    ann.world.sleep(20)
    assert not bob.take("user_left")


def test_a_resumed_session_may_leave_a_room_it_has_not_joined_again(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.hang_up(1006)
    again = ann.world.client().auth("ann", resumeToken=ann.resume_token)
    again.send(type="leave", roomId="video_123", id=1)
    assert again.last("left") == {"type": "left", "id": 1, "roomId": "video_123"}
    assert bob.last("user_left")["data"]["reason"] == "left"


def test_regression_the_leaving_controller_receives_nothing_after_its_leave(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="control_request", roomId="video_123")
    ann.take()
    ann.send(type="leave", roomId="video_123")
    assert [message["type"] for message in ann.take()] == ["left"]
    assert [event["type"] for event in bob.take("user_left", "control_released")] == ["user_left", "control_released"]


# --- D8: idle is the user's


def set_status(client: Client, status: str, **more: Any) -> None:
    client.send(type="status", data={"status": status}, **more)


def shown(client: Client, user: str = "ann") -> list[tuple[str, str]]:
    """Status and activity in the new `status_changed` of a user."""
    return [
        (event["data"]["status"], event["data"]["activity"])
        for event in client.take("status_changed")
        if event["userId"] == user
    ]


@pytest.fixture
def tabs() -> tuple[Client, Client, Client]:
    """Two tabs of ann, and bob."""
    world = World()
    first, second, bob = world.person("ann"), world.person("ann"), world.person("bob")
    for each in (first, second, bob):
        each.take()
    return first, second, bob


def status_of(client: Client, status: str, text: str, *, by_call: bool = False) -> ChangeStatus:
    """The command of a status that the client sets now, as an edge repeats it."""
    return ChangeStatus(
        user_id="ann",
        session_id=client.session.session_id,
        activity="idle" if status == "idle" else "active",
        data=StatusData(status=status, status_message=text),  # type: ignore[arg-type]
        at=client.world.now,
        reply_to=ReplyTo(client.session.hub.edge_id, number=77) if by_call else None,
    )


def test_d8_idle_is_shown_for_a_user_with_several_tabs_and_stays(tabs: tuple[Client, Client, Client]) -> None:
    first, second, bob = tabs
    set_status(first, "idle", id=1)
    assert first.last("ack")["status"] == "idle" and shown(bob) == [("idle", "idle")]
    for _ in range(3):
        for tab in (first, second):
            tab.send(type="heartbeat")
            tab.send(type="heartbeat", status="idle")
        bob.send(type="heartbeat")
        bob.world.sleep(25)
    assert shown(bob) == []


def test_d8_an_act_read_together_with_the_status_ends_idle(tabs: tuple[Client, Client, Client]) -> None:
    first, _, bob = tabs
    first.post({"type": "status", "data": {"status": "idle"}})
    first.post({"type": "heartbeat", "status": "active"})
    bob.world.sleep(0.1)
    assert shown(bob)[-1:] == [("active", "active")]
    bob.send(type="get_active", roomId="video_123")
    assert {row["status"] for row in bob.last("active")["users"] if row["userId"] == "ann"} == {"active"}


def test_d8_a_status_that_arrives_behind_a_later_one_changes_nothing(tabs: tuple[Client, Client, Client]) -> None:
    first, _, bob = tabs
    late = status_of(first, "busy", "old")
    bob.world.sleep(0.1)
    first.send(type="status", data={"status": "reviewing", "statusMessage": "new"})
    bob.world.sleep(2.0)
    bob.take()
    first.session.hub.bus.send(late, bob.world.now)
    bob.world.sleep(0.1)
    assert shown(bob) == []
    assert bob.world.shard.users["ann"].status_message == "new"


@pytest.mark.parametrize(("status", "by_call"), [("active", False), ("busy", True)])
def test_d8_a_status_that_arrives_late_ends_no_later_idle(
    tabs: tuple[Client, Client, Client], status: str, by_call: bool
) -> None:
    first, _, bob = tabs
    late = status_of(first, status, "", by_call=by_call)
    bob.world.sleep(0.1)
    first.send(type="status", data={"status": "idle"})
    bob.world.sleep(0.1)
    bob.take()
    first.session.hub.bus.send(late, bob.world.now)
    bob.world.sleep(0.1)
    assert (shown(bob), first.session.activity.activity) == ([], "idle")


def test_d8_an_invisible_tab_gets_a_status_of_a_tab_that_is_lost(tabs: tuple[Client, Client, Client]) -> None:
    """Of a lost session only the message is news to others; the status is for the user's own sessions. They got it as
    that of the lost session only, which is shown as away whatever the user's status is."""
    first, second, bob = tabs
    second.send(type="privacy", data={"invisible": True})
    late = status_of(first, "busy", "new")
    first.hang_up(1006)
    bob.world.sleep(1.0)
    bob.take()
    second.take()
    second.session.hub.bus.send(late, bob.world.now)
    bob.world.sleep(0.1)
    assert [(each["sessionId"], each["data"]["status"]) for each in second.take("status_changed")] == [
        (first.session_id, "away"),
        (second.session_id, "busy"),
    ]
    assert [(each["sessionId"], each["data"]["status"]) for each in bob.take("status_changed")] == [
        (first.session_id, "away")
    ]


@pytest.mark.parametrize(
    "act", [{"type": "status", "data": {"status": "active"}}, {"type": "heartbeat", "status": "active"}]
)
def test_d8_an_idle_by_call_that_arrives_late_makes_no_session_idle_that_has_acted_since(
    tabs: tuple[Client, Client, Client], act: dict[str, Any]
) -> None:
    first, second, bob = tabs
    for tab in (first, second):
        tab.send(type="heartbeat", status="idle")
    late = status_of(first, "idle", "", by_call=True)
    bob.world.sleep(0.1)
    first.send(**act)
    bob.world.sleep(0.1)
    bob.take()
    first.session.hub.bus.send(late, bob.world.now)
    bob.world.sleep(0.1)
    user = bob.world.shard.users["ann"]
    assert (user.profile.status, user.activity, first.session.activity.activity) == ("active", "active", "active")


def test_d8_an_activity_that_arrives_behind_a_later_one_changes_nothing(tabs: tuple[Client, Client, Client]) -> None:
    first, second, bob = tabs
    second.send(type="heartbeat", status="idle")
    bob.world.sleep(0.1)
    late = [
        ReportActivity(
            user_id="ann", session_id=first.session.session_id, activity="active", interacted=True, at=bob.world.now
        ),
        status_of(first, "busy", ""),
    ]
    bob.world.sleep(0.1)
    first.send(type="heartbeat", status="idle")
    bob.world.sleep(0.1)
    assert shown(bob) == [("idle", "idle")]
    for command in late:
        first.session.hub.bus.send(command, bob.world.now)
    bob.world.sleep(0.1)
    assert shown(bob) == [("busy", "idle")]  # nobody has set a later status


@pytest.mark.parametrize("how", ["cursor", "heartbeat active", "status", "another tab joins"])
def test_d8_a_later_act_in_any_tab_ends_idle(tabs: tuple[Client, Client, Client], how: str) -> None:
    first, second, bob = tabs
    set_status(first, "idle")
    first.world.sleep(1)
    shown(bob)
    if how == "cursor":
        second.send(type="cursor", roomId="video_123", data={"timestamp": 1.0, "x": 0.5, "y": 0.5})
    elif how == "heartbeat active":
        second.send(type="heartbeat", status="active")
    elif how == "status":
        set_status(second, "active")
    else:
        second.world.person("ann")
    assert shown(bob) == [("active", "active")]


def test_d8_a_connection_or_a_return_is_no_act(tabs: tuple[Client, Client, Client]) -> None:
    first, second, bob = tabs
    set_status(first, "idle")
    shown(bob)
    token = second.resume_token
    second.hang_up(1006)
    second.world.client().auth("ann", resumeToken=token).join()
    second.world.client().auth("ann")
    assert ("active", "active") not in shown(bob)
    assert second.world.shard.users["ann"].profile.status == "idle"


def test_d8_idle_clears_busy_and_busy_clears_idle(tabs: tuple[Client, Client, Client]) -> None:
    first, second, bob = tabs
    set_status(first, "busy")
    set_status(second, "idle")
    assert shown(bob) == [("busy", "active"), ("idle", "idle")]
    set_status(second, "busy")
    assert shown(bob) == [("busy", "active")]


def test_d8_idle_over_http(tabs: tuple[Client, Client, Client]) -> None:
    first, second, bob = tabs
    first.world.http("ann").call("setStatus", status="idle")
    assert shown(bob) == [("idle", "idle")]
    first.send(type="heartbeat", status="idle")
    assert shown(bob) == []
    second.send(type="typing", roomId="video_123", data={"isTyping": True})
    assert shown(bob) == [("active", "active")]


def test_d8_a_lease_that_says_active_ends_idle(tabs: tuple[Client, Client, Client]) -> None:
    first, _, bob = tabs
    phone = first.world.http("ann")
    phone.call("join", roomId="video_123", roomType="video")
    set_status(first, "idle")
    shown(bob)
    phone.call("heartbeat", roomId="video_123")
    assert shown(bob) == []
    phone.call("heartbeat", roomId="video_123", status="active")
    assert shown(bob) == [("active", "active")]


def test_d8_what_a_tab_did_before_does_not_end_idle() -> None:
    """The report of an act that was made before `setStatus`, and arrives after it: it counts by its time."""
    world = World(workers=4)
    first, second, bob = (world.person(user) for user in ("ann", "ann", "bob"))
    second.send(type="heartbeat", status="idle")
    world.link_delay_s = lambda sender, receiver: 0.05 if sender == second.session.hub.edge_id else 0.0
    bob.take()
    second.post(type="cursor", roomId="video_123", data={"timestamp": 1.0, "x": 0.5, "y": 0.5})
    world.sleep(0.01)
    first.post({"type": "status", "data": {"status": "idle"}})
    world.sleep(1)
    assert world.shard.users["ann"].profile.status == "idle"
    second.send(type="cursor", roomId="video_123", data={"timestamp": 1.0, "x": 0.6, "y": 0.5})
    world.sleep(1)
    assert world.shard.users["ann"].profile.status == "active"


def test_d8_what_a_tab_does_meanwhile_ends_idle() -> None:
    """An act after `setStatus` in a tab whose edge has not been notified of it: the session was active there already."""
    world = World(workers=4)
    first, second, _ = (world.person(user) for user in ("ann", "ann", "bob"))
    world.link_delay_s = lambda sender, receiver: 0.05 if receiver == second.session.hub.edge_id else 0.0
    first.post({"type": "status", "data": {"status": "idle"}})
    world.sleep(0.01)
    second.post(type="typing", roomId="video_123", data={"isTyping": True})
    world.sleep(1)
    assert world.shard.users["ann"].profile.status == "active"


def test_d8_idle_survives_the_death_of_the_users_owner() -> None:
    world = World(workers=4)
    people = [world.person("ann") for _ in range(4)]
    bob = world.person("bob")
    owner = world.owner_of(user_id="ann")
    first, second, *_ = (each for each in people if each.session.hub is not owner.hub)
    set_status(first, "idle")
    world.kill(owner)
    world.sleep(1)
    assert world.shard.users["ann"].profile.status == "idle"
    shown(bob)
    second.send(type="heartbeat", status="active")
    assert world.shard.users["ann"].profile.status == "active"
