"""Writes the Python client's models from the Structs of `koko_presence.protocol`.

They are tolerant, so that a newer server does not break the client: closed lists of names become plain strings, and
what may be absent is None, or the value of `DEFAULTS`; where null has a meaning of its own it is UNSET.
"""

from types import NoneType
from typing import Any, Literal, get_args, get_origin

from msgspec import UNSET, Raw, Struct, UnsetType

from koko_presence.protocol import events, models

from .texts import Field, bare, doc_of, fields_of, parts

MODELS: list[type[Struct]] = [
    models.Cursor, models.Selection, models.ViewerState, models.SyncRow, models.PresenceUser, models.PlaybackRow,
    models.ControlRequestRow, models.Medium, models.RoomSettings, models.Rights, models.PresenceRoom,
    models.SummaryUser, models.RefusedRoom,
]  # fmt: skip
# names of the client, where they differ from those of the protocol
NAMES: dict[type[Struct], str] = {
    models.ViewerState: "PlayerState", models.SyncRow: "ViewerState", models.PresenceUser: "User",
    models.PlaybackRow: "Playback", models.PresenceRoom: "Snapshot", events.ErrorReply: "Refusal",
    events.ServerNotice: "Notice",
}  # fmt: skip
# written by hand, in client/model.py
BASES: dict[type[Struct], str] = {models.PlaybackRow: "PlaybackModel"}
# what is shown extends what was sent
EXTENDS: dict[type[Struct], type[Struct]] = {
    events.CursorShown: models.Cursor, events.SelectionShown: models.Selection
}  # fmt: skip
DEFAULTS = {"status_message": '""', "start_time": "0.0", "end_time": "0.0"}
NOT_READ = {"cursors"}  # only bots that ask for them get compact cursors, as bytes

HEAD = '''"""Declares what the client receives, as it reads it. Written by `make generate` from `protocol`."""

from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from .model import Event, Model, PlaybackModel, Reply
'''


def pascal(type_: str) -> str:
    return "".join(part.title() for part in type_.split("_"))


def name_of(struct: type[Struct]) -> str:
    """Return the name of a Struct in the client."""
    if struct in NAMES:
        return NAMES[struct]
    if issubclass(struct, events.EventData):
        return f"{pascal(struct.event)}Data"
    if issubclass(struct, events.ServerMessage):
        return pascal(str(struct.__struct_config__.tag))
    return struct.__name__


def type_text(type_: Any) -> str:
    """Return an annotation of the protocol as the client's."""
    type_ = bare(type_)
    members = [each for each in parts(type_) if each is not UnsetType]
    if len(members) > 1:
        shown = [type_text(each) for each in members if each not in (Raw, NoneType)]
        return " | ".join(dict.fromkeys([*shown, *(["None"] if NoneType in members else [])]))
    (type_,) = (bare(each) for each in members)
    if get_origin(type_) is Literal:
        return "str"
    if get_origin(type_) is list:
        return f"list[{type_text(get_args(type_)[0])}]"
    if get_origin(type_) is dict:
        return f"dict[str, {type_text(get_args(type_)[1])}]"
    if type_ in (Any, Raw):
        return "Any"
    return name_of(type_) if issubclass(type_, Struct) else str(type_.__name__)


def field_text(field: Field) -> str:
    type_ = type_text(field.annotation)
    if field.python_name in DEFAULTS and (field.optional or field.python_name.endswith("_time")):
        return f"    {field.python_name}: {type_} = {DEFAULTS[field.python_name]}\n"
    if {UnsetType, NoneType} <= set(parts(field.annotation)):
        return f"    {field.python_name}: {type_.removesuffix(' | None')} | UnsetType | None = UNSET\n"
    if UnsetType in parts(field.annotation) or field.default in (None, UNSET):
        type_ = type_ if type_ == "Any" else f"{type_.removesuffix(' | None')} | None"
        return f"    {field.python_name}: {type_} = None\n"
    default = f" = {field.default!r}" if field.optional else ""
    return f"    {field.python_name}: {type_}{default}\n"


def class_text(name: str, head: str, text: str, body: str) -> str:
    doc = f'    """{text}"""\n' if text else ""
    gap = "\n" if doc and body else ""
    return f"\n\nclass {name}({head}, kw_only=True):\n{doc}{gap}{body or ('' if doc else '    pass' + chr(10))}"


def struct_text(struct: type[Struct], base: str, *, without: tuple[str, ...] = ()) -> str:
    body = "".join(field_text(field) for field in fields_of(struct) if field.python_name not in without)
    return class_text(name_of(struct), base, doc_of(struct), body)


def event_text(data: type[events.EventData]) -> str:
    """Return an event and its data."""
    name = pascal(data.event)
    if data.is_free:
        return class_text(
            name,
            f'Event, tag="{data.event}"',
            doc_of(data),
            f"    data: {'Any' if data is events.BroadcastSent else 'dict[str, Any]'}\n",
        )
    base = EXTENDS.get(data)
    inherited = () if base is None else base.__struct_fields__
    return struct_text(data, "Model" if base is None else name_of(base), without=inherited) + class_text(
        name, f'Event, tag="{data.event}"', "", f"    data: {name_of(data)}\n"
    )


def message_text(message: type[events.ServerMessage]) -> str:
    tag = f'tag="{message.__struct_config__.tag}"'
    if "id" in message.__struct_fields__:
        return struct_text(message, f"Reply, {tag}", without=("id",))
    return struct_text(message, f'Model, tag_field="type", {tag}')


def client_models() -> str:
    """Return client/models.py."""
    replies = [each for type_, each in events.SERVER_MESSAGES.items() if type_ not in NOT_READ]
    union = "\n    | ".join([*map(pascal, events.EVENTS), *map(name_of, replies)])
    return "".join(
        [
            HEAD,
            *(struct_text(model, BASES.get(model, "Model")) for model in MODELS),
            *map(event_text, events.EVENTS.values()),
            *map(message_text, replies),
            f"\n\nMessage: TypeAlias = (\n    {union}\n)\n",
        ]
    )
