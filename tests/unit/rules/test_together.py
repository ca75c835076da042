"""Decisions H9 and H10: a room that waits for viewers who buffer, and players that start together."""

from datetime import datetime
from typing import Any

import pytest

from koko_presence.protocol.limits import RoomOptions
from tests.world import Client, World

ROOM = "video_123"


def play(action: str, **fields: Any) -> dict[str, Any]:
    return {"type": "playback", "roomId": ROOM, "data": {"action": action, **fields}}


def position(world: World) -> float:
    return float(world.shard.rooms[ROOM].playback.position(world.now))


def report(client: Client, *, buffering: bool = False, playing: bool | None = None, **more: Any) -> None:
    """Report the room's position, in its state unless `playing` says another."""
    room = client.world.shard.rooms[ROOM]
    is_playing = room.playback.is_playing if playing is None else playing
    at = position(client.world)
    client.send(play("report", isPlaying=is_playing, currentTime=at, playbackRate=1, buffering=buffering, **more))


def settled(*viewers: Client) -> None:
    """Let the viewers be in step for 5 s, after which they are no newcomers."""
    for _ in range(2):
        for viewer in viewers:
            report(viewer)
        viewers[0].world.sleep(5.0)
    for viewer in viewers:
        viewer.take()


def states(client: Client) -> list[tuple[str, bool, str, Any]]:
    """Action, playing, user and waited-for users of the new playback events."""
    return [
        (event["data"]["action"], event["data"]["isPlaying"], event["userId"], event["data"].get("waitingFor"))
        for event in client.take("playback_synced")
    ]


@pytest.fixture
def trio() -> tuple[Client, Client, Client]:
    """Three viewers in step, in a room that waits for at most 5 s."""
    world = World(RoomOptions(wait_for_viewers_s=5.0))
    people = world.person("ann"), world.person("bob"), world.person("cat")
    people[0].send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    world.sleep(1)
    settled(*people)
    return people


# --- H9


def test_h9_by_default_the_room_does_not_wait(trio: tuple[Client, Client, Client]) -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(ann, bob)
    report(bob, buffering=True)
    assert [event["type"] for event in ann.take()] == ["viewer_sync"]


def test_h9_the_room_stops_for_a_viewer_and_goes_on_when_it_can_play(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, cat = trio
    world = ann.world
    report(bob, buffering=True)
    stopped_at = position(world)
    (event,) = ann.take("playback_synced")
    assert cat.take("playback_synced") == [event] and event["sessionId"] == "system" and event["seq"]
    assert event["data"]["currentTime"] == pytest.approx(stopped_at) and event["data"]["version"] == 2
    bob.take()
    world.sleep(2)
    report(bob, buffering=True, playing=False)
    assert states(ann) == [] and position(world) == stopped_at
    report(bob)
    assert states(ann) == states(bob) == [("play", True, "system", None)]
    assert ann.last("playback_synced")["data"]["currentTime"] == stopped_at
    world.sleep(1)
    assert position(world) == pytest.approx(stopped_at + 1, abs=0.01)
    assert ann.last("playback_synced")["data"]["version"] == 3


def test_h9_it_waits_no_longer_than_the_setting(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    assert states(ann) == [("wait", False, "system", ["bob"])]
    ann.world.sleep(4.9)
    assert states(ann) == []
    ann.world.sleep(0.1)
    assert states(ann) == [("play", True, "system", None)]


def test_h9_it_waits_for_all_of_several(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, cat = trio
    report(bob, buffering=True)
    ann.world.sleep(1)
    report(cat, buffering=True, playing=False)
    assert states(ann) == [("wait", False, "system", ["bob"]), ("wait", False, "system", ["bob", "cat"])]
    report(bob)
    assert states(ann) == []
    ann.world.sleep(3.9)
    assert states(ann) == [], "the time counts from the first"
    ann.world.sleep(0.1)
    assert states(ann) == [("play", True, "system", None)]


def test_h9_once_per_30_s_and_user(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, cat = trio
    report(bob, buffering=True)
    began_at = ann.world.now
    report(bob)
    states(ann)
    report(bob, buffering=True)
    assert states(ann) == []
    report(cat, buffering=True)
    assert states(ann) == [("wait", False, "system", ["cat"])], "another viewer has not been waited for"
    report(cat)
    states(ann)
    while ann.world.now < began_at + 29:
        for each in (ann, bob, cat):
            report(each)
        ann.world.sleep(5)
    ann.world.sleep(began_at + 30 - ann.world.now)
    states(ann)
    report(bob, buffering=True)
    assert states(ann) == [("wait", False, "system", ["bob"])]


def test_h9_newcomers_never_cause_it(trio: tuple[Client, Client, Client]) -> None:
    ann, *_ = trio
    dan = ann.world.person("dan")
    report(dan, buffering=True, playing=False)
    ann.world.sleep(1)
    report(dan, buffering=True)
    assert states(ann) == []
    report(dan)
    ann.world.sleep(0.2)
    report(dan, buffering=True)
    assert states(ann) == [], "a player that has just sought says so before it has data"
    settled(dan)
    report(dan, buffering=True)
    assert states(ann) == [("wait", False, "system", ["dan"])], "in step for 5 s it is no newcomer"


def test_h9_a_break_makes_the_5_s_of_a_newcomer_begin_anew(trio: tuple[Client, Client, Client]) -> None:
    ann, *_ = trio
    dan = ann.world.person("dan")
    for _ in range(2):
        report(dan)
        ann.world.sleep(4)
        report(dan)
        report(dan, buffering=True)
        ann.world.sleep(1)
    assert states(ann) == []


def test_h9_leaving_and_joining_again_causes_no_other_wait(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    began_at = ann.world.now
    bob.send(type="leave", roomId=ROOM)
    ann.world.sleep(11)
    bob = ann.world.person("bob")
    settled(bob)
    states(ann)
    report(bob, buffering=True)
    assert states(ann) == [], "it is the same user"
    while ann.world.now < began_at + 30:
        report(bob)
        ann.world.sleep(2)
    report(bob, buffering=True)
    assert states(ann) == [("wait", False, "system", ["bob"])]


def test_h9_becoming_invisible_and_visible_causes_no_other_wait(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    for invisible in (True, False):
        bob.send(type="privacy", data={"invisible": invisible})
    settled(bob)
    states(ann)
    report(bob, buffering=True)
    assert states(ann) == []


def test_h9_the_tabs_of_a_user_cause_one_wait(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    tab = ann.world.person("bob")
    settled(bob, tab)
    states(ann)
    report(bob, buffering=True)
    report(tab, buffering=True, playing=False)
    assert states(ann) == [("wait", False, "system", ["bob"])]
    report(bob)
    assert states(ann) == [], "the other tab buffers still"
    report(tab)
    assert states(ann) == [("play", True, "system", None)]
    for each in (bob, tab):
        report(each)
        report(each, buffering=True)
    assert states(ann) == []


def test_h9_many_viewers_cannot_stop_the_room_for_longer_than_the_setting_in_30_s() -> None:
    world = World(RoomOptions(wait_for_viewers_s=4.0))
    people = [world.person(f"user{number}") for number in range(20)]
    people[0].send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(*people)
    for second in range(60):
        for each in people:
            report(each)
        report(people[second % 20], buffering=True)
        world.sleep(1.0)
    times = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in people[0].take("playback_synced")]
    waits = list(zip(times[::2], times[1::2], strict=False))  # `wait` and `play` take turns
    for _, end in waits:
        stood_s = sum(max(ended - max(began, end - 30.0), 0.0) for began, ended in waits if ended <= end)
        assert stood_s <= 4.01, f"in the 30 s before {end}"
    assert sum(ended - began for began, ended in waits) > 7.0, "and it does wait"


def test_h9_a_seek_in_a_large_room_makes_few_short_events() -> None:
    world = World(RoomOptions(wait_for_viewers_s=5.0))
    people = [world.person(f"user{number}") for number in range(40)]
    people[0].send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(*people)
    people[0].send(play("seek", currentTime=100))
    states(people[1])
    for each in people:
        report(each, buffering=True)
    events = states(people[1])
    users = [f"user{number}" for number in range(10)]
    assert events == [("wait", False, "system", users[:count]) for count in range(1, 11)]
    for each in people[:-1]:
        report(each)
    assert states(people[1]) == [], "it waits also for those that it has not named"
    report(people[-1])
    assert states(people[1]) == [("play", True, "system", None)]


@pytest.mark.parametrize("how", ["plays", "leave", "hang up", "invisible", "unfollow"])
def test_h9_only_those_who_still_buffer_are_named(trio: tuple[Client, Client, Client], how: str) -> None:
    ann, bob, cat = trio
    report(bob, buffering=True)
    report(cat, buffering=True, playing=False)
    if how == "leave":
        bob.send(type="leave", roomId=ROOM)
    elif how == "hang up":
        bob.hang_up(1006)
    elif how == "invisible":
        bob.send(type="privacy", data={"invisible": True})
    else:
        report(bob, buffering=how != "plays", follow=how != "unfollow")
    states(ann)
    ann.send(play("seek", currentTime=50))
    assert states(ann) == [("seek", False, "ann", ["cat"])]


def test_h9_a_viewer_without_socket_does_not_stop_the_room(trio: tuple[Client, Client, Client]) -> None:
    ann, *_ = trio
    phone = ann.world.http("phone")
    phone.session = phone.call("join", roomId=ROOM, roomType="video")["sessionId"]
    for buffering in (False, False, True):
        fields = {"isPlaying": True, "currentTime": position(ann.world), "playbackRate": 1, "buffering": buffering}
        phone.call("syncPlayback", roomId=ROOM, action="report", follow=True, **fields)
        assert states(ann) == []
        ann.world.sleep(5)


@pytest.mark.parametrize("ended", [False, True], ids=["during the wait", "after the wait"])
@pytest.mark.parametrize("action", ["pause", "seek"])
def test_h9_a_wait_makes_no_command_of_a_person_stale(
    trio: tuple[Client, Client, Client], action: str, ended: bool
) -> None:
    ann, bob, _ = trio
    version = ann.world.shard.rooms[ROOM].playback.version
    report(bob, buffering=True)
    if ended:
        report(bob)
    fields = {"currentTime": 30} if action == "seek" else {}
    ann.send(play(action, baseVersion=version, **fields) | {"id": 1})
    assert ann.last("ack")["version"] == version + (3 if ended else 2)
    if action == "pause":
        ann.world.sleep(10)
        assert ann.world.shard.rooms[ROOM].playback.is_playing is False
    ann.send(play("play", baseVersion=version) | {"id": 2})
    assert ann.last("error")["code"] == "STALE", "the one before was a person's"


@pytest.mark.parametrize("how", ["invisible", "not following", "paused room", "sync off"])
def test_h9_who_does_not_follow_visibly_does_not_stop_the_room(trio: tuple[Client, Client, Client], how: str) -> None:
    ann, bob, _ = trio
    if how == "invisible":
        bob.send(type="privacy", data={"invisible": True})
    elif how == "paused room":
        ann.send(play("pause"))
    elif how == "sync off":
        ann.send(type="control_request", roomId=ROOM)
        ann.send(play("disable"))
        assert ann.last("playback_synced")["data"]["syncEnabled"] is False
    states(ann)
    if how != "sync off":
        report(bob, buffering=True, follow=how != "not following")
    assert states(ann) == []


@pytest.mark.parametrize("how", ["leave", "hang up", "invisible", "unfollow"])
def test_h9_who_goes_is_not_waited_for(trio: tuple[Client, Client, Client], how: str) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    states(ann)
    ann.world.sleep(1)
    if how == "leave":
        bob.send(type="leave", roomId=ROOM)
    elif how == "hang up":
        bob.hang_up(1006)
    elif how == "invisible":
        bob.send(type="privacy", data={"invisible": True})
    else:
        report(bob, buffering=True, follow=False)
    ann.world.settle()
    assert states(ann) == [("play", True, "system", None)]


def test_h9_a_person_decides_during_the_wait(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    ann.send(play("seek", currentTime=50))
    assert states(bob)[-1] == ("seek", False, "ann", ["bob"]), "a seek goes on waiting"
    ann.send(play("pause"))
    assert states(bob) == [("pause", False, "ann", None)]
    report(bob)
    ann.world.sleep(10)
    assert states(bob) == [], "nothing plays on after a pause"


def test_h9_play_during_the_wait_ends_it(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    states(bob)
    ann.send(play("play"))
    assert states(bob) == [("play", True, "ann", None)]
    ann.world.sleep(10)
    assert states(bob) == []


def test_h9_switching_synchronisation_off_lets_all_play(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    ann.send(type="control_request", roomId=ROOM)
    report(bob, buffering=True)
    states(bob)
    ann.send(play("disable"))
    assert states(bob) == [("disable", True, "ann", None)]
    ann.world.sleep(10)
    assert states(bob) == []


def test_h9_a_late_joiner_gets_a_room_that_does_not_play(trio: tuple[Client, Client, Client]) -> None:
    ann, bob, _ = trio
    report(bob, buffering=True)
    assert ann.world.person("dan").last("joined")["room"]["playback"]["isPlaying"] is False


def test_h9_the_setting_of_one_room() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(bob)
    world.change_room(waitForViewers=2)
    states(ann)
    report(bob, buffering=True)
    world.sleep(2)
    assert states(ann) == [("wait", False, "system", ["bob"]), ("play", True, "system", None)]


def test_h9_the_wait_survives_the_death_of_the_owner() -> None:
    world = World(RoomOptions(wait_for_viewers_s=10.0), workers=4)
    people = [world.person(f"user{number}") for number in range(8)]
    people[0].send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(*people)
    owner = world.owner_of(ROOM)
    alive = [each for each in people if each.session.hub is not owner.hub]
    report(alive[0], buffering=True)
    world.sleep(0.5)
    for each in alive:
        states(each)
    world.kill(owner)
    world.sleep(1)
    assert states(alive[1]) == [], "it goes on waiting"
    world.sleep(9)
    assert [each[:3] for each in states(alive[1])] == [("play", True, "system")]


# --- H10


def test_h10_all_start_together() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("sync", isPlaying=False, currentTime=10, playbackRate=1))
    now_ms = world.wall.ms(world.now)
    ann.send(play("play", startDelayMs=1500))
    data = bob.last("playback_synced")["data"]
    assert (data["isPlaying"], data["currentTime"]) == (True, 10)
    assert data["effectiveAt"] == data["serverTime"] == now_ms + 1500
    late = world.client().auth("cat").join().last("joined")["room"]["playback"]
    assert late["anchor"] == now_ms + 1500
    world.sleep(1.4)
    assert position(world) == 10, "before it the position stands"
    world.sleep(1.1)
    assert position(world) == pytest.approx(11.0, abs=0.03)


def test_h10_by_default_there_is_no_delay() -> None:
    world = World()
    ann = world.person("ann")
    ann.send(play("play", startDelayMs=0))
    assert "effectiveAt" not in ann.last("playback_synced")["data"]
    world.sleep(1)
    ann.send(play("play"))
    assert "effectiveAt" not in ann.last("playback_synced")["data"]
    assert position(world) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("action", "delay", "named"),
    [("play", 2001, "startDelayMs"), ("play", -1, "startDelayMs"), ("play", "soon", "startDelayMs"),
     ("play", 1.5, "startDelayMs")],
)  # fmt: skip
def test_h10_other_delays_are_invalid_data(action: str, delay: Any, named: str) -> None:
    world = World()
    ann = world.person("ann")
    ann.send(play(action, startDelayMs=delay))
    error = ann.last("error")
    assert error["code"] == "INVALID_DATA" and named in error["message"]


def test_h10_other_actions_ignore_it() -> None:
    world = World()
    ann = world.person("ann")
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1, startDelayMs=1000))
    assert "effectiveAt" not in ann.last("playback_synced")["data"]


def test_h10_a_viewer_who_has_not_started_before_it_is_in_step() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("play", currentTime=10, startDelayMs=2000))
    world.sleep(0.5)
    report(bob, playing=False)
    assert ann.last("viewer_sync")["data"] == {"state": "synced", "driftMs": 0, "synced": 1, "total": 2}


def test_h10_commands_before_the_start() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("play", currentTime=10, startDelayMs=2000))
    starts_at = bob.last("playback_synced")["data"]["effectiveAt"]
    world.sleep(0.5)
    ann.send(play("seek", currentTime=50))
    data = bob.last("playback_synced")["data"]
    assert (data["currentTime"], data["effectiveAt"]) == (50, starts_at), "a seek does not change when it starts"
    ann.send(play("resync"))
    assert ann.last("playback_synced")["data"]["effectiveAt"] == starts_at
    world.sleep(0.5)
    ann.send(play("play"))
    data = bob.last("playback_synced")["data"]
    assert "effectiveAt" not in data and data["serverTime"] == pytest.approx(world.wall.ms(world.now), abs=10)
    ann.send(play("play", startDelayMs=1000))
    ann.send(play("pause"))
    data = bob.last("playback_synced")["data"]
    assert data["isPlaying"] is False and "effectiveAt" not in data
    world.sleep(3)
    assert position(world) == data["currentTime"]


@pytest.mark.parametrize(("round_trips", "delay_ms"), [((), 0), ((0.08, 0.2), 400), ((0.4,), 500)])
def test_h10_auto_takes_the_longest_round_trip_of_the_followers(round_trips: tuple[float, ...], delay_ms: int) -> None:
    world = World(ping_interval_s=5.0)
    ann = world.person("ann")
    viewers = [world.person(f"viewer{number}") for number in range(len(round_trips))]
    aside = world.person("aside")
    hidden = world.client().auth("hidden", privacy={"invisible": True}).join()
    for client, round_trip_s in ((aside, 0.9), (hidden, 0.9), *zip(viewers, round_trips, strict=True)):
        client.round_trip_s = round_trip_s
    ann.send(play("sync", isPlaying=False, currentTime=0, playbackRate=1))
    world.sleep(12)  # two pings
    for client in (aside, hidden, *viewers):
        report(client, follow=client is not aside)
    now_ms = world.wall.ms(world.now)
    ann.send(play("play", startDelayMs="auto"))
    data = ann.last("playback_synced")["data"]
    assert data.get("effectiveAt", now_ms) - now_ms == delay_ms
    assert ("effectiveAt" in data) is bool(delay_ms)


def test_h10_a_delayed_start_survives_the_death_of_the_owner() -> None:
    world = World(workers=4)
    people = [world.person(f"user{number}") for number in range(8)]
    owner = world.owner_of(ROOM)
    alive = next(each for each in people if each.session.hub is not owner.hub)
    alive.send(play("play", currentTime=10, startDelayMs=2000))
    starts_at = world.now - 0.006 + 2.0
    world.sleep(0.5)
    world.kill(owner)
    world.sleep(1)
    assert position(world) == 10
    world.sleep(3)
    assert position(world) == pytest.approx(10 + world.now - starts_at, abs=0.01)


def test_h9_the_room_waits_on_a_frame() -> None:
    world = World(RoomOptions(wait_for_viewers_s=5.0))
    world.verifier.settings = {"*": {"media": {"main": {"mediaId": "cut_3", "frameRate": 25}}}}
    ann, bob = world.person("ann"), world.person("bob")
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    settled(bob)
    world.sleep(0.333)
    report(bob, buffering=True)
    data = ann.last("playback_synced")["data"]
    assert data["action"] == "wait" and data["currentTime"] == pytest.approx((data["frame"] + 0.5) / 25)
    world.sleep(5)
    after = ann.last("playback_synced")["data"]
    assert (after["action"], after["currentTime"]) == ("play", data["currentTime"])
