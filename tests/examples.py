"""An example of every message of clients, made from its declaration: a new message is in all tests that go through them.

`FULL` has every field; values fit room video_123 with the users ann and bob.
"""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Raw, Struct, UnsetType

from koko_presence.protocol.messages import MESSAGES, ClientMessage, data_struct
from koko_presence.protocol.procedures import Procedure, Target

ROOM = "video_123"
# fields whose value has a meaning for the others; all further fields get a value of their type
VALUES: dict[str, Any] = {
    "roomId": ROOM,
    "roomType": "video",
    "toUserId": "bob",
    "to": ["bob"],
    "x": 0.5,
    "y": 0.5,
    "isTyping": True,
    "offset": 0.5,
    "frames": 1,
    "at": 4e12,  # not over yet, so that nothing is too old
    "maxAgeMs": 2000,
}
BY_TYPE: dict[Any, Any] = {str: "a", int: 0, float: 1.0, bool: False, Raw: {"a": 1}, Any: 1}


def value_of(type_: Any) -> Any:
    """Return a valid value of an annotation."""
    if get_origin(type_) is Annotated:
        return value_of(get_args(type_)[0])
    if get_origin(type_) is Literal:
        return get_args(type_)[0]
    if get_origin(type_) in (Union, UnionType):
        return value_of(next(each for each in get_args(type_) if each not in (UnsetType, type(None))))
    if get_origin(type_) is list:
        return [value_of(get_args(type_)[0])]
    if get_origin(type_) is dict:
        return {value_of(get_args(type_)[0]): value_of(get_args(type_)[1])}
    if isinstance(type_, type) and issubclass(type_, Struct):
        return fields_of(type_)
    return BY_TYPE[type_]


def fields_of(struct: type[Struct]) -> dict[str, Any]:
    """Return a value for every field of a Struct."""
    return {
        field.encode_name: VALUES[field.encode_name] if field.encode_name in VALUES else value_of(field.type)
        for field in msgspec.structs.fields(struct)
        # the same fields again, under `data` [B3]
        if not (field.name == "data" and field.default is None)
    }


FULL: dict[str, dict[str, Any]] = {type_: {"type": type_, **fields_of(message)} for type_, message in MESSAGES.items()}


def _input(message: type[ClientMessage], procedure: Procedure) -> dict[str, Any]:
    if procedure.input is not None:
        return {
            name: value
            for name, value in fields_of(procedure.input).items()
            if name not in Target.__struct_encode_fields__
        }
    given = {name: value for name, value in fields_of(message).items() if name != "id"}
    data = given.pop("data", {})
    return given | (data if data_struct(message) else {"data": data} if "data" in message.__struct_fields__ else {})


# the input of each procedure with all its fields, but those that name a session
INPUTS = {
    procedure.name: _input(message, procedure) for message in MESSAGES.values() for procedure in message.procedures
}
