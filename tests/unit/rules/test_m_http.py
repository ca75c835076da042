"""Decisions M: procedures over HTTP, for a socket's session or for one held by a lease."""

from typing import Any

import pytest
from msgspec import UNSET

from koko_presence.access.policy import NO, UNSURE, ClaimsAccess, Grant
from koko_presence.protocol.errors import ERRORS
from koko_presence.server.pending_requests import REQUEST_TIMEOUT_S
from koko_presence.server.rpc import CALL_BURST, Procedures
from koko_presence.server.rpc_inputs import SHAPES
from tests.examples import INPUTS
from tests.world import Client, Http, World

ROOM = {"roomId": "video_123"}
ALL_THREE = {"isPlaying": True, "currentTime": 45.5, "playbackRate": 1.0}
WITHOUT_A_ROOM = {"getSummaries"}  # names several rooms: tests/unit/rules/test_q12_watch.py
SESSIONLESS = {"join", "leave", "heartbeat", "getActive", "setStatus", "setPrivacy"}


@pytest.fixture
def scene() -> tuple[World, Client, Client, Http]:
    """Ann and Bob are in the room by socket; ann's application calls for her session."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    return world, ann, bob, world.http("ann", ann.session_id)


def types(client: Client) -> list[str]:
    return [message["type"] for message in client.take()]


# --- for a socket's session [M1] ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["flat", "data"])
@pytest.mark.parametrize(
    ("name", "data", "heard"),
    [
        ("updateCursor", {"timestamp": 15.5, "x": 0.45, "y": 0.62}, "cursor_moved"),
        ("updateSelection", {"startTime": 10.0, "endTime": 25.5}, "selection_changed"),
        ("startTyping", {"context": "comment"}, "typing_started"),
        ("syncPlayback", {"action": "sync", **ALL_THREE}, "playback_synced"),
        ("syncPlayback", ALL_THREE, "playback_synced"),
        ("setStatus", {"status": "busy", "statusMessage": "in a call"}, "status_changed"),
        ("setPrivacy", {"invisible": True}, "user_left"),
    ],
)
def test_m1_a_call_does_what_the_sessions_own_message_does(
    scene: tuple[World, Client, Client, Http], name: str, data: dict[str, Any], heard: str, form: str
) -> None:
    _, ann, bob, http = scene
    result = http.call(name, **ROOM, **(data if form == "flat" else {"data": data}))
    (event,) = bob.take(heard)
    assert result["success"] is True and event["userId"] == "ann" and event["sessionId"] == ann.session_id
    shown = {name: value for name, value in data.items() if name in event["data"]}
    assert shown == {name: event["data"][name] for name in shown}
    assert heard != "cursor_moved" or event["data"] == {**data, "color": ann.last("joined")["assignedColor"]}


def test_m1_the_input_names_the_session_before_the_header_does(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, bob, http = scene
    tab = world.person("ann")
    bob.take()
    http.call("updateCursor", **ROOM, sessionId=tab.session_id, timestamp=1)
    assert bob.take("cursor_moved")[0]["sessionId"] == tab.session_id
    world.sleep(0.1)
    http.call("updateCursor", **ROOM, timestamp=2)
    assert bob.take("cursor_moved")[0]["sessionId"] == ann.session_id
    # ambiguous between two sessions
    assert world.http("ann").refused("updateCursor", **ROOM, timestamp=3).code == "SESSION_REQUIRED"
    tab.hang_up()
    world.sleep(0.1)
    bob.take()
    world.http("ann").call("updateCursor", **ROOM, timestamp=4)
    assert bob.take("cursor_moved")[0]["sessionId"] == ann.session_id


@pytest.mark.parametrize("name", sorted(Procedures.KINDS.keys() - WITHOUT_A_ROOM))
def test_m1_a_session_of_another_user_and_an_unknown_one_get_the_same_answer(
    scene: tuple[World, Client, Client, Http], name: str
) -> None:
    world, ann, bob, _ = scene
    given = {key: value for key, value in INPUTS[name].items() if key != "roomId"}
    bob.take()
    mallory = world.http("mallory")
    if name == "getActive":  # the session only selects whose own cursor is included
        results = [mallory.call(name, **ROOM, sessionId=sid) for sid in (ann.session_id, "nobody")]
        assert results[0] == results[1] and "cursor" not in str(results)
        return
    errors = [mallory.refused(name, **ROOM, **given, sessionId=sid) for sid in (ann.session_id, "nobody")]
    assert errors[0].code == errors[1].code and errors[0].message == errors[1].message
    expected = "METHOD_NOT_SUPPORTED" if name == "heartbeat" else "NOT_IN_ROOM"
    assert errors[0].code == ("SESSION_REQUIRED" if name in SESSIONLESS - {"heartbeat"} else expected)
    assert bob.take() == [] and len(world.shard.rooms["video_123"].members) == 2
    assert ERRORS[errors[0].code].http_status in (405, 412)


def test_m1_what_is_done_by_http_wakes_the_session_up(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, bob, http = scene
    for _ in range(5):
        for each in (ann, bob):
            each.send(type="heartbeat", status="idle")
        world.sleep(30)
    assert bob.last("status_changed")["data"]["activity"] == "idle"
    bob.take()
    http.call("startTyping", **ROOM)
    events = [message for message in bob.take("status_changed") if message["userId"] == "ann"]
    assert [event["data"]["activity"] for event in events] == ["active"]
    ann.send(type="heartbeat", status="idle")  # its edge has the activity, so this is a change again
    assert [m["data"]["activity"] for m in bob.take("status_changed") if m["userId"] == "ann"] == ["idle"]


def test_m1_join_and_leave_for_a_socket(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, _, http = scene
    carl = world.person("carl", "project_9", "project")
    answer = http.call("join", roomId="project_9", roomType="project")
    (joined,) = ann.take()
    assert "id" not in joined and joined["room"] == answer["room"] and joined["seq"] == answer["seq"]
    assert answer["sessionId"] == ann.session_id and "leaseSeconds" not in answer
    assert answer["assignedColor"] == joined["assignedColor"] and types(carl) == ["user_joined"]
    ann.send(type="typing", roomId="project_9", data={"isTyping": True})
    carl.send(type="typing", roomId="project_9", data={"isTyping": True})
    assert types(carl) == ["typing_started"] and types(ann) == ["typing_started"]
    assert http.call("leave", roomId="project_9") == {"success": True, "left": 1}
    assert types(ann) == ["left"] and carl.take("user_left")[0]["data"]["reason"] == "left"
    ann.send(type="typing", roomId="project_9", data={"isTyping": True}, id=1)
    assert ann.last("error")["code"] == "NOT_IN_ROOM"
    assert http.call("leave", roomId="project_9") == {"success": True, "left": 0}


def test_m1_a_session_in_its_grace_is_not_there_to_act(scene: tuple[World, Client, Client, Http]) -> None:
    _, ann, _, http = scene
    ann.hang_up(1006)
    assert http.refused("updateCursor", **ROOM, timestamp=1).code == "NOT_IN_ROOM"
    assert http.refused("join", **ROOM, roomType="video").code == "SESSION_REQUIRED"


def test_m1_join_for_a_socket_subscribes_it_on_a_resumed_connection_too() -> None:
    world = World()
    ann = world.client().auth("ann")
    http = world.http("ann", ann.session_id)
    http.call("join", **ROOM, roomType="video")
    ann.hang_up(1006)
    back = world.client().auth("ann", resumeToken=ann.resume_token)
    http.call("join", **ROOM, roomType="video")
    world.person("bob")
    assert types(back) == ["authenticated", "joined", "user_joined"]


# --- leases [M2] --------------------------------------------------------------------------------------------------


def test_m2_a_lease_is_listed_and_counted_and_receives_nothing() -> None:
    world = World()
    bob = world.person("bob")
    http = world.http("ann:Ann A.")
    answer = http.call("join", **ROOM, roomType="video")
    assert answer["leaseSeconds"] == 90.0 and answer["room"]["userCount"] == 2
    row = next(row for row in answer["room"]["users"] if row["userId"] == "ann")
    assert row["transport"] == "http" and row["connected"] is True and row["sessionId"] == answer["sessionId"]
    (joined,) = bob.take()
    assert joined["type"] == "user_joined" and joined["data"]["transport"] == "http"
    assert joined["data"]["name"] == "Ann A." and joined["data"]["sessionCount"] == 1
    listed = http.call("getActive", **ROOM)
    assert (listed["totalCount"], listed["sessionCount"]) == (2, 2)
    assert "transport" not in next(row for row in listed["users"] if row["userId"] == "bob")
    bob.send(type="broadcast", roomId="video_123", data={"type": "x"}, id=1)
    assert bob.last("ack")["delivered"] == 0
    assert world.shard.rooms["video_123"].edges_with_members() == [bob.session.hub.edge_id]


def test_m2_one_per_user_room_and_key() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    first = http.call("join", **ROOM, roomType="video")
    again = http.call("join", **ROOM, roomType="video")
    other = http.call("join", **ROOM, roomType="video", clientKey="phone")
    assert first["sessionId"] == again["sessionId"] != other["sessionId"]
    assert first["assignedColor"] == again["assignedColor"] != other["assignedColor"]
    assert [event["data"]["sessionCount"] for event in bob.take("user_joined")] == [1, 2]
    assert world.http("bob").call("join", **ROOM, roomType="video")["sessionId"] != first["sessionId"]
    http.call("updateCursor", **ROOM, timestamp=1, clientKey="phone")
    assert bob.take("cursor_moved")[0]["sessionId"] == other["sessionId"]


def test_m2_it_ends_after_90_s_with_timeout() -> None:
    world = World()
    bob = world.person("bob")
    world.http("ann").call("join", **ROOM, roomType="video")
    for _ in range(2):
        world.sleep(44.9)
        bob.send(type="heartbeat", status="idle")
    assert bob.take("user_left") == []
    world.sleep(0.3)
    (left,) = bob.take("user_left")
    assert left["data"] == {"reason": "timeout", "sessionCount": 0}
    assert set(world.shard.users) == {"bob"} and world.http("ann").refused("heartbeat").code == "METHOD_NOT_SUPPORTED"


@pytest.mark.parametrize("by", ["heartbeat", "heartbeat of the room", "heartbeat of the session", "join", "join by id"])
def test_m2_it_is_renewed_by_join_and_by_heartbeat(by: str) -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    for _ in range(4):
        world.sleep(60.0)
        bob.send(type="heartbeat", status="idle")
        if by == "heartbeat":
            http.call("heartbeat")
        elif by == "heartbeat of the room":
            http.call("heartbeat", **ROOM)
        elif by == "heartbeat of the session":
            assert http.call("heartbeat", sessionId=session)["renewed"] == 1
        elif by == "join":
            http.call("join", **ROOM, roomType="video")
        else:
            assert http.call("join", **ROOM, roomType="video", sessionId=session)["sessionId"] == session
    assert bob.take("user_left") == [] and len(bob.of("user_joined")) == 1
    world.sleep(89.0)
    bob.send(type="heartbeat", status="idle")
    assert bob.take("user_left") == []
    world.sleep(1.1)
    assert types(bob) == ["user_left"]


def test_d6_a_heartbeat_renews_all_leases_sets_the_activity_and_is_answered_like_a_ping() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    http.call("join", **ROOM, roomType="video")
    http.call("join", roomId="project_1", roomType="project")
    bob.take()
    answer = http.call("heartbeat", status="idle", clientTime=12.5)
    assert answer["renewed"] == 2 and answer["echo"] == 12.5 and answer["leaseSeconds"] == 90.0
    assert answer["serverTime"] == world.wall.ms(world.now - 0.006) and answer["timestamp"].startswith("2025-01-15T")
    assert bob.take("status_changed")[0]["data"]["activity"] == "idle"
    http.call("heartbeat", status="active")
    assert bob.take("status_changed")[0]["data"]["activity"] == "active"


def test_d6_a_sockets_session_has_no_heartbeat_by_http(scene: tuple[World, Client, Client, Http]) -> None:
    _, _, _, http = scene
    error = http.refused("heartbeat", status="active")
    assert error.code == "METHOD_NOT_SUPPORTED" and ERRORS[error.code].http_status == 405 and "join" in error.message


def test_m2_a_lease_is_for_one_room() -> None:
    http = World().http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    assert http.refused("join", roomId="project_1", roomType="project", sessionId=session).code == "SESSION_REQUIRED"
    assert http.call("join", roomId="project_1", roomType="project")["sessionId"] != session


def test_m2_c11_leases_count_as_sessions_and_give_way_to_a_socket() -> None:
    world = World(max_sessions_per_user=2)
    http, bob = world.http("ann"), world.person("bob")
    http.call("join", **ROOM, roomType="video", clientKey="a")
    world.sleep(1.0)
    http.call("join", **ROOM, roomType="video", clientKey="b")
    error = http.refused("join", **ROOM, roomType="video", clientKey="c")
    assert error.code == "TOO_MANY_SESSIONS"
    world.sleep(1.0)
    http.call("heartbeat", **ROOM, clientKey="a")  # now b ends first
    bob.take()
    tab = world.person("ann")
    assert tab.closed is None and [event["data"]["reason"] for event in bob.take("user_left")] == ["timeout"]
    assert http.refused("updateCursor", **ROOM, timestamp=1, clientKey="b").code == "NOT_IN_ROOM"
    http.call("updateCursor", **ROOM, timestamp=1, clientKey="a")
    tab.hang_up(1006)  # it may return, and no program takes its place
    assert http.refused("join", **ROOM, roomType="video", clientKey="c").code == "TOO_MANY_SESSIONS"
    assert world.client().auth("ann", resumeToken=tab.resume_token).last("authenticated")["resumed"] is True


def test_m2_c10_rooms_of_leases_count_as_rooms() -> None:
    world = World(max_rooms_per_user=2)
    http = world.http("ann")
    for number in (1, 2):
        http.call("join", roomId=f"video_{number}", roomType="video")
    assert http.refused("join", roomId="video_3", roomType="video").code == "TOO_MANY_ROOMS"
    assert len(world.shard.users["ann"].sessions) == 2
    tab = world.client().auth("ann").join("video_3")
    assert tab.last("error")["code"] == "TOO_MANY_ROOMS"
    http.call("leave", roomId="video_1")
    http.call("join", roomId="video_3", roomType="video")


def test_m2_c6_a_full_room_is_full_for_leases_and_leaves_nothing_behind() -> None:
    world = World(max_users_per_room=1)
    http = world.http("ann")
    http.call("join", **ROOM, roomType="video")
    assert world.client().auth("bob").join().last("error")["code"] == "ROOM_FULL"
    assert world.http("carl").refused("join", **ROOM, roomType="video").code == "ROOM_FULL"
    world.sleep(0.1)
    assert set(world.shard.users) == {"ann", "bob"}


def test_m2_a_lease_cannot_have_control() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    error = http.refused("requestControl", **ROOM)
    assert error.code == "FORBIDDEN" and "WebSocket" in error.message
    bob.send(type="control_request", roomId="video_123")
    bob.send(type="control_grant", roomId="video_123", data={"toUserId": "ann"}, id=1)
    assert bob.last("error")["code"] == "TARGET_NOT_IN_ROOM"
    tab = world.person("ann")
    bob.send(type="control_grant", roomId="video_123", data={"toUserId": "ann"}, id=2)
    assert bob.last("control_granted")["data"]["controllerSessionId"] == tab.session_id
    http.call("syncPlayback", **ROOM, sessionId=session, action="play")  # it belongs to the controller's user
    assert bob.last("playback_synced")["sessionId"] == session
    assert world.shard.rooms["video_123"].control.session_id == tab.session_id
    tab.hang_up()
    assert bob.last("control_released")["data"]["reason"] == "left"  # not passed on to the lease


def test_m2_a_lease_counts_no_viewer_until_it_reports() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    bob.send(type="playback", roomId="video_123", data={"action": "sync", **ALL_THREE})
    bob.send(type="playback", roomId="video_123", data={"action": "report", **ALL_THREE})
    assert bob.last("viewer_sync")["data"]["total"] == 1
    http.call("syncPlayback", **ROOM, sessionId=session, action="report", **ALL_THREE)
    assert bob.last("viewer_sync")["data"]["total"] == 2


def test_k_an_invisible_lease_is_not_visible_to_others_and_returns() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    answer = http.call("join", **ROOM, roomType="video", privacy={"invisible": True})
    assert bob.take() == [] and answer["room"]["userCount"] == 1
    assert http.refused("broadcast", **ROOM, data={"a": 1}).code == "INVISIBLE"
    http.call("updateCursor", **ROOM, timestamp=1)
    assert bob.take() == []
    http.call("setPrivacy", invisible=False)
    assert types(bob) == ["user_joined"]
    http.call("setPrivacy", sessionId=answer["sessionId"], invisible=True)
    assert types(bob) == ["user_left"]


def test_k1_presence_that_is_switched_off_is_so_for_leases() -> None:
    world = World()
    bob = world.person("bob")
    world.verifier.presence = False
    http = world.http("ann")
    http.call("join", **ROOM, roomType="video")
    assert bob.take() == []
    assert http.refused("setPrivacy", invisible=False).code == "FORBIDDEN"
    world.verifier.presence = True
    world.http("ann").call("join", **ROOM, roomType="video")  # a renewal with a token that has switched it on again
    assert types(bob) == ["user_joined"]


# --- leave [M3] ---------------------------------------------------------------------------------------------------


def test_m3_without_a_session_the_lease_leaves_then_the_only_session() -> None:
    world = World()
    bob, tab, http = world.person("bob"), world.person("ann"), world.http("ann")
    lease = http.call("join", **ROOM, roomType="video")["sessionId"]
    bob.take()
    assert http.call("leave", **ROOM) == {"success": True, "left": 1}
    assert bob.take("user_left")[0]["sessionId"] == lease
    assert http.call("leave", **ROOM) == {"success": True, "left": 1}
    assert bob.take("user_left")[0]["sessionId"] == tab.session_id
    assert http.refused("leave", **ROOM).code == "SESSION_REQUIRED"


def test_m3_several_sessions_have_to_be_named_or_all_leave() -> None:
    world = World()
    bob, http = world.person("bob"), world.http("ann")
    tabs = [world.person("ann"), world.person("ann")]
    bob.take()
    assert http.refused("leave", **ROOM).code == "SESSION_REQUIRED" and bob.take() == []
    http.call("join", **ROOM, roomType="video", clientKey="x")
    assert http.call("leave", **ROOM, all=True) == {"success": True, "left": 3}
    assert [event["data"]["sessionCount"] for event in bob.take("user_left")] == [2, 1, 0]
    assert all("left" in types(tab) for tab in tabs)
    assert http.call("leave", **ROOM, all=True) == {"success": True, "left": 0}
    assert world.http("nobody").call("leave", **ROOM, all=True) == {"success": True, "left": 0}


def test_m3_a_lease_that_has_ended_has_left() -> None:
    world = World()
    tab, http = world.person("ann"), world.http("ann")
    http.call("join", **ROOM, roomType="video", clientKey="x")
    world.sleep(45.0)
    tab.send(type="heartbeat", status="active")
    world.sleep(46.0)
    assert http.call("leave", **ROOM, clientKey="x") == {"success": True, "left": 0}
    assert tab.take("left") == []


# --- access, members and others -----------------------------------------------------------------------------------


def test_c14_getactive_shows_members_all_and_others_less(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, _, http = scene
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 3})
    ann.send(type="typing", roomId="video_123", data={"isTyping": True, "context": "reply"})
    rows = {row["userId"]: row for row in world.http("bob").call("getActive", **ROOM, roomType="video")["users"]}
    assert rows["ann"]["cursor"] == {"timestamp": 3.0} and rows["ann"]["typingContext"] == "reply"
    outside = world.http("carl").call("getActive", **ROOM, roomType="video")
    rows = {row["userId"]: row for row in outside["users"]}
    assert "cursor" not in rows["ann"] and "typingContext" not in rows["ann"] and outside["totalCount"] == 2
    assert set(outside) == {"users", "totalCount", "sessionCount"} == set(http.call("getActive", **ROOM))


def test_c13_getactive_of_a_room_that_is_not() -> None:
    answer = World().http("ann").call("getActive", roomId="video_nobody", roomType="video")
    assert answer == {"users": [], "totalCount": 0, "sessionCount": 0}


@pytest.mark.parametrize(
    "name", sorted(Procedures.KINDS.keys() - WITHOUT_A_ROOM - {"leave", "setStatus", "setPrivacy"})
)
def test_a6_what_the_token_does_not_open_is_forbidden_even_to_a_member(name: str) -> None:
    world = World(access=ClaimsAccess())
    ann = world.client().auth('ann:Ann:{"video_123":["join"]}').join()
    given = {key: value for key, value in INPUTS[name].items() if key != "roomId"}
    other = world.http('ann:Ann:{"video_9":["join"]}', ann.session_id)
    error = other.refused(name, **ROOM, **given)
    assert (
        error.code == "FORBIDDEN" and error.message == "This room is not open to you. Ask your application for access."
    )


def test_a6_a_lease_is_not_renewed_once_access_is_revoked_but_continues_while_access_cannot_be_checked() -> None:
    class Changing:
        grant = Grant(allow=True)

        def check(self, identity: Any, room_id: str, room_type: Any, **more: Any) -> Grant:
            return self.grant

    access = Changing()
    world = World(access=access)
    http = world.http("ann")
    http.call("join", **ROOM, roomType="video")
    access.grant = UNSURE
    assert http.call("heartbeat", **ROOM)["renewed"] == 1
    access.grant = NO
    assert http.refused("heartbeat", **ROOM).code == "FORBIDDEN"
    assert http.refused("heartbeat", roomId="").code == "INVALID_MESSAGE"


def test_m8_joins_have_the_rate_that_they_have_over_the_socket(scene: tuple[World, Client, Client, Http]) -> None:
    world, _, bob, _ = scene
    carl = world.http("carl")
    burst, hub = world.hub.limits.join_burst, world.hub  # counted by each worker

    def join(http: Http) -> Any:
        call = http.start("join", ROOM, hub=hub)
        world.settle()
        return call.error

    began, joins = world.now, 0
    while (error := join(carl)) is None and joins < 2 * burst:
        joins += 1
        carl.call("leave", **ROOM)
    assert error is not None and error.code == "RATE_LIMITED" and error.retry_after_ms <= 200
    assert burst <= joins <= burst + 1 + (world.now - began) * hub.limits.join_hz
    assert len(bob.take("user_joined")) == joins
    assert join(world.http("dora")) is None
    world.sleep(0.2)
    assert join(carl) is None


def test_m1_scopes_hold(scene: tuple[World, Client, Client, Http]) -> None:
    world = World(access=ClaimsAccess())
    ann = world.client().auth('ann:Ann:{"video_123":["join"]}').join()
    http = world.http('ann:Ann:{"video_123":["join"]}', ann.session_id)
    for name, more in (("broadcast", {"data": {}}), ("syncPlayback", {"action": "play"}), ("requestControl", {})):
        assert http.refused(name, **ROOM, **more).code == "FORBIDDEN"


EVERY_SCOPE, LOOKING_ON = '{"video_123":["join","control","broadcast","moderate"]}', '{"video_123":["join"]}'


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("broadcast", {"data": {}}),
        ("syncPlayback", {"action": "play"}),
        ("syncPlayback", {"action": "disable"}),
        ("requestControl", {}),
    ],
)
@pytest.mark.parametrize(
    ("session", "caller", "allowed"),
    [(EVERY_SCOPE, EVERY_SCOPE, True), (EVERY_SCOPE, LOOKING_ON, False), (LOOKING_ON, EVERY_SCOPE, False)],
)
def test_m1_a_call_acts_with_the_lesser_of_the_sessions_scopes_and_the_callers(
    name: str, more: dict[str, Any], session: str, caller: str, allowed: bool
) -> None:
    """A call needs the scope in the session's token and in the caller's. The caller's own token was verified, and then
    its scopes ignored."""
    world = World(access=ClaimsAccess())
    ann = world.client().auth(f"ann:Ann:{session}").join()
    http = world.http(f"ann:Ann:{caller}", ann.session_id)
    if allowed:
        assert http.call(name, **ROOM, **more)["success"] is True
    else:
        assert http.refused(name, **ROOM, **more).code in ("FORBIDDEN", "NOT_CONTROLLER")
    (member,) = world.shard.rooms["video_123"].members.values()
    may = session is EVERY_SCOPE
    assert (member.can_control, member.can_broadcast, member.moderator) == (may, may, may), "the session's are its own"


def without_presence(world: World, user: str, session: str = "") -> Http:
    world.verifier.presence = False
    try:
        return world.http(user, session)
    finally:
        world.verifier.presence = True


@pytest.mark.parametrize(
    ("name", "more", "code"),
    [
        ("updateCursor", {"timestamp": 1}, ""),
        ("updateSelection", {"startTime": 1, "endTime": 2}, ""),
        ("startTyping", {}, ""),
        ("stopTyping", {}, ""),
        ("syncPlayback", {"action": "report", "isPlaying": True, "currentTime": 1, "playbackRate": 1}, ""),
        ("syncPlayback", {"action": "resync"}, ""),
        ("syncPlayback", {"action": "play"}, "INVISIBLE"),
        ("syncPlayback", {"action": "disable"}, "INVISIBLE"),
        ("broadcast", {"data": {}}, "INVISIBLE"),
        ("requestControl", {}, "INVISIBLE"),
        ("releaseControl", {}, "INVISIBLE"),
        ("cancelControl", {}, "INVISIBLE"),
        ("grantControl", {"toUserId": "bob"}, "INVISIBLE"),
        ("denyControl", {"toUserId": "bob"}, "INVISIBLE"),
    ],
)
def test_q11_calls_without_presence_for_a_session_with_it_show_nothing(
    name: str, more: dict[str, Any], code: str
) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    http = without_presence(world, "ann", ann.session_id)
    for _ in range(3):  # more often than its budget allows, so that one would wait
        if code:
            assert http.refused(name, **ROOM, **more).code == code
        else:
            assert http.call(name, **ROOM, **more) == {"success": True}
    world.sleep(1)
    assert bob.take() == []
    assert http.refused("updateCursor", sessionId=bob.session_id, **ROOM, timestamp=1).code == "NOT_IN_ROOM"


def test_q11_a_caller_without_presence_makes_no_session_visible() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    other = world.person("eve", "video_2")
    ann.send(type="privacy", data={"invisible": True})
    bob.take()
    http = without_presence(world, "ann", ann.session_id)
    assert http.refused("setPrivacy", invisible=False).code == "FORBIDDEN"
    assert http.refused("setStatus", status="busy").code == "FORBIDDEN"
    assert http.refused("join", roomId="video_2", roomType="video").code == "FORBIDDEN"
    assert bob.take() == [] and other.take() == []
    assert http.call("leave", **ROOM) == {"success": True, "left": 1}


def test_q11_where_presence_is_off_for_all_sessions_a_status_is_kept_as_ever() -> None:
    world = World()
    world.verifier.presence = False
    ann = world.person("ann")
    assert world.http("ann", ann.session_id).call("setStatus", status="busy")["status"] == "busy"


def test_q11_a_heartbeat_without_presence_hides_a_lease_and_one_with_it_shows_it() -> None:
    world = World()
    bob = world.person("bob")
    world.http("ann").call("join", **ROOM, roomType="video")
    assert types(bob) == ["user_joined"]
    without_presence(world, "ann").call("heartbeat", **ROOM)
    assert types(bob) == ["user_left"]
    world.http("ann").call("heartbeat", **ROOM)
    assert types(bob) == ["user_joined"]


def test_c14_the_id_of_another_users_session_shows_nothing_of_it(
    scene: tuple[World, Client, Client, Http],
) -> None:
    """An id counts only once its user is known: this one showed the hidden cursor of a user in the grace period."""
    world, ann, bob, _ = scene
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 3})
    ann.hang_up(1006)
    world.sleep(1)
    rows = [
        {row["userId"]: row for row in world.http("bob", session).call("getActive", **ROOM)["users"]}
        for session in (ann.session_id, bob.session_id, "")
    ]
    assert rows[0]["ann"] == rows[1]["ann"] == rows[2]["ann"] and "cursor" not in rows[0]["ann"]


def test_a6_an_unverified_session_id_is_not_sent_to_the_application() -> None:
    told: list[str] = []

    class Listening:
        def check(self, identity: Any, room_id: str, room_type: Any, *, session_id: str = "", **more: Any) -> Grant:
            told.append(session_id)
            return Grant(allow=True)

    world = World(access=Listening())
    ann = world.client().auth("ann").join()
    world.http("mallory", ann.session_id).call("getActive", **ROOM)
    assert told == [ann.session_id, ""]


def test_a6_an_asynchronous_access_check_is_awaited_and_fails_closed() -> None:
    class Elsewhere:
        async def answer(self, room_id: str) -> Any:
            if room_id == "video_broken":
                raise RuntimeError("the back end is down")
            return ClaimsAccess().check(world.http('ann:Ann:{"*":["join"]}').identity, room_id, None)

        def check(self, identity: Any, room_id: str, room_type: Any, **more: Any) -> Any:
            return self.answer(room_id)

    world = World(access=Elsewhere())
    http = world.http("ann")
    assert http.call("join", **ROOM, roomType="video")["room"]["userCount"] == 1
    error = http.refused("join", roomId="video_broken", roomType="video")
    assert error.code == "FORBIDDEN" and "Try again" in error.message


def test_c1_the_type_is_checked_as_over_the_socket() -> None:
    http = World().http("ann")
    assert http.refused("join", **ROOM, roomType="project").code == "ROOM_TYPE_MISMATCH"
    assert http.refused("join", roomId="thing", roomType=UNSET).code == "INVALID_MESSAGE"
    http.call("join", roomId="thing", roomType="project")
    assert World().http("ann").refused("join", roomId="a\u0000b", roomType="video").code == "INVALID_MESSAGE"


# --- control, playback, broadcast ---------------------------------------------------------------------------------


def test_i_control_by_http(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, bob, http = scene
    other = world.http("bob", bob.session_id)
    assert http.call("requestControl", **ROOM) == {"success": True, "granted": True, "controller": "ann"}
    assert other.call("requestControl", **ROOM) == {"success": True, "granted": False, "controller": "ann"}
    assert ann.take("control_requested")[0]["data"] == {"requesterName": "Bob"}
    assert other.refused("grantControl", **ROOM, toUserId="bob").code == "NOT_CONTROLLER"
    assert http.call("denyControl", **ROOM, toUserId="bob") == {"success": True}
    assert bob.take("control_denied")[0]["data"] == {"toUserId": "bob", "reason": "denied"}
    assert http.refused("denyControl", **ROOM, data={"toUserId": "bob"}).code == "TARGET_NOT_IN_ROOM"
    assert http.call("grantControl", **ROOM, data={"toUserId": "bob"}) == {"success": True, "controller": "bob"}
    http.call("requestControl", **ROOM)
    assert http.call("cancelControl", **ROOM) == {"success": True}
    assert http.refused("releaseControl", **ROOM).code == "NOT_CONTROLLER"
    assert other.call("releaseControl", **ROOM) == {"success": True}
    assert bob.take("control_released")[0]["data"]["reason"] == "released"


def test_m5_syncplayback_answers_the_state_and_a_refusal_has_it_too(scene: tuple[World, Client, Client, Http]) -> None:
    world, _, bob, http = scene
    answer = http.call("syncPlayback", **ROOM, data={"action": "seek", "currentTime": 12})
    assert answer["success"] is True and answer["currentTime"] == 12.0 and answer["version"] == 1
    assert set(answer) == {"success", "isPlaying", "currentTime", "playbackRate", "anchor", "version"}
    http.call("requestControl", **ROOM)
    error = world.http("bob", bob.session_id).refused("syncPlayback", **ROOM, action="play")
    assert error.code == "NOT_CONTROLLER" and error.state["currentTime"] == 12.0
    error = http.refused("syncPlayback", **ROOM, action="play", baseVersion=99)
    assert error.code == "STALE" and error.state["version"] == 1 and ERRORS["STALE"].http_status == 409


def test_h14_syncplayback_names_its_session(scene: tuple[World, Client, Client, Http]) -> None:
    world = scene[0]
    assert world.http("ann").refused("syncPlayback", **ROOM, action="play").code == "SESSION_REQUIRED"


def test_j_broadcast_counts_its_receivers_and_keeps_every_character(scene: tuple[World, Client, Client, Http]) -> None:
    _, _, bob, http = scene
    data = {"type": "reaction", "emoji": "👍", "family": "👨‍👩‍👧", "timestamp": 15.5, "deep": {"list": [1, None]}}
    assert http.call("broadcast", **ROOM, data=data) == {"success": True, "delivered": 1}
    assert bob.take("broadcast")[0]["data"] == data
    assert http.call("broadcast", **ROOM, data=data, to=["nobody"])["delivered"] == 0
    assert http.refused("broadcast", **ROOM, data={"a": "x" * 9000}).code == "TOO_LARGE"
    assert http.refused("broadcast", **ROOM, data={"__proto__": {}}).code == "INVALID_DATA"
    assert http.refused("broadcast", **ROOM, data=[1]).code == "INVALID_DATA"
    assert http.refused("broadcast", **ROOM).code == "INVALID_DATA"


def test_setstatus_is_the_users_and_needs_a_session_only_to_be_somewhere() -> None:
    world = World()
    bob, ann = world.person("bob"), world.person("ann")
    bob.take()
    http = world.http("ann")
    assert http.call("setStatus", status="reviewing") == {"success": True, "status": "reviewing", "statusMessage": ""}
    assert bob.take("status_changed")[0]["data"]["status"] == "reviewing"
    assert ann.take("status_changed") != []
    assert world.http("nobody").refused("setStatus", status="busy").code == "SESSION_REQUIRED"
    answer = http.call("setStatus", data={"status": "active", "statusMessage": "hi"})
    assert answer == {"success": True, "status": "active", "statusMessage": "hi"}


def test_k6_privacy_of_one_session_or_of_all(scene: tuple[World, Client, Client, Http]) -> None:
    world, ann, bob, http = scene
    tab = world.person("ann")
    bob.take()
    unnamed = world.http("ann")
    assert unnamed.refused("setPrivacy", invisible=True).code == "SESSION_REQUIRED"
    answer = http.call("setPrivacy", shareCursor=False)
    assert answer == {"success": True, "invisible": False, "shareCursor": False, "shareSelection": True}
    unnamed.call("setPrivacy", invisible=True, scope="user")
    assert [event["sessionId"] for event in bob.take("user_left")] == [ann.session_id, tab.session_id]
    assert ann.session.record().invisible and tab.session.record().invisible  # their edges have it, for the next owner


# --- limits [M8] --------------------------------------------------------------------------------------------------


def test_m8_socket_and_http_share_one_budget(scene: tuple[World, Client, Client, Http]) -> None:
    _, ann, bob, http = scene
    for _ in range(10):
        ann.post(type="broadcast", roomId="video_123", data={"n": 1})
    for _ in range(10):
        http.call("broadcast", **ROOM, data={"n": 2})
    errors = []
    for _ in range(3):
        started = http.start("broadcast", **ROOM, data={"n": 3})
        ann.world.settle()
        errors.append(started.error)
    refused = [error for error in errors if error is not None]
    assert refused and all(error.code == "RATE_LIMITED" and error.retry_after_ms for error in refused)
    assert len(bob.of("broadcast")) <= 22


def test_m8_cursors_over_the_rate_are_merged_and_succeed(scene: tuple[World, Client, Client, Http]) -> None:
    world, _, bob, http = scene
    for number in range(12):
        assert http.call("updateCursor", **ROOM, timestamp=number) == {"success": True}
    world.sleep(0.2)
    shown = [event["data"]["timestamp"] for event in bob.take("cursor_moved")]
    assert shown[-1] == 11.0 and len(shown) < 8


def test_m8_status_has_a_budget_per_user() -> None:
    world = World()
    world.person("ann")
    http = world.http("ann")
    for _ in range(4):
        http.call("setStatus", status="busy")
    error = http.refused("setStatus", status="away")
    assert error.code == "RATE_LIMITED" and error.retry_after_ms is not None and error.retry_after_ms <= 500
    world.sleep(0.5)
    http.call("setStatus", status="away")


@pytest.mark.one_worker
def test_l3_one_user_cannot_flood_the_owners() -> None:
    world = World()
    http, other = world.http("ann"), world.http("bob")
    started = [http.start("heartbeat") for _ in range(int(CALL_BURST) + 20)]
    world.settle()
    codes = [each.error.code for each in started if each.error is not None]
    assert codes.count("RATE_LIMITED") == 20 and codes.count("METHOD_NOT_SUPPORTED") == CALL_BURST, "nothing to renew"
    other.call("getActive", **ROOM)
    world.sleep(2.0)
    again = [http.start("heartbeat") for _ in range(int(CALL_BURST))]
    world.settle()
    assert {each.error.code for each in again if each.error is not None} == {"METHOD_NOT_SUPPORTED"}
    for number in range(900):  # for 5.4 s
        world.http(f"user{number}").call("getActive", **ROOM)
    assert len(world.hub.procedures._calls) < 800  # entries of ended users are dropped


# --- wrong inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input", [[], "text", 7, True, [ROOM]], ids=str)
@pytest.mark.parametrize("name", ["join", "updateCursor", "heartbeat"])
def test_an_input_is_an_object(name: str, input: Any) -> None:
    assert World().http("ann").refused(name, input).code == "INVALID_MESSAGE"


@pytest.mark.parametrize(
    "name", sorted(Procedures.KINDS.keys() - WITHOUT_A_ROOM - {"heartbeat", "setStatus", "setPrivacy"})
)
@pytest.mark.parametrize("room", [None, "", 7, "x" * 129, UNSET], ids=str)
def test_a_room_id_is_needed(name: str, room: Any) -> None:
    fields = {"data": {}} if room is UNSET else {"roomId": room, "data": {}}
    error = World().http("ann").refused(name, fields)
    assert ERRORS[error.code].http_status == 400 and "roomId" in error.message


@pytest.mark.parametrize(
    ("name", "more", "code"),
    [
        ("updateCursor", {}, "INVALID_DATA"),
        ("updateCursor", {"x": 0.5, "timestamp": 1}, "INVALID_DATA"),
        ("updateCursor", {"x": 1.5, "y": 0, "timestamp": 1}, "INVALID_DATA"),
        ("updateCursor", {"timestamp": True}, "INVALID_DATA"),
        ("updateCursor", {"timestamp": 1, "data": {"timestamp": 2}}, "INVALID_MESSAGE"),
        ("updateCursor", {"timestamp": 1, "data": None}, "INVALID_MESSAGE"),
        ("updateSelection", {"startTime": 2, "endTime": 1}, "INVALID_DATA"),
        ("setStatus", {"status": "asleep"}, "INVALID_DATA"),
        ("setStatus", {"status": "busy", "statusMessage": "👍" * 51}, "INVALID_DATA"),
        ("syncPlayback", {"action": "seek"}, "INVALID_DATA"),
        ("syncPlayback", {}, "INVALID_DATA"),
        ("syncPlayback", {"currentTime": 4}, "INVALID_DATA"),
        ("startTyping", {"context": "x" * 65}, "INVALID_DATA"),
        ("startTyping", {"data": 5}, "INVALID_DATA"),
        ("grantControl", {}, "INVALID_DATA"),
        ("join", {"roomType": "cinema"}, "INVALID_MESSAGE"),
        ("join", {"roomType": "video", "clientKey": ""}, "INVALID_MESSAGE"),
        ("join", {"roomType": "video", "sessionId": 5}, "INVALID_MESSAGE"),
        ("join", {"roomType": "video", "privacy": {"invisible": 1}}, "INVALID_MESSAGE"),
        ("leave", {"all": "yes"}, "INVALID_MESSAGE"),
        ("heartbeat", {"status": "busy"}, "INVALID_MESSAGE"),
        ("setPrivacy", {"scope": "world"}, "INVALID_DATA"),
    ],
)
def test_b_wrong_fields_are_reported_and_change_nothing(
    scene: tuple[World, Client, Client, Http], name: str, more: dict[str, Any], code: str
) -> None:
    _, _, bob, http = scene
    error = http.refused(name, **ROOM, **more)
    assert error.code == code and error.message.endswith((".", "values"))
    assert bob.take() == []


def test_b3_the_same_twice_is_fine_and_unknown_fields_are_ignored(scene: tuple[World, Client, Client, Http]) -> None:
    _, _, bob, http = scene
    http.call("updateCursor", **ROOM, timestamp=1, x=0.5, y=0.5, data={"timestamp": 1}, id=5, colour="red")
    assert bob.take("cursor_moved")[0]["data"]["x"] == 0.5
    http.call("updateCursor", **ROOM, data=None)  # hides it [E3]
    assert bob.take("cursor_moved")[0]["data"]["hidden"] is True
    http.call("startTyping", **ROOM, data={"isTyping": False})  # the procedure's name decides [M7]
    http.call("stopTyping", **ROOM)
    assert types(bob) == ["typing_started", "typing_stopped"]


def test_every_procedure_has_a_shape_or_an_input_of_its_own() -> None:
    assert set(SHAPES) | {"leave", "heartbeat"} == set(Procedures.KINDS)
    with pytest.raises(KeyError):
        World().http("ann").call("dance")


# --- other workers [M9, N-b] --------------------------------------------------------------------------------------


def cluster() -> World:
    return World(workers=4)


@pytest.mark.one_worker
@pytest.mark.parametrize("lost", ["the room's owner", "the user's owner", "both"])
def test_m2_a_lease_outlives_its_owners_with_the_time_it_had(lost: str) -> None:
    world = cluster()
    http = world.http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    http.call("setStatus", status="busy")
    world.sleep(30.0)
    if lost != "the user's owner":
        world.kill(world.owner_of(room_id="video_123"))
    if lost != "the room's owner":
        world.kill(world.owner_of(user_id="ann"))
    bob = world.client().auth("bob").join()
    (row,) = [row for row in bob.last("joined")["room"]["users"] if row["userId"] == "ann"]
    assert row["sessionId"] == session and row["connected"] and row["transport"] == "http" and row["status"] == "busy"
    world.sleep(58.0)
    assert bob.of("user_left") == []
    http.call("updateCursor", **ROOM, sessionId=session, timestamp=1)
    world.sleep(2.2)
    assert bob.last("user_left")["data"] == {"reason": "timeout", "sessionCount": 0}
    assert "ann" not in world.shard.users


@pytest.mark.one_worker
def test_m2_a_lease_is_renewed_after_its_owners_are_gone() -> None:
    world = cluster()
    http = world.http("ann")
    http.call("join", **ROOM, roomType="video")
    world.kill(world.owner_of(user_id="ann"))
    world.sleep(80.0)
    assert http.call("heartbeat")["renewed"] == 1
    world.kill(world.owner_of(room_id="video_123"))
    world.sleep(80.0)
    assert http.call("getActive", **ROOM)["totalCount"] == 1
    assert http.call("leave", **ROOM)["left"] == 1


@pytest.mark.one_worker
def test_m2_a_users_owner_without_a_lease_restores_it_from_the_room() -> None:
    world = cluster()
    http = world.http("ann")
    session = http.call("join", **ROOM, roomType="video")["sessionId"]
    for node in world.nodes.values():
        node.bus.replicas.users.clear()  # type: ignore[union-attr]
    owner = world.owner_of(user_id="ann")
    if "video_123" in owner.shard.rooms:
        world.kill(world.owner_of(room_id="video_123"))
        http.call("join", **ROOM, roomType="video")
    else:
        world.kill(owner)
    assert list(world.shard.users["ann"].sessions) == [session]
    assert http.call("heartbeat", sessionId=session)["renewed"] == 1


@pytest.mark.one_worker
@pytest.mark.parametrize("name", ["join", "getActive", "setStatus", "leave"])
def test_m9_a_call_whose_owner_dies_meanwhile_is_answered_by_the_next(name: str) -> None:
    world = cluster()
    world.person("ann")
    edge = next(node for node in world.nodes.values() if not node.shard.rooms and not node.shard.users)
    more = {"join": {"roomType": "video"}, "setStatus": {"status": "busy"}, "leave": {"all": True}}.get(name, {})
    owner = world.owner_of(room_id="video_123", user_id="" if name == "getActive" else "ann")
    if name in ("join", "setStatus", "leave"):
        owner = world.owner_of(user_id="ann")
    owner.stopped = []  # it hangs, and is found dead
    started = world.http("ann").start(name, **ROOM, **more, hub=edge.hub)
    world.sleep(0.3)
    assert not started.done
    world.kill(owner)
    world.sleep(0.5)
    assert started.done and started.error is None and started.result is not None


@pytest.mark.one_worker
def test_m9_an_unanswered_call_fails_after_5_s() -> None:
    world = cluster()
    ann = world.person("ann")
    owner = world.owner_of(room_id="video_123")
    edge = next(node for node in world.nodes.values() if node is not owner)
    owner.stopped = []
    started = world.http("ann").start("broadcast", **ROOM, data={"a": 1}, sessionId=ann.session_id, hub=edge.hub)
    world.sleep(REQUEST_TIMEOUT_S - 0.1)
    assert not started.done and len(edge.hub.calls) == 1
    world.sleep(0.2)
    assert started.error is not None and started.error.code == "UNAVAILABLE" and len(edge.hub.calls) == 0
    assert ERRORS["UNAVAILABLE"].http_status == 503
    owner.go_on()  # the late answer has no effect
    world.sleep(0.1)


@pytest.mark.one_worker
def test_m9_a_cancelled_call_is_removed() -> None:
    world = cluster()
    owner_hung = world.person("ann") and world.owner_of(room_id="video_123")
    edge = next(node for node in world.nodes.values() if node is not owner_hung)
    owner_hung.stopped = []
    started = world.http("ann").start("getActive", **ROOM, hub=edge.hub)
    world.sleep(0.1)
    started.task.cancel()
    world.sleep(0.1)
    assert len(edge.hub.calls) == 0
    owner_hung.go_on()
    world.sleep(0.1)
    stopped = world.http("ann").start("getActive", **ROOM, hub=edge.hub)
    owner_hung.stopped = []
    world.sleep(0.0)
    edge.hub.stop()
    world.sleep(0.0)
    assert stopped.done


@pytest.mark.one_worker
def test_a_join_brings_the_room_a_status_that_it_missed() -> None:
    world = World()
    bob, ann = world.person("bob"), world.person("ann")
    world.shard.users["ann"].status_message = "as if the word of it had been lost with a worker"
    bob.take()
    ann.join()
    assert bob.take("status_changed")[0]["data"]["statusMessage"].startswith("as if")
    world.shard.users["ann"].status_message = "once more"
    tab = world.person("ann")
    events = bob.take()
    assert [event["type"] for event in events] == ["status_changed", "user_joined"]
    assert events[0]["sessionId"] == ann.session_id != tab.session_id


@pytest.mark.one_worker
def test_a_manual_status_outlives_the_users_owner_after_queries_of_the_room() -> None:
    """A query of a room does not change the replicas of users. Rooms' owners wrote empty replicas of users that they do
    not own to the users' backup owners."""
    world = cluster()
    for number in range(40):
        world.client().auth(f"user{number}").join(f"video_{number}")
        world.http(f"user{number}").call("setStatus", status="busy")
        world.http(f"user{number}").call("getActive", roomId=f"video_{number}")
    world.kill(next(node for node in world.nodes.values() if len(node.shard.users) > 4))
    world.sleep(6.0)
    here = [user for user in world.shard.users.values() if any(each.connected for each in user.sessions.values())]
    assert len(here) > 20 and {user.profile.status for user in here} == {"busy"}


@pytest.mark.parametrize("fields", [{}, ROOM, {"named": True}])
def test_a6_every_renewal_of_a_lease_checks_access(fields: dict[str, Any]) -> None:
    """Every renewal of a lease checks access. Heartbeats without roomId renewed a lease for ever, whatever the
    application answered."""
    closed: set[str] = set()

    class Closing:
        def check(self, identity: Any, room_id: str, room_type: Any, **more: Any) -> Grant:
            return NO if room_id in closed else Grant(allow=True)

    world = World(access=Closing())
    http = world.http("ann")
    session_id = http.call("join", **ROOM, roomType="video")["sessionId"]
    http.call("join", roomId="video_2", roomType="video")
    fields = {"sessionId": session_id} if "named" in fields else fields
    assert http.call("heartbeat")["renewed"] == 2
    closed.add("video_123")
    if fields:
        assert http.refused("heartbeat", **fields).code == "FORBIDDEN"
    else:
        assert http.call("heartbeat")["renewed"] == 1, "the one in the other room"
    if fields != ROOM:
        assert http.call("heartbeat")["renewed"] == 1
        assert [room for room, it in world.shard.rooms.items() if it.members] == ["video_2"], "and its lease has ended"


@pytest.mark.parametrize("workers", [1, 4])
def test_m8_getactive_is_bounded_per_user_and_not_per_user_and_worker(workers: int) -> None:
    world = World(workers=workers)
    ann, began, looks = world.http("ann"), world.now, 0
    while looks < 1000:
        call = ann.start("getActive", ROOM)
        world.settle()
        if call.error is not None:
            break
        looks += 1
    limits = world.hub.limits
    assert call.error is not None and call.error.code == "RATE_LIMITED" and call.error.retry_after_ms <= 200
    assert limits.join_burst <= looks <= limits.join_burst + 1 + (world.now - began) * limits.join_hz
    assert world.http("bob").call("getActive", **ROOM)["totalCount"] == 0
