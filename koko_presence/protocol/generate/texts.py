"""Reads what a declaration says about itself: the text of its docstring, the types and texts of its fields."""

import re
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct, UnsetType

from koko_presence.protocol.events import EVENTS, SERVER_MESSAGES
from koko_presence.protocol.messages import MESSAGES
from koko_presence.protocol.models import RoomType, Wire

# types of messages and rooms, which are the same on the wire
NOT_FIELDS = {*MESSAGES, *EVENTS, *SERVER_MESSAGES, *get_args(RoomType)}
CLAIMS = re.compile(r"\s*\[[A-Z][^\]]*\]")  # `[B4, B5]` leads to docs/decisions.md, which not every reader has


def camel(name: str) -> str:
    """Return a Python name as it is on the wire."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def doc_of(struct: type[Struct]) -> str:
    """Return the first paragraph of a docstring as it is written."""
    return str(vars(struct).get("__doc__") or "").split("\n\n")[0]


def text_of(struct: type[Struct]) -> str:
    """Return the first paragraph of a docstring in one line, with the names of the wire and without references."""
    one_line = CLAIMS.sub("", " ".join(doc_of(struct).split()))
    return camel_names(one_line)


def camel_names(text: str) -> str:
    """Return a text with the names in backticks as they are on the wire, except those in `NOT_FIELDS`."""
    return re.sub(r"`[a-z_]+`", lambda name: name[0] if name[0][1:-1] in NOT_FIELDS else camel(name[0]), text)


class Field:
    """One field of a Struct: its name on the wire, its annotation, its text, and whether it may be absent."""

    def __init__(self, struct: type[Struct], field: Any) -> None:
        self.name: str = field.encode_name
        self.python_name: str = field.name
        self.annotation = field.type
        self.text = next((each.description for each in marks(field.type) if each.description), "")
        has_default = not (field.default is NODEFAULT and field.default_factory is NODEFAULT)
        omitted = has_default and struct.__struct_config__.omit_defaults
        self.optional = UnsetType in parts(field.type) or omitted
        self.default = field.default
        self.default_is_null = field.default is None


def fields_of(struct: type[Struct]) -> list[Field]:
    return [Field(struct, field) for field in msgspec.structs.fields(struct)]


def own_fields(struct: type[Struct]) -> list[Field]:
    """Return the fields that no base of the Struct has."""
    inherited = {name for base in struct.__bases__ for name in getattr(base, "__struct_encode_fields__", ())}
    return [field for field in fields_of(struct) if field.name not in inherited]


def structs_of(module: ModuleType) -> list[type[Struct]]:
    """Return the Structs that a module declares, in their order, without the base of all."""
    declared = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Struct)]
    return [each for each in declared if each.__module__ == module.__name__ and each is not Wire]


def names_of(type_: Any) -> tuple[str, ...]:
    """Return the names of a closed list of names; () for any other type."""
    if get_origin(type_) is Literal:
        return get_args(type_)
    schemas = (mark.extra_json_schema or {} for mark in marks(type_))
    return next((tuple(schema["enum"]) for schema in schemas if "enum" in schema), ())


def marks(type_: Any) -> list[Meta]:
    """Return the `Meta` around a type, the outermost first; those inside a union are not of the whole."""
    return list(reversed(get_args(type_)[1:])) if get_origin(type_) is Annotated else []


def bare(type_: Any) -> Any:
    """Return a type without the `Meta` around it."""
    return get_args(type_)[0] if get_origin(type_) is Annotated else type_


def parts(type_: Any) -> list[Any]:
    """Return the members of a union; of any other type that alone."""
    type_ = bare(type_)
    return list(get_args(type_)) if get_origin(type_) in (Union, UnionType) else [type_]
