"""Subscriptions without a socket: what a client receives of the events of a session [M6]."""

import json
from typing import Any

import pytest

from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Authenticated, Kicked, LeftReply, Pong, encode, encode_ack, error_reply
from koko_presence.server.http import trpc
from koko_presence.server.http.trpc import NOTHING, Input, TrpcError
from koko_presence.server.http.trpc_events import MAX_SUBSCRIPTIONS, Subscriptions, id_of

MOVED = b'{"type":"cursor_moved","roomId":"a","userId":"u","sessionId":"s","data":{},"timestamp":"t"}'
ME = Authenticated(
    id=1, user_id="u", session_id="s", resume_token="r", resumed=False, rooms=[], server_time=1, heartbeat_interval=30.0,
    limits={}, caps=[],
)  # fmt: skip


def live(*ids: int | str, given: Input = NOTHING) -> Subscriptions:
    found = Subscriptions()
    for id_ in ids:
        assert [json.loads(each) for each in found.add(id_, given)] == [{"id": id_, "result": {"type": "started"}}]
    return found


def told(found: Subscriptions, payload: bytes) -> list[Any]:
    return [json.loads(each) for each in found.translate(payload)]


def test_an_event_goes_to_every_subscription_that_matches() -> None:
    found = live(1, "two")
    found.add(3, Input({"roomId": "b"}, False))
    assert [each["id"] for each in told(found, MOVED)] == [1, "two"]
    assert told(found, MOVED)[0] == {"id": 1, "result": {"type": "data", "data": json.loads(MOVED)}}


def test_a_filter_lets_its_room_through_and_what_is_of_no_room() -> None:
    found = live(1, given=Input({"roomId": "b"}, False))
    assert told(found, MOVED) == []
    assert len(told(found, MOVED.replace(b'"a"', b'"b"'))) == len(told(found, encode(Kicked(reason="x")))) == 1


def test_a_subscription_begins_with_started_and_the_session() -> None:
    found = Subscriptions()
    assert told(found, encode(ME)) == told(found, MOVED) == []
    started, first = map(json.loads, found.add(1, NOTHING))
    assert started == {"id": 1, "result": {"type": "started"}}
    assert first["result"]["data"]["type"] == "authenticated" and "id" not in first["result"]["data"]
    assert len(told(found, MOVED)) == 1


def test_a_subscription_that_was_stopped_receives_nothing() -> None:
    found = live(1)
    assert json.loads(found.stop(1) or b"") == {"id": 1, "result": {"type": "stopped"}}
    assert told(found, MOVED) == []
    assert found.stop(1) is None


def test_answers_to_calls_are_no_events() -> None:
    found = live(1)
    for payload in (
        encode_ack(5, {"success": True}), encode(Pong(timestamp="t", server_time=1)),
        error_reply(PresenceError("NOT_IN_ROOM"), 5),
    ):  # fmt: skip
        assert payload is not None and told(found, payload) == []
    (left,) = told(found, encode(LeftReply(id=9, room_id="a")))
    assert left["result"]["data"] == {"type": "left", "roomId": "a"}


def test_an_error_that_answers_nothing_has_no_id() -> None:
    error = PresenceError("RATE_LIMITED", retry_after_s=2.0)
    (message,) = told(Subscriptions(), error_reply(error))
    assert message["id"] is None
    assert message["error"]["data"] == {
        "code": "TOO_MANY_REQUESTS", "httpStatus": 429, "reason": "RATE_LIMITED", "retryAfter": 2.0,
    }  # fmt: skip


def test_superjson_wraps_the_event() -> None:
    found = live(1, given=trpc.unwrap({"json": None, "meta": {"values": ["undefined"]}}))
    assert told(found, MOVED)[0]["result"]["data"] == {"json": json.loads(MOVED)}


@pytest.mark.parametrize("value", [5, "x", [], {"roomId": ""}, {"roomId": 7}, {"roomId": "x" * 129}])
def test_a_filter_of_no_use_is_refused(value: Any) -> None:
    found = Subscriptions()
    with pytest.raises(TrpcError):
        found.add(1, Input(value, False))
    found.add(1, NOTHING)


def test_an_id_is_used_once_and_there_are_not_too_many() -> None:
    found = live(*range(MAX_SUBSCRIPTIONS))
    for id_ in (0, "another"):
        with pytest.raises(TrpcError):
            found.add(id_, NOTHING)
    found.stop(0)
    found.add("another", NOTHING)
    found.clear()
    assert told(found, MOVED) == []


@pytest.mark.parametrize(
    ("message", "id_"),
    [({"id": 0}, 0), ({"id": "a"}, "a"), ({"id": ""}, ""), ({"id": -5}, -5), ({"id": 2**53}, 2**53)]
    + [({"id": bad}, None) for bad in (None, True, 1.5, 2**53 + 1, "x" * 65, [], {})] + [({}, None), (5, None), ([], None)],
)  # fmt: skip
def test_an_id_is_a_number_or_a_short_text(message: Any, id_: Any) -> None:
    assert id_of(message) == id_
