"""The section "Procedures" of docs/http.md agrees with the code: the procedures, their fields and the numbers."""

import re
from pathlib import Path

import msgspec

from koko_presence.protocol.errors import ERRORS
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.procedures import ActiveResult, HeartbeatInput, HeartbeatResult, JoinResult, LeaveInput
from koko_presence.server.pending_requests import REQUEST_TIMEOUT_S
from koko_presence.server.rpc import CALL_BURST, CALL_HZ, Procedures
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


def test_every_procedure_has_one_row() -> None:
    assert sorted(name for names, _, _ in ROWS for name in names) == sorted(Procedures.KINDS)


def test_the_inputs_are_the_codes() -> None:
    for names, shown, _ in ROWS:
        for name in names:
            if name in ("leave", "heartbeat"):
                known = wire_names(LeaveInput if name == "leave" else HeartbeatInput) - OWN
                assert set(shown) == known
                continue
            shape = SHAPES[name]
            known = {*wire_names(shape.message), *shape.flat}
            assert {field for field in shown if field not in ("sync", "null")} <= known
            if name != "syncPlayback":  # whose fields depend on the action
                assert set(shown) >= set(shape.flat)


def test_the_answers_are_the_codes() -> None:
    answers = {name: set(answer) for names, _, answer in ROWS for name in names}
    assert answers["join"] == wire_names(JoinResult) and answers["getActive"] == wire_names(ActiveResult)
    assert answers["heartbeat"] == wire_names(HeartbeatResult) - {"success"}


def test_the_numbers_and_errors_are_the_codes() -> None:
    assert f"{Limits().silence_s:.0f} s from the last" in SECTION
    assert f"{CALL_HZ:.0f} calls a second on each worker, and {CALL_BURST:.0f} at once" in FLAT
    assert f"no answer for {REQUEST_TIMEOUT_S:.0f} s" in SECTION
    assert "`METHOD_NOT_SUPPORTED`, 405" in FLAT and ERRORS["METHOD_NOT_SUPPORTED"].http_status == 405
    assert set(re.findall(r"`([A-Z_]{5,})`", SECTION)) <= set(ERRORS)
