"""Decisions H20 to H22: the end of a room, frames, and how near viewers are to it."""

from fractions import Fraction
from typing import Any

import pytest

from tests.unit.rules.media_messages import medium, play, snapshot
from tests.world import Client

RATES = ["24000/1001", 24, 25, "30000/1001", 30, 50, "60000/1001", 60, 120]


def report(time: float, playing: bool = False, **more: Any) -> dict[str, Any]:
    return play("report", isPlaying=playing, currentTime=time, playbackRate=1.0, **more)


def state(client: Client) -> dict[str, Any]:
    return dict(client.last("playback_synced")["data"])


# --- the end [H20] ------------------------------------------------------------------------------------------------


def test_h20_at_the_end_the_room_stops_and_says_so(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=50.0, duration=60.0))
    ann.world.sleep(9.9)
    assert state(bob)["isPlaying"]
    ann.world.sleep(0.2)
    event = bob.last("playback_synced")
    assert (event["userId"], event["sessionId"]) == ("system", "system")
    expected = {"isPlaying": False, "currentTime": 60.0, "action": "end", "version": 2, "ended": True}
    assert expected.items() <= event["data"].items()
    assert ann.last("playback_synced") == event
    row = snapshot(ann.world)["playback"]
    assert {"isPlaying": False, "currentTime": 60.0, "version": 2, "ended": True}.items() <= row.items()


def test_h20_the_end_comes_sooner_at_a_higher_rate_and_not_at_all_in_a_pause(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("sync", isPlaying=True, currentTime=40.0, playbackRate=2.0, duration=60.0))
    ann.world.sleep(5.0)
    ann.send(play("pause"))
    ann.world.sleep(30.0)
    assert "ended" not in state(bob)
    ann.send(play("play"))
    ann.world.sleep(4.8)
    assert "ended" not in state(bob)
    ann.world.sleep(0.4)
    assert state(bob)["ended"]


def test_h20_the_end_is_that_of_the_longest_target(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("left_1", target="left", duration=60, offset=2.4))
    ann.send(medium("right_1", target="right", duration=30))
    ann.send(play("play", currentTime=29.0))
    assert state(bob)["duration"] == 57.6
    ann.world.sleep(28.5)
    assert "ended" not in state(bob)
    ann.world.sleep(0.2)
    assert state(bob)["ended"] and state(bob)["currentTime"] == 57.6


def test_h20_the_duration_is_that_of_the_medium_else_that_of_the_last_command_per_target(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    ann.send(play("seek", currentTime=5.0, target="left", duration=60.0))
    ann.send(play("seek", currentTime=5.0, target="right", duration=80.0))
    ann.send(play("seek", currentTime=5.0, target="left", duration=70.0))
    assert state(bob)["duration"] == 80.0
    ann.send(play("seek", currentTime=5.0, target="right", duration=40.0))
    assert state(bob)["duration"] == 70.0
    ann.world.sleep(1)
    ann.send(medium("left_1", target="left", duration=50))
    assert snapshot(ann.world)["playback"]["duration"] == 50.0


def test_h20_where_there_are_media_the_duration_of_another_target_does_not_count(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("left_1", target="left", duration=60))
    ann.send(play("play", currentTime=58.0, duration=600.0))
    assert state(bob)["duration"] == 60.0


def test_h20_a_medium_that_is_over_before_the_room_begins_gives_no_end(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(offset=5))
    ann.send(play("play", currentTime=3.0, duration=4.0))
    assert state(bob)["isPlaying"] and "duration" not in state(bob)


def test_h20_another_medium_forgets_the_duration_that_commands_have_named(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("seek", currentTime=5.0, duration=60.0))
    ann.send(medium("film_2"))
    ann.send(play("seek", currentTime=90.0))
    assert state(bob)["currentTime"] == 90.0 and "duration" not in state(bob)


@pytest.mark.parametrize("fields", [{}, {"currentTime": 60.0}, {"currentTime": 61.5}])
def test_h20_play_at_the_end_begins_at_0(pair: tuple[Client, Client], fields: dict[str, Any]) -> None:
    ann, bob = pair
    ann.send(play("seek", currentTime=60.0, duration=60.0))
    ann.world.sleep(10)
    bob.send(play("play", **fields))
    assert state(ann)["isPlaying"] and state(ann)["currentTime"] == 0.0 and "ended" not in state(ann)
    ann.world.sleep(60.1)
    assert state(ann)["ended"]


@pytest.mark.parametrize(
    "command",
    [
        play("seek", currentTime=75.0),
        play("pause", currentTime=60.0),
        play("sync", isPlaying=True, currentTime=60.0, playbackRate=1.0),
        play("sync", isPlaying=False, currentTime=60.0, playbackRate=1.0),
    ],
)
def test_h20_a_command_to_the_end_ends_the_room(pair: tuple[Client, Client], command: dict[str, Any]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=5.0, duration=60.0))
    ann.send(command)
    assert {"isPlaying": False, "currentTime": 60.0, "ended": True}.items() <= state(bob).items()


def test_h20_a_seek_back_from_the_end_stays_paused(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("seek", currentTime=60.0, duration=60.0))
    ann.send(play("seek", currentTime=10.0))
    assert not state(bob)["isPlaying"] and "ended" not in state(bob)


def test_h20_a_medium_that_is_shorter_than_the_position_ends_the_room(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=90.0))
    ann.send(medium("film_1", duration=60, keepPosition=True))
    row = bob.last("media_changed")["data"]["playback"]
    assert {"isPlaying": False, "currentTime": 60.0, "ended": True}.items() <= row.items()


def test_h20_another_medium_moves_the_end(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=50.0, duration=60.0))
    ann.send(medium("film_1", duration=100, keepPosition=True))
    ann.world.sleep(15)
    assert bob.take("playback_synced")[-1]["data"]["isPlaying"]
    ann.world.sleep(36)
    assert state(bob)["ended"] and state(bob)["currentTime"] == 100.0


def test_h20_a_late_command_is_measured_against_the_version_of_the_end(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=59.0, duration=60.0))
    ann.world.sleep(1.1)
    bob.send(play("pause", baseVersion=1))
    assert bob.last("error")["code"] == "STALE" and bob.last("error")["state"]["ended"]


def test_h20_viewers_at_the_end_are_ended_and_count_as_in_step(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=58.0, duration=60.0))
    bob.send(report(58.0, True))
    ann.world.sleep(1.9)
    bob.send(report(59.96))  # a player that is a little ahead, and ends before the container's duration
    data = ann.last("viewer_sync")["data"]
    assert (data["state"], data["synced"], data["total"]) == ("ended", 1, 2)
    ann.world.sleep(0.2)
    ann.send(report(60.0))
    assert ann.last("viewer_sync")["data"]["synced"] == 2
    row = next(user for user in snapshot(ann.world)["users"] if user["userId"] == "bob")
    assert row["viewerSync"]["state"] == "ended"


def test_h20_a_viewer_at_the_end_is_paused_while_the_room_is_elsewhere(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=10.0, duration=60.0))
    ann.world.sleep(2)
    bob.send(report(60.0))
    assert ann.last("viewer_sync")["data"]["state"] == "paused"


def test_h20_a_viewer_of_a_shorter_target_shows_its_last_frame_and_is_ended(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("left_1", target="left", duration=60))
    ann.send(medium("right_1", target="right", duration=30))
    ann.send(play("play", currentTime=40.0))
    bob.send(report(30.0, target="right", mediaId="right_1"))
    data = ann.last("viewer_sync")["data"]
    assert (data["state"], data["driftMs"]) == ("ended", 0)


# --- frames [H21] -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_h21_a_paused_position_is_the_middle_of_the_frame(pair: tuple[Client, Client], rate: Any) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=rate))
    exact = Fraction(rate)
    for frame in (0, 1, 7, 1000, 86_399, 1_000_003):
        begin = float(frame / exact)
        # exactly at its begin, with the rounding of WebM and Chromium, 1 ms behind it, and just before the next one
        for position in (begin, round(begin, 3), int(begin * 1e6) / 1e6, begin + 0.001, begin + float(0.9 / exact)):
            ann.world.sleep(0.3)
            ann.send(play("pause", currentTime=position))
            assert state(bob)["frame"] == frame, position
            assert state(bob)["currentTime"] == float((frame + Fraction(1, 2)) / exact)


def test_h21_the_snapshot_and_the_answer_have_the_frame_too(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    ann.send(play("pause", currentTime=10.01))
    assert snapshot(ann.world)["playback"]["frame"] == 250
    assert ann.last("ack")["frame"] == 250 and ann.last("ack")["currentTime"] == 10.02
    bob.send(play("seek", currentTime=20.0, baseVersion=0))
    assert bob.last("error")["state"]["frame"] == 250


@pytest.mark.parametrize("action", ["pause", "seek", "sync", "step"])
def test_h21_each_command_that_ends_in_a_pause_ends_on_a_frame(pair: tuple[Client, Client], action: str) -> None:
    ann, bob = pair
    ann.send(medium(frameRate="24000/1001"))
    frames = {"frames": 3} if action == "step" else {}
    ann.send(play(action, isPlaying=False, currentTime=100.0, playbackRate=1.0, **frames))
    frame = 2397 + frames.get("frames", 0)
    assert state(bob)["frame"] == frame
    assert state(bob)["currentTime"] == float((frame + Fraction(1, 2)) * Fraction(1001, 24000))


def test_h21_a_playing_room_has_no_frame_and_its_position_is_that_of_the_command(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    ann.send(play("play", currentTime=10.001))
    assert state(bob)["currentTime"] == 10.001 and "frame" not in state(bob)
    ann.send(play("seek", currentTime=20.003))
    assert state(bob)["currentTime"] == 20.003 and "frame" not in state(bob)


def test_h21_without_a_rate_the_position_is_carried_through_untouched(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium())
    position = 10.010000000000002 + 0.001  # what a player shows, plus 1 ms
    ann.send(play("pause", currentTime=position))
    assert state(bob)["currentTime"] == position and "frame" not in state(bob)
    assert snapshot(ann.world)["playback"]["currentTime"] == position


@pytest.mark.parametrize(("frames", "expected"), [(1, 251), (-1, 249), (1000, 1250), (-1000, 0)])
def test_h21_a_step_pauses_and_moves_by_frames(pair: tuple[Client, Client], frames: int, expected: int) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    ann.send(play("play", currentTime=0.0))
    bob.send(play("step", frames=frames, currentTime=10.01))
    assert (state(ann)["action"], state(ann)["isPlaying"], state(ann)["frame"]) == ("step", False, expected)


def test_h21_steps_of_several_people_add_up(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate="30000/1001"))
    ann.send(play("pause", currentTime=10.0))
    for client in (ann, bob, ann, bob):
        client.send(play("step", frames=1))
    bob.send(play("step", frames=-3))
    assert state(ann)["frame"] == 299 + 4 - 3


def test_h21_300_steps_are_300_frames(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate="60000/1001"))
    ann.send(play("pause", currentTime=0.0))
    for _ in range(300):
        ann.world.sleep(0.25)
        ann.send(play("step", frames=1))
    assert state(bob)["frame"] == 300
    assert state(bob)["currentTime"] == float(Fraction(601, 2) * Fraction(1001, 60000))


def test_h21_a_step_ends_at_the_last_frame_and_begins_from_there_at_the_end(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25, duration=10.0))
    ann.send(play("pause", currentTime=9.9))
    ann.send(play("step", frames=50))
    assert state(bob)["frame"] == 249 and "ended" not in state(bob)
    ann.send(play("seek", currentTime=10.0))
    assert state(bob)["ended"] and state(bob)["frame"] == 249 and state(bob)["currentTime"] == 10.0
    ann.send(play("step", frames=-1))
    assert state(bob)["frame"] == 248 and "ended" not in state(bob)


@pytest.mark.parametrize(("duration", "last"), [(10.0, 249), (10.03, 250), (10.01, 249), (0.01, 0)])
def test_h21_the_number_of_frames_is_the_nearest_to_a_duration(
    pair: tuple[Client, Client], duration: float, last: int
) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25, duration=duration))
    ann.send(play("step", frames=1000))
    assert state(bob)["frame"] == last and state(bob)["currentTime"] <= duration


@pytest.mark.parametrize("frames", [0, 1001, -1001, 1.5, "1", None])
def test_h21_a_step_is_of_1_to_1000_frames(pair: tuple[Client, Client], frames: Any) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    bob.take()
    ann.send(play("step", **({} if frames is None else {"frames": frames})))
    assert ann.last("error")["code"] == "INVALID_DATA" and bob.take() == []


def test_h21_a_step_without_a_frame_rate_is_refused_and_changes_nothing(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("step", frames=1))
    assert ann.last("error")["code"] == "INVALID_DATA" and "playback" not in snapshot(ann.world)
    ann.send(medium("left_1", target="left", frameRate=25))
    ann.send(medium("right_1", target="right"))
    ann.send(play("play", currentTime=5.0))
    bob.take()
    ann.send(play("step", frames=1, target="right"))
    assert ann.take("error")[-1]["code"] == "INVALID_DATA" and bob.take() == []


def test_h21_with_several_media_the_frames_are_those_of_the_target_that_was_named(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("left_1", target="left", frameRate=25))
    ann.send(medium("right_1", target="right", frameRate="30000/1001", offset=2.4))
    ann.send(play("pause", currentTime=10.0))
    assert (state(bob)["frame"], state(bob)["frameTarget"]) == (250, "left")
    ann.send(play("step", frames=1, target="right"))
    # 12.42 s of the right one are in its frame 372
    assert (state(bob)["frame"], state(bob)["frameTarget"]) == (373, "right")
    assert (ann.last("ack")["frame"], ann.last("ack")["frameTarget"]) == (373, "right")
    middle = float(Fraction(747, 2) * Fraction(1001, 30000) - Fraction(2.4))
    assert state(bob)["currentTime"] == middle
    ann.send(play("step", frames=-1, target="left"))
    assert state(bob)["frameTarget"] == "left"


def test_h21_a_medium_that_has_not_begun_or_is_over_gives_no_frames(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium("left_1", target="left", frameRate=25, duration=10))
    ann.send(medium("right_1", target="right", frameRate=50, offset=-5, duration=40))
    ann.send(play("pause", currentTime=3.0))
    assert state(bob)["frameTarget"] == "left"
    ann.send(play("pause", currentTime=20.001, target="left"))
    assert (state(bob)["frameTarget"], state(bob)["frame"]) == ("right", 750)


def test_h21_a_frame_rate_that_becomes_known_in_a_pause_gives_the_frame(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium())
    ann.send(play("pause", currentTime=10.001))
    bob.send(medium(frameRate=25))
    row = ann.last("media_changed")["data"]["playback"]
    assert (row["frame"], row["currentTime"], row["version"]) == (250, 10.02, 3)


# --- how near viewers are [H22] -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "drift"), [(10.02, 0), (10.0, 0), (10.039, 0), (10.045, 1), (9.99, -1), (9.5, -13)]
)
def test_h22_in_a_pause_drift_frames_is_exact(pair: tuple[Client, Client], reported: float, drift: int) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    ann.send(play("pause", currentTime=10.01))
    bob.send(report(reported))
    row = next(user for user in snapshot(ann.world)["users"] if user["userId"] == "bob")["viewerSync"]
    assert row["driftFrames"] == drift and row["driftMs"] == round((reported - 10.02) * 1000)
    assert ann.last("viewer_sync")["data"]["driftFrames"] == drift


def test_h22_while_playing_drift_frames_is_the_nearest_number(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=50))
    ann.send(play("play", currentTime=10.0))
    ann.world.sleep(1)
    at = bob.last("playback_synced")["data"]["serverTime"] + 1000
    bob.send(report(11.0 - 0.105, True, at=at))
    data = ann.last("viewer_sync")["data"]
    assert (data["state"], data["driftMs"], data["driftFrames"]) == ("synced", -105, -5)


def test_h22_without_a_frame_rate_there_is_no_drift_in_frames(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("play", currentTime=10.0))
    bob.send(report(10.0, True))
    assert "driftFrames" not in ann.last("viewer_sync")["data"]
    row = next(user for user in snapshot(ann.world)["users"] if user["userId"] == "bob")["viewerSync"]
    assert "driftFrames" not in row


def test_h22_a_viewer_is_synced_within_500_ms_also_on_another_frame(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(medium(frameRate=25))
    ann.send(play("pause", currentTime=10.0))
    bob.send(report(10.4))
    data = ann.last("viewer_sync")["data"]
    assert data["state"] == "synced" and data["driftFrames"] == 10
