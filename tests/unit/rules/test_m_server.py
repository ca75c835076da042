"""M10: the operator's queries and commands, on one worker and on four. The HTTP around them is tested in
tests/unit/admin/test_server_api.py."""

import asyncio
from typing import Any

import pytest

from koko_presence.access.policy import UNSURE, Grant
from koko_presence.process.survey_handlers import SurveyHandlers
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.survey import (
    BroadcastSent,
    Kick,
    ListLimited,
    ListRooms,
    NotHere,
    Recheck,
    Rechecked,
    RoomFound,
    RoomsFound,
    SendBroadcast,
    ShowRoom,
    ShowUser,
    UserFound,
    decode_answer,
    decode_request,
    encode,
)
from koko_presence.server.address_counts import AddressCounts
from koko_presence.server.address_limits import AddressLimits
from tests.world import Client, NodeTimers, World

ROOM = "video_123"
NO_ADDRESSES = AddressLimits(Limits(), AddressCounts(), lambda: 0.0)


def ask(world: World, request: Any, *, settle: bool = True) -> list[Any]:
    """Return the answer of every worker, encoded and decoded as between processes."""
    answers: list[Any] = []
    for node in world.nodes.values():
        timers = node.hub.timers if isinstance(node.hub.timers, NodeTimers) else world.timers
        survey_handlers = SurveyHandlers(node.hub, node.shard, node.bus, timers, NO_ADDRESSES)  # type: ignore[arg-type]
        survey_handlers.handle(
            decode_request(encode(request)), lambda answer: answers.append(answer and decode_answer(encode(answer)))
        )
    if settle:
        world.settle()
    return answers


def only(world: World, request: Any, kind: type) -> Any:
    found = ask(world, request)
    assert len(found) == len(world.nodes)
    (one,) = (answer for answer in found if isinstance(answer, kind))
    assert all(isinstance(answer, kind | NotHere) for answer in found)
    return one


def kicked(world: World, **whom: Any) -> int:
    return sum(answer.sessions for answer in ask(world, Kick(reason="Out!", **whom)))


# --- kick ---------------------------------------------------------------------------------------------------------


def test_a_user_is_kicked_with_all_sessions_and_the_others_see_it() -> None:
    world = World()
    ann, ann2, bob = world.person("ann"), world.person("ann", "project_9", "project"), world.person("bob")
    for client in (ann, ann2, bob):
        client.take()
    assert kicked(world, user_id="ann") == 2
    for client in (ann, ann2):
        assert client.take() == [{"type": "kicked", "reason": "Out!"}], "the next frame and the last"
        assert client.closed == 4403, "[L7]"
    (left,) = bob.take("user_left")
    assert (left["userId"], left["data"]) == ("ann", {"reason": "kicked", "sessionCount": 0})
    assert world.shard.users.keys() == {"bob"}
    assert bob.closed is None


def test_unsent_messages_of_the_same_loop_iteration_are_not_sent_before_a_kick() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    ann.post({"type": "heartbeat"})
    bob.post({"type": "playback", "roomId": ROOM, "data": {"action": "play", "currentTime": 1.0}})
    assert ann.session.outbox.waiting_bytes()
    ask(world, Kick(user_id="ann", reason="Out!"), settle=False)
    world.settle()
    assert [message["type"] for message in ann.take()] == ["kicked"]


def test_nothing_comes_after_a_kick_whatever_the_room_does() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    assert kicked(world, user_id="ann", room_id=ROOM) == 1
    for number in range(5):
        bob.send({"type": "broadcast", "roomId": ROOM, "data": {"n": number}})
    world.sleep(1.0)
    assert ann.take() == [{"type": "kicked", "roomId": ROOM, "reason": "Out!"}]
    assert ann.closed is None
    (left,) = bob.take("user_left")
    assert left["data"]["reason"] == "kicked"
    ann.send({"type": "cursor", "roomId": ROOM, "data": {"timestamp": 1.0, "x": 0.1, "y": 0.1}})
    assert ann.take()[-1]["code"] == "NOT_IN_ROOM"


def test_a_room_is_emptied_and_other_rooms_are_not_touched() -> None:
    world = World()
    people = [world.person(user) for user in ("ann", "bob", "cat")]
    dan = world.person("dan", "video_456")
    people[0].join("video_456")
    people[0].take()
    dan.take()
    assert kicked(world, room_id=ROOM) == 3
    for client in people:
        got = client.take()
        assert got[-1] == {"type": "kicked", "roomId": ROOM, "reason": "Out!"}
        assert client.closed is None
    assert dan.take() == []
    assert people[0].session.memberships.joined == ["video_456"]
    assert {m.user_id for m in world.shard.rooms["video_456"].members.values()} == {"ann", "dan"}
    assert not world.shard.rooms[ROOM].members


def test_one_session_of_several() -> None:
    world = World()
    ann, ann2 = world.person("ann"), world.person("ann")
    assert kicked(world, session_id=ann.session_id) == 1
    assert (ann.closed, ann2.closed) == (4403, None)
    assert kicked(world, session_id=ann2.session_id, user_id="bob") == 0, "both must fit"
    assert ann2.closed is None
    assert kicked(world, user_id="nobody") == kicked(world, room_id="nowhere") == 0


def test_a_session_in_its_grace_loses_its_place() -> None:
    world = World()
    world.sleep(10.0)  # a worker that has just started accepts resume tokens [N-c]
    ann, bob = world.person("ann"), world.person("bob")
    token = ann.resume_token
    ann.hang_up(1006)
    assert bob.take("status_changed")
    assert kicked(world, user_id="ann") == 1
    (left,) = bob.take("user_left")
    assert left["data"]["reason"] == "kicked"
    again = world.client().auth("ann", resumeToken=token)
    assert again.last("authenticated")["resumed"] is False


@pytest.mark.parametrize("named", ["user", "session"])
def test_a_session_in_its_grace_loses_one_room(named: str) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    session_id = ann.session_id
    ann.join("video_456")
    ann.hang_up(1006)
    whom: dict[str, Any] = {"user_id": "ann"} if named == "user" else {"session_id": session_id}
    assert kicked(world, room_id=ROOM, **whom) == 1
    assert bob.take("user_left")[0]["data"]["reason"] == "kicked"
    assert list(world.shard.users["ann"].sessions[session_id].rooms) == ["video_456"]


def test_a_room_that_holds_places_loses_them_too() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.hang_up(1006)
    assert kicked(world, room_id=ROOM) == 2
    assert not world.shard.rooms[ROOM].members
    assert bob.take()[-1]["type"] == "kicked"


def test_an_invisible_session_is_kicked_unseen() -> None:
    world = World()
    bob = world.person("bob")
    ann = world.person("ann", privacy={"invisible": True})
    assert kicked(world, user_id="ann") == 1
    assert (ann.take()[-1]["type"], bob.take()) == ("kicked", []), "[K7]"


def test_a_join_under_way_is_a_kick_and_no_snapshot() -> None:
    world = World(workers=4)
    for node in world.nodes.values():
        client = Client(world, node.hub).auth(f"user{node.number}")
        world.link_delay_s = lambda sender, receiver: 0.05
        client.take()
        client.post({"type": "join", "roomId": ROOM, "roomType": "video"})
        client.post({"type": "get_active", "roomId": ROOM, "id": 1})
        client.session.hub.write_batch.write()
        if client.take():
            continue  # this worker is the owner: the join was done at once
        ask(world, Kick(user_id=client.session.user_id, room_id=ROOM, reason="Out!"), settle=False)
        world.sleep(1.0)
        assert [message["type"] for message in client.take()] == ["kicked"]
        world.link_delay_s = lambda sender, receiver: 0.0
        assert ROOM not in world.shard.rooms or not world.shard.rooms[ROOM].people.get(client.session.user_id)
        client.join()
        assert client.take()[-1]["type"] == "joined", "it may come back"
        client.send({"type": "leave", "roomId": ROOM})


def test_a_kicked_session_may_return_by_socket_and_by_http() -> None:
    world = World()
    world.person("zed")
    ann = world.person("ann")
    for _ in range(2):
        assert kicked(world, user_id="ann", room_id=ROOM) == 1
        ann.take()
        ann.join()
        assert [message["type"] for message in ann.take()] == ["joined"]
        assert kicked(world, user_id="ann", room_id=ROOM) == 1
        ann.take()
        assert world.http("ann", ann.session_id).call("join", roomId=ROOM, roomType="video")["assignedColor"]
        world.settle()
        assert [message["type"] for message in ann.take()] == ["joined"]
        assert ann.session.memberships.joined == [ROOM] and not ann.session.discards(ROOM)


@pytest.mark.parametrize("named", ["user", "session", "room", "user and room"])
def test_a_session_that_was_made_over_http_is_kicked_too(named: str) -> None:
    world = World()
    bob = world.person("bob", "video_456")
    session_id = world.http("ann").call("join", roomId="video_456", roomType="video")["sessionId"]
    bob.take()
    (row,) = (row for row in only(world, ShowRoom(room_id="video_456"), RoomFound).room.members if row.user_id == "ann")
    assert row.transport == only(world, ShowUser(user_id="ann"), UserFound).user.sessions[0].transport == "http"
    whom = {
        "user": {"user_id": "ann"},
        "session": {"session_id": session_id},
        "room": {"room_id": "video_456"},
        "user and room": {"user_id": "ann", "room_id": "video_456"},
    }[named]
    assert kicked(world, **whom) == (2 if named == "room" else 1)
    if named != "room":
        assert bob.take("user_left")[0]["data"]["reason"] == "kicked"
    assert "ann" not in world.shard.users


def test_a_refusal_under_way_does_not_come_after_a_kick() -> None:
    world = World(workers=4, max_users_per_room=1)
    world.person("zed")
    found = []
    for node in world.nodes.values():
        client = Client(world, node.hub).auth(f"user{node.number}")
        client.take()
        world.link_delay_s = lambda sender, receiver: 0.05
        client.post({"type": "join", "roomId": ROOM, "roomType": "video"})
        ask(world, Kick(user_id=client.session.user_id, room_id=ROOM, reason="Out!"), settle=False)
        world.sleep(1.0)
        world.link_delay_s = lambda sender, receiver: 0.0
        found.append([message["type"] for message in client.take()])
    assert found.count(["kicked"]) >= 3 and all(types in (["kicked"], ["error"]) for types in found)


def test_an_answer_under_way_to_get_active_does_not_come_after_a_kick() -> None:
    world = World(workers=4)
    members = [world.person(f"user{number}") for number in range(4)]
    world.link_delay_s = lambda sender, receiver: 0.05
    for number, client in enumerate(members):
        client.take()
        client.post({"type": "get_active", "roomId": ROOM, "id": 1})
        client.session.hub.write_batch.write()
        if client.take("active"):
            continue  # this worker is the owner: it was answered at once
        ask(world, Kick(user_id=f"user{number}", room_id=ROOM, reason="Out!"), settle=False)
        world.sleep(1.0)
        assert "active" not in [message["type"] for message in client.take()]


def test_a_session_that_is_just_opening_is_kicked() -> None:
    world = World(workers=4)
    world.link_delay_s = lambda sender, receiver: 0.05
    client = world.client()
    client.post({"type": "auth", "token": "ann"})
    waited = client.session.state == "opening"
    assert kicked(world, user_id="ann") == 1
    world.sleep(6.0)
    assert (client.closed, client.take()[-1]["type"]) == (4403, "kicked")
    assert world.shard.users == {}, "no ghost"
    assert waited or client.session.state == "closed"


# --- recheck ------------------------------------------------------------------------------------------------------


class ToggledAccess:
    """An access check whose answers can be changed; `forgotten` records the entries that were dropped."""

    def __init__(self) -> None:
        self.closed: set[tuple[str, str]] = set()
        self.forgotten: list[tuple[str | None, str | None]] = []
        self.control = True

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
        allow = (identity.user_id, room_id) not in self.closed
        return Grant(allow=allow, can_control=self.control, can_broadcast=True)

    def forget(self, user_id: str | None, room_id: str | None) -> None:
        self.forgotten.append((user_id, room_id))


def recheck(world: World, *, settle: bool = True, **whom: Any) -> tuple[int, int, int]:
    answers = ask(world, Recheck(**whom), settle=settle)
    assert all(isinstance(answer, Rechecked) for answer in answers)
    return (
        sum(a.checked for a in answers),
        sum(a.refused for a in answers),
        sum(a.undecided for a in answers),
    )


def test_a_member_without_access_gets_the_kick_next_and_nothing_after() -> None:
    access = ToggledAccess()
    world = World(access=access)
    ann, ann2, bob = world.person("ann"), world.person("ann"), world.person("bob")
    ann.join("video_456")
    for client in (ann, ann2, bob):
        client.take()
    access.closed.add(("ann", ROOM))
    before = world.now
    assert recheck(world, user_id="ann", settle=False) == (3, 2, 0)
    bob.post({"type": "broadcast", "roomId": ROOM, "data": {"n": 1}})
    world.settle()
    assert world.now - before < 0.1, "[N12]"
    for client in (ann, ann2):
        (kick,) = client.take()
        assert (kick["type"], kick["roomId"]) == ("kicked", ROOM)
        assert client.closed is None
    assert [event["data"]["reason"] for event in bob.take("user_left")] == ["kicked", "kicked"]
    assert ann.session.memberships.joined == ["video_456"]
    assert set(access.forgotten) == {("ann", None)}
    ann.join()
    assert ann.take()[-1]["code"] == "FORBIDDEN"


def test_a_room_is_checked_and_a_pair_is() -> None:
    access = ToggledAccess()
    world = World(access=access)
    ann, bob = world.person("ann"), world.person("bob")
    ann.join("video_456")
    assert recheck(world, room_id=ROOM) == (2, 0, 0)
    assert recheck(world, user_id="ann", room_id="video_456") == (1, 0, 0)
    assert recheck(world, user_id="cat") == (0, 0, 0)
    access.closed |= {("ann", ROOM), ("bob", ROOM)}
    assert recheck(world, user_id="bob", room_id=ROOM) == (1, 1, 0)
    assert (bob.take()[-1]["type"], ann.take("kicked")) == ("kicked", [])


def test_new_scopes_hold_at_once() -> None:
    access = ToggledAccess()
    world = World(access=access)
    ann = world.person("ann")
    ann.send({"type": "control_request", "roomId": ROOM})
    assert ann.take("control_granted")
    access.control = False
    assert recheck(world, user_id="ann") == (1, 0, 0)
    assert ann.take("control_released")


class SlowAccess(ToggledAccess):
    """Answers when `answer` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.asked: list[tuple[asyncio.Future[Grant], Grant]] = []

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
        grant = super().check(identity, room_id, room_type)
        if not self.slow:
            return grant
        future: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self.asked.append((future, grant))
        return future


def test_a_slow_back_end_is_waited_for_and_then_named_undecided() -> None:
    async def story() -> None:
        access = SlowAccess()
        world = World(access=access)
        ann, bob = world.person("ann"), world.person("bob")
        ann.take(), bob.take()
        access.slow, access.closed = True, {("ann", ROOM), ("bob", ROOM)}
        answers = ask(world, Recheck(room_id=ROOM))
        for _ in range(3):
            await asyncio.sleep(0)
        future, grant = access.asked[0]
        future.set_result(grant)
        for _ in range(3):
            await asyncio.sleep(0)
        world.sleep(1.0)
        assert (sum(a.checked for a in answers), sum(a.undecided for a in answers)) == (2, 1)
        assert sum(a.refused for a in answers) == 1
        for future, grant in access.asked[1:]:  # late, but answered
            future.set_result(grant)
        for _ in range(3):
            await asyncio.sleep(0)
        world.settle()
        assert ann.last("kicked")["roomId"] == bob.last("kicked")["roomId"] == ROOM

    asyncio.run(story())


def test_a_join_whose_access_was_checked_before_the_recheck_is_checked_again() -> None:
    async def story() -> None:
        access = SlowAccess()
        world = World(access=access)
        ann = world.client().auth("ann")
        ann.take()
        access.slow = True
        ann.send({"type": "join", "roomId": ROOM, "roomType": "video"})
        access.closed = {("ann", ROOM)}
        ask(world, Recheck(user_id="ann"))
        for _ in range(3):
            await asyncio.sleep(0)
        first, second = access.asked
        second[0].set_result(second[1])
        for _ in range(3):
            await asyncio.sleep(0)
        first[0].set_result(first[1])  # allowed, at the time of the request
        for _ in range(3):
            await asyncio.sleep(0)
        world.sleep(1.0)
        assert [message["type"] for message in ann.take()] == ["kicked"]
        assert ROOM not in world.shard.rooms or not world.shard.rooms[ROOM].members

    asyncio.run(story())


# --- queries ------------------------------------------------------------------------------------------------------


def test_a_room_shows_all_its_members_the_invisible_flagged() -> None:
    world = World()
    world.person("ann")
    world.person("bob", privacy={"invisible": True})
    cat = world.person("cat")
    cat.send({"type": "control_request", "roomId": ROOM})
    cat.send({"type": "playback", "roomId": ROOM, "data": {"action": "play", "currentTime": 12.0}})
    cat.hang_up(1006)
    room = only(world, ShowRoom(room_id=ROOM), RoomFound).room
    assert (room.user_count, room.session_count) == (2, 2)
    assert (room.invisible_user_count, room.invisible_session_count) == (1, 1)
    rows = {row.user_id: row for row in room.members}
    assert [rows[user].invisible for user in ("ann", "bob", "cat")] == [False, True, False], "[K4]"
    assert [rows[user].connected for user in ("ann", "bob", "cat")] == [True, True, False]
    assert (room.controller, rows["cat"].is_controller, rows["ann"].is_controller) == ("cat", True, False)
    assert room.playback.is_playing and 12.0 <= room.playback.current_time < 13.0
    assert room.created_at.startswith("2025-01-15T10:30:")
    assert all(isinstance(answer, NotHere) for answer in ask(world, ShowRoom(room_id="nowhere")))


def test_a_user_shows_every_session_wherever_it_is() -> None:
    world = World()
    ann, ann2 = world.person("ann"), world.person("ann", "video_456", privacy={"invisible": True})
    ann.join("project_1", "project")
    ann2.hang_up(1006)
    user = only(world, ShowUser(user_id="ann"), UserFound).user
    first, second = user.sessions
    assert (first.session_id, first.rooms, first.connected) == (ann.session_id, ["project_1", ROOM], True)
    assert (second.rooms, second.connected, second.invisible) == (["video_456"], False, True)


def test_rooms_are_listed_by_id_a_page_at_a_time() -> None:
    world = World(max_rooms_per_user=200, join_hz=1000, join_burst=1000)
    ann = world.client().auth("ann")
    ids = [f"video_{number:03}" for number in range(95)] + ["project_1"]
    for room_id in ids:
        ann.join(room_id, "project" if room_id.startswith("project") else "video")
        world.sleep(0.1)
    found: list[str] = []
    after, pages = "", 0
    while True:
        answers = ask(world, ListRooms(after=after, limit=20, prefix="video_"))
        rows = sorted(row.id for answer in answers for row in answer.rooms)[:20]
        found, pages = found + rows, pages + 1
        if len(rows) < 20:
            break
        after = rows[-1]
    assert (found, pages) == (ids[:-1], 5)
    answers = ask(world, ListRooms(type="project"))
    assert [row.id for answer in answers for row in answer.rooms] == ["project_1"]


@pytest.mark.one_worker
def test_a_long_list_is_walked_in_slices() -> None:
    from koko_presence.rooms.room import Room

    world = World()
    shard = world.nodes[1].shard
    for number in range(10_000):
        shard.rooms[f"video_{number:05}"] = Room(f"video_{number:05}", "video", shard.context, world.now)
    answers: list[RoomsFound] = []
    survey_handlers = SurveyHandlers(world.hub, shard, world.bus, world.timers, NO_ADDRESSES)  # type: ignore[arg-type]
    survey_handlers.handle(ListRooms(after="video_00099", limit=200), answers.append)  # type: ignore[arg-type]
    assert answers == [], "others have had their turn by then"
    world.settle()
    (answer,) = answers
    assert (len(answer.rooms), answer.rooms[0].id, answer.more) == (200, "video_00100", True)


# --- broadcasts ---------------------------------------------------------------------------------------------------


def test_the_server_broadcasts_as_system() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    cat = world.person("cat", privacy={"invisible": True})
    said = only(world, SendBroadcast(room_id=ROOM, data=b'{"type":"notice","text":"Five minutes"}'), BroadcastSent)
    assert said.delivered == 2, "not counting the invisible [M5]"
    events = [client.take("broadcast") for client in (ann, bob, cat)]
    assert all(len(each) == 1 for each in events)
    event = events[0][0]
    assert (event["userId"], event["data"]) == ("system", {"type": "notice", "text": "Five minutes"}), "[J4]"
    assert event["seq"] == events[1][0]["seq"] > ann.last("joined")["seq"], "in the room's one order [B11]"
    assert only(world, SendBroadcast(room_id=ROOM, data=b'{"a":1}', to=["bob"]), BroadcastSent).delivered == 1
    assert (ann.take("broadcast"), len(bob.take("broadcast"))) == ([], 1)
    assert all(isinstance(answer, NotHere) for answer in ask(world, SendBroadcast(room_id="nowhere", data=b"{}")))


def test_a_fault_of_ours_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    world = World(access=object())
    assert ask(world, Recheck(user_id="ann")) == [None] * len(world.nodes)
    assert "a survey request failed: Recheck" in caplog.text


class NobodyKnows(ToggledAccess):
    """An access check that cannot be reached once `lost` is set."""

    lost = False

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
        return UNSURE if self.lost else super().check(identity, room_id, room_type)


def test_a_recheck_without_an_answer_removes_no_member() -> None:
    access = NobodyKnows()
    world = World(access=access)
    ann = world.person("ann")
    access.lost = True
    assert recheck(world, user_id="ann") == (1, 0, 1)
    assert (ann.take("kicked"), ann.session.memberships.joined) == ([], [ROOM])


def test_n12_a_recheck_covers_sessions_held_over_http() -> None:
    """A recheck covers sessions held over HTTP. They are at no edge, and were left out."""
    closed: set[str] = set()

    class Closing:
        def check(self, identity: Any, room_id: str, room_type: Any, **more: Any) -> Grant:
            return Grant(allow=room_id not in closed)

        def forget(self, *of: Any) -> None: ...

    world = World(access=Closing())
    for user in ("ann", "ben"):
        world.http(user).call("join", roomId=ROOM, roomType="video")
    assert recheck(world, room_id=ROOM) == (2, 0, 0)
    closed.add(ROOM)
    assert recheck(world, user_id="ann") == (1, 1, 0)
    world.settle()
    assert [member.user_id for member in world.shard.rooms[ROOM].members.values()] == ["ben"]
    assert recheck(world, user_id="ann") == (0, 0, 0)


def test_limited_addresses_are_listed_q5() -> None:
    world = World()
    node = world.nodes[1]
    limits = AddressLimits(Limits(address_requests_hz=1), AddressCounts(), lambda: world.now)
    for _ in range(3):
        limits.take_request("203.0.113.9")
    survey_handlers = SurveyHandlers(node.hub, node.shard, node.bus, world.timers, limits)  # type: ignore[arg-type]
    answers: list[Any] = []
    survey_handlers.handle(decode_request(encode(ListLimited())), answers.append)
    (row,) = decode_answer(encode(answers[0])).limited
    assert (row.address, row.limit, row.refused) == ("203.0.113.9", "requests", 2)
    assert row.last_at == node.hub.wall.iso(world.now)
