"""Decisions B: the envelope of messages."""

import msgspec
import pytest

from koko_presence.protocol.messages import MESSAGES
from tests.world import Client, World

CURSOR = {"type": "cursor", "roomId": "video_123", "data": {"timestamp": 15.5, "x": 0.45, "y": 0.62}}


def test_b1_every_type_of_the_sections_is_accepted() -> None:
    named = {"auth", "join", "leave", "heartbeat", "cursor", "selection", "typing", "playback", "control_request"}
    assert named | {"control_grant", "broadcast"} <= set(MESSAGES)


@pytest.mark.parametrize("name", ["status", "set_status"])
def test_b2_status_has_a_message_and_the_endpoints_name_works_too(pair: tuple[Client, Client], name: str) -> None:
    ann, bob = pair
    ann.send(type=name, data={"status": "busy", "statusMessage": "in a call"})
    (event,) = bob.take("status_changed")
    assert event["data"]["status"] == "busy" and event["data"]["statusMessage"] == "in a call"


def test_b3_top_level_fields_may_stand_under_data() -> None:
    world = World()
    client = world.client().auth("ann")
    client.send(type="join", roomId="room", data={"roomType": "project"})
    assert client.last("joined")["room"]["type"] == "project"
    client.send(type="heartbeat", data={"status": "idle", "clientTime": 5})
    assert client.last("pong")["echo"] == 5
    client.send(type="get_active", roomId="room", data={"roomType": "project"})
    assert client.last("active")["totalCount"] == 1


def test_b3_the_same_field_twice_with_different_values_is_an_error() -> None:
    client = World().client().auth("ann")
    client.send(type="join", roomId="room", roomType="video", data={"roomType": "project"}, id=1)
    error = client.last("error")
    assert error["code"] == "INVALID_MESSAGE" and error["id"] == 1
    client.send(type="join", roomId="room", roomType="video", data={"roomType": "video"})
    assert client.of("joined")


def test_b4_b5_every_event_has_session_and_timestamp(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(CURSOR)
    ann.send(type="leave", roomId="video_123")
    for event in bob.take():
        assert event["sessionId"] == "session_1" and event["timestamp"].endswith("Z"), event
        assert event["data"], event
    assert bob.last("user_left")["data"] == {"reason": "left", "sessionCount": 0}


def test_b6_times_are_iso_8601_with_milliseconds(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(CURSOR)
    (event,) = bob.take()
    assert event["timestamp"] == "2025-01-15T10:30:00.024Z"
    assert event["data"]["timestamp"] == 15.5


@pytest.mark.parametrize("id_", ["a", "x" * 64, 0, -5, 2**53])
def test_b8_ids_are_echoed_in_reply_error_and_ack(pair: tuple[Client, Client], id_: object) -> None:
    ann, _ = pair
    for message, kind in (
        ({"type": "heartbeat"}, "pong"),
        ({"type": "nonsense"}, "error"),
        ({"type": "cursor", "roomId": "elsewhere", "data": None}, "error"),
        ({"type": "broadcast", "roomId": "video_123", "data": {"a": 1}}, "ack"),
        ({"type": "status", "data": {"status": "busy"}}, "ack"),
        ({"type": "leave", "roomId": "video_123"}, "left"),
    ):
        ann.send({**message, "id": id_})
        assert ann.last(kind)["id"] == id_, message


@pytest.mark.parametrize("id_", ["x" * 65, 1.5, True, [], {}, 2**60])
def test_b8_an_id_that_is_none_is_an_error(pair: tuple[Client, Client], id_: object) -> None:
    ann, _ = pair
    ann.send(type="heartbeat", id=id_)
    (error,) = ann.take()
    assert error["code"] == "INVALID_MESSAGE" and "id" not in error


def test_b8_without_an_id_there_is_no_ack(pair: tuple[Client, Client]) -> None:
    ann, _ = pair
    ann.send(type="broadcast", roomId="video_123", data={"a": 1})
    assert ann.take() == []


def test_b9_who_gets_an_event_of_its_own(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    own_tab = ann.world.person("ann")
    ann.take(), bob.take()
    for message, event, to_self in (
        (CURSOR, "cursor_moved", False),
        (
            {"type": "selection", "roomId": "video_123", "data": {"startTime": 1, "endTime": 2}},
            "selection_changed",
            False,
        ),
        ({"type": "typing", "roomId": "video_123", "data": {"isTyping": True}}, "typing_started", False),
        ({"type": "broadcast", "roomId": "video_123", "data": {"a": 1}}, "broadcast", False),
        ({"type": "status", "data": {"status": "busy"}}, "status_changed", True),
        ({"type": "playback", "roomId": "video_123", "data": {"action": "play"}}, "playback_synced", True),
        ({"type": "control_request", "roomId": "video_123"}, "control_granted", True),
    ):
        ann.send(message)
        assert bool(ann.take(event)) is to_self, event
        assert bob.take(event) and own_tab.take(event), event
    bob.send(type="control_request", roomId="video_123")
    assert bob.take("control_requested")


def test_b10_sizes(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send({**CURSOR, "padding": "x" * 1024})
    assert ann.take()[0]["code"] == "TOO_LARGE"
    ann.send(type="broadcast", roomId="video_123", data={"text": "x" * 8192}, id=1)
    assert ann.take()[0]["code"] == "TOO_LARGE"
    ann.send(type="broadcast", roomId="video_123", data={"text": "x" * 8000}, id=2)
    assert ann.take()[0]["type"] == "ack" and bob.take("broadcast")
    ann.session.on_too_large(20_000)
    ann.world.settle()
    assert ann.take()[0]["code"] == "TOO_LARGE" and ann.closed is None


def test_b11_snapshot_at_n_and_events_after_n_are_exact(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.post(CURSOR)
    carol = ann.world.client()
    carol.post(type="auth", token="carol")
    carol.post(type="join", roomId="video_123", roomType="video")
    ann.post({**CURSOR, "data": None})
    ann.world.sleep(0.2)
    joined = carol.last("joined")
    at = joined["seq"]
    assert [event["seq"] for event in carol.got if "roomId" in event and event.get("seq", 0) > at] == [at + 1]
    assert [event["seq"] for event in bob.got if "userId" in event and "seq" in event] == list(range(3, at + 2))
    assert joined["room"]["users"][0]["cursor"] == CURSOR["data"]


def test_b13_ten_protocol_errors_in_ten_seconds_close_4400() -> None:
    world = World()
    client = world.person("ann")
    for bad in [b"{", b"nonsense", b'{"type":"nonsense"}'] * 3:
        client.send(bad)
        assert client.closed is None
    client.session.on_binary(b"\x00")
    world.settle()
    assert client.closed == 4400
    codes = {message["code"] for message in client.of("error")}
    assert codes == {"INVALID_JSON", "UNKNOWN_TYPE", "BINARY_NOT_SUPPORTED"}


def test_b13_nine_in_ten_seconds_again_and_again_do_not_close() -> None:
    world = World()
    client = world.person("ann")
    for _ in range(5):
        for _ in range(9):
            client.send(b"{")
        world.sleep(10)
        client.send(type="heartbeat")
    assert client.closed is None


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "true", '"1"', "null", "[1]", "1" * 400])
def test_b14_only_finite_numbers_are_numbers(pair: tuple[Client, Client], number: str) -> None:
    ann, bob = pair
    for field in ("timestamp", "x"):
        other = "x" if field == "timestamp" else "timestamp"
        data = f'{{"{field}":{number},"{other}":0.5,"y":0.5}}'
        ann.send(f'{{"type":"cursor","roomId":"video_123","data":{data}}}'.encode())
        (error,) = ann.take()
        assert error["code"] in ("INVALID_DATA", "INVALID_JSON"), number
        assert error["code"] == "INVALID_JSON" or error["roomId"] == "video_123"
    assert bob.take() == []


def test_b14_a_broadcast_may_not_smuggle_an_infinity(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(b'{"type":"broadcast","roomId":"video_123","data":{"a":1e999}}')
    assert ann.take()[0]["code"] == "INVALID_DATA" and bob.take() == []


def test_b15_status_message_counts_utf_16_units(pair: tuple[Client, Client]) -> None:
    ann, bob = pair
    ann.send(type="status", data={"status": "busy", "statusMessage": "👍" * 50})
    assert bob.take("status_changed")
    ann.send(type="status", data={"status": "busy", "statusMessage": "👍" * 51})
    assert ann.take("error")[0]["code"] == "INVALID_DATA"


@pytest.mark.parametrize("emoji", ["👍", "👩‍👩‍👧‍👦", "é", "\u2028", "日本"])
def test_b16_emoji_travel_unchanged_as_utf_8(pair: tuple[Client, Client], emoji: str) -> None:
    ann, bob = pair
    data = msgspec.json.encode({"type": "reaction", "emoji": emoji})
    ann.send(b'{"type":"broadcast","roomId":"video_123","data":' + data + b"}")
    assert data in bob.raw[-1]
