"""Every field of every client message with every kind of wrong value: the sender gets the right error, and no other
client receives a message."""

from typing import Any

import msgspec
import pytest

from koko_presence.protocol.limits import Limits
from tests.world import World

R = "video_123"
RIGHT: dict[str, dict[str, Any]] = {
    "join": {"roomId": R, "roomType": "video", "privacy": {"invisible": False}},
    "leave": {"roomId": R},
    "get_active": {"roomId": R, "roomType": "video"},
    "heartbeat": {"status": "active", "clientTime": 1.0},
    "cursor": {"roomId": R, "data": {"timestamp": 1.0, "x": 0.5, "y": 0.5, "target": "a"}},
    "selection": {"roomId": R, "data": {"startTime": 1.0, "endTime": 2.0, "target": "a"}},
    "status": {"data": {"status": "busy", "statusMessage": "x"}},
    "typing": {"roomId": R, "data": {"isTyping": True, "context": "a"}},
    "playback": {
        "roomId": R,
        "data": {
            "action": "sync",
            "isPlaying": True,
            "currentTime": 1.0,
            "playbackRate": 1.0,
            "at": 1.0,
            "baseVersion": 0,
            "duration": 10.0,
            "buffering": False,
            "follow": True,
            "target": "a",
        },
    },
    "control_request": {"roomId": R},
    "control_grant": {"roomId": R, "data": {"toUserId": "bob"}},
    "control_deny": {"roomId": R, "data": {"toUserId": "bob"}},
    "control_release": {"roomId": R},
    "control_cancel": {"roomId": R},
    "broadcast": {"roomId": R, "data": {"a": 1}, "to": ["bob"]},
    "privacy": {"data": {"invisible": False, "shareCursor": True, "shareSelection": True, "scope": "session"}},
}
WRONG: list[Any] = [None, True, 5, -5, 1e308, "", "x" * 9000, [], [1], {}, {"a": 1}, "NaN"]
NULLABLE = {("cursor", "data"), ("selection", "data")}


NUMBERS = ("at", "timestamp", "startTime", "endTime", "currentTime", "duration", "playbackRate", "baseVersion")
SWITCHES = ("isPlaying", "buffering", "follow", "invisible", "shareCursor", "shareSelection", "isTyping")
TEXTS = ("target", "context", "statusMessage")
UNUSED_DATA = ("join", "leave", "get_active", "heartbeat", "control_request", "control_release", "control_cancel")


def holds(type_: str, path: tuple[str, ...], value: Any) -> bool:
    """Whether the value is valid after all."""
    name = path[-1]
    if name == "id":
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return value is None or (isinstance(value, str) and len(value) <= 64) or is_number
    if path == ("data",):
        if type_ in UNUSED_DATA:
            return value is None or isinstance(value, dict)
        if type_ == "cursor" and isinstance(value, dict):
            return True  # without a place it hides, as null does [E3]
        return ((type_, "data") in NULLABLE and value in (None, {})) or (type_ == "privacy" and isinstance(value, dict))
    if isinstance(value, bool):
        return name in SWITCHES
    if isinstance(value, (int, float)):
        return name == "clientTime" or (name in NUMBERS and value == 5)
    if isinstance(value, str):
        named = name in ("roomId", "toUserId") and value == "NaN"
        return named or (name in TEXTS and len(value) <= 64)
    if name == "to":
        return value in ([], None)
    return name == "privacy" and isinstance(value, dict)


def cases() -> list[Any]:
    found = []
    for type_, fields in RIGHT.items():
        paths = [(name,) for name in fields] + [("id",)]
        data = fields.get("data", {})
        if type_ != "broadcast":
            paths += [("data", name) for name in data]
        for path in paths:
            for value in WRONG:
                if type_ == "broadcast" and path == ("data",) and isinstance(value, dict):
                    continue
                if not holds(type_, path, value):
                    found.append(pytest.param(type_, path, value, id=f"{type_}.{'.'.join(path)}={str(value)[:12]}"))
    return found


CASES = cases()


def test_there_are_five_hundred_kinds() -> None:
    assert len(CASES) >= 500


@pytest.fixture(scope="module")
def world() -> World:
    generous = dict.fromkeys(("max_errors", "max_protocol_errors"), 100_000)
    hz = {name: 100_000.0 for name in Limits.__struct_fields__ if name.endswith("_hz")}
    return World(**generous, **hz)


@pytest.mark.parametrize(("type_", "path", "value"), CASES)
def test_a_wrong_field_gets_its_error_and_no_other_client_gets_a_message(
    world: World, type_: str, path: tuple[str, ...], value: Any
) -> None:
    bob, ann = world.person("bob"), world.person("ann")
    bob.take()
    message = msgspec.json.decode(msgspec.json.encode({"type": type_, "id": 1, **RIGHT[type_]}))
    place = message
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    ann.send(message)
    replies, heard = ann.take(), bob.take()
    for client in (ann, bob):
        client.hang_up(1000)
    assert [reply["type"] for reply in replies] == ["error"], replies
    error = replies[0]
    expected = {"INVALID_DATA"} if path[0] == "data" else {"INVALID_MESSAGE"}
    if isinstance(value, str) and len(value) > 1000:
        expected.add("TOO_LARGE")
    assert error["code"] in expected, error
    assert error["message"] and (error.get("id") == 1 or path == ("id",))
    assert heard == []
