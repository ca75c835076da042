"""B12: compact cursors on request, in one message per room and flush; other clients receive the same as ever."""

from typing import Any

import pytest

from koko_presence.access.policy import AllowAll
from tests.world import Client, World


def cursor(**data: Any) -> dict[str, Any]:
    return {"type": "cursor", "roomId": "video_123", "data": data or None}


def compact_person(world: World, user: str) -> Client:
    return world.person(user, caps=["cursors", "telepathy"])


@pytest.fixture
def world() -> World:
    return World(access=AllowAll())


def rows(client: Client) -> list[list[Any]]:
    return [row for message in client.take("cursors") for row in message["data"]]


def test_caps_are_answered_with_the_supported_ones(world: World) -> None:
    assert compact_person(world, "ann").last("authenticated")["caps"] == ["cursors"]
    assert world.person("bob").last("authenticated")["caps"] == []


def test_caps_last_as_long_as_the_connection(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    ann.send({"type": "auth", "token": "ann"})
    assert ann.last("authenticated")["caps"] == ["cursors"]
    bob.send({"type": "auth", "token": "bob", "caps": ["cursors"]})
    assert bob.last("authenticated")["caps"] == []
    ann.take(), bob.take()
    ann.send(cursor(timestamp=1))
    bob.send(cursor(timestamp=2))
    assert [m["type"] for m in ann.take()] == ["cursors"] and [m["type"] for m in bob.take()] == ["cursor_moved"]


def test_indexes_identify_the_session_of_a_row(world: World) -> None:
    ann = compact_person(world, "ann")
    bob = compact_person(world, "bob")
    index = {user["userId"]: user["index"] for user in bob.last("joined")["room"]["users"]}
    assert ann.last("user_joined")["data"]["index"] == index["bob"] != index["ann"]
    ann.take(), bob.take()
    bob.send(cursor(timestamp=15.5, x=0.45, y=0.3))
    ann.send(cursor(timestamp=1.25))
    assert rows(ann) == [[index["bob"], 15.5, 0.45, 0.3]]
    assert rows(bob) == [[index["ann"], 1.25]]
    assert not ann.of("cursor_moved") and not bob.of("cursor_moved")


def test_the_message_is_as_documented_byte_for_byte(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    bob.send(cursor(timestamp=15.5, x=0.45, y=0.3))
    stamp = world.wall.iso(world.now - 0.006)
    assert ann.raw[-1] == (
        b'{"type":"cursors","roomId":"video_123","timestamp":"%b","data":[[1,15.5,0.45,0.3]]}' % stamp.encode()
    )


def test_a_hidden_cursor_is_only_its_index_whatever_hid_it(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    bob.send(cursor(timestamp=1))
    bob.send(cursor())
    assert rows(ann) == [[1, 1.0], [1]]
    world.sleep(1)
    bob.send(cursor(timestamp=2))
    bob.send({"type": "privacy", "data": {"shareCursor": False}})
    assert rows(ann) == [[1, 2.0], [1]]
    bob.send({"type": "privacy", "data": {"shareCursor": True}})
    bob.send(cursor(timestamp=3))
    bob.hang_up(1006)
    assert rows(ann) == [[1, 3.0], [1]]


def test_target_is_a_fifth_value_and_what_is_missing_is_null(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    bob.send(cursor(timestamp=1, x=0, y=1, target="comment_1"))
    world.sleep(1)
    bob.send(cursor(timestamp=1, target="comment_1"))
    assert rows(ann) == [[1, 1.0, 0.0, 1.0, "comment_1"], [1, 1.0, None, None, "comment_1"]]
    cat, dan = world.client().auth("cat", caps=["cursors"]), world.client().auth("dan")
    cat.join("lobby", "project"), dan.join("lobby", "project")
    dan.send({"type": "cursor", "roomId": "lobby", "data": {"x": 0.5, "y": 0.5}})
    assert rows(cat) == [[1, None, 0.5, 0.5]]


@pytest.mark.one_worker
def test_one_message_per_flush_and_other_events_keep_their_place(world: World) -> None:
    ann = compact_person(world, "ann")
    people = [world.person(f"u{number}") for number in range(6)]
    ann.take()
    for number, person in enumerate(people):
        person.post(cursor(timestamp=number))
        if number == 3:
            person.post({"type": "typing", "roomId": "video_123", "data": {"isTyping": True}})
    world.settle()
    told = ann.take()
    assert [message["type"] for message in told] == ["cursors", "typing_started", "cursors"]
    assert [row[1] for message in told for row in message.get("data", []) if isinstance(row, list)] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


@pytest.mark.one_worker
def test_an_index_is_never_used_for_two_people_in_one_run(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    ann.take()
    bob.post(cursor(timestamp=1))
    bob.post({"type": "leave", "roomId": "video_123"})
    cat = world.client()
    cat.post({"type": "auth", "token": "cat"})
    cat.post({"type": "join", "roomId": "video_123", "roomType": "video"})
    world.settle()
    cat.post(cursor(timestamp=2))
    world.settle()
    told = [(message["type"], message.get("data")) for message in ann.take()]
    kinds = [kind for kind, _ in told]
    assert kinds == ["cursors", "user_left", "user_joined", "cursors"]
    assert told[0][1] == [[1, 1.0]] and told[3][1] == [[1, 2.0]] and told[2][1]["index"] == 1


def test_after_coming_back_from_invisible_the_new_index_counts(world: World) -> None:
    ann, bob = compact_person(world, "ann"), world.person("bob")
    bob.send(cursor(timestamp=1))
    bob.send({"type": "privacy", "data": {"invisible": True}})
    cat = world.person("cat")
    bob.send({"type": "privacy", "data": {"invisible": False}})
    world.sleep(1)
    index = ann.last("user_joined")["data"]["index"]
    ann.take()
    bob.send(cursor(timestamp=2))
    assert rows(ann) == [[index, 2.0]] and index == 2 and cat.of("cursor_moved")
