"""Decision Q10: settings of one room by the back end, in the token, the answer to an access check, or by the server
API."""

from typing import Any

import msgspec
import pytest

from koko_presence.access.policy import AllowAll, Grant
from koko_presence.auth.identity import TokenRefused
from koko_presence.auth.jwt_claims import check_settings
from koko_presence.protocol.limits import RoomOptions
from koko_presence.protocol.models import RoomSettings
from koko_presence.protocol.settings import MAX_SETTINGS_BYTES, read_settings
from koko_presence.protocol.survey import NotHere, RoomChanged
from tests.world import Client, World

ROOM = "video_123"


def settings_of(client: Client) -> Any:
    """The settings in the last snapshot, None when it has none."""
    return client.last("joined")["room"].get("settings")


def changes(client: Client) -> list[Any]:
    return [event["data"] for event in client.take("room_changed")]


def play(action: str, **fields: Any) -> dict[str, Any]:
    return {"type": "playback", "roomId": ROOM, "data": {"action": action, **fields}}


class AnsweringAccess(AllowAll):
    """Permits everything; the answer has settings."""

    settings: RoomSettings | None = None

    def check(self, identity: Any, room_id: str, room_type: Any, **_: str) -> Grant:
        return Grant(allow=True, can_control=True, can_broadcast=True, settings=self.settings)


# --- where they come from


def test_without_settings_the_snapshot_has_none() -> None:
    world = World()
    assert "settings" not in world.person("ann").last("joined")["room"]


def test_the_token_has_settings_by_room_and_prefix_and_the_best_match_counts() -> None:
    world = World()
    world.verifier.settings = {
        "video_*": {"title": "Any"},
        ROOM: {"title": "Cut 3", "maxUsers": 5},
        "*": {"title": "*"},
    }
    assert settings_of(world.person("ann")) == {"title": "Cut 3", "maxUsers": 5}
    assert settings_of(world.person("ann", "video_7")) == {"title": "Any"}
    assert settings_of(world.person("ann", "project_1", "project")) == {"title": "*"}


def test_the_authorisers_answer_counts_before_the_token() -> None:
    access = AnsweringAccess()
    world = World(access=access)
    world.verifier.settings = {"*": {"title": "of the token"}}
    assert settings_of(world.person("ann", "video_1")) == {"title": "of the token"}
    access.settings = RoomSettings(title="of the answer")
    assert settings_of(world.person("ann", "video_2")) == {"title": "of the answer"}


def test_they_apply_when_the_room_is_made_and_later_joins_change_nothing() -> None:
    world = World()
    world.verifier.settings = {"*": {"title": "first"}}
    ann = world.person("ann")
    world.verifier.settings = {"*": {"title": "second"}}
    bob = world.person("bob")
    assert settings_of(ann) == settings_of(bob) == {"title": "first"} and changes(ann) == []


def test_over_http_a_join_makes_the_room_with_its_settings() -> None:
    world = World()
    world.verifier.settings = {"*": {"title": "by a call"}}
    joined = world.http("ann").call("join", roomId=ROOM, roomType="video")
    assert joined["room"]["settings"] == {"title": "by a call"}


def test_unknown_keys_of_a_token_are_ignored_and_wrong_values_are_named() -> None:
    assert check_settings({"*": {"title": "x", "later": {"any": 1}}}) == {"*": RoomSettings(title="x")}
    for settings, named in (
        ([], "object from room ids"),
        ({"a*b": {}}, "one \\*"),
        ({"video_1": {"title": "x" * 201}}, "200.*title"),
        ({"video_1": {"title": 7}}, "title"),
        ({"video_1": {"waitForViewers": 10.5}}, "waitForViewers"),
        ({"video_1": {"autoGrantAway": -1}}, "autoGrantAway"),
        ({"video_1": {"maxUsers": 0}}, "maxUsers"),
        ({"video_1": {"controlMode": "any"}}, "controlMode"),
        ({"video_1": None}, "null"),
    ):
        with pytest.raises(TokenRefused, match=named):
            check_settings(settings)


def test_equal_settings_are_kept_once() -> None:
    """Answers and tokens of many users have the settings of one room, and are kept for their time."""
    media = {
        "main": {"mediaId": "cut_2", "frameRate": 23.976, "duration": 600.5},
        "b": {"mediaId": "cut_3", "offset": -1},
    }
    given = {"title": "Cut 3", "waitForViewers": 3, "media": media}
    first, second = (read_settings(msgspec.json.decode(msgspec.json.encode(given))) for _ in range(2))
    assert first is second and first == msgspec.convert(given, RoomSettings)
    assert read_settings({**given, "title": "Cut 4"}) != first


def test_settings_have_at_most_two_kilobytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SETTINGS_BYTES == 2048
    monkeypatch.setattr("koko_presence.protocol.settings.MAX_SETTINGS_BYTES", 50)
    with pytest.raises(ValueError, match="50 bytes"):
        read_settings({"title": "x" * 60})
    world = World()
    ann = world.person("ann")
    world.change_room(title="short")
    refused = world.change_room(title="x" * 60)
    assert (refused.code, changes(ann)) == ("TOO_LARGE", [{"title": "short"}])
    assert settings_of(world.person("bob")) == {"title": "short"}


# --- changes


def test_a_change_is_sent_with_the_changed_keys_only() -> None:
    world = World()
    ann, bob = world.person("ann"), world.person("bob")
    ann.take()
    answer = world.change_room(title="Cut 3", maxUsers=9)
    assert answer == RoomChanged(settings=RoomSettings(title="Cut 3", max_users=9))
    (event,) = ann.take()
    assert bob.take() == [event]
    assert (event["type"], event["userId"], event["sessionId"]) == ("room_changed", "system", "system")
    assert event["data"] == {"title": "Cut 3", "maxUsers": 9} and event["seq"] == ann.last("user_joined")["seq"] + 1
    world.change_room(title="Cut 3", maxUsers=8)
    assert changes(ann) == [{"maxUsers": 8}]
    assert settings_of(world.person("cat")) == {"title": "Cut 3", "maxUsers": 8}


def test_null_takes_a_key_back_to_its_default() -> None:
    world = World()
    world.verifier.settings = {"*": {"title": "Cut 3", "maxUsers": 9}}
    ann = world.person("ann")
    world.change_room(title=None, controlMode=None)
    assert changes(ann) == [{"title": None}]
    world.change_room(maxUsers=None)
    assert changes(ann) == [{"maxUsers": None}]
    assert settings_of(world.person("bob")) is None


def test_a_whole_number_may_have_a_point() -> None:
    world = World()
    ann = world.person("ann")
    world.change_room(maxUsers=5.0)
    (change,) = changes(ann)
    assert change == {"maxUsers": 5} and isinstance(change["maxUsers"], int)


def test_the_same_values_again_are_no_event() -> None:
    world = World()
    ann = world.person("ann")
    world.change_room(title="Cut 3")
    ann.take()
    assert world.change_room(title="Cut 3").settings == RoomSettings(title="Cut 3")
    assert world.change_room() == RoomChanged(settings=RoomSettings(title="Cut 3"))
    assert ann.take() == []


def test_a_room_that_is_not_open_has_no_settings_to_change() -> None:
    world = World()
    assert isinstance(world.change_room(title="x"), NotHere)
    ann = world.client().auth("ann", privacy={"invisible": True}).join()
    assert isinstance(world.change_room(title="x"), NotHere), "without a visible member"
    assert settings_of(ann) is None


def test_settings_end_with_the_room() -> None:
    world = World()
    ann = world.person("ann")
    world.change_room(title="Cut 3", maxUsers=1)
    ann.send(type="leave", roomId=ROOM)
    bob = world.person("bob")
    assert settings_of(bob) is None
    world.person("cat")


def test_settings_stay_while_the_place_of_the_last_member_is_held() -> None:
    world = World()
    ann = world.person("ann")
    world.change_room(title="Cut 3")
    ann.hang_up(1006)
    world.sleep(3)
    assert settings_of(world.person("bob")) == {"title": "Cut 3"}


def test_settings_survive_the_death_of_the_owner() -> None:
    world = World(workers=4)
    world.verifier.settings = {"*": {"waitForViewers": 3}}
    people = [world.person(f"user{number}") for number in range(8)]
    world.change_room(title="Cut 3")
    owner = world.owner_of(ROOM)
    world.kill(owner)
    world.sleep(2)
    assert settings_of(world.person("late")) == {"title": "Cut 3", "waitForViewers": 3}
    world.change_room(title="Cut 4")
    survivors = [each for each in people if each.session.hub is not owner.hub]
    assert survivors and all(changes(each)[-1] == {"title": "Cut 4"} for each in survivors)


# --- invisible members


def test_an_invisible_member_alone_sees_the_settings_of_its_own_join_and_makes_the_room_with_them() -> None:
    world = World()
    world.verifier.settings = {"*": {"title": "for ann"}}
    ann = world.client().auth("ann", privacy={"invisible": True}).join()
    world.verifier.settings = {"*": {"title": "for bob"}}
    bob = world.client().auth("bob", privacy={"invisible": True}).join()
    assert (settings_of(ann), settings_of(bob)) == ({"title": "for ann"}, {"title": "for bob"})
    bob.send(type="privacy", data={"invisible": False})
    assert settings_of(ann) == settings_of(bob) == {"title": "for bob"}
    bob.send(type="leave", roomId=ROOM)
    assert settings_of(ann) == {"title": "for ann"}


@pytest.mark.parametrize("leaves", [False, True], ids=["always invisible", "a visible tab has left"])
def test_the_settings_of_an_invisible_member_survive_the_death_of_the_owner_of_a_shown_room(leaves: bool) -> None:
    world = World(workers=4, missed_heartbeats=1000)
    others = [world.person(f"user{number}") for number in range(4)]
    world.verifier.settings = {"*": {"title": "for bob", "maxUsers": 9}}
    tabs = [world.client().auth("bob", privacy={"invisible": True}).join() for _ in range(4)]
    if leaves:
        world.person("bob").send(type="leave", roomId=ROOM)
    owner = world.owner_of(ROOM)
    bob = next(tab for tab in tabs if tab.session.hub is not owner.hub)
    world.sleep(1)
    world.kill(owner)
    world.sleep(8)
    for other in others:
        other.send(type="leave", roomId=ROOM)
    world.sleep(40)  # the places of those who were connected to the lost worker are free
    assert settings_of(bob) == {"title": "for bob", "maxUsers": 9}
    bob.send(type="privacy", data={"invisible": False})
    world.sleep(1)
    assert settings_of(world.person("late")) == {"title": "for bob", "maxUsers": 9}


def test_a_member_who_becomes_invisible_after_the_death_of_the_owner_sees_the_settings_that_it_saw() -> None:
    world = World(workers=4, missed_heartbeats=1000)
    world.verifier.settings = {"*": {"title": "for all"}}
    people = [world.person(f"user{number}") for number in range(8)]
    owner = world.owner_of(ROOM)
    world.kill(owner)
    world.sleep(8)
    bob, *others = (each for each in people if each.session.hub is not owner.hub)
    bob.send(type="privacy", data={"invisible": True})
    for other in others:
        other.send(type="leave", roomId=ROOM)
    world.sleep(40)
    assert settings_of(bob) == {"title": "for all"}


@pytest.mark.parametrize("leaves", [True, False], ids=["joined again", "second tab"])
def test_while_others_are_there_the_newest_settings_are_those_of_an_invisible_member(leaves: bool) -> None:
    world = World()
    ann = world.person("ann")
    for title in ("old", "new"):
        world.verifier.settings = {"*": {"title": title}}
        bob = world.client().auth("bob", privacy={"invisible": True}).join()
        if leaves and title == "old":
            bob.send(type="leave", roomId=ROOM)
    ann.send(type="leave", roomId=ROOM)
    assert settings_of(bob) == {"title": "new"}


def test_in_a_room_of_its_own_a_second_tab_changes_nothing() -> None:
    world = World()
    for title in ("first", "second"):
        world.verifier.settings = {"*": {"title": title}}
        bob = world.client().auth("bob", privacy={"invisible": True}).join()
    assert settings_of(bob) == {"title": "first"}


def test_a_visible_member_makes_the_room_with_its_own_settings() -> None:
    world = World()
    world.verifier.settings = {"*": {"title": "for ann"}}
    ann = world.client().auth("ann", privacy={"invisible": True}).join()
    world.verifier.settings = {}
    assert settings_of(world.person("bob")) is None and settings_of(ann) is None


# --- what they do


@pytest.mark.parametrize("mode", ["controller", "moderators"])
def test_the_control_mode_of_a_room(mode: Any) -> None:
    world = World()
    ann, other = world.person("ann"), world.person("ann", "video_7")
    mod = world.person('mod:Mod:{"*":["join","moderate"]}')
    world.change_room(controlMode=mode)
    ann.send(play("play"))
    assert ann.last("error")["code"] == "NOT_CONTROLLER"
    mod.send(play("play"))
    assert bool(ann.take("playback_synced")) is (mode == "moderators")
    ann.send(type="control_request", roomId=ROOM, id=1)
    assert ann.last("ack")["granted"] is (mode == "controller")
    other.send(type="playback", roomId="video_7", data={"action": "play"})
    assert other.take("playback_synced"), "another room has its own mode"


def test_a_room_may_be_more_open_than_the_configuration() -> None:
    world = World(RoomOptions(control_mode="controller"))
    ann = world.person("ann")
    ann.send(play("play"))
    assert ann.take("error")
    world.change_room(controlMode="open")
    ann.send(play("play"))
    assert ann.take("playback_synced")
    world.change_room(controlMode=None)
    ann.send(play("pause"))
    assert ann.take("error")


@pytest.mark.parametrize("mode", ["controller", "moderators"])
def test_members_see_the_control_mode_of_the_configuration(mode: Any) -> None:
    world = World(RoomOptions(control_mode=mode))
    ann = world.person("ann")
    assert settings_of(ann) == {"controlMode": mode}
    assert world.http("tim").call("join", roomId=ROOM, roomType="video")["room"]["settings"] == {"controlMode": mode}
    assert settings_of(world.person("tom", "project_1", "project")) is None, "it has no playback"
    world.change_room(title="Cut 3")
    assert changes(ann) == [{"title": "Cut 3"}]
    assert settings_of(world.person("bob")) == {"title": "Cut 3", "controlMode": mode}
    world.change_room(controlMode="open")
    world.change_room(controlMode=None)
    assert changes(ann) == [{"controlMode": "open"}, {"controlMode": mode}]
    assert settings_of(world.person("eve", "video_7")) == {"controlMode": mode}
    eva = world.client().auth("eva", privacy={"invisible": True}).join("video_8")
    assert settings_of(eva) == {"controlMode": mode}


def test_the_back_end_sees_only_what_it_has_set() -> None:
    world = World(RoomOptions(control_mode="controller"))
    world.person("ann")
    assert world.change_room(title="Cut 3") == RoomChanged(settings=RoomSettings(title="Cut 3"))


@pytest.mark.parametrize("clean", [False, True], ids=["lost", "released"])
@pytest.mark.parametrize(("before", "after"), [("open", "controller"), ("moderators", "open")])
def test_another_control_mode_at_the_next_owner_reaches_the_members(before: Any, after: Any, clean: bool) -> None:
    """As in a rolling reload of the configuration."""
    world = World(RoomOptions(control_mode=before), workers=4)
    people = [world.person(f"user{number}") for number in range(8)]
    own = [world.person(f"maker{number}", "video_own") for number in range(4)]
    world.change_room("video_own", controlMode="controller")
    world.sleep(1)
    owner = world.owner_of(ROOM)
    for node in world.nodes.values():
        if node is not owner:
            node.shard.context.options = RoomOptions(control_mode=after)
    if clean:
        world.publish(leaving=frozenset((owner.number,)))
    else:
        world.kill(owner)
    world.sleep(2)
    survivors = people if clean else [each for each in people if each.session.hub is not owner.hub]
    told = None if after == "open" else after
    assert survivors and all(changes(each) == [{"controlMode": told}] for each in survivors)
    late = world.person("late")
    assert settings_of(late) == (None if after == "open" else {"controlMode": after})
    late.send(play("play"))
    assert bool(late.take("error")) is (after != "open")
    assert all(changes(each) in ([], [{"controlMode": "controller"}]) for each in own), "the back end has set theirs"


def test_the_number_of_users_of_a_room() -> None:
    world = World(max_users_per_room=3)
    world.verifier.settings = {"*": {"maxUsers": 2}}
    ann, _ = world.person("ann"), world.person("bob")
    cat = world.client().auth("cat").join()
    assert cat.last("error")["code"] == "ROOM_FULL"
    world.person("ann")
    world.change_room(maxUsers=1)
    assert len(world.shard.rooms[ROOM].people) == 2, "members stay"
    world.change_room(maxUsers=50)
    assert cat.join().got[-1]["type"] == "joined"
    assert world.client().auth("dan").join().last("error")["code"] == "ROOM_FULL", "never above the server's limit"
    assert ann.last("room_changed")["data"] == {"maxUsers": 50}


# --- media


CUT_2, CUT_3 = {"mediaId": "cut_2", "duration": 90.0}, {"mediaId": "cut_3", "frameRate": 25.0}


def media_of(client: Client) -> Any:
    return client.last("joined")["room"].get("media")


def media_events(client: Client) -> list[Any]:
    """Author, target and medium of the new `media_changed`."""
    return [
        (event["userId"], event["data"]["target"], event["data"].get("medium"))
        for event in client.take("media_changed")
    ]


def test_a_room_begins_with_the_media_of_the_back_end_and_members_may_not_set_others() -> None:
    world = World()
    world.verifier.settings = {"*": {"media": {"main": CUT_2, "b": CUT_3}}}
    ann = world.person("ann")
    assert media_of(ann) == {"main": CUT_2, "b": CUT_3} == settings_of(ann)["media"]
    assert "playback" not in ann.last("joined")["room"] and media_events(ann) == []
    ann.send(type="media", roomId=ROOM, data={"mediaId": "mine"})
    assert ann.last("error")["code"] == "FORBIDDEN" and media_of(world.person("bob")) == {"main": CUT_2, "b": CUT_3}


def test_a_change_of_the_media_is_a_change_of_each_target() -> None:
    world = World()
    ann = world.person("ann")
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1))
    ann.take()
    world.change_room(media={"main": CUT_2, "b": CUT_3})
    assert [event["type"] for event in ann.got[-3:]] == ["room_changed", "media_changed", "media_changed"]
    assert media_events(ann) == [("system", "main", CUT_2), ("system", "b", CUT_3)]
    assert ann.last("media_changed")["data"]["playback"]["isPlaying"] is False
    ann.send(play("play", currentTime=5))
    world.change_room(media={"main": CUT_2})
    assert media_events(ann) == [("system", "b", None)]
    assert ann.last("media_changed")["data"]["playback"]["isPlaying"] is True, "the other video plays on"
    world.change_room(media={"main": CUT_3})
    assert media_events(ann) == [("system", "main", CUT_3)]
    ann.send(type="playback", roomId=ROOM, data={"action": "play", "mediaId": "cut_2"})
    assert ann.last("error")["code"] == "STALE", "a late command for the former video"
    assert settings_of(world.person("bob")) == {"media": {"main": CUT_3}}


def test_without_media_of_the_back_end_members_may_set_them_again() -> None:
    world = World()
    ann = world.person("ann")
    world.change_room(media={"main": CUT_2})
    ann.take()
    world.change_room(media=None)
    assert changes(ann) == [{"media": None}] and media_of(world.person("bob")) == {"main": CUT_2}
    ann.send(type="media", roomId=ROOM, data=CUT_3)
    assert media_events(ann) == [("ann", "main", CUT_3)]


def test_media_have_no_effect_in_a_room_without_playback() -> None:
    world = World()
    world.verifier.settings = {"*": {"media": {"main": CUT_2}}}
    ann = world.person("ann", "project_1", "project")
    assert media_of(ann) is None and settings_of(ann) == {"media": {"main": CUT_2}}
    world.change_room("project_1", media={"main": CUT_3})
    assert [event["type"] for event in ann.take()] == ["room_changed"]


def test_a_room_has_one_to_four_targets() -> None:
    four = dict.fromkeys("abcd", CUT_2)
    assert read_settings({"media": four})
    for media in ({}, {**four, "e": CUT_3}, {"": CUT_2}, {"main": {}}, {"main": {**CUT_2, "frameRate": 0}}, []):
        with pytest.raises(ValueError, match="media"):
            read_settings({"media": media})


def test_media_of_the_back_end_survive_the_death_of_the_owner_and_end_with_the_room() -> None:
    world = World(workers=4)
    people = [world.person(f"user{number}") for number in range(8)]
    world.change_room(media={"main": CUT_2})
    owner = world.owner_of(ROOM)
    world.kill(owner)
    world.sleep(2)
    late = world.person("late")
    assert media_of(late) == {"main": CUT_2}
    late.send(type="media", roomId=ROOM, data=CUT_3)
    assert late.last("error")["code"] == "FORBIDDEN"
    for each in (*people, late):
        if each.session.hub is not owner.hub:
            each.send(type="leave", roomId=ROOM)
    world.sleep(60)
    assert media_of(world.person("next")) is None


def test_another_video_ends_a_wait_for_viewers() -> None:
    world = World(RoomOptions(wait_for_viewers_s=5.0))
    ann, bob = world.person("ann"), world.person("bob")
    at = {"playbackRate": 1}
    ann.send(play("sync", isPlaying=True, currentTime=10, **at))
    for seconds, buffering in ((0, False), (5, False), (5, True)):  # in step for 5 s it is no newcomer
        world.sleep(seconds)
        position = world.shard.rooms[ROOM].playback.position(world.now)
        bob.send(play("report", isPlaying=True, currentTime=position, buffering=buffering, **at))
    assert ann.last("playback_synced")["data"]["action"] == "wait"
    world.change_room(media={"main": CUT_2})
    ann.take()
    world.sleep(10)
    assert ann.take("playback_synced") == []
