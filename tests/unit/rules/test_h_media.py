"""Decisions H17 to H19: the media of a room, who sets them, and commands for another one."""

from typing import Any

import pytest

from koko_presence.access.policy import ClaimsAccess
from koko_presence.protocol.limits import RoomOptions
from koko_presence.protocol.models import Medium
from koko_presence.rooms import media
from tests.unit.rules.media_messages import medium, play, snapshot
from tests.world import Client, World


def refusal(client: Client) -> str:
    errors = client.take("error")
    return str(errors[0]["code"]) if errors else ""


def test_h17_each_target_has_a_medium_and_the_snapshot_has_them_all(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    assert "media" not in snapshot(ann.world)
    ann.send(medium("left_1", target="left", title="Cut 1", duration=60, frameRate="24000/1001", offset=2.4))
    bob.send(medium("right_1", target="right", frameRate=25))
    left = {"mediaId": "left_1", "title": "Cut 1", "duration": 60.0, "frameRate": "24000/1001", "offset": 2.4}
    assert snapshot(ann.world)["media"] == {"left": left, "right": {"mediaId": "right_1", "frameRate": 25.0}}


def test_h17_a_medium_without_a_target_is_that_of_main(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium())
    assert bob.last("media_changed")["data"]["target"] == "main"
    assert snapshot(ann.world)["media"] == {"main": {"mediaId": "film_1"}}


def test_h17_a_room_has_four_targets_and_a_removed_one_makes_room_for_another(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(4):
        ann.send(medium(f"film_{number}", target=f"t{number}"))
        ann.world.sleep(1)
    ann.take()
    ann.send(medium("film_4", target="t4"))
    assert refusal(ann) == "INVALID_DATA"
    ann.send(medium("film_9", target="t3"))
    ann.send(medium(None, target="t0"))
    assert bob.last("media_changed")["data"]["medium"] is None
    ann.send(medium("film_4", target="t4"))
    assert refusal(ann) == ""
    assert list(snapshot(ann.world)["media"]) == ["t1", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    ("rate", "kept"),
    [
        (25, 25.0),
        (12.5, "25/2"),
        (23.976, "24000/1001"),
        (23.98, "24000/1001"),
        (29.97, "30000/1001"),
        (59.94, "60000/1001"),
        ("30000/1001", "30000/1001"),
        ("50/2", 25.0),
        (24.02, "1201/50"),
    ],
)
def test_h17_a_frame_rate_is_kept_exactly(pair: tuple[Client, Client], rate: Any, kept: Any) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=rate))
    assert bob.last("media_changed")["data"]["medium"]["frameRate"] == kept


@pytest.mark.parametrize(
    "fields",
    [
        {"mediaId": ""},
        {"mediaId": "x" * 201},
        {"mediaId": 5},
        {"frameRate": 0},
        {"frameRate": -25},
        {"frameRate": "25"},
        {"frameRate": "0/1"},
        {"frameRate": "25/0"},
        {"frameRate": "1/1000"},
        {"frameRate": 1001},
        {"duration": 0},
        {"duration": 1e7},
        {"offset": 1e7},
        {"duration": 10, "offset": 10},
        {"title": "x" * 201},
        {"target": ""},
        {"target": "x" * 65},
    ],
)
def test_h17_a_wrong_value_is_refused_and_changes_nothing(pair: tuple[Client, Client], fields: dict[str, Any]) -> None:
    ann, bob = pair
    bob.take()
    ann.send({"type": "media", "roomId": "video_123", "data": {"mediaId": "film_1", **fields}})
    assert refusal(ann) == "INVALID_DATA"
    assert bob.take() == [] and "media" not in snapshot(ann.world)


def test_h18_another_medium_pauses_at_0_and_increases_the_version(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    ann.send(play("sync", isPlaying=True, currentTime=30.0, playbackRate=1.5))
    ann.world.sleep(2)
    bob.send(medium("film_2"))
    data = ann.last("media_changed")["data"]
    assert data["medium"] == {"mediaId": "film_2"}
    state = {"isPlaying": False, "currentTime": 0.0, "playbackRate": 1.5, "version": 3}
    assert state.items() <= data["playback"].items()
    assert state.items() <= snapshot(ann.world)["playback"].items()


def test_h18_keep_position_keeps_position_and_play_state(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    ann.send(play("play", currentTime=30.0))
    ann.world.sleep(2)
    ann.send(medium("film_2", keepPosition=True))
    state = bob.last("media_changed")["data"]["playback"]
    assert state["isPlaying"] and state["version"] == 3
    assert state["currentTime"] == pytest.approx(32.0, abs=0.02)


def test_h18_another_description_of_the_same_medium_keeps_the_position_and_its_other_values(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    ann.send(medium("film_1", title="Rough cut", duration=100))
    ann.send(play("play", currentTime=30.0))
    bob.send(medium("film_1", title="Fine cut"))
    data = ann.last("media_changed")["data"]
    assert data["medium"] == {"mediaId": "film_1", "title": "Fine cut", "duration": 100.0}
    assert data["playback"]["isPlaying"] and data["playback"]["currentTime"] >= 30.0


def test_h18_a_description_that_does_not_fit_the_known_one_is_refused(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(medium("film_1", duration=10))
    ann.send(medium("film_1", offset=10))
    assert refusal(ann) == "INVALID_DATA"
    assert "offset" not in snapshot(ann.world)["media"]["main"]


def test_h18_a_medium_that_is_there_already_changes_nothing(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1", frameRate=25))
    bob.take()
    bob.send(medium("film_1") | {"id": 3})
    assert [each["type"] for each in bob.take()] == ["ack"]
    assert snapshot(ann.world)["playback"]["version"] == 1


def test_h18_a_late_base_version_is_stale_and_has_the_state(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1", baseVersion=0))
    bob.send(medium("film_2", baseVersion=0))
    error = bob.last("error")
    assert error["code"] == "STALE" and error["state"]["version"] == 1
    assert snapshot(ann.world)["media"]["main"]["mediaId"] == "film_1"


def test_h4_a_medium_that_the_network_held_back_is_stale_and_changes_nothing(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    at = ann.world.wall.ms(ann.world.now)
    bob.send(play("play", currentTime=5.0))
    ann.world.sleep(7)
    before = snapshot(ann.world)
    bob.take()
    ann.send(medium("film_2", at=at, maxAgeMs=2000) | {"id": 3})
    error = ann.last("error")
    assert (error["code"], error["id"]) == ("STALE", 3) and "maxAgeMs" in error["message"]
    assert error["state"] == before["playback"] and not bob.take()
    assert snapshot(ann.world)["media"] == {"main": {"mediaId": "film_1"}}


def test_h4_a_medium_within_its_age_counts_and_one_without_a_limit_always(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    at = ann.world.wall.ms(ann.world.now)
    ann.world.sleep(1.5)
    for media_id, fields in (
        ("film_1", {"at": at, "maxAgeMs": 2000}),
        ("film_2", {"at": at - 7000}),
        ("film_3", {"maxAgeMs": 1}),
    ):
        ann.send(medium(media_id, **fields))
        assert bob.last("media_changed")["data"]["medium"] == {"mediaId": media_id}


@pytest.mark.parametrize("fields", [{"maxAgeMs": 0}, {"maxAgeMs": 60_001}, {"maxAgeMs": "2000"}, {"at": "now"}])
def test_h4_the_age_of_a_medium_is_a_number_of_ms(pair: tuple[Client, Client], fields: dict[str, Any]) -> None:
    ann, bob = pair
    bob.take()
    ann.send(medium("film_1", **fields))
    assert refusal(ann) == "INVALID_DATA" and not bob.take()


def test_h18_whoever_may_control_may_set_the_medium(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="control_request", roomId="video_123")
    bob.send(medium())
    assert refusal(bob) == "NOT_CONTROLLER"
    ann.send(medium())
    assert refusal(ann) == ""


def test_h18_without_the_right_to_control_or_unseen_nothing_is_set() -> None:
    world = World(access=ClaimsAccess())
    guest = world.person('guest:Guest:{"video_123":["join"]}')
    hidden = world.client().auth('ann:Ann:{"*":["join","control"]}', privacy={"invisible": True}).join()
    guest.send(medium())
    hidden.send(medium())
    assert (refusal(guest), refusal(hidden)) == ("FORBIDDEN", "INVISIBLE")
    assert "media" not in guest.join().last("joined")["room"]


def test_h18_in_the_mode_moderators_they_set_it() -> None:
    world = World(RoomOptions(control_mode="moderators"))
    ann, mod = world.person("ann"), world.person('mod:Mod:{"video_123":["join","moderate"]}')
    ann.send(medium())
    mod.send(medium())
    assert refusal(ann) == "NOT_CONTROLLER" and refusal(mod) == ""


def test_h18_a_room_without_playback_has_no_media() -> None:
    ann = World().person("ann", "project_1", "project")
    ann.send({"type": "media", "roomId": "project_1", "data": {"mediaId": "film_1"}})
    assert refusal(ann) == "SYNC_DISABLED"


def test_h18_media_share_the_rate_of_commands(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for number in range(6):
        ann.send(medium(f"film_{number}"))
    assert refusal(ann) == "RATE_LIMITED"


@pytest.mark.one_worker
def test_h18_media_of_the_back_end_are_not_changed_by_members(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    room = ann.world.shard.rooms["video_123"]
    ann.send(play("play", currentTime=30.0))
    media.set_by_back_end(room, {"main": Medium(media_id="film_1")}, ann.world.now)
    ann.send(medium("film_2"))
    assert refusal(ann) == "FORBIDDEN"
    event = bob.last("media_changed")
    assert (event["userId"], event["sessionId"]) == ("system", "system")
    assert not event["data"]["playback"]["isPlaying"]
    assert snapshot(ann.world)["media"] == {"main": {"mediaId": "film_1"}}


@pytest.mark.one_worker
def test_h18_media_with_which_a_room_begins_make_no_event_and_no_version(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    room = ann.world.shard.rooms["video_123"]
    bob.take()
    room.targets.put_by_back_end({"main": Medium(media_id="film_1")})
    ann.world.settle()
    assert bob.take() == []
    found = snapshot(ann.world)
    assert found["media"] == {"main": {"mediaId": "film_1"}} and "playback" not in found
    ann.send(medium("film_2"))
    assert refusal(ann) == "FORBIDDEN"


def test_h18_media_end_with_the_room(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium())
    ann.send(type="leave", roomId="video_123")
    bob.send(type="leave", roomId="video_123")
    assert "media" not in snapshot(ann.world)


@pytest.mark.parametrize("action", ["sync", "play", "pause", "seek", "rate"])
def test_h19_a_command_for_another_medium_is_stale_and_changes_nothing(
    pair: tuple[Client, Client], action: str
) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    ann.send(play("play", currentTime=50.0, mediaId="film_1"))
    bob.send(medium("film_2"))
    before = snapshot(ann.world)["playback"]
    ann.send(play(action, isPlaying=True, currentTime=70.0, playbackRate=2.0, duration=9.0, mediaId="film_1"))
    error = ann.last("error")
    assert (error["code"], error["id"], error["state"]) == ("STALE", 7, before)
    assert snapshot(ann.world)["playback"] == before


def test_h19_the_medium_is_that_of_the_target_that_the_command_names(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(medium("left_1", target="left"))
    ann.send(medium("right_1", target="right"))
    ann.send(play("play", target="right", mediaId="left_1"))
    assert refusal(ann) == "STALE"
    ann.send(play("play", target="left", mediaId="left_1"))
    assert refusal(ann) == ""


def test_h19_without_a_medium_there_is_nothing_to_compare(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=5.0, mediaId="film_1"))
    assert bob.last("playback_synced")["data"]["currentTime"] == 5.0


def test_h19_a_report_for_another_medium_is_the_state_other_media(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_2"))
    ann.send(play("play", currentTime=5.0))
    told = {"action": "report", "isPlaying": True, "currentTime": 900.0, "playbackRate": 1.0}
    bob.send({"type": "playback", "roomId": "video_123", "data": told | {"mediaId": "film_1"}})
    data = ann.last("viewer_sync")["data"]
    assert (data["state"], data["driftMs"], data["synced"]) == ("other_media", 0, 0)
    ann.world.sleep(1)
    bob.send({"type": "playback", "roomId": "video_123", "data": told | {"mediaId": "film_2", "currentTime": 6.0}})
    assert ann.last("viewer_sync")["data"]["state"] == "synced"


def test_h19_cursors_and_selections_are_relayed_with_their_medium(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    point = {"timestamp": 1.5, "x": 0.5, "y": 0.25, "mediaId": "film_1"}
    ann.send(type="cursor", roomId="video_123", data=point)
    span = {"startTime": 1.0, "endTime": 2.0, "target": "left", "mediaId": "left_1"}
    ann.send(type="selection", roomId="video_123", data=span)
    color = snapshot(ann.world)["users"][0]["color"]
    assert bob.last("cursor_moved")["data"] == point | {"color": color}
    assert bob.last("selection_changed")["data"] == span | {"color": color}
    row = snapshot(ann.world)["users"][0]
    assert row["cursor"] == point and row["selection"] == span


def test_h19_a_compact_row_has_the_medium_behind_the_target() -> None:
    world = World()
    ann = world.person("ann")
    bob = world.client().auth("bob", caps=["cursors"]).join()
    index = next(user["index"] for user in bob.last("joined")["room"]["users"] if user["userId"] == "ann")
    ann.send(type="cursor", roomId="video_123", data={"timestamp": 1.5, "mediaId": "film_1"})
    assert bob.last("cursors")["data"] == [[index, 1.5, None, None, None, "film_1"]]


def places(world: World) -> tuple[Any, Any]:
    """Cursor and selection of the first session, as a late joiner gets them."""
    row = snapshot(world)["users"][0]
    return row.get("cursor"), row.get("selection")


POINT = {"timestamp": 1.5, "x": 0.5, "y": 0.25}
SPAN = {"startTime": 1.0, "endTime": 2.0}


def show(client: Client, **more: Any) -> None:
    client.send(type="cursor", roomId="video_123", data=POINT | more)
    client.send(type="selection", roomId="video_123", data=SPAN | more)


@pytest.mark.parametrize("target", ["main", "left"])
@pytest.mark.parametrize("then", ["film_2", None])
def test_h19_cursors_and_selections_stay_in_the_medium_that_is_replaced(
    pair: tuple[Client, Client], target: str, then: str | None
) -> None:
    ann, bob = pair
    named = {} if target == "main" else {"target": target}
    ann.send(medium("film_1", target=target))
    show(ann, **named)
    bob.send(medium("film_1", target=target, title="The same medium"))
    bob.send(medium("other", target="right"))
    assert places(ann.world) == (POINT | named, SPAN | named)
    ann.world.sleep(0.1)
    bob.take()
    bob.send(medium(then, target=target))
    assert [event["type"] for event in bob.take()] == ["media_changed"], "clients do the same by themselves"
    kept = named | {"mediaId": "film_1"}
    assert places(ann.world) == (POINT | kept, SPAN | kept)
    bob.send(medium("film_3", target=target))
    assert places(ann.world) == (POINT | kept, SPAN | kept)
    ann.world.sleep(0.1)
    show(ann, **named)
    assert places(ann.world) == (POINT | named, SPAN | named), "new ones are in the present medium"


def test_h19_a_cursor_before_the_first_medium_is_in_none(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    show(ann)
    bob.send(medium("film_1"))
    assert places(ann.world) == (POINT, SPAN)


def test_h19_what_waits_for_the_rate_of_its_user_stays_in_the_medium_that_is_replaced(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    bob.send(medium("film_1"))
    tabs = [ann, *(ann.world.person("ann") for _ in range(4))]
    ann.world.sleep(1)
    bob.take()
    for number, tab in enumerate(tabs):  # all but the first wait
        tab.post(type="cursor", roomId="video_123", data=POINT | {"timestamp": float(number)})
        tab.post(type="selection", roomId="video_123", data=SPAN)
    ann.world.timers.advance(0.001)
    ann.world.change_room(media={"main": {"mediaId": "film_2"}})
    ann.world.sleep(1.0)
    types = [event["type"] for event in bob.take()]
    behind = types[types.index("media_changed") :]
    assert "cursor_moved" in behind and "selection_changed" in behind
    rows = {user["sessionId"]: user for user in snapshot(ann.world)["users"]}
    for number, tab in enumerate(tabs):
        row = rows[tab.session_id]
        assert row["cursor"] == POINT | {"timestamp": float(number), "mediaId": "film_1"}
        assert row["selection"] == SPAN | {"mediaId": "film_1"}
