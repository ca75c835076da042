"""Decision Q12: rooms that a session watches without being in them."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from koko_presence.access.policy import NO, UNSURE, AllowAll, ClaimsAccess, Grant
from koko_presence.protocol.commands import WatchRoom
from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.messages import MAX_WATCHED_ROOMS
from koko_presence.protocol.survey import Kick, Recheck
from koko_presence.server.room_summaries import PORTION_BYTES
from tests.unit.rules.test_m_server import ToggledAccess, ask
from tests.world import Client, World

A_SECOND = 1.0


def watcher(world: World, *rooms: str, user: str = "wim", **auth: Any) -> Client:
    """Return a client that watches rooms; the answer and the first summaries are already taken."""
    client = world.client().auth(user, **auth)
    client.send(type="watch", rooms=list(rooms))
    world.sleep(0.1)
    client.take()
    return client


def summaries(client: Client) -> list[tuple[str, int, list[str]]]:
    """The summaries since the last call: room, number of users, and the users that are named."""
    return [
        (each["roomId"], each["userCount"], [user["userId"] for user in each["users"]])
        for each in client.take("room_summary")
    ]


def edges_known(world: World) -> int:
    """The number of pairs of a room and an edge that watches it, at all owners."""
    nodes = world.nodes.values()
    rooms = {room_id for node in nodes for room_id in ("video_1", "video_2", "video_3")}
    return sum(len(node.shard.watchers.edges_of(room_id)) for node in nodes for room_id in rooms)


# --- the list, and what it gets -----------------------------------------------------------------------------------


def test_the_answer_names_the_rooms_and_a_summary_of_each_follows() -> None:
    world = World()
    ann = world.person("ann", "video_1")
    client = world.client().auth("wim")
    client.take()
    client.send(type="watch", rooms=["video_1", "nowhere", "video_1"], id=7)
    world.sleep(0.1)
    color = ann.last("joined")["assignedColor"]
    assert client.take() == [
        {"type": "watching", "id": 7, "rooms": ["video_1", "nowhere"], "refused": []},
        {
            "type": "room_summary", "roomId": "video_1", "userCount": 1,
            "users": [{"userId": "ann", "name": "Ann", "color": color}],
        },
        {"type": "room_summary", "roomId": "nowhere", "userCount": 0, "users": []},
    ]  # fmt: skip
    assert "wim" not in str(ann.take()) and "nowhere" not in world.shard.rooms


def test_a_change_comes_at_once_and_the_next_ones_a_second_later_with_the_last_state() -> None:
    world = World()
    client = watcher(world, "video_1")
    world.person("ann", "video_1")
    world.settle()
    assert summaries(client) == [("video_1", 1, ["ann"])]
    for user in ("bob", "cat", "dan", "eve"):
        world.person(user, "video_1")
    world.sleep(A_SECOND - 0.2)
    assert summaries(client) == []
    world.sleep(1.0)
    assert summaries(client) == [("video_1", 5, ["ann", "bob", "cat"])]


def test_a_change_that_is_undone_within_the_second_is_not_sent() -> None:
    world = World()
    client = watcher(world, "video_1")
    world.person("ann", "video_1")
    bob = world.person("bob", "video_1")
    world.settle()
    bob.send(type="leave", roomId="video_1")
    world.sleep(5.0)
    assert summaries(client) == [("video_1", 1, ["ann"])]


def test_a_person_with_several_tabs_counts_once_and_stays_until_the_last_has_left() -> None:
    world = World()
    first, second = world.person("ann", "video_1"), world.person("ann", "video_1")
    client = watcher(world, "video_1")
    first.hang_up()
    world.sleep(3.0)
    (seen,) = client.take("room_summary")  # with the colour of the tab that is left
    assert seen["userCount"] == 1
    assert seen["users"][0]["color"] == second.last("joined")["assignedColor"]
    second.hang_up()
    world.sleep(3.0)
    assert summaries(client) == [("video_1", 0, [])]


def test_who_may_return_is_still_there_until_the_grace_period_is_over() -> None:
    world = World()
    client = watcher(world, "video_1")
    ann = world.person("ann", "video_1")
    world.sleep(2.0)
    client.take()
    ann.hang_up(1006)
    world.sleep(4.0)
    assert summaries(client) == []
    world.sleep(4.0)
    assert summaries(client) == [("video_1", 0, [])]


@pytest.mark.parametrize(
    "more", [{"type": "typing", "data": {"isTyping": True}}, {"type": "status", "data": {"status": "busy"}}]
)
def test_what_members_do_is_no_change(more: dict[str, Any]) -> None:
    world = World()
    ann, client = world.person("ann", "video_1"), watcher(world, "video_1")
    ann.send(roomId="video_1", **more)
    world.sleep(5.0)
    assert client.take() == []


def test_a_new_list_replaces_the_one_before() -> None:
    world = World()
    world.person("ann", "video_1")
    client = watcher(world, "video_1", "video_2")
    client.send(type="watch", rooms=["video_2", "video_3"])
    world.sleep(0.1)
    assert summaries(client) == [("video_3", 0, [])]
    for room in ("video_1", "video_2", "video_3"):
        world.person("bob", room)
    world.sleep(5.0)
    assert {room for room, *_ in summaries(client)} == {"video_2", "video_3"}
    client.send(type="watch", rooms=[])
    world.sleep(0.1)
    assert client.take() == [{"type": "watching", "rooms": [], "refused": []}]
    assert edges_known(world) == 0


def test_nothing_is_left_of_a_watcher_that_has_gone() -> None:
    world = World()
    client, other = watcher(world, "video_1", "video_2"), watcher(world, "video_2", user="bob")
    client.hang_up(1006)
    world.sleep(0.1)
    assert edges_known(world) == 1
    other.hang_up()
    world.sleep(0.1)
    assert edges_known(world) == 0
    assert not any(node.hub.watched_rooms for node in world.nodes.values())


def test_a_member_may_watch_its_own_room() -> None:
    world = World()
    ann = world.person("ann", "video_1")
    ann.send(type="watch", rooms=["video_1"])
    world.sleep(0.1)
    assert summaries(ann) == [("video_1", 1, ["ann"])]


def test_a_list_does_not_outlive_its_connection() -> None:
    """After a resume the client sends it again."""
    world = World()
    client = watcher(world, "video_1")
    token = client.resume_token
    client.hang_up(1006)
    back = world.client().auth("wim", resumeToken=token)
    assert back.last("authenticated")["resumed"]
    world.person("ann", "video_1")
    world.sleep(3.0)
    assert summaries(back) == []
    back.send(type="watch", rooms=["video_1"])
    world.sleep(0.1)
    assert summaries(back) == [("video_1", 1, ["ann"])]


# --- invisible people ---------------------------------------------------------------------------------------------


def test_invisible_and_disabled_people_are_not_in_it_and_do_not_count() -> None:
    world = World()
    client = watcher(world, "video_1")
    world.person("gus", "video_1", privacy={"invisible": True})
    world.verifier.presence = False
    world.person("hal", "video_1")
    world.sleep(3.0)
    assert client.take() == []


def test_a_person_who_becomes_invisible_leaves_and_comes_back_at_the_end() -> None:
    world = World()
    ann, _ = world.person("ann", "video_1"), world.person("bob", "video_1")
    client = watcher(world, "video_1")
    ann.send(type="privacy", data={"invisible": True})
    world.sleep(2.0)
    assert summaries(client) == [("video_1", 1, ["bob"])]
    ann.send(type="privacy", data={"invisible": False})
    world.sleep(2.0)
    assert summaries(client) == [("video_1", 2, ["bob", "ann"])]


def test_an_invisible_join_does_not_delay_what_is_seen_next() -> None:
    world = World()
    client = watcher(world, "video_1")
    world.person("gus", "video_1", privacy={"invisible": True})
    world.person("ann", "video_1")
    world.settle()
    assert summaries(client) == [("video_1", 1, ["ann"])]


# --- access -------------------------------------------------------------------------------------------------------


def test_rooms_that_the_user_may_not_enter_are_refused_by_name() -> None:
    world = World(access=ClaimsAccess())
    world.person('ann:Ann:{"*":["join"]}', "video_1")
    client = world.client().auth('wim:Wim:{"video_2":["join"]}')
    client.take()
    client.send(type="watch", rooms=["video_1", "video_2", "\u0007"], id=1)
    world.sleep(0.1)
    answer, summary = client.take()
    assert answer["rooms"] == ["video_2"] and summary["roomId"] == "video_2"
    assert [(each["roomId"], each["code"]) for each in answer["refused"]] == [
        ("\u0007", "INVALID_MESSAGE"),
        ("video_1", "FORBIDDEN"),
    ]


def test_n12_a_room_that_is_taken_away_stops_at_once() -> None:
    access = ToggledAccess()
    world = World(access=access)
    client = watcher(world, "video_1", "video_2")
    access.closed.add(("wim", "video_1"))
    ask(world, Recheck(user_id="wim"))
    (told,) = client.take()
    assert told["type"] == "watching" and "id" not in told and told["rooms"] == ["video_2"]
    assert [(each["roomId"], each["code"]) for each in told["refused"]] == [("video_1", "FORBIDDEN")]
    world.person("ann", "video_1")
    world.person("ann", "video_2")
    world.sleep(3.0)
    assert summaries(client) == [("video_2", 1, ["ann"])]


def test_n12_a_recheck_counts_watched_rooms() -> None:
    access = ToggledAccess()
    world = World(access=access)
    watcher(world, "video_1", "video_2")
    answers = [answer for answer in ask(world, Recheck(user_id="wim", room_id="video_2")) if answer.checked]
    assert [(answer.checked, answer.refused) for answer in answers] == [(1, 0)]


def test_a_kick_out_of_a_room_ends_watching_it() -> None:
    world = World()
    client = watcher(world, "video_1", "video_2")
    ask(world, Kick(user_id="wim", room_id="video_1", reason="Out!"))
    (told,) = client.take()
    assert told["rooms"] == ["video_2"] and told["refused"][0]["message"] == "Out!"
    world.person("ann", "video_1")
    world.sleep(3.0)
    assert client.take() == []


def test_a_new_token_that_does_not_open_a_room_ends_watching_it() -> None:
    world = World(access=ClaimsAccess())
    client = watcher(world, "video_1", "video_2", user='wim:Wim:{"*":["join"]}')
    client.send(type="auth", token='wim:Wim:{"video_2":["join"]}')
    world.sleep(0.1)
    assert client.take("watching")[-1]["rooms"] == ["video_2"]
    assert "video_1" not in {room for node in world.nodes.values() for room in node.hub.watched_rooms}


class LaterAccess:
    """An access check whose answers come when the test gives them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Any]] = []
        self.most = 0

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Any:
        return self._wait(room_id)

    async def _wait(self, room_id: str) -> Grant:
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((room_id, answer))
        self.most = max(self.most, sum(not answer.done() for _, answer in self.waiting))
        return await answer

    def forget(self, user_id: str | None, room_id: str | None) -> None: ...

    def give(self, grant: Grant, *rooms: str) -> None:
        """Answer the pending checks of these rooms, without rooms all that are pending."""
        for room_id, answer in self.waiting:
            if not answer.done() and (not rooms or room_id in rooms):
                answer.set_result(grant)

    async def answer(self, grant: Grant, *rooms: str) -> None:
        """The same, with the checks that follow."""
        for _ in range(60):
            self.give(grant, *rooms)
            await asyncio.sleep(0)


def in_a_loop(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Return a test that plays `story` in an event loop, in which the access checks are awaited."""

    @functools.wraps(story)
    def test() -> None:
        asyncio.run(story())

    return test


@in_a_loop
async def test_checks_that_answer_later_go_a_few_at_a_time_and_are_answered_together() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = world.client().auth("wim")
    client.take()
    rooms = [f"video_{number}" for number in range(20)]
    client.send(type="watch", rooms=rooms, id=1)
    await access.answer(Grant(allow=True), *rooms[:19])
    world.sleep(0.1)
    assert client.take() == [] and access.most <= 4
    await access.answer(NO)
    world.sleep(0.1)
    answer, *first = client.take()
    assert answer["rooms"] == rooms[:19] and [each["roomId"] for each in answer["refused"]] == rooms[19:]
    assert {each["roomId"] for each in first} == set(rooms[:19])


@in_a_loop
async def test_of_two_lists_under_way_the_later_one_counts() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = world.client().auth("wim")
    client.take()
    client.send(type="watch", rooms=["video_1"], id=1)
    client.send(type="watch", rooms=["video_2"], id=2)
    await access.answer(Grant(allow=True), "video_2")
    await access.answer(Grant(allow=True), "video_1")
    world.sleep(0.1)
    assert [(each["id"], each["rooms"]) for each in client.take("watching")] == [(2, ["video_2"]), (1, ["video_2"])]
    assert {room for node in world.nodes.values() for room in node.hub.watched_rooms} == {"video_2"}


@in_a_loop
async def test_a_list_whose_access_was_checked_before_a_recheck_is_checked_again() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = world.client().auth("wim")
    client.take()
    client.send(type="watch", rooms=["video_1", "video_2"], id=1)
    await access.answer(Grant(allow=True), "video_1")
    ask(world, Recheck(user_id="wim"))
    await access.answer(Grant(allow=True), "video_2")
    world.sleep(0.1)
    assert client.take("watching")[-1]["rooms"] == ["video_1", "video_2"]
    await access.answer(NO, "video_1")
    await access.answer(Grant(allow=True), "video_2")
    world.sleep(0.1)
    assert [each["rooms"] for each in client.take("watching")] == [["video_2"]]


@in_a_loop
async def test_a_recheck_without_an_answer_takes_nothing_away_and_is_repeated() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = world.client().auth("wim")
    client.send(type="watch", rooms=["video_1"], id=1)
    await access.answer(Grant(allow=True))
    world.sleep(0.1)
    client.take()
    ask(world, Recheck(user_id="wim"))
    await access.answer(UNSURE)
    assert client.take() == [] and all(answer.done() for _, answer in access.waiting)
    access.waiting.clear()
    for _ in range(25):
        world.sleep(0.5)
        await asyncio.sleep(0)
    assert [room_id for room_id, _ in access.waiting] == ["video_1"]
    await access.answer(NO)
    world.sleep(0.1)
    assert client.take("watching")[0]["rooms"] == []


def is_watched(world: World, room_id: str) -> bool:
    return any(room_id in node.hub.watched_rooms for node in world.nodes.values())


async def join_and_lose_the_connection(world: World, access: LaterAccess) -> Client:
    """Return a client that has resumed the session of one that was in video_1; its join of the room is still to come."""
    client = world.client().auth("wim")
    client.send(type="join", roomId="video_1", roomType="video")
    await access.answer(Grant(allow=True))
    world.sleep(0.1)
    client.hang_up(1006)
    back = world.client().auth("wim", resumeToken=client.resume_token)
    assert back.last("authenticated")["resumed"]
    back.take()
    return back


@in_a_loop
async def test_a_resumed_member_that_may_not_be_in_its_room_any_more_does_not_watch_it() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = await join_and_lose_the_connection(world, access)
    client.send(type="watch", rooms=["video_1"], id=5)
    await access.answer(NO)
    world.sleep(0.1)
    (answer,) = client.take("watching")
    assert answer["rooms"] == [] and answer["refused"][0]["code"] == "FORBIDDEN" and not is_watched(world, "video_1")


@in_a_loop
async def test_a_session_that_is_expelled_by_a_late_answer_does_not_watch_the_room_any_more() -> None:
    """The check of its list had an answer before; that of its join comes when it is a member again."""
    access = LaterAccess()
    world = World(access=access)
    client = await join_and_lose_the_connection(world, access)
    client.send(type="watch", rooms=["video_1"], id=5)
    await access.answer(Grant(allow=True))
    client.send(type="join", roomId="video_1", roomType="video")
    await asyncio.sleep(0)
    world.sleep(3.0)  # it enters as the member that it is
    assert is_watched(world, "video_1") and client.take("joined")
    client.take()
    await access.answer(NO)
    world.sleep(0.1)
    kicked, told = client.take()
    assert kicked["type"] == "kicked" and told["type"] == "watching" and told["rooms"] == []
    assert [each["roomId"] for each in told["refused"]] == ["video_1"] and not is_watched(world, "video_1")
    ann = world.client().auth("ann")
    ann.send(type="join", roomId="video_1", roomType="video")
    await access.answer(Grant(allow=True))
    world.sleep(3.0)
    assert client.take() == []


@in_a_loop
async def test_a_member_whose_check_has_no_answer_watches_its_room_until_there_is_one() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = await join_and_lose_the_connection(world, access)
    client.send(type="watch", rooms=["video_1", "video_2"], id=5)
    await access.answer(UNSURE)
    world.sleep(0.1)
    answer = client.take("watching")[0]
    assert answer["rooms"] == ["video_1"] and [each["roomId"] for each in answer["refused"]] == ["video_2"]
    access.waiting.clear()
    for _ in range(25):
        world.sleep(0.5)
        await asyncio.sleep(0)
    await access.answer(NO, "video_1")
    world.sleep(0.1)
    assert client.take("watching")[0]["rooms"] == [] and not is_watched(world, "video_1")


@in_a_loop
async def test_the_answer_to_a_superseded_list_has_the_rooms_that_are_watched_and_refuses_none_of_them() -> None:
    access = LaterAccess()
    world = World(access=access)
    client = world.client().auth("wim")
    client.take()
    client.send(type="watch", rooms=["video_1", "video_2", "video_3"], id=1)
    await asyncio.sleep(0)
    superseded = list(access.waiting)
    client.send(type="watch", rooms=["video_3", "video_2"], id=2)
    await asyncio.sleep(0)
    for _, answer in access.waiting[len(superseded) :]:
        answer.set_result(Grant(allow=True))
    await asyncio.sleep(0)
    world.sleep(0.1)
    await access.answer(NO)
    world.sleep(0.1)
    answers = client.take("watching")
    assert [sorted(each["rooms"]) for each in answers] == [["video_2", "video_3"]] * 2
    assert [each["roomId"] for each in answers[1]["refused"]] == ["video_1"]


class TypedAccess(AllowAll):
    """An authoriser that names the type of rooms by user: those of any type for users that it does not know."""

    def __init__(self, **types: Any) -> None:
        self.types = types

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Grant:
        grant = super().check(identity, room_id, room_type)
        return msgspec.structs.replace(grant, room_type=self.types.get(identity.user_id))


def test_c1_access_to_a_project_shows_nothing_of_a_film_of_the_same_id_also_of_one_that_is_made_later() -> None:
    access = TypedAccess(wim="project")
    world = World(access=access)
    client, other = watcher(world, "x", "y"), watcher(world, "x", "y", user="any")
    ann = world.person("ann", "x")
    bob = world.client().auth("bob").join("y", roomType="project")
    world.sleep(3.0)
    assert summaries(client) == [("y", 1, ["bob"])]
    assert sorted(summaries(other)) == [("x", 1, ["ann"]), ("y", 1, ["bob"])]
    late = world.client().auth("wim")
    late.take()
    late.send(type="watch", rooms=["x", "y"])
    world.sleep(0.1)
    assert sorted(summaries(late)) == [("x", 0, []), ("y", 1, ["bob"])]
    rows = world.http("wim").call("getSummaries", rooms=["x", "y"])["summaries"]
    assert [(row["roomId"], row["userCount"]) for row in rows] == [("x", 0), ("y", 1)]
    ann.send(type="leave", roomId="x")
    bob.send(type="leave", roomId="y")
    world.sleep(40.0)
    ann.join("y")  # each with the other type than before
    bob.join("x", roomType="project")
    world.sleep(3.0)
    assert summaries(client)[-2:] in ([("y", 0, []), ("x", 1, ["bob"])], [("x", 1, ["bob"]), ("y", 0, [])])
    assert {room: users for room, _, users in summaries(other)} == {"x": ["bob"], "y": ["ann"]}
    for each in (client, other, late):
        each.hang_up()
    world.sleep(0.1)
    assert not is_watched(world, "x") and not any(node.shard.watchers.edges_of("x") for node in world.nodes.values())


def test_c1_a_new_token_with_access_to_another_type_shows_rooms_of_that_type() -> None:
    access = TypedAccess(wim="project")
    world = World(access=access)
    client = watcher(world, "x")
    world.person("ann", "x")
    world.sleep(3.0)
    assert summaries(client) == []
    access.types["wim"] = "video"
    ask(world, Recheck(user_id="wim"))
    world.sleep(0.1)
    assert summaries(client) == [("x", 1, ["ann"])]


@pytest.mark.one_worker
@pytest.mark.parametrize("which", range(4))
def test_c1_the_next_owner_knows_the_types_of_watched_rooms(which: int) -> None:
    world = World(workers=4, access=TypedAccess(wim="project"))
    clients = {
        number: [Client(world, node.hub).auth(user) for user in ("wim", "any")] for number, node in world.nodes.items()
    }
    for client in (each for pair in clients.values() for each in pair):
        client.send(type="watch", rooms=["x"])
    world.sleep(0.1)
    gone = list(world.nodes.values())[which]
    world.kill(gone)
    world.sleep(10.0)
    del clients[gone.number]
    world.person("ann", "x")
    world.sleep(3.0)
    for typed, untyped in clients.values():
        assert [users for *_, users in summaries(typed)] == [[]]
        assert [users for *_, users in summaries(untyped)][-1] == ["ann"]


# --- bounds -------------------------------------------------------------------------------------------------------


def test_lists_have_a_rate_of_their_own() -> None:
    world = World()
    client = world.client().auth("wim")
    client.take()
    for number in range(6):
        client.send(type="watch", rooms=[], id=number)
    *done, refused = client.take()
    assert [each["type"] for each in done] == ["watching"] * 5
    assert (refused["code"], refused["id"]) == ("RATE_LIMITED", 5) and refused["retryAfterMs"] >= 900


def test_a_list_has_at_most_200_rooms() -> None:
    client = World().client().auth("wim")
    client.send(type="watch", rooms=[f"r{n}" for n in range(MAX_WATCHED_ROOMS)], id=1)
    assert client.last("watching")["id"] == 1
    client.send(type="watch", rooms=[f"r{n}" for n in range(MAX_WATCHED_ROOMS + 1)], id=2)
    assert client.last("error")["code"] == "INVALID_MESSAGE"


def test_a_slow_client_gets_the_newest_summary_of_each_room_when_it_has_caught_up() -> None:
    world = World()
    client = watcher(world, "video_1", "video_2")
    client.unsent_bytes = 10_000
    client.session.on_unwritable()
    people = []
    for number in range(4):
        people.append(world.person(f"user{number}", "video_1"))
        world.sleep(2.0)
    assert client.take() == []
    client.unsent_bytes = 0
    client.session.on_writable()
    world.sleep(0.5)
    assert summaries(client) == [("video_1", 4, ["user0", "user1", "user2"])]


@pytest.mark.one_worker
def test_first_summaries_are_written_in_portions() -> None:
    world = World(join_hz=1000.0, join_burst=1000, max_rooms_per_user=1000)
    name = "n" * 90
    ann = world.client().auth(f"ann:{name}")
    rooms = [f"video_{'x' * 60}_{number}" for number in range(MAX_WATCHED_ROOMS)]
    for room in rooms:
        ann.join(room)
    client = world.client().auth("wim")
    client.take()
    before = client.writes
    client.send(type="watch", rooms=rooms, id=1)
    size = sum(len(raw) for raw in client.raw)
    assert size < PORTION_BYTES + 20_000 and client.writes - before <= 3
    world.sleep(1.0)
    assert len(summaries(client)) == MAX_WATCHED_ROOMS


# --- over HTTP ----------------------------------------------------------------------------------------------------


def test_get_summaries_answers_in_the_order_of_the_input_and_names_refused_rooms() -> None:
    world = World(access=ClaimsAccess())
    world.person('ann:Ann:{"*":["join"]}', "video_2")
    world.person('gus:Gus:{"*":["join"]}', "video_1", privacy={"invisible": True})
    caller = world.http('wim:Wim:{"video_1":["join"],"video_2":["join"]}')
    answer = caller.call("getSummaries", rooms=["video_3", "video_2", "video_1", "video_2"])
    assert [(each["roomId"], each["userCount"]) for each in answer["summaries"]] == [("video_2", 1), ("video_1", 0)]
    assert answer["summaries"][0]["users"][0].keys() == {"userId", "name", "color"}
    assert [(each["roomId"], each["code"]) for each in answer["refused"]] == [("video_3", "FORBIDDEN")]


def test_get_summaries_waits_for_checks_that_answer_later() -> None:
    access = LaterAccess()
    world = World(access=access)
    started = world.http("wim").start("getSummaries", rooms=[f"video_{number}" for number in range(10)])
    world.settle()
    for _ in range(10):
        access.give(Grant(allow=True))
        world.settle()
    assert len(started.result["summaries"]) == 10 and access.most <= 4


def test_get_summaries_has_a_rate_of_its_own() -> None:
    world = World()
    caller, hub = world.http("wim"), world.hub
    started = [caller.start("getSummaries", rooms=["video_1"], hub=hub) for _ in range(6)]
    world.settle()
    assert [call.error.code if call.error else "" for call in started] == [""] * 5 + ["RATE_LIMITED"]


# --- several workers ----------------------------------------------------------------------------------------------


@pytest.mark.one_worker
def test_a_summary_goes_once_to_each_edge_whatever_the_number_of_its_watchers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(workers=3)
    clients = [watcher(world, "video_1", user=f"wim{number}") for number in range(9)]
    owner = next(node for node in world.nodes.values() if node.shard.watchers.edges_of("video_1"))
    assert owner.shard.watchers.edges_of("video_1") == set(world.nodes)
    messages: list[int] = []
    send = owner.bus._send_to_edge

    def count(edge_id: int, message: Any, now: float) -> None:
        messages.extend([edge_id] if isinstance(message, SummaryChanged) else [])
        send(edge_id, message, now)

    monkeypatch.setattr(owner.bus, "_send_to_edge", count)
    world.person("ann", "video_1")
    world.sleep(2.0)
    assert all(summaries(client) == [("video_1", 1, ["ann"])] for client in clients)
    assert sorted(messages) == sorted(world.nodes)


@pytest.mark.one_worker
@pytest.mark.parametrize("which", range(4))
def test_watchers_are_fed_by_the_next_owner(which: int) -> None:
    world = World(workers=4)
    world.person("ann", "video_1"), world.person("bob", "video_2")
    clients = {number: Client(world, node.hub).auth(f"wim{number}") for number, node in world.nodes.items()}
    for client in clients.values():
        client.send(type="watch", rooms=["video_1", "video_2", "video_3"])
    world.sleep(0.1)
    gone = list(world.nodes.values())[which]
    world.kill(gone)
    world.sleep(10.0)
    del clients[gone.number]
    for client in clients.values():
        client.take()
    for room in ("video_1", "video_2", "video_3"):
        world.person("eve", room)
    world.sleep(3.0)
    for client in clients.values():
        assert {(room, users[-1]) for room, _, users in summaries(client)} == {
            ("video_1", "eve"), ("video_2", "eve"), ("video_3", "eve"),
        }  # fmt: skip


@pytest.mark.one_worker
def test_a_command_to_watch_no_more_that_comes_late_changes_nothing() -> None:
    world = World()
    watchers = world.shard.watchers

    def begin(number: int) -> set[int]:
        watchers.begin(WatchRoom(room_id="video_1", edge=1, number=number, watches=True), None)
        return watchers.edges_of("video_1")

    def end(number: int) -> set[int]:
        watchers.end(WatchRoom(room_id="video_1", edge=1, number=number, watches=False))
        return watchers.edges_of("video_1")

    assert [begin(5), end(4), begin(3), end(4), end(6)] == [{1}, {1}, {1}, {1}, set()]
    world.shard.take_effects()


@pytest.mark.one_worker
def test_a_summary_of_a_former_owner_does_not_replace_that_of_the_present_one() -> None:
    world = World()
    client = watcher(world, "video_1")
    hub = world.hub
    for version, users in ((1 << 50, 5), (1 << 49, 4)):
        payload = b'{"type":"room_summary","roomId":"video_1","userCount":%d,"users":[]}' % users
        message = SummaryChanged(room_id="video_1", room_type="video", version=version, payload=payload)
        hub.on_edge_message(message, world.now)
    world.sleep(1.0)
    assert summaries(client) == [("video_1", 5, [])]
