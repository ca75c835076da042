"""Decisions K3, K7 and C12: to others a room without a visible member does not exist. tests/unit/test_hidden.py tests
it in general; here are the single rules, and what invisible members themselves receive."""

import asyncio
from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess, Grant
from koko_presence.cluster.cluster_bus import ClusterBus
from koko_presence.protocol.limits import RoomOptions
from koko_presence.rooms.member import Member
from tests.world import Client, World, begin_join, refuse_join

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
    """Join a room again that the client is in, for a fresh snapshot, without naming a type."""
    before = len(client.of("joined"))
    client.send(type="join", roomId="lobby")
    assert len(client.of("joined")) == before + 1
    return client


def without(room: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in room.items() if name not in names}


# --- the room of visible members


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
    """A room ends with its last visible member: at once when that member left or became invisible; when it was lost,
    after the grace period and 30 s, whichever invisible members join and leave."""
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


def test_c1_only_a_type_visible_to_others_is_a_mismatch() -> None:
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


# --- what invisible members receive


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


def test_k7_what_a_beginning_and_an_end_cost_grows_with_the_number_of_the_invisible_not_its_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cost of a room's beginning and end is linear in the number of its invisible members. Each of them gets a
    snapshot; building each snapshot visited all of them."""
    looks = 0

    def visible(member: Member) -> bool:
        nonlocal looks
        looks += 1
        return not (member.invisible or member.disabled)

    def looks_for(ghosts: int) -> int:
        world = World()
        all_ghosts = [ghost_in(world, user=f"ghost{number}") for number in range(ghosts)]
        ann = world.person("ann", "lobby")
        with monkeypatch.context() as patch:
            patch.setattr(Member, "visible", property(visible))
            before = looks
            hide(ann)
            hide(ann, False)
            world.sleep(0.1)
        assert all(len(ghost.of("joined")) == 4 for ghost in all_ghosts)
        return looks - before

    few, many = looks_for(10), looks_for(40)
    assert few and many < 5 * few


def test_k7_two_invisible_members_do_not_see_each_other() -> None:
    world = World()
    ghost = ghost_in(world)
    world.sleep(5)
    other = ghost_in(world, user="other")
    assert room_of(other)["createdAt"] > room_of(ghost)["createdAt"]
    assert room_of(again(other))["createdAt"] == room_of(other)["createdAt"]
    assert [row["userId"] for row in room_of(other)["users"]] == ["other"]
    say(ghost, "cursor", data={"timestamp": 1})
    assert not other.take("cursor_moved") and not ghost.take("error")


def test_k2_a_member_that_becomes_visible_in_an_empty_room_creates_it() -> None:
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


def test_k2_a_member_that_becomes_visible_again_is_like_a_new_one() -> None:
    """A member that becomes visible is last in the list, active now, with a colour by preference, and without the
    reports of its invisible time."""
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


def test_m10_a_room_that_becomes_visible_is_reported_as_shown() -> None:
    world = World(telling=True)
    ghost = ghost_in(world)
    ann = world.person("ann", "lobby")
    say(ann, "leave")
    hide(ghost, False)
    hide(ghost)
    say(ghost, "leave")
    assert world.webhook_events is not None
    told = [(type(each).__name__, getattr(each, "invisible", None)) for each in world.webhook_events]
    assert told == [
        ("RoomCreated", True), ("UserEntered", True), ("RoomShown", None), ("UserEntered", False), ("UserLeft", False),
        ("RoomHidden", None), ("RoomShown", None), ("RoomHidden", None), ("UserLeft", True), ("RoomEmptied", True),
    ]  # fmt: skip
    assert len({each.id for each in world.webhook_events}) == len(told)


# --- traces of invisible members


def test_k7_a_request_for_control_goes_with_the_last_visible_tab() -> None:
    world = World()
    ann, bob = world.person("ann", "lobby"), world.person("bob", "lobby")
    world.person("bob", "lobby", privacy=INVISIBLE)
    say(ann, "control_request")
    say(bob, "control_request")
    say(bob, "leave")
    assert room_of(ann.join("lobby"))["controlRequests"] == []


def test_k7_an_invisible_tab_that_is_idle_does_not_show_again_that_the_visible_one_is_lost() -> None:
    """The user is idle once the last active tab is gone. The others see the lost tab as away already, and nothing of the
    invisible one."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    shadow = world.person("ann", "video_2", privacy=INVISIBLE)
    shadow.send(type="heartbeat", status="idle")
    bob.take()
    ann.hang_up(1006)
    (event,) = bob.take()
    assert (event["type"], event["data"]["status"], event["data"]["connected"]) == ("status_changed", "away", False)
    world.sleep(world.limits.grace_s + 0.1)
    assert [event["type"] for event in bob.take()] == ["user_left"]


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


def test_a4_an_invisible_tab_without_the_scope_does_not_end_the_control_of_a_visible_tab() -> None:
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


# --- messages sent while invisible


@pytest.mark.parametrize("kind", ["cursor", "selection", "typing"])
@pytest.mark.one_worker  # makes its own world
def test_k3_messages_sent_while_invisible_are_dropped_on_every_route(kind: str) -> None:
    """A message sent while invisible is dropped even if the route from the edge to the room takes longer than that of
    the next change of privacy through the user's owner."""
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


@pytest.mark.one_worker  # with several workers a message to a room may be faster than one through the user's owner
@pytest.mark.parametrize("first", [True, False])
def test_k3_a_change_of_privacy_does_not_overtake_what_is_held_for_a_join(first: bool) -> None:
    """The messages of one socket count in the order of their arrival: `first` is whether the session is invisible when
    it joins."""

    class Slow:
        """Answers when the test sets the result."""

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
            and not ann.session.rate_limiter.take(
                b'{"type":"cursor","roomId":"den","data":{"timestamp":1,"x":0,"y":0}}'
            )
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
        assert (ann.session.memberships.behind_joins is None and not ann.session.rate_limiter.has_pending) or not first

    asyncio.run(story())


class AccessLater:
    """While it is `slow`, ann's requests wait in `asked` for their answer."""

    def __init__(self) -> None:
        self.slow = False
        self.asked: list[asyncio.Future[Grant]] = []

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
        if not self.slow or identity.user_id != "ann":
            return Grant(allow=True)
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    async def answer(self, world: World) -> int:
        """Allow all pending requests and return their number."""
        asked, self.asked = self.asked, []
        for each in asked:
            each.set_result(Grant(allow=True))
        for _ in range(5):
            await asyncio.sleep(0)
            world.settle()
        return len(asked)


CURSOR = {"timestamp": 1, "x": 0, "y": 0}


@pytest.mark.one_worker  # the answers come from a real loop
@pytest.mark.parametrize("resumed", [False, True])
def test_k3_a_change_of_privacy_after_a_second_join_with_privacy_is_final(resumed: bool) -> None:
    """A room in which the session is a member, as after a resume, holds no message back during the access check."""

    async def story() -> None:
        world = World(access=(access := AccessLater()))
        bob, ann = world.person("bob", "lobby"), world.person("ann", "lobby")
        if resumed:
            token = ann.resume_token
            ann.hang_up(None)
            ann = world.client().auth("ann", resumeToken=token)
        bob.take()
        access.slow = True
        ann.send(type="join", roomId="lobby", privacy={"invisible": False}, id=1)
        hide(ann)
        assert await access.answer(world) >= 1
        world.sleep(1)
        assert bob.take("user_left", "user_joined")[-1]["type"] == "user_left"
        assert ann.session.hidden and ann.session.rate_limiter.has_pending
        member = world.shard.rooms["lobby"].members[ann.session_id]
        assert not member.visible
        assert [message["id"] for message in ann.of("joined") if "id" in message] == [1]

    asyncio.run(story())


@pytest.mark.one_worker
@pytest.mark.parametrize("room", ["lobby", "den"])
def test_k3_messages_after_a_join_with_privacy_are_hidden_while_access_is_checked(room: str) -> None:
    """The privacy of a join applies at once to later messages: in the room that is joined again, and in another one
    while a first join waits."""

    async def story() -> None:
        world = World(access=(access := AccessLater()))
        bob, ann = world.person("bob", "lobby"), world.person("ann", "lobby")
        bob.take()
        access.slow = True
        ann.post(type="join", roomId=room, roomType="video", privacy=INVISIBLE)
        ann.post(type="cursor", roomId="lobby", data=CURSOR)
        world.settle()
        assert [message["type"] for message in bob.take()] == ["user_left"]
        await access.answer(world)
        world.sleep(1)
        assert not bob.take()

    asyncio.run(story())


@pytest.mark.one_worker
@pytest.mark.parametrize("change", [{}, {"scope": "user"}, {"invisible": True}])
def test_k3_what_changes_no_privacy_waits_for_no_join(change: dict[str, Any]) -> None:
    """The access of joins that repeat the session's privacy is checked at once, as the answer to `change` at the end
    shows."""

    async def story() -> None:
        world = World(access=(access := AccessLater()))
        ann = world.client().auth("ann", privacy={"shareCursor": False})
        ann.take()
        access.slow = True
        same = {"shareCursor": False, "invisible": False}
        for room in ("den", "hall", "lobby"):
            ann.send(type="join", roomId=room, roomType="video", privacy=same)
        ann.send(type="privacy", data={**same, **change}, id=1)
        assert len(access.asked) == 3
        assert [message["id"] for message in ann.take()] == ([] if change else [1])
        await access.answer(world)
        assert {message["roomId"] for message in ann.of("joined")} == {"den", "hall", "lobby"}
        assert len(ann.of("ack")) == 1 and ann.session.memberships.behind_joins is None

    asyncio.run(story())


def test_k1_the_privacy_of_a_join_is_answered_only_by_the_join() -> None:
    """The privacy of a join has no acknowledgement of its own, also for a session whose token has presence switched
    off, and which asks to be visible."""
    world = World()
    world.verifier.presence = False
    ann = world.client().auth("ann")
    ann.take()
    ann.join("lobby", privacy={"invisible": False, "shareCursor": False}, id=1)
    world.sleep(1)
    assert [(message["type"], message.get("id")) for message in ann.take()] == [("joined", 1)]
    assert not world.shard.users["ann"].sessions[ann.session_id].share_cursor


@pytest.mark.one_worker  # makes its own world
@pytest.mark.parametrize("late", ["edge to owner", "owner to room", "edge to room"])
def test_k1_a_join_with_privacy_has_no_visible_instant_on_three_workers(late: str) -> None:
    world = World(workers=4)
    bob, _ = world.person("bob", "lobby"), world.client().auth("ann")
    room, user = world.owner_of(room_id="lobby").number, world.owner_of(user_id="ann").number
    assert room != user, "different workers, or this shows nothing"
    edge = min(world.nodes.keys() - {room, user})
    ann = Client(world, world.nodes[edge].hub).auth("ann")
    paths = {"edge to owner": (edge, user), "owner to room": (user, room), "edge to room": (edge, room)}
    world.link_delay_s = lambda sender, receiver: 0.05 if (sender, receiver) == paths[late] else 0.0
    ann.join("lobby", privacy=INVISIBLE)
    ann.post(type="cursor", roomId="lobby", data=CURSOR)
    world.sleep(1)
    assert ann.of("joined") and not bob.take()


@pytest.mark.one_worker  # makes its own world
def test_n_b_a_retried_join_restores_no_older_privacy() -> None:
    """A join that is retried with the next owner of the user does not restore its privacy, when the session's last
    change of privacy is a newer one."""
    world = World(workers=4)
    bob, _ = world.person("bob", "lobby"), world.client().auth("ann")
    room, user = world.owner_of(room_id="lobby").number, world.owner_of(user_id="ann").number
    assert room != user, "different workers, or this shows nothing"
    edge = min(world.nodes.keys() - {room, user, bob.session.hub.edge_id})
    ann = Client(world, world.nodes[edge].hub).auth("ann").join("lobby")
    bob.take()
    world.link_delay_s = lambda sender, receiver: 5.0 if receiver == user else 0.0
    ann.send(type="join", roomId="lobby", privacy={"invisible": False})
    hide(ann)
    world.kill(world.nodes[user])
    world.sleep(1)
    assert not world.shard.rooms["lobby"].members[ann.session_id].visible
    assert [message["type"] for message in bob.take("user_left", "user_joined")] == ["user_left"]


def test_what_waits_behind_a_change_of_privacy_is_bounded() -> None:
    world = World()
    ann = world.client().auth("ann")
    begin_join(ann.session, "lobby")
    hide(ann)
    for number in range(70):
        ann.post({"type": "heartbeat", "status": "active", "id": number, "padding": "x" * 2000})
        world.sleep(0.02)
    refused = [message["id"] for message in ann.of("error") if message["code"] == "RATE_LIMITED"]
    assert refused == list(range(30, 70)) and not ann.of("pong")
    refuse_join(ann.session, "lobby", world.now)
    world.settle()
    assert ann.of("pong") and ann.session.memberships.behind_joins is None


# --- calls for a session [M1, M6]


@pytest.mark.one_worker  # makes its own world
@pytest.mark.parametrize("first", ["setPrivacy", "join", "join again"])
def test_k3_what_is_called_behind_a_change_of_privacy_is_hidden(first: str) -> None:
    world = World(workers=4)
    bob, _ = world.person("bob", "lobby"), world.client().auth("ann")
    room, user = world.owner_of(room_id="lobby").number, world.owner_of(user_id="ann").number
    assert room != user, "different workers, or this shows nothing"
    hub = world.nodes[min(world.nodes.keys() - {room, user})].hub
    ann = Client(world, hub).auth("ann").join("lobby")
    bob.take()
    world.link_delay_s = lambda sender, receiver: 0.1 if receiver == user else 0.0
    http = world.http("ann", ann.session_id)
    if first == "setPrivacy":
        http.start("setPrivacy", INVISIBLE, hub=hub)
    else:
        http.start(
            "join", hub=hub, roomId="lobby" if first == "join again" else "den", roomType="video", privacy=INVISIBLE
        )
    cursor = http.start("updateCursor", hub=hub, roomId="lobby", **CURSOR)
    broadcast = http.start("broadcast", hub=hub, roomId="lobby", data={"n": 1})
    world.sleep(1)
    assert cursor.result == {"success": True}
    assert broadcast.error is not None and broadcast.error.code == "INVISIBLE"
    assert [message["type"] for message in bob.take()] == ["user_left"]
    assert ann.session.hidden and ann.session.rate_limiter.has_pending


@pytest.mark.one_worker  # the answers come on its loop
def test_k3_calls_made_while_invisible_are_not_shown_once_access_is_checked() -> None:
    world = World(access=(access := AccessLater()))
    bob, ann = world.person("bob", "lobby"), ghost_in(world, user="ann")
    bob.take()
    access.slow = True
    http = world.http("ann", ann.session_id)
    cursor = http.start("updateCursor", roomId="lobby", **CURSOR)
    broadcast = http.start("broadcast", roomId="lobby", data={"n": 1})
    resync = http.start("syncPlayback", roomId="lobby", action="resync")
    world.settle()
    http.call("setPrivacy", invisible=False)
    assert not cursor.done and not broadcast.done and len(access.asked) == 3
    for each in access.asked:
        each.set_result(Grant(allow=True, can_broadcast=True))
    world.sleep(1)
    assert [message["type"] for message in bob.take()] == ["user_joined"]
    assert cursor.result == {"success": True} and resync.error is None
    assert broadcast.error is not None and broadcast.error.code == "INVISIBLE"


def test_k3_the_edge_of_a_session_keeps_its_privacy_after_a_refused_call_and_a_join() -> None:
    """The edge of a session applies the privacy that the user's owner has stored, after a refused call and after a join
    by call."""
    world = World(status_burst=1, status_hz=0.01)
    ann = world.person("ann", "lobby")
    http = world.http("ann", ann.session_id)
    http.call("join", roomId="den", roomType="video", privacy=INVISIBLE)
    assert ann.session.hidden and ann.session.rate_limiter.has_pending
    http.call("setPrivacy", shareCursor=False)
    for _ in world.nodes:
        assert http.refused("setPrivacy", invisible=False).code == "RATE_LIMITED"
        assert ann.session.hidden
    assert world.shard.users["ann"].sessions[ann.session_id].invisible


def test_k3_the_session_of_another_user_hides_nothing_for_a_caller() -> None:
    world = World()
    bob, ann = world.person("bob", "lobby"), world.person("ann", "lobby")
    mallory = world.http("mallory", ann.session_id)
    for _ in world.nodes:
        assert mallory.refused("setPrivacy", invisible=True).code == "SESSION_REQUIRED"
        mallory.refused("join", roomId="lobby", roomType="video", privacy=INVISIBLE)
    assert not ann.session.hidden and not bob.take("user_left")


@pytest.mark.one_worker
@pytest.mark.parametrize("behind", [True, False], ids=["behind a change of privacy", "for the room"])
def test_l3_cursors_and_selections_that_wait_for_a_join_are_merged(behind: bool) -> None:
    """Cursors and selections that wait for a join are coalesced: three seconds of them are no abuse, beside as much
    else as may wait."""

    async def story() -> None:
        world = World(access=(access := AccessLater()), connection_hz=1000)
        bob, ann = world.person("bob", "lobby"), world.client().auth("ann").join("hall")
        if behind:
            ann.join("lobby")
        access.slow = True
        ann.join("den" if behind else "lobby")
        if behind:
            hide(ann, False, shareCursor=False)
            hide(ann, False, shareCursor=True)
        for number in range(62):
            say(ann, "typing", data={"isTyping": number % 2 == 0})
        ann.take(), bob.take()
        for number in range(180):
            world.sleep(1 / 60)
            say(ann, "cursor", data={**CURSOR, "timestamp": number})
            say(ann, "selection", data={"startTime": number, "endTime": number + 1})
        say(ann, "cursor", data=CURSOR, padding="x" * ann.session.memberships.max_bytes)
        assert [message["code"] for message in ann.take("error")] == ["TOO_LARGE"] and ann.closed is None
        await access.answer(world)
        world.sleep(1)
        shown = [message["data"] for message in bob.take("cursor_moved", "selection_changed")]
        assert sorted(data.get("timestamp", data.get("startTime")) for data in shown) == [179, 179]
        assert ann.session.held.size == 0

    asyncio.run(story())


def test_k3_a_join_that_waits_behind_a_change_of_privacy_holds_the_next_change() -> None:
    world = World()
    bob = world.person("bob", "lobby")
    ann = world.client().auth("ann")
    begin_join(ann.session, "den")
    hide(ann)
    ann.post({"type": "join", "roomId": "lobby", "roomType": "video"})
    hide(ann, False)
    refuse_join(ann.session, "den", world.now)
    world.sleep(1)
    assert [message["type"] for message in bob.take()] == ["user_joined"], "invisible at first, then seen"
    assert room_of(ann)["userCount"] == 2 and ann.session.memberships.behind_joins is None


def test_k6_a_tabs_edge_applies_what_another_tab_has_hidden_for_the_user() -> None:
    """The tab's edge drops its waiting messages, and its new ones count as sent while invisible."""
    world = World()
    tab, other = world.person("ann", "lobby"), world.person("ann", "lobby")
    hide(other, scope="user")
    world.settle()
    assert tab.session.hidden and tab.session.rate_limiter.has_pending
    hide(other, False, scope="user")
    world.settle()
    assert not tab.session.hidden and not tab.session.rate_limiter.has_pending
    bob = world.person("bob", "lobby")
    say(tab, "cursor", data={"timestamp": 1, "x": 0, "y": 0})
    assert bob.take("cursor_moved")


def test_k1_what_a_refused_join_hides_is_hidden_at_the_owner_too() -> None:
    world = World(max_rooms_per_user=1)
    ann, bob = world.person("ann", "lobby"), world.person("bob", "lobby")
    ann.join("den", "project", privacy=INVISIBLE)
    assert ann.last("error")["code"] == "TOO_MANY_ROOMS"
    assert ann.session.hidden and bob.take("user_left")


# --- changing owners


@pytest.mark.one_worker  # makes its own world
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
        assert ghost.closed is None and ghost.session.memberships.subscribed_rooms == {"lobby"}
        assert not ghost.of("left") and len(ghost.of("joined")) == 3
        say(ann, "selection", data={"startTime": 1, "endTime": 2})
        world.sleep(0.1)
        assert ghost.last("selection_changed")["seq"] == ann.last("joined")["seq"] + ghosts.index(ghost) + 1


@pytest.mark.one_worker  # makes its own world
@pytest.mark.parametrize("shown", [True, False])
def test_n_b_the_state_for_invisible_members_outlives_the_rooms_owner(shown: bool) -> None:
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


def test_k7_what_an_invisible_tab_does_is_not_shown_when_the_visible_one_comes_back() -> None:
    """The activity of an invisible tab is not shown when the visible tab returns. An idle user's invisible tab was
    active, and the first event after the return showed it."""

    def shown(*, shadow: bool) -> dict[str, Any]:
        world = World()
        ann = world.person("ann", "lobby")
        if shadow:
            world.client().auth("ann", privacy={"invisible": True})
        ann.send(type="heartbeat", status="idle")
        bob = world.person("bob", "lobby")
        ann.send(type="privacy", data={"invisible": True})
        ann.send(type="privacy", data={"invisible": False})
        return dict(bob.last("user_joined")["data"])

    assert shown(shadow=True) == shown(shadow=False)
