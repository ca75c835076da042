"""The media of a room, its end and its frames outlive the room's owner [H17 to H21, N-b]."""

from typing import Any

import pytest

from koko_presence.cluster.placement import Ring, room_key
from tests.world import Client, Node, World

ROOM = "video_1"


def stage() -> tuple[World, Client, Node]:
    """A client that is connected to another worker than the owner of the room, and the owner."""
    world = World(workers=4)
    owner = Ring(world.next_view()).owner(room_key(ROOM))
    edge = next(node for number, node in world.nodes.items() if number != owner)
    return world, Client(world, edge.hub).auth("ada").join(ROOM), world.nodes[owner]


def say(client: Client, type_: str, **data: Any) -> None:
    client.send({"type": type_, "roomId": ROOM, "id": 5, "data": data})


def snapshot(world: World) -> dict[str, Any]:
    return dict(world.client().auth("late").join(ROOM).last("joined")["room"])


def test_media_and_the_frame_of_a_pause_outlive_the_owner() -> None:
    world, ada, owner = stage()
    say(ada, "media", target="left", mediaId="film_1", frameRate="24000/1001", duration=60, offset=2.4, title="Cut 1")
    say(ada, "media", target="right", mediaId="film_2", frameRate=25)
    say(ada, "playback", action="pause", currentTime=10.0, target="right")
    world.sleep(0.5)
    before = snapshot(world)
    world.kill(owner)
    world.sleep(1.0)
    after = snapshot(world)
    assert after["media"] == before["media"] and list(after["media"]) == ["left", "right"]
    assert after["playback"] == before["playback"] | {"version": after["playback"]["version"]}
    say(ada, "playback", action="step", frames=1)
    assert ada.last("playback_synced")["data"]["frame"] == before["playback"]["frame"] + 1
    say(ada, "playback", action="play", target="left", mediaId="film_0")
    assert ada.last("error")["code"] == "STALE"


@pytest.mark.parametrize("ends_after_s", [0.3, 8.0])
def test_a_room_ends_at_its_next_owner(ends_after_s: float) -> None:
    """Also when it reaches the end while it has no owner."""
    world, ada, owner = stage()
    say(ada, "playback", action="play", currentTime=60.0 - ends_after_s - 1.0, duration=60.0)
    world.sleep(1.0)
    world.kill(owner)
    world.sleep(ends_after_s + 1.5)
    data = ada.last("playback_synced")["data"]
    assert {"action": "end", "isPlaying": False, "currentTime": 60.0, "ended": True}.items() <= data.items()
    assert sum(each["data"]["action"] == "end" for each in ada.of("playback_synced")) == 1


def test_a_duration_that_a_command_has_named_outlives_the_owner() -> None:
    world, ada, owner = stage()
    say(ada, "playback", action="seek", currentTime=5.0, duration=60.0, target="left")
    say(ada, "playback", action="seek", currentTime=5.0, duration=80.0, target="right")
    world.sleep(0.5)
    world.kill(owner)
    world.sleep(1.0)
    say(ada, "playback", action="seek", currentTime=6.0, duration=50.0, target="right")
    assert ada.last("playback_synced")["data"]["duration"] == 60.0


def test_a_late_command_for_a_removed_target_is_stale_at_the_next_owner() -> None:
    world, ada, owner = stage()
    say(ada, "media", mediaId="film_1")
    say(ada, "media", target="alt", mediaId="film_2")
    say(ada, "media", target="alt", mediaId=None)
    world.sleep(0.5)
    world.kill(owner)
    world.sleep(1.0)
    say(ada, "playback", action="seek", currentTime=77.0, target="alt", mediaId="film_2")
    assert ada.last("error")["code"] == "STALE"


def test_media_of_the_back_end_stay_the_back_ends() -> None:
    world, ada, owner = stage()
    room = world.shard.rooms[ROOM]
    room.targets.from_back_end = True
    say(ada, "playback", action="seek", currentTime=6.0)
    world.sleep(0.5)
    world.kill(owner)
    world.sleep(1.0)
    say(ada, "media", mediaId="film_1")
    assert ada.last("error")["code"] == "FORBIDDEN"


def test_a_medium_that_is_set_while_its_owner_dies_is_set_once() -> None:
    world, ada, owner = stage()
    ada.post({"type": "media", "roomId": ROOM, "id": 5, "data": {"mediaId": "film_1"}})
    owner.dead = True
    del world.nodes[owner.number]
    world.sleep(0.25)
    world.publish()
    world.sleep(1.0)
    assert snapshot(world)["media"] == {"main": {"mediaId": "film_1"}}
    assert ada.last("ack")["id"] == 5 and len(ada.of("media_changed")) == 1


def test_a_step_is_done_once_and_answered_when_its_owner_dies() -> None:
    """Its effect may be known elsewhere before it is acknowledged; it is sent again then [H21]."""
    for dies_after_ms in range(1, 40, 3):
        world, ada, owner = stage()
        say(ada, "media", mediaId="film_1", frameRate=25, duration=20)
        say(ada, "playback", action="pause", currentTime=4.02)
        world.sleep(1.0)
        backup = owner.bus.transfer.backup_owner(room_key(ROOM))
        number = next(number for number in world.nodes if number not in (owner.number, backup))
        bea = Client(world, world.nodes[number].hub).auth("bea").join(ROOM)
        slow = (owner.number, number)
        world.link_delay_s = lambda sender, receiver, slow=slow: 0.1 if (sender, receiver) == slow else 0.002  # type: ignore[misc]
        for step in (8, 9):
            bea.post({"type": "playback", "roomId": ROOM, "id": step, "data": {"action": "step", "frames": 1}})
        world.sleep(dies_after_ms / 1000.0)
        world.kill(owner)
        world.sleep(1.0)
        assert snapshot(world)["playback"]["frame"] == 102, dies_after_ms
        assert [each["id"] for each in bea.of("ack")] == [8, 9]
        say(bea, "playback", action="step", frames=1)
        assert snapshot(world)["playback"]["frame"] == 103


@pytest.mark.parametrize("clean", [False, True], ids=["lost", "released"])
def test_cursors_and_selections_stay_in_their_medium_at_the_next_owner(clean: bool) -> None:
    """The edge has the last cursor, and does not know that the medium was replaced since."""
    world, ada, owner = stage()
    say(ada, "media", mediaId="film_1")
    say(ada, "selection", startTime=1.0, endTime=2.0)
    for second in range(5):
        ada.send(type="cursor", roomId=ROOM, data={"timestamp": float(second)})
        world.sleep(0.1)
    say(world.person("bob", ROOM), "media", mediaId="film_2")
    world.sleep(0.5)
    if clean:
        world.publish(leaving=frozenset((owner.number,)))
    else:
        world.kill(owner)
    world.sleep(1.0)
    (row,) = (user for user in snapshot(world)["users"] if user["userId"] == "ada")
    assert row["cursor"] == {"timestamp": 4.0, "mediaId": "film_1"}
    assert row["selection"] == {"startTime": 1.0, "endTime": 2.0, "mediaId": "film_1"}
    ada.send(type="cursor", roomId=ROOM, data={"timestamp": 5.0})
    (row,) = (user for user in snapshot(world)["users"] if user["userId"] == "ada")
    assert row["cursor"] == {"timestamp": 5.0}
