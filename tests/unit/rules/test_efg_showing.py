"""Decisions E, F, G: cursors, selections, typing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.world import Client, World


def cursor(timestamp: float = 1.0, **more: object) -> dict[str, object]:
    return {"type": "cursor", "roomId": "video_123", "data": {"timestamp": timestamp, **more}}


def typing(on: bool, context: str | None = None) -> dict[str, object]:
    data = {"isTyping": on} | ({"context": context} if context is not None else {})
    return {"type": "typing", "roomId": "video_123", "data": data}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 0.12), min_size=1, max_size=150), st.booleans())
def test_e1_never_more_than_21_in_a_second_and_the_last_always_arrives(gaps: list[float], two_tabs: bool) -> None:
    world = World()
    bob = world.person("bob")
    tabs = [world.person("ann") for _ in range(2 if two_tabs else 1)]
    bob.take()
    arrivals: list[float] = []
    shown: list[float] = []
    for number, gap in enumerate(gaps):
        tabs[number % len(tabs)].post(cursor(float(number)))
        step = gap
        while step > 0:
            world.sleep(min(0.001, step))
            step -= 0.001
            for event in bob.take("cursor_moved"):
                arrivals.append(world.now)
                shown.append(event["data"]["timestamp"])
    for _ in range(300):
        world.sleep(0.001)
        for event in bob.take("cursor_moved"):
            arrivals.append(world.now)
            shown.append(event["data"]["timestamp"])
    for start in range(len(arrivals) - 21):
        assert arrivals[start + 21] - arrivals[start] > 0.985, "22 within a second, flushes to the millisecond apart"
    assert float(len(gaps) - 1) in shown
    for tab in range(len(tabs)):
        own = [value for value in shown if int(value) % len(tabs) == tab]
        assert own == sorted(own), "a merged kind may skip but never go back"


def test_e1_steady_20_hz_with_jitter_loses_and_delays_nothing(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(100):
        early = 0.004 if number % 3 == 0 else 0.0
        ann.world.sleep(0.046 - early)
        ann.post(cursor(float(number)))
        ann.world.sleep(0.004 + early)
        assert [e["data"]["timestamp"] for e in bob.take("cursor_moved")] == [float(number)]


def test_e2_five_tabs_share_one_budget_per_room() -> None:
    world = World()
    bob = world.person("bob")
    tabs = [world.person("ann") for _ in range(5)]
    bob.take()
    for _ in range(100):
        for tab in tabs:
            tab.post(cursor(1.0))
        world.sleep(0.01)
    assert 19 <= len(bob.take("cursor_moved")) <= 22


def test_e2_one_session_has_one_budget_over_its_rooms() -> None:
    world = World()
    ann, bob = world.person("ann", "video_1").join("video_2"), world.person("bob", "video_1").join("video_2")
    bob.take()
    for _ in range(100):
        for room in ("video_1", "video_2"):
            ann.post(type="cursor", roomId=room, data={"timestamp": 1})
        world.sleep(0.01)
    events = bob.take("cursor_moved")
    assert 19 <= len(events) <= 22
    assert {event["roomId"] for event in events} == {"video_1", "video_2"}


@pytest.mark.parametrize("nothing", [None, {}])
def test_e3_null_hides_the_cursor_once(pair: tuple[Client, Client], nothing: object) -> None:
    ann, bob = pair
    ann.send(cursor())
    color = bob.take()[0]["data"]["color"]
    for _ in range(3):
        ann.world.sleep(0.2)
        ann.send({"type": "cursor", "roomId": "video_123", "data": nothing})
    assert [event["data"] for event in bob.take()] == [{"hidden": True, "color": color}]


@pytest.mark.parametrize(
    ("type_", "accepted"), [("project", True), ("comment_thread", True), ("video", False), ("comparison", False)]
)
def test_e4_timestamp_is_optional_where_there_is_no_video(type_: str, accepted: bool) -> None:
    world = World()
    ann, bob = world.person("ann", "room", type_), world.person("bob", "room", type_)
    ann.take()
    ann.send(type="cursor", roomId="room", data={"x": 0.5, "y": 0.5})
    assert bool(bob.take("cursor_moved")) is accepted
    assert [m["code"] for m in ann.take("error")] == ([] if accepted else ["INVALID_DATA"])


@pytest.mark.parametrize(
    "data",
    [
        {"timestamp": -1}, {"timestamp": 1, "x": 1.01, "y": 0}, {"timestamp": 1, "x": -0.01, "y": 0},
        {"timestamp": 1, "x": 0.5}, {"timestamp": 1, "y": 0.5}, {"timestamp": 1, "x": None, "y": None},
        {"timestamp": 1e300}, {"timestamp": "1"}, {"timestamp": True}, {"timestamp": 1, "target": "x" * 65},
        {"timestamp": 1, "target": 5}, [], "x", 5, True,
    ],
)  # fmt: skip
def test_e5_out_of_range_is_an_error_and_is_not_sent(pair: tuple[Client, Client], data: object) -> None:
    ann, bob = pair
    ann.send({"type": "cursor", "roomId": "video_123", "data": data, "id": 1})
    (error,) = ann.take()
    assert error["code"] == "INVALID_DATA" and error["id"] == 1 and error["roomId"] == "video_123"
    assert bob.take() == [] and ann.closed is None


@pytest.mark.parametrize(
    "data", [{"timestamp": 0, "x": 0, "y": 1}, {"timestamp": 1e6, "x": 1, "y": 0}, {"timestamp": 3}]
)
def test_e5_the_ends_of_the_range_are_inside(pair: tuple[Client, Client], data: dict[str, float]) -> None:
    ann, bob = pair
    ann.send({"type": "cursor", "roomId": "video_123", "data": data})
    shown = bob.take()[0]["data"]
    assert {key: shown[key] for key in data} == data and set(shown) == {*data, "color"}


def test_e7_target_is_passed_through(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(cursor(1.0, target="left"))
    ann.send(type="selection", roomId="video_123", data={"startTime": 1, "endTime": 2, "target": "right"})
    ann.send(type="playback", roomId="video_123", data={"action": "seek", "currentTime": 1, "target": "both"})
    assert [event["data"]["target"] for event in bob.take()] == ["left", "right", "both"]


def test_f1_selection(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="selection", roomId="video_123", data={"startTime": 10.0, "endTime": 25.5})
    (event,) = bob.take()
    assert event["type"] == "selection_changed"
    assert event["data"] == {"startTime": 10.0, "endTime": 25.5, "color": event["data"]["color"]}
    ann.world.sleep(0.1)
    ann.send(type="selection", roomId="video_123", data={"startTime": 5, "endTime": 5})
    assert bob.take()[0]["data"]["endTime"] == 5
    ann.send(type="selection", roomId="video_123", data={"startTime": 6, "endTime": 5})
    assert ann.take()[0]["code"] == "INVALID_DATA"
    ann.world.sleep(0.1)
    ann.send(type="selection", roomId="video_123", data=None)
    assert bob.take()[0]["data"]["cleared"] is True
    bob.send(type="get_active", roomId="video_123")
    assert "selection" not in bob.last("active")["users"][0]


def test_g1_typing_stops_5_s_after_the_last_true(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(typing(True, "comment"))
    assert bob.take()[0]["data"] == {"context": "comment"}
    ann.world.sleep(4)
    ann.send(typing(True, "comment"))
    ann.world.sleep(4.9)
    assert bob.take() == []
    ann.world.sleep(0.2)
    (event,) = bob.take()
    assert event["type"] == "typing_stopped" and event["data"] == {"context": "comment", "reason": "timeout"}


def test_g2_a_repeated_true_is_no_event(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for _ in range(5):
        ann.send(typing(True))
        ann.world.sleep(1)
    assert [event["type"] for event in bob.take()] == ["typing_started"]


def test_g3_a_stop_is_never_lost(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for _ in range(4):
        ann.post(typing(True))
        ann.post(typing(False))
    ann.world.sleep(0.51)
    assert bob.take()[-1]["type"] == "typing_stopped"
    assert ann.take("error") == []
    ann.world.sleep(10)
    assert bob.take() == []


def test_g4_a_drop_while_typing_stops_it_at_once(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(typing(True, "comment"))
    bob.take()
    ann.hang_up(1006)
    assert bob.take("typing_stopped")[0]["data"] == {"context": "comment", "reason": "disconnected"}
    late = ann.world.client().auth("late").join()
    assert not any(user["isTyping"] for user in late.last("joined")["room"]["users"])


def test_g5_a_new_context_stops_the_old_one(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(typing(True, "comment"))
    ann.send(typing(True, "reply"))
    assert [(e["type"], e["data"]["context"]) for e in bob.take()] == [
        ("typing_started", "comment"), ("typing_stopped", "comment"), ("typing_started", "reply"),
    ]  # fmt: skip
    bob.send(type="get_active", roomId="video_123")
    assert bob.last("active")["users"][0]["typingContext"] == "reply"
    ann.send(typing(True, "x" * 65))
    assert ann.last("error")["code"] == "INVALID_DATA"


def test_g6_one_user_left_implies_all(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(typing(True))
    ann.send(cursor())
    ann.send(type="selection", roomId="video_123", data={"startTime": 1, "endTime": 2})
    bob.take()
    ann.send(type="leave", roomId="video_123")
    ann.world.sleep(10)
    assert [event["type"] for event in bob.take()] == ["user_left"]


def test_a_pending_cursor_of_a_member_that_left_is_never_sent(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    for number in range(10):
        ann.post(cursor(float(number)))
    ann.post(type="leave", roomId="video_123")
    ann.world.sleep(1)
    kinds = [event["type"] for event in bob.take()]
    assert kinds[-1] == "user_left" and kinds.count("user_left") == 1
