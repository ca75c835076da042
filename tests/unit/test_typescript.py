"""The rules by which declarations become TypeScript, and the client's models: on Structs that have each kind of field."""

from typing import Annotated, Any, Literal

import pytest
from msgspec import UNSET, Meta, Raw, UnsetType

from koko_presence.protocol.generate import python_client, typescript
from koko_presence.protocol.generate.texts import text_of
from koko_presence.protocol.messages import MESSAGES, PROCEDURES
from koko_presence.protocol.models import Cursor, Status, Wire, one_of


class Sample(Wire, kw_only=True):
    """What `is_seen` says, in `room` [B4,
    C15].

    A second paragraph is for readers of the code."""

    is_seen: bool
    size: Annotated[int, Meta(ge=0, description="In bytes.")]
    status: Status | UnsetType = UNSET
    cursor: Cursor | None
    shown: Annotated[bool, one_of()] = False
    names: list[str]
    kind: Annotated[str, one_of("a", "b")]
    mode: Literal["x"] | None = None
    rows: list[Cursor] | Raw
    state: Any = UNSET


def test_a_struct_as_an_interface() -> None:
    assert (
        typescript.struct_text(Sample)
        == """\
/** What `isSeen` says, in `room`. */
export interface Sample {
  isSeen: boolean;
  /** In bytes. */
  size: number;
  status?: Status;
  cursor: Cursor | null;
  shown?: boolean;
  names: string[];
  kind: "a" | "b";
  mode?: "x";
  rows: Cursor[];
  state?: unknown;
}
"""
    )


def test_a_struct_as_the_client_reads_it() -> None:
    assert python_client.struct_text(Sample, "Model").endswith("""\
    is_seen: bool
    size: int
    status: str | None = None
    cursor: Cursor | None
    shown: bool = False
    names: list[str]
    kind: str
    mode: str | None = None
    rows: list[Cursor]
    state: Any = None
""")


def test_a_long_text_is_a_block() -> None:
    lines = typescript.comment("word " * 40).splitlines()
    assert lines[0] == "/**" and lines[-1] == " */" and all(len(line) <= 120 for line in lines)
    assert text_of(Sample) == "What `isSeen` says, in `room`."


@pytest.mark.parametrize(
    ("type_", "procedure", "name", "lines"),
    [
        ("control_request", "requestControl", "RoomTarget", []),
        ("cursor", "updateCursor", "UpdateCursorInput", ["extends RoomTarget, Cursor {", "data?: Cursor | null;"]),
        ("selection", "updateSelection", "UpdateSelectionInput", ["extends RoomTarget, Partial<Selection> {"]),
        ("typing", "startTyping", "TypingInput", ["context?: string;"]),
        ("playback", "syncPlayback", "SyncPlaybackInput", ["`sync` when it is left out.", "action?: PlaybackAction;"]),
        ("privacy", "setPrivacy", "SetPrivacyInput", ["extends Target, Privacy {}"]),
        ("broadcast", "broadcast", "BroadcastInput", ["data: Record<string, unknown>;", "to?: string[];"]),
        ("leave", "leave", "LeaveInput", ["extends RoomTarget {", "all?: boolean;"]),
    ],
)
def test_the_input_of_a_procedure(type_: str, procedure: str, name: str, lines: list[str]) -> None:
    found, text = typescript.input_of(MESSAGES[type_], PROCEDURES[procedure])
    assert found == name and all(line in text for line in lines)
    assert "isTyping" not in text
