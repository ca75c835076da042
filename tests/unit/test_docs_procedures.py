"""The section "Procedures" of docs/http.md agrees with the code: the procedures, their fields and the numbers."""

import re
from pathlib import Path

import msgspec
import pytest

from koko_presence.protocol.errors import ERRORS
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import PROCEDURES
from koko_presence.server.pending_requests import REQUEST_TIMEOUT_S
from koko_presence.server.rpc import CALL_BURST, CALL_HZ
from koko_presence.server.rpc_inputs import SHAPES

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
SECTION = TEXT[TEXT.index("## Procedures") : TEXT.index("## Authentication")]
FLAT = " ".join(SECTION.split())
ROWS = [
    (re.findall(r"`(\w+)`", names), re.findall(r"`(\w+)`", input), re.findall(r"`(\w+)`", answer))
    for names, input, answer in re.findall(r"^\| (.+?) \| (.*?) \| (.*?) ?\|$", SECTION, re.MULTILINE)
    if names.startswith("`") and not names[1].isupper()
]
OWN = {"sessionId", "clientKey"}


def wire_names(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize("name", sorted(PROCEDURES))
def test_every_procedure_has_one_row(name: str) -> None:
    rows = [names for names, _, _ in ROWS if name in names]
    assert len(rows) == 1, f"docs/http.md has {len(rows)} rows in its table of procedures for {name}"


def test_every_row_is_a_procedure() -> None:
    assert {name for names, _, _ in ROWS for name in names} == set(PROCEDURES)


def test_the_inputs_are_the_codes() -> None:
    for names, shown, _ in ROWS:
        for name in names:
            input_type = PROCEDURES[name].input
            if input_type is not None:
                assert set(shown) == wire_names(input_type) - OWN
                continue
            shape = SHAPES[name]
            known = {*wire_names(shape.message), *shape.flat}
            assert {field for field in shown if field not in ("sync", "null")} <= known
            if name != "syncPlayback":  # whose fields depend on the action
                assert set(shown) >= set(shape.flat)


@pytest.mark.parametrize("names", [names for names, _, _ in ROWS], ids=lambda names: names[0])
def test_the_answers_are_the_codes(names: list[str]) -> None:
    (answer,) = (set(answer) for each, _, answer in ROWS if each == names)
    declared = set().union(*(wire_names(PROCEDURES[name].returns) for name in names)) - {"success"}
    if names != ["syncPlayback"]:  # "the room's playback"
        assert answer == declared, f"the row of {names} in docs/http.md has other data of the answer"


def test_the_numbers_and_errors_are_the_codes() -> None:
    assert f"{Limits().silence_s:.0f} s from the last" in SECTION
    assert f"{CALL_HZ:.0f} calls a second on each worker, and {CALL_BURST:.0f} at once" in FLAT
    assert f"no answer for {REQUEST_TIMEOUT_S:.0f} s" in SECTION
    assert "`METHOD_NOT_SUPPORTED`, 405" in FLAT and ERRORS["METHOD_NOT_SUPPORTED"].http_status == 405
    assert set(re.findall(r"`([A-Z_]{5,})`", SECTION)) <= set(ERRORS)
