"""Converts the inputs of procedures, decoded JSON, into the messages of messages.py. Holds no state.

Fields of a message's `data` may be under `data` or flat beside `roomId`; different values in both are an error [B3]. A
procedure's own fields, `sessionId` and `clientKey`, are always flat. Unknown fields are ignored.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw

from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import encode
from koko_presence.protocol.messages import MESSAGES, Broadcast, ClientMessage, data_names


class Shape(NamedTuple):
    """How a procedure maps to a message: its type, the fields of its `data` that may be flat, values of `data` fixed by
    the procedure's name, and default values of `data`."""

    message: type[ClientMessage]
    flat: tuple[str, ...]
    fixed: Mapping[str, Any]
    default: Mapping[str, Any]


SHAPES = {
    procedure.name: Shape(
        message,
        tuple(name for name in data_names(message) if name not in procedure.fixed),
        procedure.fixed,
        procedure.default,
    )
    for message in MESSAGES.values()
    for procedure in message.procedures
    if procedure.input is None
}

Model = TypeVar("Model")


def read(input: Any, type_: type[Model]) -> Model:
    """Convert `input` to a struct. Errors: PresenceError INVALID_MESSAGE, INVALID_DATA."""
    return _convert(_object(input), type_)


def read_message(input: Any, name: str) -> Any:
    """Convert `input` to the message of procedure `name`. Errors: PresenceError INVALID_MESSAGE, INVALID_DATA."""
    shape, fields = SHAPES[name], _object(input)
    flat = {each: fields[each] for each in shape.flat if each in fields}
    message = fields | {"type": shape.message.__struct_config__.tag}
    message.pop("id", None)  # the `id` of a message is of no use to a call, which is always answered
    under_data = fields.get("data")
    if flat and "data" in fields:
        twice = under_data.keys() & flat.keys() if isinstance(under_data, dict) else ()
        if not isinstance(under_data, dict) or any(under_data[each] != flat[each] for each in twice):
            raise PresenceError("INVALID_MESSAGE", "The same stands in data and beside it, with different values.")
        message["data"] = under_data | flat
    elif flat:
        message["data"] = flat
    if shape.fixed or (shape.default and isinstance(message.get("data"), dict)):
        given = message.get("data", {})
        message["data"] = {**shape.default, **given, **shape.fixed} if isinstance(given, dict) else given
    if shape.message is Broadcast and isinstance(under_data, dict):
        message["data"] = Raw(encode(under_data))  # carried unchanged [J1]
    return _convert(message, shape.message)


def _object(input: Any) -> dict[str, Any]:
    if input is UNSET or input is None:
        return {}
    if not isinstance(input, dict):
        raise PresenceError("INVALID_MESSAGE", "The input is a JSON object.")
    return input


def _convert(fields: dict[str, Any], type_: type[Model]) -> Model:
    try:
        return msgspec.convert(fields, type_)
    except msgspec.ValidationError as error:
        text = str(error)
        of_data = any(part in text for part in ("`$.data", "field `data`", "`$.presence"))
        code = "INVALID_DATA" if of_data else "INVALID_MESSAGE"
        raise PresenceError(code, f"{text}.") from None
