"""Presence that is switched off for a user: by the token, the authoriser's answer or the back end's call [K1, Q11]."""

from collections.abc import Callable
from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess, Grant
from koko_presence.auth.identity import Identity
from tests.world import Client, World

ROOM = {"roomId": "video_123", "roomType": "video"}
CURSOR = {"timestamp": 1.0, "x": 0.5, "y": 0.5}


class Authoriser(ClaimsAccess):
    """Lets all in, and shows all but those of `unseen`, in the rooms named there."""

    def __init__(self) -> None:
        self.unseen: set[tuple[str, str]] = set()

    def check(self, identity: Identity, room_id: str, room_type: Any, **_: str) -> Grant:
        seen = (identity.user_id, room_id) not in self.unseen
        return Grant(allow=True, can_control=True, can_broadcast=True, presence=seen)


Switch = Callable[[World, Client, bool], None]


def by_token(world: World, ann: Client, on: bool) -> None:
    world.verifier.presence = on
    ann.send({"type": "auth", "token": "ann"})
    world.verifier.presence = True


def by_authoriser(world: World, ann: Client, on: bool) -> None:
    (world.access.unseen.discard if on else world.access.unseen.add)(("ann", "video_123"))
    for node in world.nodes.values():
        for session in node.hub.connections.values():
            if session.user_id == "ann":
                session.memberships.recheck("video_123", "")
    world.settle()


def by_call(world: World, ann: Client, on: bool) -> None:
    world.switch_presence("ann", on=on)
    world.settle()


every_switch = pytest.mark.parametrize("switch", [by_token, by_authoriser, by_call])


def made() -> tuple[World, Client, Client]:
    world = World(access=Authoriser())
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    return world, ann, bob


@every_switch
def test_to_others_it_looks_like_a_leave_and_a_join(switch: Switch) -> None:
    heard = []
    for really in (False, True):
        world, ann, bob = made()
        ann.send(type="cursor", roomId="video_123", data=CURSOR)
        if really:
            ann.send(type="leave", roomId="video_123")
        else:
            switch(world, ann, False)
        world.sleep(1.0)
        if really:
            ann.join()
        else:
            switch(world, ann, True)
        ann.send(type="typing", roomId="video_123", data={"isTyping": True})
        heard.append(
            [(each["type"], each["userId"], each["data"], each["seq"]) for each in bob.take() if "seq" in each]
        )
    assert heard[0] == heard[1]
    assert [kind for kind, *_ in heard[0]] == ["cursor_moved", "user_left", "user_joined", "typing_started"]


@every_switch
def test_the_user_sees_and_cannot_show_anything(switch: Switch) -> None:
    world, ann, bob = made()
    switch(world, ann, False)
    bob.take()
    ann.take()
    bob.send(type="cursor", roomId="video_123", data=CURSOR)
    assert [each["userId"] for each in ann.take("cursor_moved")] == ["bob"]
    ann.send(type="cursor", roomId="video_123", data=CURSOR)
    ann.send(type="selection", roomId="video_123", data={"startTime": 1, "endTime": 2})
    ann.send(type="typing", roomId="video_123", data={"isTyping": True})
    ann.send(type="status", data={"status": "busy"})
    assert not ann.take("error"), "accepted and dropped"
    for refused in (
        {"type": "broadcast", "data": {"type": "hi"}},
        {"type": "control_request"},
        {"type": "playback", "data": {"action": "seek", "currentTime": 3}},
    ):
        ann.send({**refused, "roomId": "video_123"})
        assert ann.last("error")["code"] == "INVISIBLE"
    assert not bob.take()
    bob.send(type="get_active", **ROOM)
    assert (bob.last("active")["totalCount"], [row["userId"] for row in bob.last("active")["users"]]) == (1, ["bob"])
    assert [row["userId"] for row in world.person("cid").last("joined")["room"]["users"]] == ["bob", "cid"]


@pytest.mark.parametrize("switch", [by_token, by_call])
def test_the_users_own_switch_does_not_undo_it(switch: Switch) -> None:
    world, ann, bob = made()
    switch(world, ann, False)
    bob.take()
    ann.send(type="privacy", id=1, data={"invisible": False})
    assert ann.last("error")["code"] == "FORBIDDEN" and not bob.take()
    switch(world, ann, True)
    assert [each["type"] for each in bob.take()] == ["user_joined"]


@every_switch
def test_it_outlives_a_resume_and_a_further_join(switch: Switch) -> None:
    world, ann, bob = made()
    switch(world, ann, False)
    bob.take()
    token = ann.resume_token
    ann.hang_up(1006)
    back = world.client()
    world.verifier.presence = switch is not by_token
    back.send({"type": "auth", "token": "ann", "resumeToken": token})
    back.join()
    back.send(type="leave", roomId="video_123")
    back.join()
    assert back.last("joined")["room"]["userCount"] == 1 and not bob.take()


def test_the_call_holds_for_sessions_that_come_later_over_all_ways() -> None:
    world, ann, bob = made()
    ann.hang_up()
    bob.take()
    world.switch_presence("ann", on=False)
    again = world.person("ann")
    world.http("ann").call("join", **ROOM)
    world.http("ann").call("updateCursor", roomId="video_123", timestamp=1.0, x=0.1, y=0.1)
    assert not bob.take()
    assert again.last("joined")["room"]["userCount"] == 1, "only bob is counted"
    world.switch_presence("ann", on=True)
    world.settle()
    assert [each["type"] for each in bob.take()] == ["user_joined", "user_joined"]


def test_the_call_with_true_does_not_undo_the_token() -> None:
    world, ann, bob = made()
    by_token(world, ann, False)
    bob.take()
    by_call(world, ann, False)
    by_call(world, ann, True)
    assert not bob.take()
    by_call(world, ann, False)
    by_token(world, ann, True)
    assert not bob.take()
    by_call(world, ann, True)
    assert [each["type"] for each in bob.take()] == ["user_joined"]


def test_the_authoriser_says_it_for_each_room() -> None:
    world, ann, bob = made()
    ann.join("video_2")
    cid = world.person("cid", "video_2")
    by_authoriser(world, ann, False)
    assert [each["type"] for each in bob.take()] == ["user_left"] and not cid.take()
    ann.send(type="broadcast", roomId="video_2", data={"type": "hi"})
    assert [each["type"] for each in cid.take()] == ["broadcast"]


def test_the_authorisers_answer_to_a_heartbeat_over_http_counts() -> None:
    world, _, bob = made()
    dan = world.http("dan")
    dan.call("join", **ROOM)
    bob.take()
    world.access.unseen.add(("dan", "video_123"))
    dan.call("heartbeat", roomId="video_123")
    assert [each["type"] for each in bob.take()] == ["user_left"]
    dan.call("heartbeat")
    assert not bob.take()
    world.access.unseen.clear()
    dan.call("heartbeat")
    assert [each["type"] for each in bob.take()] == ["user_joined"]


def test_a_call_for_a_session_counts_with_what_the_authoriser_says_of_it() -> None:
    world, ann, bob = made()
    world.access.unseen.add(("ann", "video_123"))
    http = world.http("ann", ann.session_id)
    http.call("updateCursor", roomId="video_123", timestamp=1.0, x=0.1, y=0.1)
    assert http.refused("broadcast", roomId="video_123", data={"type": "hi"}).code == "INVISIBLE"
    assert not bob.take()


def test_control_is_released_by_one_who_is_not_shown_any_more() -> None:
    world, ann, bob = made()
    ann.send(type="control_request", roomId="video_123")
    bob.take()
    by_call(world, ann, False)
    assert [each["type"] for each in bob.take()] == ["user_left", "control_released"]


def test_webhooks_flag_the_user_as_invisible() -> None:
    world = World(access=Authoriser(), telling=True)
    world.switch_presence("ann", on=False)
    world.person("ann")
    assert world.webhook_events is not None and all(event.invisible for event in world.webhook_events)
