"""What the client reads: known events with their data, and unknown types, which are tolerated."""

import msgspec
import pytest

from koko_presence.client import Event, incoming, models
from koko_presence.protocol.events import EVENTS
from tests.examples import fields_of

STRANGER = {"roomId": "r", "userId": "u", "sessionId": "s", "timestamp": "t", "data": {"new": 1}}


@pytest.mark.parametrize("type_", EVENTS)
def test_every_event_of_the_protocol_is_known_with_its_data(type_: str) -> None:
    data = {"a": 1} if type_ == "broadcast" else fields_of(EVENTS[type_])
    event = incoming.read(msgspec.json.encode({**STRANGER, "type": type_, "data": data}))
    assert isinstance(event, Event) and event.type == type_
    assert type_ == "broadcast" or msgspec.to_builtins(event.data).items() >= data.items()  # type: ignore[attr-defined]


def test_an_event_knows_its_type_and_its_data() -> None:
    event = incoming.read(
        msgspec.json.encode({**STRANGER, "type": "cursor_moved", "data": {"x": 0.5, "color": "#10B981"}})
    )
    assert isinstance(event, models.CursorMoved)
    assert event.type == "cursor_moved" and event.data.x == 0.5 and event.data.timestamp is None


def test_an_unknown_type_becomes_an_other_event() -> None:
    event = incoming.read(msgspec.json.encode({**STRANGER, "type": "brand_new", "later": True}))
    assert isinstance(event, incoming.OtherEvent)
    assert (event.type, event.data) == ("brand_new", {"new": 1})


def test_a_known_type_in_a_strange_shape_becomes_an_other_event() -> None:
    event = incoming.read(msgspec.json.encode({**STRANGER, "type": "status_changed", "data": "?"}))
    assert isinstance(event, incoming.OtherEvent) and event.type == "status_changed"


@pytest.mark.parametrize("data", [b"", b"no json", b"[]", b"{}", b'{"type":"?"}', b'{"type":"\xff"}', b'{"type":3}'])
def test_what_is_no_message_at_all_is_none(data: bytes) -> None:
    assert incoming.read(data) is None


def test_the_position_runs_while_playing_and_stays_inside_the_video_h4() -> None:
    playback = models.Playback(
        is_playing=True, current_time=10.0, playback_rate=2.0, anchor=5_000, version=1, duration=15.0
    )
    assert playback.position(6_000.0) == 12.0
    assert playback.position(60_000.0) == 15.0
    assert playback.position(-60_000.0) == 10.0, "before a delayed start the position stands [H10]"
    playback.is_playing = False
    assert playback.position(60_000.0) == 10.0
