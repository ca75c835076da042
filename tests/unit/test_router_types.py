"""`web/sdk/presence-router.d.ts` agrees with the server's definitions, in every field of every shape."""

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from msgspec import NODEFAULT, Raw, UnsetType

import koko_presence
from koko_presence.protocol import call_results, events, messages
from koko_presence.server import rpc_inputs
from koko_presence.server.rpc import Procedures

SOURCE = (Path(koko_presence.__file__).parent / "web" / "sdk" / "presence-router.d.ts").read_text()
ALIASES = {
    messages.RoomType: "RoomType",
    messages.Status: "Status",
    messages.Activity: "Activity",
    messages.PlaybackAction: "PlaybackAction",
}
# JSON that was encoded before, and its contents
RAW = {"room": "PresenceRoom", "users": "PresenceUser[]"}

Fields = dict[str, tuple[str, bool]]  # name -> type, optional


def interfaces() -> dict[str, tuple[tuple[str, ...], Fields]]:
    """Return every interface: the ones it extends, and its own fields."""
    text = re.sub(r"/\*.*?\*/", "", SOURCE, flags=re.S)
    found = {}
    for name, extends, body in re.findall(
        r"export interface (\w+)(?:<.*?>)?(?: extends ([^{]+))? \{(.*?)\}\n", text, re.S
    ):
        fields = {
            key: (type_.strip(), bool(optional)) for key, optional, type_ in re.findall(r"(\w+)(\??): ([^;]+);", body)
        }
        found[name] = (tuple(base.strip() for base in extends.split(",") if base), fields)
    return found


INTERFACES = interfaces()


def fields_of(name: str) -> Fields:
    """Return all fields of an interface, inherited ones included."""
    if name.startswith("Partial<"):
        return {key: (type_, True) for key, (type_, _) in fields_of(name[8:-1]).items()}
    bases, own = INTERFACES[name]
    inherited: Fields = {}
    for base in bases:
        inherited |= fields_of(base)
    return inherited | own


def in_typescript(type_: Any, name: str) -> str:
    """Return the TypeScript type of a Python annotation, as the file has to declare it."""
    if type_ in ALIASES:
        return ALIASES[type_]
    if get_origin(type_) is Annotated:
        return in_typescript(get_args(type_)[0], name)
    if get_origin(type_) is Literal:
        return " | ".join(f'"{value}"' for value in get_args(type_))
    if get_origin(type_) in (Union, UnionType):
        parts = [each for each in get_args(type_) if each not in (UnsetType, Raw, NoneType)]
        texts = list(dict.fromkeys(in_typescript(each, name) for each in parts))
        return " | ".join([*texts, "null"] if NoneType in get_args(type_) else texts)
    if get_origin(type_) is list:
        return f"{in_typescript(get_args(type_)[0], name)}[]"
    if get_origin(type_) is dict:
        return "Record<string, unknown>"
    if type_ is Raw:
        return RAW.get(name, "Record<string, unknown>")
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return type_.__name__
    return {str: "string", int: "number", float: "number", bool: "boolean", Any: "unknown"}[type_]


def expected(struct: type[msgspec.Struct], without: tuple[str, ...] = ()) -> Fields:
    """Return a Struct's fields as TypeScript: a field that may be absent, or is omitted at its default, is optional."""
    keeps_defaults = not struct.__struct_config__.omit_defaults
    found: Fields = {}
    for field in msgspec.structs.fields(struct):
        if field.encode_name not in without:
            optional = not (field.required or (keeps_defaults and field.default is not NODEFAULT))
            if UnsetType in get_args(field.type):
                optional = True
            found[field.encode_name] = (in_typescript(field.type, field.encode_name), optional)
    return found


MODELS = [
    messages.Cursor, messages.Selection, messages.Privacy, events.ViewerState, events.PlaybackRow, events.SyncRow,
    events.PresenceUser, events.ControlRequestRow, events.PresenceRoom, events.Joined, events.CursorShown,
    events.SelectionShown, events.StatusShown, events.PlaybackSynced, events.ControlGranted, events.ViewerSync,
    call_results.JoinResult, call_results.ActiveResult, call_results.HeartbeatResult, rpc_inputs.Target, rpc_inputs.RoomTarget,
    rpc_inputs.LeaveInput, rpc_inputs.HeartbeatInput,
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_model_has_the_servers_fields(model: type[msgspec.Struct]) -> None:
    assert fields_of(model.__name__) == expected(model)


@pytest.mark.parametrize(
    "message",
    [events.Authenticated, events.JoinedReply, events.LeftReply, events.AuthExpiring, events.Kicked, events.ServerNotice],
    ids=lambda message: message.__name__,
)  # fmt: skip
def test_what_is_no_rooms_event_has_the_servers_fields(message: type[msgspec.Struct]) -> None:
    fields = fields_of(message.__name__)
    assert fields.pop("type") == (f'"{message.__struct_config__.tag}"', False)
    assert fields == expected(message, without=("id",))


def test_the_envelope_of_events_is_the_servers() -> None:
    fields = fields_of("Event")
    assert fields.pop("type") == ("Type", False)
    assert fields.pop("data") == ("Data", False)
    assert fields == expected(events.Event, without=("type", "data"))


def test_every_event_that_the_server_sends_is_in_the_union() -> None:
    told = set(re.findall(r'Event<"(\w+)"', SOURCE))
    sent = set()
    for path in (Path(koko_presence.__file__).parent / "rooms").glob("*.py"):
        sent |= set(re.findall(r'(?:emit|frame)\(\s*"(\w+)"', path.read_text()))
    assert told == sent


def input_fields(name: str) -> Fields:
    """Return the input of procedure `name`: its message's fields, those that may be given flat, and the session
    fields."""
    shape = rpc_inputs.SHAPES[name]
    found = {key: value for key, value in expected(shape.message, without=("id",)).items() if key != "data"}
    data = next((each for each in msgspec.structs.fields(shape.message) if each.name == "data"), None)
    if shape.message is messages.Broadcast:
        found["data"] = ("Record<string, unknown>", False)
    elif shape.flat and data is not None:
        struct = next(
            each for each in (data.type, *get_args(data.type)) if isinstance(each, type) and each is not NoneType
        )
        under = expected(struct)
        alternative = NoneType in get_args(data.type)  # null has a meaning of its own: data may be given instead
        defaults = dict(shape.default)
        found |= {key: (under[key][0], under[key][1] or alternative or key in defaults) for key in shape.flat}
        if alternative:
            found["data"] = (in_typescript(data.type, "data"), True)
    return expected(rpc_inputs.Target) | found


@pytest.mark.parametrize("name", rpc_inputs.SHAPES)
def test_an_input_has_the_servers_fields(name: str) -> None:
    written = re.search(rf"\b{name}: \w+<(\w+)", SOURCE)
    assert written is not None
    got = fields_of(written[1])
    if "to" in got:  # null and absent mean the same there
        assert got.pop("to") == ("string[]", True)
        wanted = input_fields(name)
        wanted.pop("to")
        assert got == wanted
    else:
        assert got == input_fields(name)


def test_the_router_has_every_procedure_and_its_kind() -> None:
    body = SOURCE[SOURCE.index("presence: {") :]
    told = {name: kind.lower() for name, kind in re.findall(r"(\w+): (Query|Mutation|Subscription)<", body)}
    assert told == {**Procedures.KINDS, "onEvent": "subscription"}


@pytest.mark.parametrize(
    ("line", "instead"),
    [("  assignedColor: string;", "  assignedColor?: string;"), ("  totalCount: number;", ""), ("  seq?: number;", "  seq?: string;")],
)  # fmt: skip
def test_a_drift_is_noticed(line: str, instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.unit.test_router_types as this

    assert line in SOURCE
    monkeypatch.setattr(this, "SOURCE", SOURCE.replace(line, instead))
    monkeypatch.setattr(this, "INTERFACES", interfaces())
    checks = [
        lambda: test_a_model_has_the_servers_fields(call_results.JoinResult),
        lambda: test_a_model_has_the_servers_fields(call_results.ActiveResult),
        test_the_envelope_of_events_is_the_servers,
    ]
    failed = 0
    for check in checks:
        try:
            check()
        except AssertionError:
            failed += 1
    assert failed == 1
