"""Decisions P: the presence object of a session in a room."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koko_presence.rooms.presence_object import PresenceObject
from tests.world import Client, World

ROOM = "video_123"


def patch(data: Any, **more: Any) -> dict[str, Any]:
    return {"type": "presence", "roomId": ROOM, "data": data, **more}


def changes(client: Client) -> list[dict[str, Any]]:
    """Return the data of the new `presence_changed` events of a client."""
    return [event["data"] for event in client.take("presence_changed")]


def row_of(client: Client, session_id: str) -> dict[str, Any]:
    client.send(type="get_active", roomId=ROOM)
    return next(row for row in client.last("active")["users"] if row["sessionId"] == session_id)


def merged(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an object to which patches were applied."""
    whole: dict[str, Any] = {}
    for each in objects:
        whole = {key: value for key, value in (whole | each).items() if value is not None}
    return whole


def test_p1_the_object_is_in_rows_and_snapshots_while_it_is_not_empty(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    assert "presence" not in row_of(bob, ann.session_id)
    ann.send(patch({"tool": "pen", "at": {"x": 1, "none": None}}))
    assert row_of(bob, ann.session_id)["presence"] == {"tool": "pen", "at": {"x": 1, "none": None}}
    cat = ann.world.client().auth("cat").join(ROOM)
    rows = {row["userId"]: row for row in cat.last("joined")["room"]["users"]}
    assert rows["ann"]["presence"] == {"tool": "pen", "at": {"x": 1, "none": None}} and "presence" not in rows["bob"]
    ann.send(patch(None))
    assert "presence" not in row_of(bob, ann.session_id)


def test_p1_a_session_that_is_not_in_the_room_does_not_get_it(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(patch({"tool": "pen"}))
    outside = ann.world.client().auth("eve")
    assert "presence" not in row_of(outside, ann.session_id)


def test_p1_each_session_and_each_room_has_its_own() -> None:
    world = World()
    tabs = [world.person("ann"), world.person("ann")]
    bob = world.person("bob")
    tabs[0].join("video_456")
    for number, tab in enumerate(tabs):
        tab.send(patch({"n": number}))
        world.sleep(0.1)
    tabs[0].send(patch({"n": "other room"}) | {"roomId": "video_456"})
    assert [row_of(bob, tab.session_id)["presence"] for tab in tabs] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize(
    ("before", "sent", "event", "after"),
    [
        ({"a": 1}, {"b": 2}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": None, "c": None}, {"a": None}, {"b": 2}),
        ({"a": 1, "b": 2}, None, {"a": None, "b": None}, {}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"y": 2}}, {"a": {"y": 2}}),
        ({"a": 1}, {"a": True}, {"a": True}, {"a": True}),
        ({"a": 1}, {"a": 1}, None, {"a": 1}),
        ({"a": 1}, {}, None, {"a": 1}),
        ({}, None, None, {}),
    ],
)
def test_p2_a_patch_merges_at_the_top_level(
    pair: tuple[Client, Client], before: Any, sent: Any, event: Any, after: Any
) -> None:
    ann, bob = pair
    ann.send(patch(before))
    ann.world.sleep(0.2)
    bob.take()
    ann.send(patch(sent, id=1))
    assert changes(bob) == ([] if event is None else [event])
    assert ann.last("ack") == {"type": "ack", "id": 1, "success": True, "presence": after}


def test_p2_the_event_goes_to_all_but_the_session_itself() -> None:
    world = World()
    ann, other, bob = world.person("ann"), world.person("ann"), world.person("bob")
    ann.take()
    ann.send(patch({"tool": "pen"}))
    (event,) = bob.take("presence_changed")
    assert event["sessionId"] == ann.session_id and event["userId"] == "ann" and event["seq"] > 0
    assert changes(other) == [{"tool": "pen"}] and changes(ann) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 0.12),
            st.one_of(
                st.none(),
                st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3)), max_size=3),
            ),
        ),
        min_size=1,
        max_size=80,
    )
)
def test_p2_20_a_second_and_what_waits_is_merged_key_by_key(steps: list[tuple[float, Any]]) -> None:
    """The applied events are the object after each of them, never more than 21 arrive in a second, and once all is
    quiet the others have exactly what the session has set."""
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    arrivals, own, seen = [], {}, {}
    for gap, data in [*steps, (0.2, {})]:
        ann.post(patch(data))
        own = {} if data is None else merged([own, data])
        for _ in range(round(gap * 1000)):
            world.sleep(0.001)
            for event in bob.take("presence_changed"):
                arrivals.append(world.now)
                assert event["data"], "an event that changes nothing"
                seen = merged([seen, event["data"]])
    assert seen == own == row_of(bob, ann.session_id).get("presence", {})
    for start in range(len(arrivals) - 21):
        assert arrivals[start + 21] - arrivals[start] > 0.985


def test_p2_tabs_share_the_rate_of_their_user() -> None:
    world = World()
    bob = world.person("bob")
    tabs = [world.person("ann") for _ in range(3)]
    bob.take()
    for number in range(100):
        for tab in tabs:
            tab.post(patch({"n": number}))
        world.sleep(0.01)
    world.sleep(0.3)
    assert 19 <= len(changes(bob)) <= 27
    assert [row_of(bob, tab.session_id)["presence"] for tab in tabs] == [{"n": 99}] * 3


def test_p2_a_join_brings_the_object_so_that_there_is_no_moment_without() -> None:
    world = World()
    bob = world.person("bob")
    ann = world.client().auth("ann")
    ann.send(type="join", roomId=ROOM, roomType="video", presence={"tool": "pen", "no": None})
    (joined,) = bob.take("user_joined")
    assert joined["data"]["presence"] == {"tool": "pen"} and changes(bob) == []
    own = next(row for row in ann.last("joined")["room"]["users"] if row["userId"] == "ann")
    assert own["presence"] == {"tool": "pen"}
    eve = world.client().auth("eve")
    eve.send(type="join", roomId=ROOM, roomType="video", data={"presence": {"tool": "hand"}})
    assert bob.take("user_joined")[0]["data"]["presence"] == {"tool": "hand"}


def test_p2_a_member_that_joins_again_keeps_its_object(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(patch({"tool": "pen"}))
    bob.take()
    ann.send(type="join", roomId=ROOM, roomType="video", presence={"tool": "hand"})
    own = next(row for row in ann.last("joined")["room"]["users"] if row["userId"] == "ann")
    assert own["presence"] == {"tool": "pen"} and bob.take() == []


def test_p2_what_is_sent_during_a_join_is_applied_after_it() -> None:
    world = World()
    bob = world.person("bob")
    ann = world.client().auth("ann")
    ann.post(type="join", roomId=ROOM, roomType="video", presence={"a": 1, "b": 1})
    ann.post(patch({"b": 2}, id=1))
    world.sleep(0.2)
    assert row_of(bob, ann.session_id)["presence"] == {"a": 1, "b": 2} == ann.last("ack")["presence"]


def test_p2_the_connection_rate_loses_no_change(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(150):
        ann.post(patch({"n": number}))
    ann.world.sleep(0.2)
    assert row_of(bob, ann.session_id)["presence"] == {"n": 149} and ann.take("error") == []


def test_d12_a_change_is_no_interaction(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    before = row_of(bob, ann.session_id)["lastActiveAt"]
    ann.world.sleep(5.0)
    ann.send(patch({"n": 1}))
    assert row_of(bob, ann.session_id)["lastActiveAt"] == before


# --- P3: its life


@pytest.mark.parametrize("code", [1000, 1006])
def test_p3_it_survives_a_resume_and_ends_with_the_membership(pair: tuple[Client, Client], code: int) -> None:
    ann, bob = pair
    ann.send(patch({"tool": "pen"}))
    session_id, token = ann.session_id, ann.resume_token
    ann.hang_up(code)
    if code == 1006:
        assert row_of(bob, session_id)["presence"] == {"tool": "pen"}, "the place is kept, with what it shows"
    back = ann.world.client().auth("ann", resumeToken=token).join(ROOM)
    rows = {row["userId"]: row for row in back.last("joined")["room"]["users"]}
    assert rows["ann"].get("presence") == ({"tool": "pen"} if code == 1006 else None)


def test_p3_a_change_that_waits_is_shown_when_the_connection_is_lost(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(4):
        ann.post(patch({"n": number}))
    ann.hang_up(1006)
    assert merged(changes(bob)) == {"n": 3} == row_of(bob, ann.session_id)["presence"]


def test_p3_leaving_and_joining_again_begins_without_it(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(patch({"tool": "pen"}))
    ann.send(type="leave", roomId=ROOM)
    ann.join(ROOM)
    assert "presence" not in row_of(bob, ann.session_id)


def test_p3_an_invisible_session_keeps_it_and_shows_it_on_return(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    tab = ann.world.person("ann")
    ann.send(patch({"tool": "pen", "n": 1}))
    bob.take()
    tab.take()
    ann.send(type="privacy", data={"invisible": True})
    ann.world.sleep(0.1)
    assert [event["type"] for event in bob.take()] == ["user_left"]
    tab.take()
    ann.send(patch({"n": 2}, id=1))
    assert ann.last("ack")["presence"] == {"tool": "pen", "n": 2}
    assert bob.take() == [] and changes(tab) == [{"n": 2}], "the user's other sessions see it"
    assert row_of(tab, ann.session_id)["presence"] == {"tool": "pen", "n": 2}
    bob.take()
    ann.send(type="privacy", data={"invisible": False})
    ann.world.sleep(0.1)
    (joined,) = (event for event in bob.take() if event["type"] == "user_joined")
    assert joined["data"]["presence"] == {"tool": "pen", "n": 2} == row_of(bob, ann.session_id)["presence"]


def test_p3_what_waits_when_a_session_becomes_invisible_is_not_shown_to_others(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(4):
        ann.post(patch({"n": number}))
    ann.send(type="privacy", data={"invisible": True})
    ann.world.sleep(0.2)
    events = bob.take()
    assert events[-1]["type"] == "user_left", "nothing follows"
    ann.send(type="privacy", data={"invisible": False})
    assert bob.take("user_joined")[0]["data"]["presence"] == {"n": 3}


def test_p3_a_join_as_an_invisible_session_shows_it_later() -> None:
    world = World()
    bob = world.person("bob")
    ann = world.client().auth("ann")
    ann.send(type="join", roomId=ROOM, roomType="video", presence={"n": 1}, privacy={"invisible": True})
    world.sleep(0.1)
    assert bob.take() == []
    ann.send(type="privacy", data={"invisible": False})
    assert bob.take("user_joined")[0]["data"]["presence"] == {"n": 1}


def apart() -> tuple[World, Client, Client]:
    """Return a world of four workers and two members, where the edge, the user's owner and the room's owner of the
    first are three workers."""
    for name in ("ann", "amy", "abe", "ada", "al", "art", "ava", "axel", "amos", "anna"):
        world = World(workers=4)
        for node in world.nodes.values():
            client = Client(world, node.hub).auth(name).join(ROOM)
            workers = {node.number, world.owner_of(user_id=name).number, world.owner_of(ROOM).number}
            if len(workers) == 3:
                return world, client, world.person("bob")
            client.hang_up(1000)
    raise AssertionError("no such user")


def delay(world: World, sender: int, receiver: int, seconds: float) -> None:
    world.link_delay_s = lambda *link: seconds if link == (sender, receiver) else 0.0


def test_p3_a_slow_tab_gets_a_change_of_an_invisible_session_after_its_earlier_ones() -> None:
    world = World()
    ann, tab = world.person("ann"), world.person("ann")
    ann.send(patch({"n": 1}))
    world.sleep(2.0)
    tab.unsent_bytes = 66 * 1024
    ann.send(patch({"n": 2}))
    world.sleep(0.5)
    ann.send(patch({"n": 3}))
    world.sleep(0.5)
    ann.send(type="privacy", data={"invisible": True})
    ann.send(patch({"n": 4}))
    world.sleep(0.5)
    tab.unsent_bytes = 0
    tab.session.on_writable()
    world.sleep(0.5)
    assert merged(changes(tab)) == {"n": 4} == row_of(tab, ann.session_id)["presence"]


@pytest.mark.one_worker
def test_k3_a_change_sent_while_invisible_is_not_shown_before_the_room_knows_of_that() -> None:
    """The room may get it before the change of privacy, which goes by way of the user's owner."""
    world, ann, bob = apart()
    room_owner = world.owner_of(ROOM).number
    delay(world, world.owner_of(user_id=ann.session.user_id).number, room_owner, 0.3)
    bob.take()
    for number in range(4):  # the last one waits for its budget
        ann.post(patch({"n": number}))
    ann.post(type="privacy", data={"invisible": True})
    ann.post(patch({"secret": 1}))
    world.sleep(0.15)
    member = world.shard.rooms[ROOM].members[ann.session_id]
    assert member.visible and member.presence.merged() == {"n": "3", "secret": "1"}
    assert merged(changes(bob)) == {"n": 3} == row_of(bob, ann.session_id)["presence"]
    world.sleep(0.5)
    assert [event["type"] for event in bob.take() if event["type"] != "active"] == ["user_left"]
    delay(world, 0, 0, 0.0)
    ann.send(type="privacy", data={"invisible": False})
    world.sleep(0.5)
    assert row_of(bob, ann.session_id)["presence"] == {"n": 3, "secret": 1}


@pytest.mark.one_worker
@pytest.mark.parametrize("by_call", [False, True])
def test_k3_a_change_sent_while_invisible_that_arrives_after_the_return_is_shown(by_call: bool) -> None:
    world, ann, bob = apart()
    edge, room_owner = ann.session.hub.edge_id, world.owner_of(ROOM).number
    ann.send(type="privacy", data={"invisible": True})
    delay(world, edge, room_owner, 0.4)
    if by_call:
        http = world.http(ann.session.user_id, ann.session_id)
        http.start("setPresence", roomId=ROOM, data={"n": 1}, hub=ann.session.hub)
        world.sleep(0.0)
    else:
        ann.post(patch({"n": 1}))
    ann.post(type="privacy", data={"invisible": False})
    world.sleep(0.1)
    assert world.shard.rooms[ROOM].members[ann.session_id].visible
    world.sleep(1.0)
    assert row_of(bob, ann.session_id)["presence"] == {"n": 1}


@pytest.mark.one_worker
@pytest.mark.parametrize("case", ["after the resume", "before the resume", "nothing since"])
def test_p3_a_late_change_of_an_earlier_connection_is_dropped(case: str) -> None:
    """The room drops it also when it has a change of the later connection, and not yet the resume, which goes by way
    of the user's owner."""
    world, ann, bob = apart()
    edge, room_owner = ann.session.hub.edge_id, world.owner_of(ROOM).number
    ann.send(patch({"n": "first"}))
    world.sleep(0.2)
    delay(world, edge, room_owner, 0.2)
    ann.post(patch({"n": "old"}))
    world.sleep(0.0)
    user_owner = world.owner_of(user_id=ann.session.user_id).number
    other = next(n.hub for n in world.nodes.values() if n.number not in (edge, room_owner, user_owner))
    if case == "before the resume":
        world.link_delay_s = lambda *link: 0.5 if link == (user_owner, room_owner) else 0.0
    back = Client(world, other).auth(ann.session.user_id, resumeToken=ann.resume_token)
    assert back.last("authenticated")["resumed"]
    if case != "nothing since":
        back.send(patch({"n": "new"}))
    world.sleep(2.0)
    assert row_of(bob, back.session_id)["presence"] == {"n": "first" if case == "nothing since" else "new"}


@pytest.mark.parametrize("waits", [False, True])
def test_p3_it_survives_its_room_s_owner(waits: bool) -> None:
    world = World(workers=4)
    people = [world.person(name) for name in ("ann", "bob", "cat", "dan", "eve")]
    owner = world.owner_of(ROOM)
    ann, bob = [each for each in people if each.session.hub is not owner.hub][:2]
    ann.send(patch({"a": 1, "b": 1}))
    world.sleep(0.2)
    if waits:
        for number in range(5):
            ann.post(patch({"b": number + 2}))
        world.settle()
    world.kill(owner)
    world.sleep(1.0)
    assert row_of(bob, ann.session_id)["presence"] == {"a": 1, "b": 6 if waits else 1}


# --- P4: errors


NESTED: Any = 1
for _ in range(9):
    NESTED = {"a": NESTED}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"a": "x" * 1100}, "TOO_LARGE"),
        ({"b": "x" * 500}, "TOO_LARGE"),
        ("pen", "INVALID_DATA"),
        ([], "INVALID_DATA"),
        ({"": 1}, "INVALID_DATA"),
        ({"k" * 65: 1}, "INVALID_DATA"),
        ({"__proto__": 1}, "INVALID_DATA"),
        ({"a": {"constructor": {}}}, "INVALID_DATA"),
        (NESTED, "INVALID_DATA"),
    ],
)
def test_p4_a_refused_change_changes_nothing(pair: tuple[Client, Client], data: Any, code: str) -> None:
    ann, bob = pair
    ann.send(patch({"a": "y" * 600}))
    ann.world.sleep(0.1)
    bob.take()
    ann.send(patch(data, id=1))
    assert ann.last("error")["code"] == code and ann.last("error")["id"] == 1
    ann.world.sleep(0.1)
    assert bob.take() == [] and row_of(bob, ann.session_id)["presence"] == {"a": "y" * 600}
    http = ann.world.http("ann", ann.session_id)
    assert http.refused("setPresence", roomId=ROOM, data=data).code == code


@pytest.mark.parametrize("data", [{"a": "x" * 1100}, ["a"], {"": 1}, {"__proto__": 1}])
def test_p4_a_join_with_a_wrong_object_is_refused(data: Any) -> None:
    world = World()
    ann = world.client().auth("ann")
    ann.send(type="join", roomId=ROOM, roomType="video", presence=data, id=1)
    code = "TOO_LARGE" if isinstance(data, dict) and "a" in data else "INVALID_DATA"
    assert ann.last("error")["code"] == code and ann.last("error")["id"] == 1 and ann.of("joined") == []
    assert world.http("bob").refused("join", roomId=ROOM, roomType="video", presence=data).code == code
    assert ROOM not in world.shard.rooms


@pytest.mark.parametrize("number", ["1e400", "-1e999"])
def test_b14_a_number_that_is_not_finite_is_refused(pair: tuple[Client, Client], number: str) -> None:
    ann, _ = pair
    ann.send(b'{"type":"presence","roomId":"video_123","id":7,"data":{"n":%b}}' % number.encode())
    assert ann.last("error")["code"] == "INVALID_DATA" and ann.last("error")["id"] == 7


def test_p4_numbers_and_texts_come_back_as_they_are(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    data = {"big": 2**70, "float": 0.1, "text": "👩‍👩‍👧 \u2028", "list": [1, [2.5, None]], "yes": True}
    ann.send(patch(data))
    assert changes(bob) == [data]


# --- P5: HTTP


def test_p5_a_call_changes_it_for_a_connected_session(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    http = ann.world.http("ann", ann.session_id)
    assert http.call("setPresence", roomId=ROOM, data={"a": 1}) == {"success": True, "presence": {"a": 1}}
    ann.world.sleep(0.1)
    assert http.call("setPresence", roomId=ROOM, data={"b": 2})["presence"] == {"a": 1, "b": 2}
    ann.world.sleep(0.1)
    assert http.call("setPresence", roomId=ROOM, data=None)["presence"] == {}
    ann.world.sleep(0.1)
    assert changes(bob) == [{"a": 1}, {"b": 2}, {"a": None, "b": None}]


def test_p5_a_session_held_over_http_has_one() -> None:
    world = World()
    bob = world.person("bob")
    http = world.http("ann")
    joined = http.call("join", roomId=ROOM, roomType="video", presence={"page": 3})
    assert bob.take("user_joined")[0]["data"]["presence"] == {"page": 3}
    assert http.call("setPresence", roomId=ROOM, data={"page": 4})["presence"] == {"page": 4}
    world.sleep(0.1)
    assert row_of(bob, joined["sessionId"])["presence"] == {"page": 4}
    assert world.http("eve").refused("setPresence", roomId=ROOM, data={}).code == "NOT_IN_ROOM"


def test_p5_a_token_without_presence_cannot_change_it_for_a_visible_session(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.world.verifier.presence = False
    http = ann.world.http("ann", ann.session_id)
    assert http.refused("setPresence", roomId=ROOM, data={"a": 1}).code == "INVISIBLE"
    assert "presence" not in row_of(bob, ann.session_id)


def test_p3_a_disabled_user_s_object_is_shown_once_presence_is_enabled() -> None:
    world = World()
    bob = world.person("bob")
    world.verifier.presence = False
    ann = world.person("ann")
    ann.send(patch({"n": 1}, id=1))
    assert ann.last("ack")["presence"] == {"n": 1} and bob.take() == []
    world.verifier.presence = True
    ann.auth("ann")
    world.sleep(0.2)
    assert bob.take("user_joined")[0]["data"]["presence"] == {"n": 1}


def test_the_state_merges_layers_in_their_order() -> None:
    presence = PresenceObject({"a": 1})
    presence.wait(presence.changes({"a": 2, "b": 1}))
    presence.hide(presence.changes({"b": None, "c": 1}))
    assert presence.merged() == {"a": "2", "c": "1"} and presence.shown == {"a": "1"}
    assert presence.show() == {"a": "2", "b": "1"}
    presence.reveal()
    assert presence.show() == {"b": None, "c": "1"} and presence.shown == {"a": "2", "c": "1"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hide", "wait", "show"]),
            st.none() | st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2), max_size=3),
        ),
        max_size=30,
    )
)
def test_no_layer_keeps_what_changes_nothing_in_the_layers_below(steps: list[tuple[str, Any]]) -> None:
    presence, whole = PresenceObject(), {}
    for step, data in steps:
        if step == "show":
            presence.show()
            continue
        changes = presence.changes(data)
        whole = {} if data is None else merged([whole, data])
        if step == "wait":  # a visible session, so nothing is hidden any more
            presence.reveal()
            presence.wait(changes)
        else:
            presence.hide(changes)
        assert presence.merged() == {key: str(value) for key, value in whole.items()}
        below = merged([presence.shown, presence.waiting])
        assert all(presence.shown.get(key) != value for key, value in presence.waiting.items())
        assert all(below.get(key) != value for key, value in presence.hidden.items())


def test_p3_keys_that_an_invisible_session_sets_and_removes_leave_nothing_behind(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(patch({"tool": "pen"}))
    ann.send(type="privacy", data={"invisible": True})
    ann.world.sleep(0.1)
    for number in range(20):
        ann.send(patch({f"{number} {each}": 1 for each in range(30)}))
        ann.send(patch(None))
        ann.world.sleep(0.1)
    assert ann.world.shard.rooms[ROOM].members[ann.session_id].presence.hidden == {"tool": None}
