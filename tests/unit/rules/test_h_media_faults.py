"""Decisions H17 to H21: what went wrong once with media, the end and steps, and must not again."""

from fractions import Fraction
from math import floor
from typing import Any

import pytest

from koko_presence.protocol.models import MAX_TARGETS
from koko_presence.rooms.frames import EARLY_S, FrameGrid
from koko_presence.rooms.room import Room
from tests.unit.rules.media_messages import medium, play, snapshot
from tests.world import Client, World

ROOM = "video_123"


def room_of(world: World) -> Room:
    return world.shard.rooms[ROOM]  # type: ignore[no-any-return]


# --- durations that commands name [H20] ---------------------------------------------------------------------------


def test_h20_durations_for_ever_new_targets_do_not_pile_up(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for number in range(50):
        ann.send(play("seek", currentTime=1.0, target=f"t{number}", duration=100.0 + number))
        ann.world.sleep(0.3)
    assert len(room_of(ann.world).targets.durations) == MAX_TARGETS
    assert ann.take("error") == [] and snapshot(ann.world)["playback"]["duration"] == 149.0


def test_h20_a_duration_for_a_target_that_the_room_does_not_have_is_not_its_end(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(duration=10))
    ann.send(play("seek", currentTime=1.0, target="typo", duration=1e6))
    assert bob.last("playback_synced")["data"]["duration"] == 10.0
    ann.send(play("play"))
    ann.world.sleep(9.5)
    assert bob.last("playback_synced")["data"]["ended"]


def test_h20_the_first_medium_ends_what_was_said_of_targets_that_there_are_not(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(play("seek", currentTime=1.0, target="typo", duration=1e6))
    ann.send(medium(duration=10))
    assert snapshot(ann.world)["playback"]["duration"] == 10.0


def test_h20_a_medium_does_not_end_before_the_room_begins(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(offset=5))
    ann.send(play("play", duration=1.0))
    assert bob.last("playback_synced")["data"]["isPlaying"]
    assert "duration" not in bob.last("playback_synced")["data"]
    ann.send(play("seek", currentTime=2.0, duration=8.0))
    assert bob.last("playback_synced")["data"]["duration"] == 3.0


def test_h20_the_end_of_the_room_is_a_time_that_commands_may_have(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(duration=1e6, offset=-1e6))
    ann.send(play("play", currentTime=1e6 - 1.0))
    ann.world.sleep(2.0)
    data = bob.last("playback_synced")["data"]
    assert (data["duration"], data["currentTime"], data["ended"]) == (1e6, 1e6, True)


def test_h20_the_answer_to_a_command_has_the_duration_and_the_target_of_the_state(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(play("play", currentTime=5.0, duration=60.0, target="left"))
    ack = ann.last("ack")
    assert (ack["duration"], ack["target"]) == (60.0, "left")
    assert snapshot(ann.world)["playback"].items() <= ack.items()
    ann.send(medium("film_2"))
    ann.send(play("seek", currentTime=6.0))
    assert "duration" not in ann.last("ack")


# --- removed targets [H19] ----------------------------------------------------------------------------------------


def test_h19_a_late_command_for_a_removed_target_changes_nothing(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    ann.send(medium("film_2", target="alt"))
    ann.send(medium(None, target="alt"))
    before = snapshot(ann.world)["playback"]
    bob.send(play("seek", currentTime=77.0, target="alt", mediaId="film_2"))
    assert (bob.last("error")["code"], bob.last("error")["state"]) == ("STALE", before)
    assert snapshot(ann.world)["playback"] == before
    ann.send(medium("film_3", target="alt"))
    bob.send(play("seek", currentTime=77.0, target="alt", mediaId="film_3"))
    assert snapshot(ann.world)["playback"]["currentTime"] == 77.0


def test_h19_when_the_last_medium_is_removed_its_late_commands_are_stale_too(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    ann.send(medium(None))
    bob.send(play("seek", currentTime=77.0, mediaId="film_1"))
    assert bob.last("error")["code"] == "STALE"


def test_h19_a_target_that_never_had_a_medium_is_not_compared(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("film_1"))
    bob.send(play("seek", currentTime=7.0, target="right", mediaId="film_2"))
    assert snapshot(ann.world)["playback"]["currentTime"] == 7.0


# --- the end while synchronisation is off [H20] -------------------------------------------------------------------


def test_h20_while_synchronisation_is_off_the_end_is_not_broadcast() -> None:
    world = World()
    bob = world.person("bob")
    mod = world.client().auth('mod:Mod:{"video_123":["join","control","moderate"]}').join()
    mod.send(play("play", currentTime=50.0, duration=60.0))
    mod.send(play("disable"))
    bob.take()
    world.sleep(11.0)
    assert bob.take("playback_synced") == []
    assert snapshot(world)["playback"]["ended"]
    mod.send(play("enable"))
    assert bob.last("playback_synced")["data"]["ended"]


# --- media of the back end [H18] ----------------------------------------------------------------------------------


def test_h18_all_events_of_one_change_have_the_playback_after_it(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    long, short = {"mediaId": "long", "duration": 3600}, {"mediaId": "short", "duration": 10}
    ann.world.change_room(media={"main": long, "alt": short})
    ann.send(play("play", currentTime=3000.0))
    version = snapshot(ann.world)["playback"]["version"]
    bob.take()
    ann.world.change_room(media={"alt": short, "third": {"mediaId": "third", "duration": 3600}})
    events = bob.take("media_changed")
    assert [(event["data"]["target"], event["data"]["medium"] is None) for event in events] == [
        ("main", True),
        ("third", False),
    ]
    states = [event["data"]["playback"] for event in events]
    assert states[0] == states[1] == snapshot(ann.world)["playback"]
    assert states[0]["isPlaying"] and states[0]["version"] == version + 1
    assert states[0]["currentTime"] == pytest.approx(3000.0, abs=0.5)


@pytest.mark.parametrize(
    ("media_now", "stays"),
    [
        ({"main": "film_1", "alt": "film_2"}, True),
        ({"main": "film_9"}, False),
        ({"main": "film_9", "alt": "film_2"}, False),
        ({"left": "film_8", "right": "film_9"}, False),
    ],
)
def test_h18_a_film_to_compare_with_does_not_stop_the_room_and_another_film_does(
    pair: tuple[Client, Client], media_now: dict[str, str], stays: bool
) -> None:
    ann, _ = pair
    ann.world.change_room(media={"main": {"mediaId": "film_1"}})
    ann.send(play("play", currentTime=30.0))
    ann.world.change_room(media={target: {"mediaId": media_id} for target, media_id in media_now.items()})
    state = snapshot(ann.world)["playback"]
    assert state["isPlaying"] == stays
    assert state["currentTime"] == (pytest.approx(30.0, abs=0.5) if stays else 0.0)


def test_h18_of_four_targets_one_may_be_exchanged_for_another(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    for last in ("d", "e"):
        ann.world.change_room(media={target: {"mediaId": f"film_{target}"} for target in ("a", "b", "c", last)})
        assert set(snapshot(ann.world)["media"]) == {"a", "b", "c", last}


# --- frames: fast, and exact [H21, H22] ---------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [24.0, 25.0, "24000/1001", "30000/1001", "60000/1001", 1000.0])
@pytest.mark.parametrize("offset", [0.0, 2.4, -1.7])
def test_h21_a_position_is_in_the_frame_in_which_exact_arithmetic_finds_it(rate: Any, offset: float) -> None:
    grid = FrameGrid(rate, offset, None)
    for frame in (1, 2, 24, 1000, 1001, 100_000, 86_399_999):
        begin = float(Fraction(frame) / Fraction(rate) - Fraction(offset) - EARLY_S)
        for position in (begin - 1e-9, begin, begin + 1e-9, begin + 0.0004, begin + 0.001):
            exact = floor((Fraction(position) + Fraction(offset) + EARLY_S) * Fraction(rate))
            assert grid.frame_at(position) == max(exact, 0)


def test_h22_reports_compute_no_grid_and_no_end(pair: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = pair
    for number in range(MAX_TARGETS):
        ann.send(medium(f"film_{number}", target=f"t{number}", duration=60, frameRate=25))
        ann.world.sleep(1)
    ann.send(play("play", currentTime=1.0))
    targets = type(room_of(ann.world).targets)
    monkeypatch.setattr(targets, "_compute", lambda self: pytest.fail("computed again"))
    for number in range(5):
        bob.send(play("report", isPlaying=True, currentTime=2.0 + number, playbackRate=1.0, target="t2"))
        ann.world.sleep(1)
    assert ann.last("viewer_sync")["data"]["driftFrames"] is not None
