"""What the client reads against what the server writes: the names agree, and unknown types are tolerated."""

import msgspec
import pytest

from koko_presence.client import incoming, models
from koko_presence.protocol import events
from koko_presence.protocol import models as protocol_models

PAIRS = [
    (models.User, protocol_models.PresenceUser),
    (models.PlayerState, protocol_models.ViewerState),
    (models.ViewerState, protocol_models.SyncRow),
    (models.Playback, protocol_models.PlaybackRow),
    (models.ControlRequestRow, protocol_models.ControlRequestRow),
    (incoming.JoinedData, events.Joined),
    (incoming.CursorShown, events.CursorShown),
    (incoming.SelectionShown, events.SelectionShown),
    (incoming.StatusData, events.StatusShown),
    (incoming.PlaybackData, events.PlaybackSynced),
    (incoming.GrantedData, events.ControlGranted),
    (incoming.ViewerData, events.ViewerSync),
    (incoming.Authenticated, events.Authenticated),
    (incoming.Joined, events.JoinedReply),
    (incoming.Left, events.LeftReply),
    (incoming.Active, events.ActiveReply),
    (incoming.Refusal, events.ErrorReply),
    (incoming.AuthExpiring, events.AuthExpiring),
    (incoming.Kicked, events.Kicked),
    (incoming.Notice, events.ServerNotice),
]
STRANGER = {"roomId": "r", "userId": "u", "sessionId": "s", "timestamp": "t", "data": {"new": 1}}


def names(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(("read", "written"), PAIRS, ids=lambda struct: struct.__name__)
def test_the_client_reads_every_name_that_the_server_writes(
    read: type[msgspec.Struct], written: type[msgspec.Struct]
) -> None:
    assert names(read) == names(written)
    assert read.__struct_config__.tag == written.__struct_config__.tag


def test_an_event_knows_its_type_and_its_data() -> None:
    event = incoming.read(
        msgspec.json.encode({**STRANGER, "type": "cursor_moved", "data": {"x": 0.5, "hidden": False}})
    )
    assert isinstance(event, incoming.CursorMoved)
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
    assert playback.position(-60_000.0) == 0.0
    playback.is_playing = False
    assert playback.position(60_000.0) == 10.0
