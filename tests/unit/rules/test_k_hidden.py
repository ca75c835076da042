"""Decisions K3, K7 and C12: to others a room without a visible member does not exist. tests/unit/test_hidden.py proves it
in general; here are the single rules, and what the invisible themselves get."""

import asyncio
from typing import Any

import pytest

from koko_presence.auth.access import ClaimsAccess, Grant
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.limits import RoomOptions
from tests.world import Client, World

INVISIBLE = {"invisible": True}
PLAY = {"action": "sync", "isPlaying": True, "currentTime": 40, "playbackRate": 1}


def say(client: Client, type_: str, room: str = "lobby", **more: Any) -> None:
    client.send({"type": type_, "roomId": room, **more})


def hide(client: Client, on: bool = True, **more: Any) -> None:
    client.send(type="privacy", data={"invisible": on, **more})


def ghost_in(world: World, type_: str = "video", room: str = "lobby", user: str = "ghost") -> Client:
    return world.person(user, room, type_, privacy=INVISIBLE)


def room_of(client: Client) -> dict[str, Any]:
    room: dict[str, Any] = client.last("joined")["room"]
    return room


def again(client: Client) -> Client:
    """The client joins a room that it is in, for a fresh snapshot, without naming a type."""
    before = len(client.of("joined"))
    client.send(type="join", roomId="lobby")
    assert len(client.of("joined")) == before + 1
    return client


def without(room: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in room.items() if name not in names}


# --- the room of others


def test_c12_a_room_that_looks_empty_begins_anew_with_the_next_visible_one() -> None:
    world = World()
    ann = world.person("ann", "lobby")
    ghost_in(world)
    say(ann, "control_request")
    say(ann, "playback", data=PLAY)
    before = room_of(ann.join("lobby"))
    say(ann, "leave")
    world.sleep(1)
    after = room_of(ann.join("lobby"))
    assert after["createdAt"] > before["createdAt"] and ann.last("joined")["seq"] == 1
    assert "playback" in before and not {"playback", "controller"} & after.keys()
    assert [row["index"] for row in after["users"]] == [0] and after["syncEnabled"]


@pytest.mark.parametrize("how", ["leave", "vanish", "lost", "timeout"])
def test_c12_a_room_ends_with_its_last_visible_member(how: str) -> None:
    """At once when that left, or seems to; when it was lost, after the grace and 30 s, whoever invisible comes and goes."""
    world = World()
    ann = world.person("ann", "lobby")
    created = room_of(ann.join("lobby"))["createdAt"]
    ghost = ghost_in(world)
    if how == "leave":
        say(ann, "leave")
    elif how == "vanish":
        hide(ann)
    else:
        ann.hang_up(1006)
        world.sleep(world.limits.grace_s + 0.1)
        say(ghost, "leave")
        ghost.join("lobby")
        world.sleep(world.limits.room_linger_s - (1.0 if how == "lost" else -1.0))
    assert (room_of(world.person("bob", "lobby"))["createdAt"] == created) is (how == "lost")


def test_c1_only_a_type_that_others_may_know_is_a_mismatch() -> None:
    world = World()
    ghost = ghost_in(world, "project")
    other = ghost_in(world, "comparison", user="other")
    assert room_of(ghost)["type"] == "project" and room_of(other)["type"] == "comparison"
    nameless = world.client().auth("eve")
    nameless.send(type="join", roomId="lobby")
    assert nameless.last("error")["code"] == "INVALID_MESSAGE"
    http = world.http("dan")
    assert http.call("getActive", roomId="lobby", roomType="video")["users"] == []
    ann = world.person("ann", "lobby", "video")
    assert room_of(ann)["type"] == room_of(ghost)["type"] == room_of(other)["type"] == "video"
    assert world.client().auth("dan").join("lobby", "project").last("error")["code"] == "ROOM_TYPE_MISMATCH"


def test_c1_a_room_that_lingers_keeps_its_type() -> None:
    world = World()
    ghost = ghost_in(world, "project")
    world.person("ann", "lobby", "video").hang_up(1006)
    world.sleep(10)
    assert world.client().auth("bob").join("lobby", "project").last("error")["code"] == "ROOM_TYPE_MISMATCH"
    world.sleep(30)
    assert room_of(world.person("bob", "lobby", "project"))["type"] == room_of(ghost)["type"] == "project"


# --- what the invisible get


def test_c12_the_invisible_get_a_fresh_snapshot_when_the_room_begins_and_ends() -> None:
    world = World()
    ghost = ghost_in(world, "project")
    assert (ghost.last("joined")["seq"], room_of(ghost)["userCount"]) == (0, 0)
    ghost.take()
    ann = world.person("ann", "lobby", "video")
    joined, event = ghost.take()
    assert (joined["type"], joined["room"]["type"], joined["seq"], "id" in joined) == ("joined", "video", 0, False)
    assert joined["room"]["createdAt"] == room_of(ann)["createdAt"]
    assert [row["sessionId"] for row in joined["room"]["users"]] == [ghost.session_id]
    assert (event["type"], event["userId"], event["seq"]) == ("user_joined", "ann", 1)
    say(ann, "playback", data=PLAY)
    assert ghost.take()[0]["seq"] == 2
    say(ann, "leave")
    left, joined = ghost.take()
    assert (left["type"], joined["type"], joined["seq"]) == ("user_left", "joined", 0)
    assert "playback" not in joined["room"] and joined["room"]["createdAt"] > room_of(ann)["createdAt"]


def test_k7_two_who_are_invisible_are_each_alone() -> None:
    world = World()
    ghost = ghost_in(world)
    world.sleep(5)
    other = ghost_in(world, user="other")
    assert room_of(other)["createdAt"] > room_of(ghost)["createdAt"]
    assert room_of(again(other))["createdAt"] == room_of(other)["createdAt"]
    assert [row["userId"] for row in room_of(other)["users"]] == ["other"]
    say(ghost, "cursor", data={"timestamp": 1})
    assert not other.take("cursor_moved") and not ghost.take("error")


def test_k2_who_becomes_visible_in_an_empty_room_makes_it() -> None:
    world = World()
    ghost, other = ghost_in(world), ghost_in(world, "project", user="other")
    world.sleep(5)
    ghost.take(), other.take()
    hide(ghost, False)
    joined = ghost.last("joined")
    assert (joined["seq"], joined["room"]["userCount"], joined["room"]["users"][0]["index"]) == (1, 1, 0)
    mine, event = other.take()
    assert (mine["seq"], mine["room"]["type"], event["seq"]) == (0, "video", 1)
    assert room_of(other)["createdAt"] == joined["room"]["createdAt"]


def test_k2_who_comes_back_is_like_one_who_has_just_joined() -> None:
    """Last in the list, active now, a colour by choice, and nothing of what it reported while nobody saw it."""
    world = World()
    eve, ann = world.person("eve", "lobby"), world.person("ann", "lobby")
    hide(eve)
    world.sleep(3)
    say(eve, "playback", data={**PLAY, "action": "report"})
    say(eve, "typing", data={"isTyping": True})
    world.sleep(3)
    hide(eve, False)
    first, last = room_of(ann.join("lobby"))["users"]
    assert (first["userId"], last["userId"], last["index"]) == ("ann", "eve", 0)
    assert not last["isWatching"] and not last["isTyping"] and not {"playbackState", "viewerSync"} & last.keys()
    say(eve, "leave")
    eve.join("lobby")
    again = room_of(ann.join("lobby"))["users"][1]
    assert (
        without(last, "lastActiveAt") == without(again, "lastActiveAt")
        and last["lastActiveAt"][:19] == "2025-01-15T10:30:06"
    )


def test_m10_a_room_that_begins_among_the_invisible_is_told_as_shown() -> None:
    world = World(telling=True)
    ghost = ghost_in(world)
    ann = world.person("ann", "lobby")
    say(ann, "leave")
    hide(ghost, False)
    hide(ghost)
    say(ghost, "leave")
    assert world.told is not None
    told = [(type(each).__name__, getattr(each, "invisible", None)) for each in world.told]
    assert told == [
        ("RoomCreated", True), ("UserEntered", True), ("RoomShown", None), ("UserEntered", False), ("UserLeft", False),
        ("RoomHidden", None), ("RoomShown", None), ("RoomHidden", None), ("UserLeft", True), ("RoomEmptied", True),
    ]  # fmt: skip
    assert len({each.id for each in world.told}) == len(told)


# --- what would give somebody away


def test_k7_a_request_for_control_goes_with_the_last_visible_tab() -> None:
    world = World()
    ann, bob = world.person("ann", "lobby"), world.person("bob", "lobby")
    world.person("bob", "lobby", privacy=INVISIBLE)
    say(ann, "control_request")
    say(bob, "control_request")
    say(bob, "leave")
    assert room_of(ann.join("lobby"))["controlRequests"] == []


def test_k3_an_invisible_tab_does_not_release_control_or_cancel_the_request_of_a_visible_one() -> None:
    world = World()
    bob, ann = world.person("bob", "lobby"), world.person("ann", "lobby")
    tab = ghost_in(world, user="ann")
    say(ann, "control_request")
    bob.take()
    say(tab, "control_release", id=1)
    assert (tab.last("error")["code"], tab.last("error")["id"]) == ("INVISIBLE", 1)
    assert not bob.take() and room_of(again(bob))["controllerSessionId"] == ann.session_id
    say(ann, "control_release")
    say(bob, "control_request")
    say(ann, "control_request")
    bob.take()
    say(tab, "control_cancel", id=2)
    assert (tab.last("error")["code"], tab.last("error")["id"]) == ("INVISIBLE", 2)
    assert not bob.take() and [each["userId"] for each in room_of(again(bob))["controlRequests"]] == ["ann"]


def test_a4_an_invisible_tab_without_the_scope_takes_nothing_from_a_visible_one() -> None:
    world = World(access=ClaimsAccess())
    bob, ann, tab = (
        world.person(f'{user}:{user}:{{"*":["join","control"]}}', "lobby", **more)
        for user, more in (("bob", {}), ("ann", {}), ("ann", {"privacy": INVISIBLE}))
    )
    say(bob, "control_request")
    say(ann, "control_request")
    bob.take()
    tab.auth('ann:ann:{"*":["join"]}')
    world.settle()
    assert not world.shard.rooms["lobby"].members[tab.session_id].can_control
    assert not bob.take() and [each["userId"] for each in room_of(again(bob))["controlRequests"]] == ["ann"]


def test_k7_the_byte_budget_of_broadcasts_counts_no_invisible_receiver() -> None:
    def answers(ghosts: int) -> list[Any]:
        world = World(room_broadcast_bytes=20_000)
        ann, bob = world.person("ann", "lobby"), world.person("bob", "lobby")
        for number in range(ghosts):
            ghost_in(world, user=f"ghost{number}")
        for _ in range(4):
            ann.send({"type": "broadcast", "roomId": "lobby", "data": {"x": "x" * 6000}, "id": 1})
        assert bob.of("broadcast")
        return [{**m, "retryAfterMs": m.get("retryAfterMs")} for m in ann.take("ack", "error")]

    assert answers(3) == answers(0)


# --- what is sent while invisible


@pytest.mark.parametrize("kind", ["cursor", "selection", "typing"])
@pytest.mark.one_worker  # brings its own
def test_k3_what_was_sent_while_invisible_is_dropped_by_whatever_road_it_comes(kind: str) -> None:
    """From the edge to the room it takes longer than the change of privacy by way of the user's owner."""
    world = World(workers=4)
    ann = world.person("ann", "lobby")
    edge = ann.session.hub.edge_id
    owners = world.owner_of(room_id="lobby").number, world.owner_of(user_id="ann").number
    assert len({edge, *owners}) == 3, "three different workers, or this shows nothing"
    bob = world.person("bob", "lobby")
    hide(ann)
    world.sleep(1)
    bob.take()
    world.link_delay_s = lambda sender, receiver: 0.2 if (sender, receiver) == (edge, owners[0]) else 0.0
    data = {
        "cursor": {"timestamp": 1, "x": 0, "y": 0},
        "selection": {"startTime": 1, "endTime": 2},
        "typing": {"isTyping": True},
    }
    say(ann, kind, data=data[kind])
    hide(ann, False)
    world.sleep(1)
    assert [message["type"] for message in bob.take()] == ["user_joined"]
    say(ann, kind, data=data[kind])
    world.sleep(1)
    assert len(bob.take()) == 1


@pytest.mark.one_worker  # with several a word to a room may be quicker than one by way of the user's owner
@pytest.mark.parametrize("first", [True, False])
def test_k3_a_change_of_privacy_does_not_overtake_what_is_held_for_a_join(first: bool) -> None:
    """What one socket sends counts in the order in which it came: `first` is what the session is when it joins."""

    class Slow:
        """Answers when it is told to."""

        def __init__(self) -> None:
            self.asked: list[asyncio.Future[Grant]] = []

        def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
            if identity.user_id == "bob" or room_id == "den":
                return Grant(allow=True, can_broadcast=True)
            self.asked.append(asyncio.get_running_loop().create_future())
            return self.asked[-1]

    async def story() -> None:
        world = World(access=(access := Slow()))
        bob = world.person("bob", "lobby")
        world.client().auth("bob").join("den", "project")
        ann = world.client().auth("ann", privacy={"invisible": first}).join("den", "project").join("lobby")
        say(ann, "broadcast", data={"n": 1}, id=1)
        say(ann, "cursor", data={"timestamp": 1, "x": 0, "y": 0})
        hide(ann, not first)
        say(ann, "broadcast", "den", data={"n": 2}, id=2)
        say(ann, "broadcast", data={"n": 3}, id=3)
        ann.send(type="heartbeat", status="active", id=4)
        assert (
            not ann.of("ack")
            and not ann.of("pong")
            and not ann.session.gate.take(b'{"type":"cursor","roomId":"den","data":{"timestamp":1,"x":0,"y":0}}')
        )
        access.asked[0].set_result(Grant(allow=True, can_broadcast=True))
        for _ in range(5):
            await asyncio.sleep(0)
            world.settle()
        world.sleep(1)
        got = {message["id"]: message.get("code", message["type"]) for message in ann.take() if "id" in message}
        seen = [message["type"] for message in bob.take()]
        if first:
            assert got == {1: "INVISIBLE", 2: "ack", 3: "ack", 4: "pong"}
            assert seen == ["user_joined", "broadcast"]
        else:
            assert got == {1: "ack", 2: "INVISIBLE", 3: "INVISIBLE", 4: "pong"}
            assert seen == ["user_joined", "broadcast", "cursor_moved", "user_left"]
        assert (not ann.session.rooms.behind and not ann.session.gate.crowded) or not first

    asyncio.run(story())


def test_what_waits_behind_a_change_of_privacy_is_bounded() -> None:
    world = World()
    ann = world.client().auth("ann")
    ann.session.rooms.joining["lobby"] = None
    hide(ann)
    for number in range(70):
        ann.post({"type": "heartbeat", "status": "active", "id": number, "padding": "x" * 2000})
        world.sleep(0.02)
    refused = [message["id"] for message in ann.of("error") if message["code"] == "RATE_LIMITED"]
    assert refused == list(range(30, 70)) and not ann.of("pong")
    ann.session.rooms.on_refused("lobby", world.now)
    world.settle()
    assert ann.of("pong") and not ann.session.rooms.behind


def test_k3_a_join_that_waits_behind_a_change_of_privacy_holds_the_next_change() -> None:
    world = World()
    bob = world.person("bob", "lobby")
    ann = world.client().auth("ann")
    ann.session.rooms.joining["den"] = None
    hide(ann)
    ann.post({"type": "join", "roomId": "lobby", "roomType": "video"})
    hide(ann, False)
    ann.session.rooms.on_refused("den", world.now)
    world.sleep(1)
    assert [message["type"] for message in bob.take()] == ["user_joined"], "invisible at first, then seen"
    assert room_of(ann)["userCount"] == 2 and not ann.session.rooms.behind


def test_k6_a_tab_knows_what_another_has_hidden_for_the_user() -> None:
    """Its edge drops what waits there, and what it sends counts as sent by someone invisible."""
    world = World()
    tab, other = world.person("ann", "lobby"), world.person("ann", "lobby")
    hide(other, scope="user")
    world.settle()
    assert tab.session.hidden and tab.session.gate.crowded
    hide(other, False, scope="user")
    world.settle()
    assert not tab.session.hidden and not tab.session.gate.crowded
    bob = world.person("bob", "lobby")
    say(tab, "cursor", data={"timestamp": 1, "x": 0, "y": 0})
    assert bob.take("cursor_moved")


def test_k1_what_a_refused_join_hides_is_hidden_at_the_owner_too() -> None:
    world = World(max_rooms_per_user=1)
    ann, bob = world.person("ann", "lobby"), world.person("bob", "lobby")
    ann.join("den", "project", privacy=INVISIBLE)
    assert ann.last("error")["code"] == "TOO_MANY_ROOMS"
    assert ann.session.hidden and bob.take("user_left")


# --- owners that come and go


@pytest.mark.one_worker  # brings its own
def test_n_b_the_invisible_on_another_worker_stay_when_the_numbers_begin_anew() -> None:
    world = World(workers=4)
    ann = world.person("ann", "lobby")
    ghosts = [ghost_in(world, user=f"ghost{number}") for number in range(4)]
    for number in range(5):
        say(ann, "typing", data={"isTyping": True, "context": f"{number}"})
        world.sleep(1)
    say(ann, "leave")
    world.sleep(1)
    ann.join("lobby")
    world.sleep(1)
    for ghost in ghosts:
        assert ghost.closed is None and ghost.session.rooms.hearing == {"lobby"}
        assert not ghost.of("left") and len(ghost.of("joined")) == 3
        say(ann, "selection", data={"startTime": 1, "endTime": 2})
        world.sleep(0.1)
        assert ghost.last("selection_changed")["seq"] == ann.last("joined")["seq"] + ghosts.index(ghost) + 1


@pytest.mark.one_worker  # brings its own
@pytest.mark.parametrize("shown", [True, False])
def test_n_b_what_the_invisible_know_of_a_room_outlives_its_owner(shown: bool) -> None:
    world = World(RoomOptions(), workers=3)
    ghost, other = ghost_in(world), ghost_in(world, "project", user="other")
    if shown:
        world.person("ann", "lobby", "video")
    world.sleep(1)
    before = [room_of(again(each)) for each in (ghost, other)]
    owner = world.owner_of(room_id="lobby")
    assert isinstance(owner.bus, ClusterBus)
    if owner.hub in (ghost.session.hub, other.session.hub):
        pytest.fail("the owner must not be their edge, or this shows nothing")
    world.kill(owner)
    world.sleep(1)
    after = [room_of(again(each)) for each in (ghost, other)]
    assert [(room["type"], room["createdAt"]) for room in after] == [
        (room["type"], room["createdAt"]) for room in before
    ]
