"""Webhook events of rooms whose owners change [M10, N-b]: no member enters twice, and no leave is lost."""

from collections import Counter

import pytest

from koko_presence.protocol.webhook_events import ControlChanged, RoomCreated, RoomEmptied, UserEntered, UserLeft
from tests.sim import ROOMS, Story
from tests.world import Client, Node, World


def owner_of(world: World, room_id: str) -> Node:
    (owner,) = [node for node in world.nodes.values() if room_id in node.shard.rooms]
    return owner


def kill(world: World, node: Node, *clients: Client) -> None:
    """End a worker as kill -9 does, and start a replacement in the same slot."""
    node.dead = True
    del world.nodes[node.number]
    for client in clients:
        if client.session.hub is node.hub:
            client.closed = 1006
    world.publish()
    world.sleep(0.3)
    world.add(max(world.slots) + 1, world.slots[node.number])
    world.publish()
    world.sleep(0.3)


@pytest.fixture
def scene() -> tuple[World, list[Client]]:
    world = World(workers=3, telling=True)
    people = [world.person(name) for name in ("ann", "bob", "carol", "dave")]
    world.sleep(0.1)
    assert world.webhook_events is not None
    world.webhook_events.clear()
    return world, people


def test_n_b_a_room_that_is_taken_over_causes_no_event_of_its_creation_or_of_its_members(
    scene: tuple[World, list[Client]],
) -> None:
    world, people = scene
    dead = owner_of(world, "video_123")
    kill(world, dead, *people)
    for person in people:
        if person.closed:
            world.client().auth(person.got[0]["userId"], resumeToken=person.resume_token).join()
    world.sleep(60.0)
    assert owner_of(world, "video_123").number != dead.number
    assert world.webhook_events == []


def test_n_b_a_client_that_does_not_return_after_the_loss_of_a_worker_leaves_once(
    scene: tuple[World, list[Client]],
) -> None:
    world, people = scene
    dead = owner_of(world, "video_123")
    gone = {person.session_id for person in people if person.session.hub is dead.hub}
    assert gone, "somebody was connected to it"
    kill(world, dead, *people)
    world.sleep(world.limits.grace_s + 1.0)
    assert world.webhook_events is not None
    assert Counter(type(each) for each in world.webhook_events) == {UserLeft: len(gone)}
    assert {each.session_id for each in world.webhook_events if isinstance(each, UserLeft)} == gone
    assert {each.reason for each in world.webhook_events if isinstance(each, UserLeft)} == {"disconnected"}


def test_n_b_a_leave_of_a_room_that_was_taken_over_is_reported_by_the_new_owner(
    scene: tuple[World, list[Client]],
) -> None:
    world, people = scene
    dead = owner_of(world, "video_123")
    stayers = [person for person in people if person.session.hub is not dead.hub]
    kill(world, dead, *people)
    stayers[0].send({"type": "control_request", "roomId": "video_123"})
    for person in stayers:
        person.send({"type": "leave", "roomId": "video_123"})
    world.sleep(60.0)
    assert world.webhook_events is not None
    left = {each.session_id for each in world.webhook_events if isinstance(each, UserLeft) and each.reason == "left"}
    assert left == {person.session_id for person in stayers}
    assert [type(each) for each in world.webhook_events].count(RoomEmptied) == 1
    assert [each.reason for each in world.webhook_events if isinstance(each, ControlChanged)] == ["auto", "left"]
    assert len({each.id for each in world.webhook_events}) == len(world.webhook_events)


def what_is_wrong(story: Story) -> str:
    """Describe what a back end that follows the webhooks finds inconsistent; "" for nothing."""
    told = story.world.webhook_events
    assert told is not None
    here: dict[str, set[str]] = {room: set() for room in ROOMS}
    there: set[str] = set()
    for each in told:
        if isinstance(each, RoomCreated):
            if each.room_id in there:
                return f"{each.room_id} is created twice"
            there.add(each.room_id)
        elif isinstance(each, RoomEmptied):
            if each.room_id not in there or here[each.room_id]:
                return f"{each.room_id} is emptied with {here[each.room_id]}"
            there.remove(each.room_id)
        elif isinstance(each, UserEntered):
            if each.session_id in here[each.room_id]:
                return f"{each.session_id} enters {each.room_id} twice"
            here[each.room_id].add(each.session_id)
        elif isinstance(each, UserLeft):
            if each.session_id not in here[each.room_id]:
                return f"{each.session_id} leaves {each.room_id} without being there"
            here[each.room_id].remove(each.session_id)
    rooms = story.world.shard.rooms
    inside = {room: set(rooms[room].members) if room in rooms else set() for room in ROOMS}
    if here != inside or there != set(rooms):
        return f"told of {here} in {there}, but {inside} in {set(rooms)}"
    return "" if len({each.id for each in told}) == len(told) else "an id is given twice"


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(4))
def test_n_d_rolling_hanging_and_cut_links_lose_nothing_and_double_nothing(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Story, "crash", lambda self, node: node.stopped is not None and self.go_on(node))
    broken = {}
    for seed in range(1 + chunk * 40, 41 + chunk * 40):
        story = Story(seed)
        story.run()
        if wrong := what_is_wrong(story):
            broken[seed] = wrong
    assert not broken
