"""Writes the JSON Schema of all messages and events, for clients in other languages."""

from typing import Any, Union

import msgspec
from msgspec import Struct, UnsetType

from koko_presence.protocol.events import EVENTS, SERVER_MESSAGES, Event, EventData
from koko_presence.protocol.messages import MESSAGES

from .python_client import pascal
from .texts import CLAIMS, camel_names

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _enveloped(data: type[EventData]) -> type[Struct]:
    """Return an event with its envelope as one Struct."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in msgspec.structs.fields(Event):
        if each.name == "data":
            fields.append(("data", dict[str, Any] if data.is_free else data))
        elif each.name != "type":
            fields.append(
                (each.name, each.type, None)
                if UnsetType in getattr(each.type, "__args__", ())
                else (each.name, each.type)
            )
    return msgspec.defstruct(
        f"{pascal(data.event)}Event", fields, rename="camel", tag_field="type", tag=data.event, kw_only=True
    )


def schema() -> str:
    """Return docs/protocol.schema.json. `#/$defs/ClientMessage` is any message of a client, `#/$defs/ServerMessage` any
    of the server."""
    sent = tuple(MESSAGES.values())
    received = (*map(_enveloped, EVENTS.values()), *SERVER_MESSAGES.values())
    (client, server), parts = msgspec.json.schema_components(
        (Union[sent], Union[received]),  # noqa: UP007
        ref_template="#/$defs/{name}",
    )
    document = {
        "$schema": DIALECT,
        "title": "The presence protocol",
        "description": "Written by `make generate` from koko_presence/protocol; docs/protocol.md explains it. Rules "
        "between fields are not here.",
        "$defs": {"ClientMessage": client, "ServerMessage": server, **parts},
        "$ref": "#/$defs/ClientMessage",
    }
    return msgspec.json.format(msgspec.json.encode(_cleaned(document)), indent=1).decode() + "\n"


def _cleaned(value: Any) -> Any:
    """Return a schema whose texts have no references to decisions and the names of the wire; `null` defaults of absent
    fields are left out."""
    if isinstance(value, dict):
        return {
            key: camel_names(CLAIMS.sub("", " ".join(each.split())))
            if key == "description" and isinstance(each, str)
            else _cleaned(each)
            for key, each in value.items()
        }
    return [_cleaned(each) for each in value] if isinstance(value, list) else value
