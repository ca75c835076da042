"""docs/protocol.md agrees with the code: its examples decode, its tables are complete, no message is left out."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koko_presence.protocol import events
from koko_presence.protocol.codec import decode
from koko_presence.protocol.errors import CLOSES, ERRORS
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import MESSAGES, PlaybackData
from koko_presence.protocol.models import Cursor, PresenceUser, Selection
from koko_presence.rooms.playback import Playback
from koko_presence.rooms.targets import Targets

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "protocol.md").read_text()
EXAMPLES = re.findall(r"```json (client|server)\n(.*?)```", TEXT, re.DOTALL)
CLIENT = [body for side, body in EXAMPLES if side == "client"]
SERVER = [msgspec.json.decode(body) for side, body in EXAMPLES if side == "server"]


def known_fields(struct: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize("text", CLIENT)
def test_client_examples_are_messages_with_known_fields_only(text: str) -> None:
    decoded = decode(text.encode())
    given = msgspec.json.decode(text)
    assert set(given) - {"type"} <= known_fields(type(decoded))
    data = getattr(decoded, "data", None)
    if isinstance(data, msgspec.Struct):
        assert set(given["data"]) <= known_fields(type(data))


@pytest.mark.parametrize("message", SERVER, ids=lambda message: str(message["type"]))
def test_server_examples_are_what_the_server_sends(message: dict[str, Any]) -> None:
    type_ = message["type"]
    struct = events.SERVER_MESSAGES.get(type_) or events.Event
    # some events have the application's data, an `ack` the result beside its id
    free = {each for each, declared in events.EVENTS.items() if declared.is_free}
    data = None if type_ in free else events.EVENTS.get(type_)
    assert data is not None or type_ in {*free, *events.SERVER_MESSAGES}
    msgspec.convert(message, struct)
    if type_ == "ack":
        return
    assert set(message) - {"type"} <= known_fields(struct)
    if data is not None:
        msgspec.convert(message["data"], data)
        assert set(message["data"]) <= known_fields(data)
    for row in message.get("room", {}).get("users", []):
        assert set(row) <= known_fields(PresenceUser)
        assert set(row.get("cursor", {})) <= known_fields(Cursor) and set(row.get("selection", {})) <= known_fields(
            Selection
        )


@pytest.mark.parametrize("type_", sorted(set(MESSAGES) - {"set_status"}))
def test_every_message_of_clients_has_an_example(type_: str) -> None:
    shown = {msgspec.json.decode(body)["type"] for body in CLIENT}
    assert type_ in shown, f"docs/protocol.md has no example of the message {type_!r}: ```json client"


@pytest.mark.parametrize("type_", [*events.EVENTS, *events.SERVER_MESSAGES])
def test_everything_that_the_server_sends_has_an_example(type_: str) -> None:
    shown = {message["type"] for message in SERVER}
    assert type_ in shown, f"docs/protocol.md has no example of {type_!r}: ```json server"


def test_the_other_name_of_status_is_documented() -> None:
    assert "`set_status`" in TEXT


def test_the_tables_are_the_codes() -> None:
    assert dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", TEXT, re.MULTILINE)) == {
        code: str(kind.http_status) for code, kind in ERRORS.items()
    }
    assert re.findall(r"^\| (\d{4}) \| (.+) \| `(\w+)` \|$", TEXT, re.MULTILINE) == [
        (str(code), close.reason, close.come_back.value) for code, close in CLOSES.items()
    ]
    limits = Limits()
    assert dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|$", TEXT, re.MULTILINE)) == {
        name: str(getattr(limits, name)) for name in Limits.__struct_fields__
    }


def test_the_worked_example_of_the_playback_arithmetic() -> None:
    playback = Playback(0.0, Targets())
    playback.apply(PlaybackData(action="sync", is_playing=True, current_time=45.5, playback_rate=1.5), 100.0)
    assert playback.position(103.2) == pytest.approx(50.3)
    assert "45.5 + 3.2 × 1.5 = 50.3" in TEXT
