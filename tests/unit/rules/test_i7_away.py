"""Decision I7: control of a holder who is away for long goes to the oldest request, or to the next one."""

from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess
from koko_presence.protocol.limits import RoomOptions
from tests.world import Client, World

ROOM = "video_123"
OPTIONS = RoomOptions(auto_grant_away_s=60.0)


def say(type_: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "roomId": ROOM, **more}


def granted(client: Client) -> list[Any]:
    return [event["data"] for event in client.take("control_granted")]


def go_away(client: Client) -> None:
    """Show the holder as away: in all tabs, by its status."""
    client.send(type="status", data={"status": "away"})


def room_of(*users: str, options: RoomOptions = OPTIONS, **limits: Any) -> tuple[World, list[Client]]:
    """A room in which the first user has control."""
    world = World(options, control_request_s=1000.0, missed_heartbeats=1000, **limits)
    people = [world.person(user) for user in users]
    people[0].send(say("control_request"))
    for person in people:
        person.take()
    return world, people


def test_by_default_a_holder_who_is_away_keeps_control() -> None:
    world, (ann, bob) = room_of("ann", "bob", options=RoomOptions())
    go_away(ann)
    bob.send(say("control_request", id=1))
    world.sleep(600)
    assert bob.last("ack")["granted"] is False and granted(bob) == []


def test_the_longest_waiting_request_is_granted() -> None:
    world, (ann, bob, cat) = room_of("ann", "bob", "cat")
    cat.send(say("control_request"))
    world.sleep(1)
    bob.send(say("control_request"))
    go_away(ann)
    world.sleep(59.9)
    assert granted(bob) == []
    world.sleep(0.1)
    (data,) = granted(bob)
    assert (data["toUserId"], data["fromUserId"], data["auto"]) == ("cat", "ann", True)
    assert granted(ann) == [data] and granted(cat) == [data]
    world.sleep(600)
    assert granted(bob) == [], "the new holder is not away"


def test_without_a_request_the_next_one_is_granted_at_once() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    go_away(ann)
    world.sleep(60)
    assert world.shard.rooms[ROOM].control.user_id == "ann"
    bob.send(say("control_request", id=1))
    assert bob.last("ack")["granted"] is True
    (data,) = granted(ann)
    assert (data["toUserId"], data["fromUserId"], data["auto"]) == ("bob", "ann", True)


def test_a_request_before_the_time_waits() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    go_away(ann)
    world.sleep(59)
    bob.send(say("control_request", id=1))
    assert bob.last("ack")["granted"] is False
    world.sleep(1)
    assert [data["toUserId"] for data in granted(ann)] == ["bob"]


def test_a_holder_who_comes_back_keeps_control_and_the_time_begins_anew() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    bob.send(say("control_request"))
    go_away(ann)
    world.sleep(59)
    ann.send(type="status", data={"status": "active"})
    world.sleep(100)
    assert granted(bob) == []
    go_away(ann)
    world.sleep(59)
    assert granted(bob) == []
    world.sleep(1)
    assert [data["toUserId"] for data in granted(bob)] == ["bob"]


def test_idle_and_busy_are_not_away() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    bob.send(say("control_request"))
    for status in ("idle", "busy", "reviewing"):
        ann.send(type="status", data={"status": status})
        world.sleep(100)
        assert granted(bob) == []
        for person in (ann, bob):
            person.send(type="heartbeat")


def test_away_by_silence_counts() -> None:
    world, (ann, bob) = room_of("ann", "bob", idle_after_s=10.0, away_after_s=20.0)
    bob.send(say("control_request"))
    for _ in range(3):
        for person in (ann, bob):
            person.send(type="heartbeat", status="idle" if person is ann else "active")
        world.sleep(30)
    assert [data["toUserId"] for data in granted(ann)] == ["bob"]


def test_another_tab_of_the_holder_that_is_active_keeps_control() -> None:
    world, (ann, bob) = room_of("ann", "bob", idle_after_s=10.0, away_after_s=20.0)
    tab = world.person("ann")
    bob.send(say("control_request"))
    for _ in range(8):
        ann.send(type="heartbeat")
        tab.send(type="heartbeat", status="active")
        bob.send(type="heartbeat", status="active")
        world.sleep(9)
    assert granted(bob) == []


def test_a_holder_in_the_grace_period_is_away() -> None:
    world, (ann, bob) = room_of("ann", "bob", options=RoomOptions(auto_grant_away_s=2.0))
    bob.send(say("control_request"))
    ann.hang_up(1006)
    world.sleep(1.9)
    assert granted(bob) == []
    world.sleep(0.2)
    assert [(data["toUserId"], data["fromUserId"]) for data in granted(bob)] == [("bob", "ann")]


def test_a_holder_who_joins_again_in_another_session_is_there() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    ann.hang_up(1006)
    world.sleep(1)
    ann = world.person("ann")
    world.sleep(50)
    bob.send(say("control_request"))
    world.sleep(600)
    assert granted(bob) == []


def test_the_time_begins_when_the_last_session_that_is_there_leaves() -> None:
    world, (ann, bob) = room_of("ann", "bob", options=RoomOptions(auto_grant_away_s=3.0), grace_s=20.0)
    bob.send(say("control_request"))
    ann.hang_up(1006)
    world.sleep(1)
    tab = world.person("ann")
    world.sleep(1)
    tab.send(say("leave"))
    world.sleep(2.9)
    assert granted(bob) == []
    world.sleep(0.2)
    assert [(data["toUserId"], data["fromUserId"]) for data in granted(bob)] == [("bob", "ann")]


def test_an_invisible_session_of_the_holder_is_not_there() -> None:
    world, (ann, bob) = room_of("ann", "bob", options=RoomOptions(auto_grant_away_s=2.0))
    world.client().auth("ann", privacy={"invisible": True}).join(ROOM, "video")
    bob.send(say("control_request"))
    ann.hang_up(1006)
    world.sleep(2.1)
    assert [(data["toUserId"], data["fromUserId"]) for data in granted(bob)] == [("bob", "ann")]


def test_in_the_mode_moderators_only_their_requests_are_granted() -> None:
    options = RoomOptions(control_mode="moderators", auto_grant_away_s=60.0)
    world = World(options, access=ClaimsAccess(), control_request_s=1000.0, missed_heartbeats=1000)
    bob = world.person('bob:Bob:{"*":["join","control"]}')
    ann = world.person('ann:Ann:{"*":["join","control","moderate"]}')
    mod = world.person('mod:Mod:{"*":["join","control","moderate"]}')
    ann.send(say("control_request"))
    bob.send(say("control_request"))
    mod.send(say("control_request"))
    go_away(ann)
    ann.take()
    world.sleep(60)
    assert [data["toUserId"] for data in granted(ann)] == ["mod"]


def test_the_setting_of_one_room_counts_from_the_time_at_which_the_holder_went_away() -> None:
    world, (ann, bob) = room_of("ann", "bob", options=RoomOptions())
    bob.send(say("control_request"))
    go_away(ann)
    world.sleep(30)
    world.change_room(autoGrantAway=45)
    world.sleep(14.9)
    assert granted(bob) == []
    world.sleep(0.1)
    assert [data["toUserId"] for data in granted(bob)] == ["bob"]


def test_a_setting_that_has_passed_already_grants_at_once_and_0_never() -> None:
    world, (ann, bob) = room_of("ann", "bob")
    bob.send(say("control_request"))
    go_away(ann)
    world.change_room(autoGrantAway=0)
    world.sleep(100)
    assert granted(bob) == []
    world.change_room(autoGrantAway=45)
    world.settle()
    assert [data["toUserId"] for data in granted(bob)] == ["bob"]


@pytest.mark.parametrize("requested", [True, False])
def test_the_time_survives_the_death_of_the_owner(requested: bool) -> None:
    world = World(OPTIONS, workers=4, control_request_s=1000.0)
    people = [world.person(f"user{number}") for number in range(8)]
    owner = world.owner_of(ROOM)
    ann, bob, *_ = (each for each in people if each.session.hub is not owner.hub)
    ann.send(say("control_request"))
    if requested:
        bob.send(say("control_request"))
    go_away(ann)
    world.sleep(30)
    world.kill(owner)
    world.sleep(29)
    assert [data for data in granted(bob) if data["toUserId"] != ann.session.user_id] == []
    world.sleep(1.1)
    if not requested:
        bob.send(say("control_request"))
    assert [data["toUserId"] for data in granted(bob)] == [bob.session.user_id]
