"""Decision H24: after a restart of the whole service, a room takes the playback that its members know; and their rights
are in `joined`."""

from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess
from koko_presence.protocol.limits import RoomOptions
from koko_presence.protocol.models import Medium
from tests.world import Client, World

PLAYER, WATCHER = 'ann:Ann:{"*":["join","control"]}', 'bob:Bob:{"*":["join"]}'


def now_ms(world: World) -> int:
    return int(world.client().auth("clock").last("authenticated")["serverTime"])


def known(world: World, version: int = 41, **fields: Any) -> dict[str, Any]:
    playback = {"isPlaying": False, "currentTime": 30.0, "playbackRate": 1.0, "anchor": now_ms(world)}
    return {"playback": playback | {"version": version} | fields}


def enter(world: World, user: str, **data: Any) -> Client:
    client = world.client().auth(user)
    client.send({"type": "join", "roomId": "video_123", "roomType": "video", "data": data})
    return client


def room_of(client: Client) -> dict[str, Any]:
    return dict(client.last("joined")["room"])


def test_h24_the_first_member_brings_the_playback_back() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, playbackRate=1.5))
    expected = {"isPlaying": False, "currentTime": 30.0, "playbackRate": 1.5, "version": 1}
    assert expected.items() <= room_of(ann)["playback"].items()
    assert ann.of("playback_synced") == []


def test_h24_what_was_playing_has_gone_on() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, isPlaying=True, anchor=now_ms(world) - 4000, playbackRate=2.0))
    row = room_of(ann)["playback"]
    assert row["isPlaying"] and row["currentTime"] == pytest.approx(38.0, abs=0.1)


def test_h24_an_anchor_in_the_future_counts_as_now() -> None:
    world = World()
    row = room_of(enter(world, "ann", known=known(world, isPlaying=True, anchor=now_ms(world) + 60_000)))["playback"]
    assert row["currentTime"] == 30.0 and row["anchor"] <= now_ms(world)


def test_h24_the_highest_version_is_taken_and_the_others_are_told() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, 41))
    bob = enter(world, "bob", known=known(world, 43, currentTime=50.0))
    event = ann.last("playback_synced")
    assert event["userId"] == "bob"
    assert {"currentTime": 50.0, "version": 2, "action": "sync"}.items() <= event["data"].items()
    assert room_of(bob)["playback"]["currentTime"] == 50.0
    carol = enter(world, "carol", known=known(world, 42, currentTime=70.0))
    assert room_of(carol)["playback"]["currentTime"] == 50.0 and room_of(carol)["playback"]["version"] == 2


def test_h24_after_5_s_nothing_is_taken() -> None:
    world = World()
    enter(world, "ann")
    world.sleep(4.8)
    assert room_of(enter(world, "bob", known=known(world, 7)))["playback"]["version"] == 1
    world.sleep(0.5)
    assert room_of(enter(world, "carol", known=known(world, 9)))["playback"]["version"] == 1


def test_h24_after_a_command_nothing_is_taken() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, 41))
    ann.send(type="playback", roomId="video_123", data={"action": "seek", "currentTime": 5.0})
    bob = enter(world, "bob", known=known(world, 99))
    assert room_of(bob)["playback"]["currentTime"] == 5.0 and room_of(bob)["playback"]["version"] == 2


def test_h24_only_who_may_command_playback_is_believed() -> None:
    world = World(access=ClaimsAccess())
    assert "playback" not in room_of(enter(world, WATCHER, known=known(world)))
    hidden = enter(world, 'eve:Eve:{"*":["join","control"]}', known=known(world), privacy={"invisible": True})
    assert "playback" not in room_of(hidden)
    assert room_of(enter(world, PLAYER, known=known(world)))["playback"]["version"] == 1


def test_h24_in_the_mode_moderators_only_they_are_believed() -> None:
    world = World(RoomOptions(control_mode="moderators"))
    assert "playback" not in room_of(enter(world, "ann", known=known(world)))
    assert "playback" in room_of(enter(world, 'mod:Mod:{"video_123":["join","moderate"]}', known=known(world)))


def test_h24_control_is_not_restored() -> None:
    world = World()
    assert "controller" not in room_of(enter(world, "ann", known=known(world)))


def test_h24_the_media_come_back_with_it() -> None:
    world = World()
    media = {"main": {"mediaId": "film_1", "frameRate": 25, "duration": 60}}
    bob = enter(world, "bob")
    ann = enter(world, "ann", known=known(world, currentTime=10.001) | {"media": media})
    assert room_of(ann)["media"] == {"main": {"mediaId": "film_1", "frameRate": 25.0, "duration": 60.0}}
    assert room_of(ann)["playback"]["frame"] == 250
    assert bob.last("media_changed")["data"]["playback"] == room_of(ann)["playback"]


@pytest.mark.one_worker
def test_h24_the_playback_of_another_medium_than_the_back_ends_is_not_taken() -> None:
    world = World()
    enter(world, "ann")
    world.shard.rooms["video_123"].targets.put_by_back_end({"main": Medium(media_id="film_2")})
    bob = enter(world, "bob", known=known(world, 99, currentTime=99.0) | {"media": {"main": {"mediaId": "film_1"}}})
    assert "playback" not in room_of(bob) and room_of(bob)["media"] == {"main": {"mediaId": "film_2"}}
    same = {"main": {"mediaId": "film_2"}, "alt": {"mediaId": "film_3"}}
    carol = enter(world, "carol", known=known(world, 41) | {"media": same})
    assert room_of(carol)["playback"]["currentTime"] == 30.0
    assert room_of(carol)["media"] == {"main": {"mediaId": "film_2"}}


def test_h24_the_film_of_the_highest_version_is_taken() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, 5) | {"media": {"main": {"mediaId": "old"}, "alt": {"mediaId": "b"}}})
    bob = enter(world, "bob", known=known(world, 9, currentTime=50.0) | {"media": {"main": {"mediaId": "new"}}})
    room = room_of(bob)
    assert room["media"] == {"main": {"mediaId": "new"}} and room["playback"]["currentTime"] == 50.0
    events = [event["data"] for event in ann.of("media_changed")]
    assert {event["target"]: event["medium"] for event in events} == {"main": {"mediaId": "new"}, "alt": None}
    assert all(event["playback"] == room["playback"] for event in events)
    carol = enter(world, "carol", known=known(world, 7) | {"media": {"main": {"mediaId": "old"}}})
    assert room_of(carol)["media"] == {"main": {"mediaId": "new"}}


def test_h24_a_film_that_members_have_set_since_is_not_replaced() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, 5) | {"media": {"main": {"mediaId": "old"}}})
    ann.send({"type": "media", "roomId": "video_123", "data": {"mediaId": "newest"}})
    bob = enter(world, "bob", known=known(world, 9) | {"media": {"main": {"mediaId": "new"}}})
    assert room_of(bob)["media"] == {"main": {"mediaId": "newest"}}


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [(40.0, (True, 70.0)), (70.0, (False, 30.0)), (590.0, (False, 30.0)), (610.0, None), (8 * 3600.0, None)],
)
def test_h24_a_client_that_has_slept_does_not_play_on(age_s: float, expected: tuple[bool, float] | None) -> None:
    """It has heard last from the server when the film was at 30 s, `age_s` ago."""
    world = World()
    heard_at = now_ms(world) - age_s * 1000.0
    state = known(world, isPlaying=True, currentTime=10.0, anchor=heard_at - 20_000)
    row = room_of(enter(world, "ann", known=state | {"at": heard_at})).get("playback")
    if expected is None:
        assert row is None
    else:
        assert row["isPlaying"] is expected[0] and row["currentTime"] == pytest.approx(expected[1], abs=0.1)


def test_h24_while_a_member_has_control_no_other_is_believed() -> None:
    world = World()
    ann = enter(world, "ann")
    ann.send(type="control_request", roomId="video_123")
    bob = enter(world, "bob", known=known(world))
    assert "playback" not in room_of(bob)
    assert room_of(enter(world, "ann", known=known(world)))["playback"]["currentTime"] == 30.0


def test_h24_in_the_mode_controller_those_are_believed_who_may_have_control() -> None:
    world = World(RoomOptions(control_mode="controller"), access=ClaimsAccess())
    assert "playback" not in room_of(enter(world, WATCHER, known=known(world)))
    assert "playback" in room_of(enter(world, PLAYER, known=known(world)))


def test_h24_a_duration_is_taken_and_the_end_comes() -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, isPlaying=True, currentTime=57.0, duration=60.0))
    world.sleep(3.1)
    assert ann.last("playback_synced")["data"]["ended"]


def test_h24_at_the_top_level_and_over_http_too() -> None:
    world = World()
    ann = world.client().auth("ann")
    ann.send({"type": "join", "roomId": "video_123", "roomType": "video", "known": known(world)})
    assert room_of(ann)["playback"]["version"] == 1
    answer = world.http("bob").call("join", roomId="video_9", roomType="video", known=known(world))
    assert answer["room"]["playback"]["currentTime"] == 30.0


@pytest.mark.parametrize(
    "fields",
    [
        {"version": -1},
        {"version": 0},
        {"currentTime": -0.5},
        {"currentTime": 1e7},
        {"playbackRate": 0},
        {"duration": 0.0},
        {"duration": 2e6},
        {"anchor": -1e300, "isPlaying": True},
    ],
)
def test_h24_numbers_out_of_range_are_not_taken_and_refuse_no_join(fields: dict[str, Any]) -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, **fields))
    assert ann.of("error") == [] and "playback" not in room_of(ann)


def test_h24_the_servers_own_state_is_always_taken() -> None:
    world = World()
    ann = enter(world, "ann")
    for number, data in enumerate(({"offset": 5}, {"duration": 1e6, "offset": -1e6})):
        ann.send({"type": "media", "roomId": "video_123", "data": {"mediaId": f"film_{number}", **data}})
        ann.send(type="playback", roomId="video_123", data={"action": "seek", "currentTime": 1e6, "duration": 1.0})
        room = room_of(enter(world, "bob"))
        row = room["playback"]
        fields = {"playback": row, "media": room["media"], "at": now_ms(world)}
        after = room_of(enter(World(), "bob", known=fields))
        assert after["playback"] | {"anchor": 0} == row | {"anchor": 0, "version": 1}
        world.sleep(1)


@pytest.mark.parametrize("fields", [{"anchor": "now"}, {"isPlaying": 1}])
def test_h24_values_of_a_wrong_type_refuse_the_join(fields: dict[str, Any]) -> None:
    world = World()
    ann = enter(world, "ann", known=known(world, **fields))
    assert ann.last("error")["code"] in ("INVALID_DATA", "INVALID_MESSAGE") and ann.of("joined") == []


def test_h24_a_room_of_another_type_has_no_playback() -> None:
    world = World()
    ann = world.client().auth("ann")
    ann.send({"type": "join", "roomId": "p_1", "roomType": "project", "data": {"known": known(world)}})
    assert "playback" not in room_of(ann)


# --- rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "rights"),
    [
        ('["join"]', {"control": False, "broadcast": False, "moderate": False}),
        ('["join","control"]', {"control": True, "broadcast": False, "moderate": False}),
        ('["join","broadcast"]', {"control": False, "broadcast": True, "moderate": False}),
        ('["join","moderate"]', {"control": True, "broadcast": False, "moderate": True}),
    ],
)
def test_a6_the_rights_of_a_session_are_in_joined(scopes: str, rights: dict[str, bool]) -> None:
    world = World(access=ClaimsAccess())
    user = f'ann:Ann:{{"*":{scopes}}}'
    assert enter(world, user).last("joined")["rights"] == rights
    assert world.http(user).call("join", roomId="video_9", roomType="video")["rights"] == rights


def test_a6_other_rights_by_a_new_token_come_with_a_new_snapshot() -> None:
    world = World(access=ClaimsAccess())
    bob = enter(world, WATCHER)
    bob.take()
    bob.auth('bob:Bob:{"*":["join","control"]}')
    assert [each["rights"]["control"] for each in bob.take("joined")] == [True]
    bob.auth('bob:Bob:{"*":["join","control"]}')
    assert bob.take("joined") == []
