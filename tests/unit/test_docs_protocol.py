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

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "protocol.md").read_text()
EXAMPLES = re.findall(r"```json (client|server)\n(.*?)```", TEXT, re.DOTALL)
CLIENT = [body for side, body in EXAMPLES if side == "client"]
SERVER = [msgspec.json.decode(body) for side, body in EXAMPLES if side == "server"]

REPLIES: dict[str, Any] = {
    "authenticated": events.Authenticated,
    "joined": events.JoinedReply,
    "left": events.LeftReply,
    "active": events.ActiveReply,
    "cursors": events.Cursors,
    "pong": events.Pong,
    "error": events.ErrorReply,
    "auth_expiring": events.AuthExpiring,
    "kicked": events.Kicked,
    "server_notice": events.ServerNotice,
}
DATA: dict[str, Any] = {
    "user_joined": events.Joined,
    "cursor_moved": events.CursorShown,
    "selection_changed": events.SelectionShown,
    "status_changed": events.StatusShown,
    "playback_synced": events.PlaybackSynced,
    "viewer_sync": events.ViewerSync,
}


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
    if type_ == "ack":
        assert message["success"] is True and "id" in message
        return
    struct = REPLIES.get(type_, events.Event)
    msgspec.convert(message, struct)
    assert set(message) - {"type"} <= known_fields(struct)
    if type_ in DATA:
        msgspec.convert(message["data"], DATA[type_])
        assert set(message["data"]) <= known_fields(DATA[type_])
    for row in message.get("room", {}).get("users", []):
        assert set(row) <= known_fields(PresenceUser)
        assert set(row.get("cursor", {})) <= known_fields(Cursor) and set(row.get("selection", {})) <= known_fields(
            Selection
        )


def test_every_message_has_an_example() -> None:
    shown = {msgspec.json.decode(body)["type"] for body in CLIENT}
    assert shown >= set(MESSAGES) - {"set_status"} and "`set_status`" in TEXT
    emitted = set(REPLIES) | {"ack"}
    for path in (ROOT / "koko_presence" / "rooms").glob("*.py"):
        emitted |= set(re.findall(r'\.(?:emit|frame)\(\s*"([a-z_]+)"', path.read_text()))
    assert {message["type"] for message in SERVER} >= emitted and len(emitted) > 20


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
    playback = Playback(0.0)
    playback.apply(PlaybackData(action="sync", is_playing=True, current_time=45.5, playback_rate=1.5), 100.0)
    assert playback.position(103.2) == pytest.approx(50.3)
    assert "45.5 + 3.2 × 1.5 = 50.3" in TEXT
