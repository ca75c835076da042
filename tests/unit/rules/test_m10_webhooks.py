"""Decision M10: the webhook events of rooms, if they are switched on; K4, K7: those of invisible members, too."""

from typing import Any

import msgspec
import pytest

from koko_presence.protocol.limits import RoomOptions
from koko_presence.protocol.webhook_events import AnyWebhookEvent
from tests.world import Client, World


def told(world: World) -> list[dict[str, Any]]:
    """Return the events since the last call, as the receiver reads them."""
    assert world.webhook_events is not None
    new, world.webhook_events[:] = list(world.webhook_events), []
    for each in new:
        assert msgspec.json.decode(msgspec.json.encode(each), type=AnyWebhookEvent) == each
    return [msgspec.to_builtins(each) for each in new]


def types(world: World) -> list[str]:
    return [each["type"] for each in told(world)]


def say(client: Client, type_: str, **more: Any) -> None:
    client.send({"type": type_, "roomId": "video_123", **more})


def counts(users: int, sessions: int, visible_users: int, visible_sessions: int) -> dict[str, int]:
    return {"users": users, "sessions": sessions, "visibleUsers": visible_users, "visibleSessions": visible_sessions}


@pytest.fixture
def world() -> World:
    return World(telling=True)


def test_m10_the_first_to_come_creates_the_room(world: World) -> None:
    ann = world.person("ann")
    created, entered = told(world)
    assert created["type"] == "room_created" and created["roomId"] == "video_123" and created["roomType"] == "video"
    assert entered.pop("id") != created["id"]
    assert entered.pop("timestamp").startswith("2025-01-15T10:30:00.")
    assert entered == {
        "type": "user_entered", "roomId": "video_123", "roomType": "video", "userId": "ann", "name": "Ann",
        "sessionId": ann.session_id, "sessionCount": 1, "invisible": False, "room": counts(1, 1, 1, 1),
    }  # fmt: skip


def test_m10_counts_are_per_user_and_per_session(world: World) -> None:
    first, _, second = world.person("ann"), world.person("bob"), world.person("ann")
    entered = told(world)[-1]
    assert (entered["userId"], entered["sessionCount"], entered["room"]) == ("ann", 2, counts(2, 3, 2, 3))
    say(first, "leave")
    say(second, "leave")
    one, two = told(world)
    assert (one["type"], one["sessionCount"], one["room"]) == ("user_left", 1, counts(2, 2, 2, 2))
    assert (two["reason"], two["sessionCount"], two["room"]) == ("left", 0, counts(1, 1, 1, 1))


def test_m10_joining_again_causes_no_event(world: World) -> None:
    ann = world.person("ann")
    told(world)
    ann.join()
    assert ann.last("joined") and told(world) == []


def test_m10_a_resumed_connection_causes_no_event(world: World) -> None:
    ann = world.person("ann")
    told(world)
    ann.hang_up(1006)
    world.sleep(1.0)
    back = world.client().auth("ann", resumeToken=ann.resume_token).join()
    assert back.last("authenticated")["resumed"] is True
    world.sleep(60.0)
    assert told(world) == []


def test_m10_a_lost_member_leaves_after_the_grace_period_and_the_room_is_empty_when_it_is_removed(world: World) -> None:
    world.person("ann").hang_up(1006)
    told(world)
    world.sleep(world.limits.grace_s + 0.1)
    (left,) = told(world)
    assert (left["type"], left["reason"], left["room"]) == ("user_left", "disconnected", counts(0, 0, 0, 0))
    world.sleep(world.limits.room_linger_s)
    (emptied,) = told(world)
    assert (emptied["type"], emptied["room"]) == ("room_emptied", counts(0, 0, 0, 0))


def test_m10_a_join_while_the_room_lingers_does_not_create_it(world: World) -> None:
    world.person("ann").hang_up(1006)
    world.sleep(world.limits.grace_s + 0.1)
    told(world)
    world.person("bob")
    assert types(world) == ["user_entered"]


def test_m10_a_room_that_all_members_left_is_empty_at_once_and_created_again(world: World) -> None:
    say(world.person("ann"), "leave")
    first = told(world)
    assert [each["type"] for each in first] == ["room_created", "user_entered", "user_left", "room_emptied"]
    world.sleep(0.1)
    say(world.person("ann"), "leave")
    second = told(world)
    assert [each["type"] for each in second] == [each["type"] for each in first]
    assert len({each["id"] for each in first + second}) == 8, "another time, other ids"


def test_m10_full_is_sent_once_when_the_last_place_is_taken(world: World) -> None:
    world = World(telling=True, max_users_per_room=2)
    world.person("ann")
    bob = world.person("bob")
    full = told(world)[-1]
    assert (full["type"], full["limit"], full["room"]["users"]) == ("room_full", 2, 2)
    world.person("bob")
    late = world.client().auth("carol").join()
    assert late.last("error")["code"] == "ROOM_FULL"
    assert types(world) == ["user_entered"], "bob's second tab takes no place, and who was refused is no news"
    say(bob, "leave")
    assert types(world) == ["user_left"]


def test_k7_events_of_invisible_users_are_sent_and_flagged(world: World) -> None:
    world.person("ann")
    ghost = world.person("ghost", privacy={"invisible": True})
    entered = told(world)[-1]
    assert (entered["userId"], entered["invisible"], entered["room"]) == ("ghost", True, counts(2, 2, 1, 1))
    say(ghost, "leave")
    (left,) = told(world)
    assert (left["invisible"], left["room"]) == (True, counts(1, 1, 1, 1))


def test_k7_going_invisible_is_not_leaving(world: World) -> None:
    world.person("ann")
    bob = world.person("bob")
    told(world)
    bob.send({"type": "privacy", "data": {"invisible": True}})
    assert told(world) == []
    say(bob, "leave")
    assert told(world)[0]["invisible"] is True


def test_m10_every_change_of_control_is_an_event(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    told(world)
    say(ann, "control_request")
    say(ann, "control_grant", data={"toUserId": "bob"})
    say(bob, "control_release")
    changes = told(world)
    assert [(c["fromUserId"], c["toUserId"], c["reason"], c["version"]) for c in changes] == [
        (None, "ann", "auto", 1), ("ann", "bob", "granted", 2), ("bob", None, "released", 3),
    ]  # fmt: skip


def test_m10_control_that_moves_between_tabs_of_a_user_causes_no_event(world: World) -> None:
    ann, _ = world.person("ann"), world.person("ann")
    say(ann, "control_request")
    told(world)
    say(ann, "leave")
    assert types(world) == ["user_left"]


def test_m10_the_event_of_the_controllers_leave_precedes_that_of_control(world: World) -> None:
    world = World(RoomOptions(auto_grant=True), telling=True)
    ann, bob = world.person("ann"), world.person("bob")
    say(ann, "control_request")
    say(bob, "control_request")
    told(world)
    say(ann, "leave")
    left, released, granted = told(world)
    assert (left["type"], left["userId"]) == ("user_left", "ann")
    assert (released["fromUserId"], released["toUserId"], released["reason"]) == ("ann", None, "left")
    assert (granted["fromUserId"], granted["toUserId"], granted["reason"]) == (None, "bob", "auto")


def test_m10_cursors_typing_and_status_cause_no_event(world: World) -> None:
    ann, bob = world.person("ann"), world.person("bob")
    told(world)
    say(ann, "cursor", data={"timestamp": 1})
    say(ann, "typing", data={"isTyping": True})
    ann.send({"type": "status", "data": {"status": "busy"}})
    say(ann, "playback", data={"action": "play", "currentTime": 3})
    assert bob.take("cursor_moved", "typing_started", "status_changed", "playback_synced")
    assert told(world) == []


def test_m10_without_a_webhook_no_event_is_recorded() -> None:
    world = World()
    say(world.person("ann"), "leave")
    assert world.webhook_events is None
