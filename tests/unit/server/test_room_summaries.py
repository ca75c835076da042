"""Groups of sessions that watch the same rooms, and the passes in which they get summaries [Q12]."""

import gc
import itertools
import random
from typing import Any

import pytest

from koko_presence._fastpath.counters import counters
from koko_presence.protocol.edge_messages import SummaryChanged
from koko_presence.protocol.survey import Kick, Recheck
from koko_presence.server import room_summaries
from koko_presence.server.room_summaries import ROOM_INTERVAL_S, WatchedRoom, WatchGroup
from koko_presence.server.watch_list import WatchList
from tests.unit.rules.test_m_server import ToggledAccess, ask
from tests.world import Client, World

ROOMS = ("video_1", "video_2", "video_3", "video_4", "video_5")
_versions = itertools.count(1 << 50)


def change(world: World, room: str, users: int, room_type: Any = "video") -> None:
    """Let the edge get a summary as from the room's owner."""
    payload = b'{"type":"room_summary","roomId":"%s","userCount":%d,"users":[]}' % (room.encode(), users)
    message = SummaryChanged(room_id=room, room_type=room_type, version=next(_versions), payload=payload)
    world.hub.on_edge_message(message, world.now)


def watcher(world: World, *rooms: str, user: str = "wim") -> Client:
    """Return a client that watches rooms; the answer and the first summaries are already taken."""
    client = world.client().auth(user)
    client.send(type="watch", rooms=list(rooms))
    world.sleep(0.1)
    client.take()
    return client


def summaries(client: Client) -> list[tuple[str, int]]:
    """Room and number of users of the summaries since the last call."""
    return [(each["roomId"], each["userCount"]) for each in client.take("room_summary")]


def group_of(client: Client) -> Any:
    watch_list = client.session.watch_list
    assert watch_list is not None
    return watch_list._group


def slow(client: Client) -> None:
    client.unsent_bytes = 10_000
    client.session.on_unwritable()


def recover(client: Client) -> None:
    client.unsent_bytes = 0
    client.session.on_writable()


# --- groups -------------------------------------------------------------------------------------------------------


def test_sessions_with_equal_lists_share_a_group_whatever_the_order() -> None:
    world = World()
    first, second = watcher(world, "video_1", "video_2"), watcher(world, "video_2", "video_1", user="bob")
    other = watcher(world, "video_1", user="cat")
    assert group_of(first) is group_of(second) is not group_of(other)
    assert [room.room_id for room in group_of(first).watched] == ["video_1", "video_2"]
    change(world, "video_1", 3)
    change(world, "video_2", 4)
    world.sleep(1.0)
    assert summaries(first) == summaries(second) == [("video_1", 3), ("video_2", 4)]
    assert summaries(other) == [("video_1", 3)]


def test_a_group_gets_what_has_changed_with_one_write_for_each_session() -> None:
    world = World()
    clients = [watcher(world, *ROOMS, user=f"wim{number}") for number in range(3)]
    before, counted = [client.writes for client in clients], counters.read().sent["room_summary"]
    for room in ROOMS:
        change(world, room, 2)
    world.sleep(1.0)
    assert all(summaries(client) == [(room, 2) for room in ROOMS] for client in clients)
    assert [client.writes for client in clients] == [writes + 1 for writes in before]
    assert counters.read().sent["room_summary"] - counted == 3 * len(ROOMS)


def test_a_room_that_is_refused_to_one_session_splits_the_group() -> None:
    access = ToggledAccess()
    world = World(access=access)
    wim, bob = watcher(world, "video_1", "video_2"), watcher(world, "video_1", "video_2", user="bob")
    access.closed.add(("wim", "video_1"))
    ask(world, Recheck(user_id="wim"))
    assert group_of(wim) is not group_of(bob)
    cat = watcher(world, "video_2", user="cat")
    assert group_of(wim) is group_of(cat)
    change(world, "video_1", 3)
    change(world, "video_2", 4)
    world.sleep(1.0)
    assert summaries(wim) == summaries(cat) == [("video_2", 4)]
    assert summaries(bob) == [("video_1", 3), ("video_2", 4)]


def test_a_session_that_may_watch_no_room_any_more_is_in_no_group() -> None:
    access = ToggledAccess()
    world = World(access=access)
    wim = watcher(world, *ROOMS)
    access.closed.update(("wim", room) for room in ROOMS)
    ask(world, Recheck(user_id="wim"))
    assert group_of(wim) is None and not list(world.hub.watched_rooms)
    (told,) = wim.take()
    assert told["rooms"] == [] and [each["roomId"] for each in told["refused"]] == list(ROOMS)


def test_leaving_frees_groups_and_rooms() -> None:
    """By their references only: the garbage collector is off."""
    gc.disable()
    try:
        world = World()
        kinds = (WatchedRoom, WatchGroup, WatchList)

        def alive() -> list[int]:
            found = [type(each) for each in gc.get_objects()]
            return [found.count(kind) for kind in kinds]

        before = alive()
        clients = [watcher(world, "video_1", "video_2", user=f"wim{number}") for number in range(3)]
        clients.append(watcher(world, "video_2", "video_3", user="bob"))
        assert [now - then for now, then in zip(alive(), before, strict=True)] == [3, 2, 4]
        slow(clients[0])
        change(world, "video_2", 7)
        world.settle()
        clients[1].send(type="watch", rooms=[])
        clients[0].hang_up(1006)
        clients[2].hang_up()
        assert [now - then for now, then in zip(alive()[:2], before, strict=False)] == [2, 1]
        clients[3].hang_up()
        assert alive()[:2] == before[:2] and not list(world.hub.watched_rooms)
    finally:
        gc.enable()


# --- passes -------------------------------------------------------------------------------------------------------


def test_a_slow_session_gets_the_newest_summaries_later_and_holds_back_no_other_one() -> None:
    world = World()
    late, bob = watcher(world, "video_1", "video_2"), watcher(world, "video_1", "video_2", user="bob")
    slow(late)
    for users in (1, 2, 3):
        change(world, "video_1", users)
        world.sleep(2.0)
        assert summaries(bob) == [("video_1", users)]
    assert summaries(late) == []
    recover(late)
    world.sleep(0.2)
    assert summaries(late) == [("video_1", 3)]
    change(world, "video_2", 5)
    world.sleep(2.0)
    assert summaries(late) == summaries(bob) == [("video_2", 5)]


def test_a_room_has_one_summary_a_second_though_its_owner_sends_more() -> None:
    world = World()
    client = watcher(world, "video_1", "video_2")
    seen: list[tuple[float, int]] = []
    for users in range(1, 60):
        change(world, "video_1", users)
        world.sleep(0.05)
        seen += [(world.now, count) for _, count in summaries(client)]
    times = [at for at, _ in seen]
    assert len(seen) == 3 and all(after - at > ROOM_INTERVAL_S - 0.001 for at, after in itertools.pairwise(times))
    world.sleep(1.0)
    assert summaries(client) == [("video_1", 59)]


def test_passes_to_many_sessions_are_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_summaries, "WRITES_PER_S", 10.0)
    world = World()
    clients = [watcher(world, *ROOMS, user=f"wim{number}") for number in range(6)]
    world.sleep(2.0)
    change(world, "video_1", 1)
    world.sleep(0.1)
    assert all(summaries(client) == [("video_1", 1)] for client in clients)
    change(world, "video_2", 2)
    world.sleep(0.4)
    change(world, "video_3", 3)
    assert not any(summaries(client) for client in clients)
    world.sleep(0.15)
    assert all(summaries(client) == [("video_2", 2), ("video_3", 3)] for client in clients)
    monkeypatch.setattr(room_summaries, "WRITES_PER_S", 1.0)  # the longest interval is a second
    world.sleep(2.0)
    for room in ("video_4", "video_5"):
        change(world, room, 1)
        world.sleep(1.01)
        assert all(summaries(client) == [(room, 1)] for client in clients)


def test_a_loop_iteration_serves_a_part_of_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_summaries, "SESSIONS_AT_ONCE", 2)
    world = World()
    clients = [watcher(world, "video_1", user=f"wim{number}") for number in range(5)]
    clients += [watcher(world, "video_1", f"video_{number}", user=f"own{number}") for number in range(2, 5)]
    world.sleep(1.0)
    before = {client: client.writes for client in clients}
    change(world, "video_1", 1)
    served = 0
    while served < len(clients):
        world.sleep(0.001)
        now_served = sum(client.writes > before[client] for client in clients)
        assert now_served - served <= 2
        served = now_served
    world.sleep(1.0)
    assert all(summaries(client) == [("video_1", 1)] for client in clients)


def test_first_summaries_are_served_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    first = watcher(world, "video_1")
    monkeypatch.setattr(room_summaries, "SESSIONS_AT_ONCE", 2)
    clients = [world.client().auth(f"bob{number}") for number in range(5)]
    for client in clients:
        client.post(type="watch", rooms=["video_1"])
    served = 0
    while served < len(clients):
        world.sleep(0.001)
        now_served = sum(bool(client.of("room_summary")) for client in clients)
        assert now_served - served <= 2
        served = now_served
    world.sleep(1.0)
    assert all(summaries(client) == [("video_1", 0)] for client in clients) and not summaries(first)


def test_a_change_that_is_undone_before_the_next_pass_is_not_delivered() -> None:
    world = World()
    client = watcher(world, "video_1", "video_2")
    change(world, "video_1", 1)
    world.sleep(0.01)
    change(world, "video_2", 2)
    change(world, "video_2", 0)
    world.sleep(2.0)
    assert summaries(client) == [("video_1", 1)]


def test_a_session_that_was_served_and_moves_to_a_group_that_was_not_gets_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room_summaries, "SESSIONS_AT_ONCE", 1)
    world = World()
    moved, other = watcher(world, "video_1", "video_2"), watcher(world, "video_1", user="bob")
    change(world, "video_1", 1)
    while not moved.of("room_summary")[2:]:
        world.sleep(0.001)
    assert not other.take()
    moved.post(type="watch", rooms=["video_1"])
    world.sleep(1.0)
    assert group_of(moved) is group_of(other)
    assert summaries(moved) == summaries(other) == [("video_1", 1)]


def test_a_session_that_is_added_while_a_pass_publishes_and_the_others_miss_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    first, second = watcher(world, "video_1", "video_2"), world.client().auth("bob")
    reads = itertools.count()  # there is time for one room in each part
    monkeypatch.setattr(world.hub.room_summaries, "_clock", lambda: world.now + next(reads) * 0.003)
    change(world, "video_1", 1)
    change(world, "video_2", 2)
    while not group_of(first).published:
        world.sleep(0.001)
    second.post(type="watch", rooms=["video_1", "video_2"])
    assert [room.room_id for room in group_of(second).published] == ["video_1"]
    world.sleep(2.0)
    assert sorted(summaries(first)) == sorted(summaries(second)) == [("video_1", 1), ("video_2", 2)]


@pytest.mark.parametrize("seed", range(40))
def test_no_summary_is_lost_or_repeated_as_lists_change_between_the_parts_of_a_pass(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client ends with the true summary of each room of its list. It gets none of any other room, and none twice,
    unless the room has been out of its list meanwhile."""
    chances = random.Random(seed)
    monkeypatch.setattr(room_summaries, "SESSIONS_AT_ONCE", chances.choice((1, 2, 3, 128)))
    world = World(watch_hz=1000.0, watch_burst=1000)
    if chances.random() < 0.5:  # parts that end because of the time
        reads = itertools.count()
        monkeypatch.setattr(world.hub.room_summaries, "_clock", lambda: world.now + next(reads) % 5 * 0.002)
    clients = [watcher(world, *ROOMS[:3], user=f"wim{number}") for number in range(8)]
    lists = [set(ROOMS[:3]) for _ in clients]
    shown = [dict.fromkeys(ROOMS[:3], 0) for _ in clients]
    true = dict.fromkeys(ROOMS, 0)
    slow_since: dict[int, float] = {}

    def read(number: int) -> None:
        for message in clients[number].take():
            if message["type"] == "watching":
                shown[number] = {room: shown[number].get(room, -1) for room in message["rooms"]}
            elif message["type"] == "room_summary":
                room, users = message["roomId"], message["userCount"]
                assert shown[number][room] != users
                shown[number][room] = users

    for _ in range(150):
        number = chances.randrange(len(clients))
        match chances.choice(("change", "change", "change", "list", "list", "kick", "slow", "wait", "wait")):
            case "change":
                room = chances.choice(ROOMS)
                true[room] += 1
                if room in world.hub.watched_rooms:
                    change(world, room, true[room])
            case "list":
                rooms = chances.sample(ROOMS, chances.randrange(len(ROOMS)))
                known = set(world.hub.watched_rooms)
                clients[number].post(type="watch", rooms=rooms)
                lists[number] = set(rooms)
                for room in set(rooms) - known:  # of these the owner has sent a summary without users
                    change(world, room, true[room])
            case "kick":
                room = chances.choice(ROOMS)
                ask(world, Kick(user_id=f"wim{number}", room_id=room, reason="Out!"), settle=False)
                lists[number].discard(room)
            case "slow" if number not in slow_since:
                slow_since[number] = world.now
                slow(clients[number])
            case "wait":
                world.sleep(chances.choice((0.001, 0.003, 0.01, 0.1, 0.3, 1.2)))
        for each, client in enumerate(clients):
            read(each)
            if each in slow_since and (chances.random() < 0.1 or world.now > slow_since[each] + 5.0):
                del slow_since[each]
                recover(client)
    for number in slow_since:
        recover(clients[number])
    world.sleep(5.0)
    for number, rooms in enumerate(lists):
        read(number)
        assert shown[number] == {room: true[room] for room in rooms}
