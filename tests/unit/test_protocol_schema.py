"""docs/protocol.schema.json accepts the examples of docs/protocol.md, and refuses what the server refuses."""

import re
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from koko_presence.protocol.generate.__main__ import ROOT

SCHEMA = msgspec.json.decode((ROOT / "docs" / "protocol.schema.json").read_bytes())
EXAMPLES = re.findall(r"```json (client|server)\n(.*?)```", (ROOT / "docs" / "protocol.md").read_text(), re.DOTALL)


def validator(side: str) -> Any:
    """Return the validator of any message of that side."""
    return jsonschema_rs.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{side.title()}Message"})


VALIDATORS = {side: validator(side) for side in ("client", "server")}


@pytest.mark.parametrize(("side", "text"), EXAMPLES)
def test_an_example_of_the_documentation_is_valid(side: str, text: str) -> None:
    assert VALIDATORS[side].is_valid(msgspec.json.decode(text))


@pytest.mark.parametrize(
    "message",
    [
        {"type": "hello"},
        {"type": "join"},
        {"type": "join", "roomId": ""},
        {"type": "cursor", "roomId": "r", "data": {"x": 1.5, "y": 0.5}},
        {"type": "broadcast", "roomId": "r", "data": [1]},
    ],
)
def test_a_wrong_message_is_not_valid(message: dict[str, Any]) -> None:
    assert not VALIDATORS["client"].is_valid(message)
