"""Decisions H: playback, viewers, drift."""

from typing import Any

import pytest

from koko_presence.protocol.limits import RoomOptions
from tests.world import Client, World


def play(action: str, **fields: Any) -> dict[str, Any]:
    id_ = fields.pop("id", None)
    message = {"type": "playback", "roomId": "video_123", "data": {"action": action, **fields}}
    return message if id_ is None else message | {"id": id_}


def report(time: float, playing: bool = True, **more: Any) -> dict[str, Any]:
    return play("report", isPlaying=playing, currentTime=time, playbackRate=1.0, **more)


def sync(client: Client, time: float = 10.0, playing: bool = True, rate: float = 1.0) -> None:
    client.send(play("sync", isPlaying=playing, currentTime=time, playbackRate=rate))


def state(client: Client) -> dict[str, Any]:
    return dict(client.last("playback_synced")["data"])


def test_h1_without_a_controller_any_permitted_member_may_play_and_does_not_become_controller(
    pair: tuple[Client, Client],
) -> None:
    ann, bob = pair
    sync(ann)
    sync(bob, 20)
    assert state(ann)["currentTime"] == 20
    assert "controller" not in ann.world.client().auth("c").join().last("joined")["room"]


def test_h1_with_a_controller_others_get_the_state_to_snap_back(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="control_request", roomId="video_123")
    sync(ann, 10)
    bob.send(play("seek", currentTime=99, id=1))
    error = bob.last("error")
    assert (error["code"], error["id"]) == ("NOT_CONTROLLER", 1)
    assert error["state"]["currentTime"] == 10 and error["state"]["version"] == 1 and error["state"]["isPlaying"]
    assert state(bob)["currentTime"] == 10


@pytest.mark.parametrize("mode", ["controller", "moderators"])
def test_h1_control_mode_of_the_room(mode: Any) -> None:
    world = World(RoomOptions(control_mode=mode))
    ann = world.person("ann")
    mod = world.person('mod:Mod:{"video_123":["join","moderate"]}')
    ann.take()
    sync(ann)
    assert ann.take("error")[0]["code"] == "NOT_CONTROLLER"
    sync(mod)
    assert bool(mod.take("playback_synced")) is (mode == "moderators")
    ann.send(type="control_request", roomId="video_123", id=1)
    assert ann.last("ack")["granted"] is (mode == "controller")


@pytest.mark.parametrize(
    "data",
    [
        b'"action":"seek","currentTime":NaN',
        b'"action":"seek","currentTime":Infinity',
        b'"action":"seek","currentTime":-0.5',
        b'"action":"seek","currentTime":1e7',
        b'"action":"rate","playbackRate":0',
        b'"action":"rate","playbackRate":-1',
        b'"action":"rate","playbackRate":17',
        b'"action":"play","currentTime":"5"',
        b'"action":"sync","isPlaying":true,"currentTime":5,"playbackRate":null',
    ],
)
def test_h3_h12_a_wrong_number_is_refused_and_nothing_moves(pair: tuple[Client, Client], data: bytes) -> None:
    ann, bob = pair
    sync(ann, 10.0, playing=False)
    bob.take()
    ann.send(b'{"type":"playback","roomId":"video_123","data":{%b}}' % data)
    assert ann.last("error")["code"] == ("INVALID_JSON" if b":NaN" in data or b":Inf" in data else "INVALID_DATA")
    assert bob.take() == []
    row = ann.world.client().auth("c").join().last("joined")["room"]["playback"]
    assert (row["currentTime"], row["version"], row["playbackRate"], row["isPlaying"]) == (10.0, 1, 1.0, False)


def test_h2_another_tab_of_the_controller_takes_over(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    tab = ann.world.person("ann")
    ann.send(type="control_request", roomId="video_123")
    sync(tab)
    room = ann.world.client().auth("c").join().last("joined")["room"]
    assert room["controller"] == "ann" and room["controllerSessionId"] == tab.session_id
    assert state(bob)["version"] == 1


@pytest.mark.parametrize(
    ("action", "missing"),
    [("sync", "isPlaying"), ("sync", "currentTime"), ("sync", "playbackRate"), ("seek", "currentTime"), ("rate", "playbackRate"),
     ("report", "isPlaying"), ("report", "currentTime"), ("report", "playbackRate")],
)  # fmt: skip
def test_h3_missing_fields_are_invalid_data(pair: tuple[Client, Client], action: str, missing: str) -> None:
    ann, bob = pair
    fields = {"isPlaying": True, "currentTime": 1.0, "playbackRate": 1.0}
    del fields[missing]
    ann.send(play(action, **fields))
    (error,) = ann.take()
    assert error["code"] == "INVALID_DATA" and missing in error["message"] and bob.take() == []


def test_h3_every_action_broadcasts_the_full_state(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10, True)
    for action, fields in (("pause", {}), ("play", {}), ("seek", {"currentTime": 50}), ("rate", {"playbackRate": 2})):
        ann.world.sleep(1)
        ann.send(play(action, **fields))
        data = state(bob)
        assert {"isPlaying", "currentTime", "playbackRate", "action", "version", "serverTime"} <= set(data)
        assert data["action"] == action
    assert data["version"] == 5 and data["playbackRate"] == 2 and data["isPlaying"]


def test_h4_positions_are_anchored(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10, True, 2.0)
    ann.world.sleep(5)
    ann.send(play("pause"))
    assert state(bob)["currentTime"] == pytest.approx(20.012, abs=0.002)
    ann.world.sleep(5)
    ann.send(play("play"))
    assert state(bob)["currentTime"] == pytest.approx(20.012, abs=0.002)


@pytest.mark.parametrize(
    ("skew_s", "believed"), [(-1.5, True), (1.5, True), (-2.5, False), (2.5, False), (-1e9, False)]
)
def test_h4_at_is_accepted_within_2_s(pair: tuple[Client, Client], skew_s: float, believed: bool) -> None:
    ann, bob = pair
    now_ms = ann.world.wall.ms(ann.world.now)
    at = max(0.0, now_ms + skew_s * 1000)
    ann.send(play("sync", isPlaying=True, currentTime=10, playbackRate=1, at=at))
    assert state(bob)["serverTime"] == (min(at, now_ms) if believed else now_ms)
    assert state(bob)["currentTime"] == 10


def test_h4_the_position_stops_at_the_duration(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(play("sync", isPlaying=True, currentTime=55, playbackRate=1, duration=60))
    ann.world.sleep(20)
    ann.send(play("pause"))
    assert state(bob)["currentTime"] == 60


@pytest.mark.parametrize("action", ["pause", "play", "seek", "rate", "sync", "disable"])
def test_h4_a_command_that_the_network_held_back_changes_nothing(pair: tuple[Client, Client], action: str) -> None:
    mod = pair[0].world.person('mod:Mod:{"video_123":["join","control","moderate"]}')
    bob = pair[1]
    sync(mod, 0.0)
    mod.world.sleep(3)
    fields = {"isPlaying": False, "currentTime": 3.0, "playbackRate": 2.0, "at": mod.world.wall.ms(mod.world.now)}
    mod.world.sleep(7)
    bob.take()
    mod.send(play(action, id=1, maxAgeMs=2000, **fields))
    error = mod.last("error")
    assert (error["code"], error["id"]) == ("STALE", 1) and "maxAgeMs" in error["message"]
    assert error["state"]["isPlaying"] and error["state"]["version"] == 1 and not bob.take()
    row = mod.world.client().auth("c").join().last("joined")["room"]
    assert row["playback"] == error["state"] and row["syncEnabled"]


def test_h4_a_command_within_its_age_counts_and_one_without_a_limit_always(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 0.0)
    at = ann.world.wall.ms(ann.world.now)
    ann.world.sleep(1.5)
    ann.send(play("pause", currentTime=1.0, at=at + 1000, maxAgeMs=2000))
    assert state(bob)["currentTime"] == 1.0 and not ann.take("error")
    ann.world.sleep(7)
    ann.send(play("seek", currentTime=5.0, at=at + 2000))
    assert state(bob)["currentTime"] == 5.0
    ann.send(play("seek", currentTime=6.0, maxAgeMs=2000))
    assert state(bob)["currentTime"] == 6.0 and not ann.take("error")


@pytest.mark.parametrize("age", [0, 60_001, 1.5, "2000", True])
def test_h4_an_age_is_a_number_of_ms(pair: tuple[Client, Client], age: Any) -> None:
    ann, bob = pair
    bob.take()
    ann.send(play("pause", maxAgeMs=age))
    assert ann.last("error")["code"] == "INVALID_DATA" and not bob.take()


def test_h4_an_old_report_is_ignored(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10)
    bob.send(report(10.0))
    assert seen(ann) == [("synced", 1, 2)]
    at = ann.world.wall.ms(ann.world.now)
    ann.world.sleep(7)
    bob.send(report(10.0, buffering=True, at=at, maxAgeMs=2000))
    assert not bob.take("error") and seen(ann) == []
    bob.send(report(17.0, at=at + 7000, maxAgeMs=2000))
    ann.world.sleep(4)
    assert seen(ann) == [], "the newer one counts, or the viewer would be unknown by now"


def test_h5_a_late_joiner_gets_the_anchor(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    room = ann.world.client().auth("c").join().last("joined")["room"]
    assert "playback" not in room
    sync(ann, 10)
    room = ann.world.client().auth("d").join().last("joined")["room"]
    assert room["playback"] == {
        "isPlaying": True,
        "currentTime": 10,
        "playbackRate": 1,
        "version": 1,
        "anchor": room["playback"]["anchor"],
    }
    assert abs(room["playback"]["anchor"] - ann.world.wall.ms(ann.world.now)) < 50


def test_h6_reports_are_not_broadcast_and_allowed_to_all(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="control_request", roomId="video_123")
    sync(ann, 10)
    ann.take(), bob.take()
    bob.send(report(10.0))
    assert not ann.take("playback_synced") and not bob.take("error")
    ann.send(type="get_active", roomId="video_123")
    assert ann.last("active")["users"][1]["playbackState"]["currentTime"] == 10


def seen(client: Client) -> list[tuple[str, int, int]]:
    return [(e["data"]["state"], e["data"]["synced"], e["data"]["total"]) for e in client.take("viewer_sync")]


def test_h7_h15_a_viewer_900_ms_behind_is_behind(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10)
    bob.send(report(9.1))
    assert seen(ann) == [("behind", 0, 2)]
    assert ann.last("viewer_sync")["data"]["driftMs"] == pytest.approx(-906, abs=3)


def test_h7_hysteresis(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 100, playing=False)

    def drift(seconds: float) -> list[str]:
        bob.send(report(100 + seconds, playing=False))
        ann.world.sleep(1)
        return [state for state, _, _ in seen(ann)]

    assert drift(0.4) == ["synced"]
    assert drift(0.6) == [] and drift(0.4) == [] and drift(0.6) == [], "one report beyond is not enough"
    assert drift(0.6) == ["ahead"]
    assert drift(0.4) == [], "comes back at 250 ms only"
    assert drift(0.25) == ["synced"]
    assert drift(-2.5) == ["behind"], "beyond 2 s once is enough"
    assert drift(0.0) == ["synced"]


def test_h7_states(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10)
    ann.world.sleep(2)
    bob.send(report(12, playing=False))
    assert [s for s, _, _ in seen(ann)] == ["paused"]
    bob.send(report(12, buffering=True))
    assert [s for s, _, _ in seen(ann)] == ["buffering"]
    ann.world.sleep(0.5)
    bob.send(report(12.5))
    assert [s for s, _, _ in seen(ann)] == ["synced"]
    ann.send(play("pause"))
    ann.world.sleep(2)
    bob.send(report(12.5))
    assert [s for s, _, _ in seen(ann)] == ["playing"]
    ann.world.sleep(10.1)
    assert [s for s, _, _ in seen(ann)] == ["unknown"]


def test_h7_no_name_flaps_while_a_command_is_under_way(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10)
    bob.send(report(10))
    seen(ann)
    ann.send(play("pause"))
    bob.send(report(10.02, playing=True))  # sent before the pause arrived
    assert seen(ann) == []
    bob.send(report(10.02, playing=False))
    assert seen(ann) == []


def test_h7_totals_count_visible_users_who_follow_the_controller_included(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    world = ann.world
    ann.send(type="control_request", roomId="video_123")
    sync(ann, 10, playing=False)
    world.person("ghost", privacy={"invisible": True}).send(report(10, playing=False))
    assert seen(ann) == []
    bob.send(report(10, playing=False))
    assert seen(ann) == [("synced", 2, 2)]
    carol = world.person("carol")
    carol.send(report(50, playing=False))
    assert seen(ann) == [("ahead", 2, 3)]
    carol.send(report(50, playing=False, follow=False))
    assert seen(ann)[-1][1:] == (2, 2)


def test_h11_scrubbing_is_merged_and_the_last_state_arrives(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(40):
        ann.post(play("seek", currentTime=float(number)))
        ann.world.sleep(0.02)
    ann.post(play("pause"))
    ann.world.sleep(1)
    events = bob.take("playback_synced")
    assert 5 <= len(events) <= 11
    assert events[-1]["data"]["currentTime"] == 39 and events[-1]["data"]["version"] == 41
    assert events[-1]["data"]["action"] == "pause" and not ann.take("error")


@pytest.mark.parametrize(
    ("rate", "ok"), [(0.0625, True), (16, True), (0.06, False), (16.1, False), (0, False), (-1, False)]
)
def test_h12_rates(pair: tuple[Client, Client], rate: float, ok: bool) -> None:
    ann, bob = pair
    ann.send(play("rate", playbackRate=rate))
    assert bool(bob.take("playback_synced")) is ok
    assert [m["code"] for m in ann.take("error")] == ([] if ok else ["INVALID_DATA"])


@pytest.mark.parametrize("type_", ["project", "comment_thread"])
def test_h13_no_sync_without_a_video(type_: str) -> None:
    ann = World().person("ann", "room", type_)
    for action in ("play", "report", "enable"):
        fields = {"isPlaying": True, "currentTime": 1, "playbackRate": 1}
        ann.send(type="playback", roomId="room", data={"action": action, **fields})
        assert ann.last("error")["code"] == "SYNC_DISABLED"


def test_h15_resync_sends_the_state_to_its_sender(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    sync(ann, 10)
    ann.take(), bob.take()
    bob.send(play("resync"))
    (event,) = bob.take()
    assert event["type"] == "playback_synced" and event["data"]["currentTime"] == 10 and ann.take() == []


def test_h16_the_owners_order_decides_and_a_stale_base_version_is_refused(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.post(play("play"))
    bob.post(play("pause"))
    ann.world.settle()
    for client in pair:
        assert [(e["data"]["version"], e["data"]["isPlaying"]) for e in client.take("playback_synced")] == [
            (1, True),
            (2, False),
        ]
    ann.send(play("play", baseVersion=1, id=1))
    error = ann.last("error")
    assert error["code"] == "STALE" and error["state"]["version"] == 2
    ann.send(play("play", baseVersion=2))
    assert state(bob)["version"] == 3
