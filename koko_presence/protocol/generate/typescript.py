"""Writes TypeScript declarations from the Structs of `koko_presence.protocol`."""

import textwrap
from collections.abc import Iterable
from types import NoneType
from typing import Any, get_args, get_origin

from msgspec import Raw, Struct, UnsetType

from koko_presence.protocol import events, models, procedures
from koko_presence.protocol.errors import ERRORS
from koko_presence.protocol.messages import MESSAGES, ClientMessage, data_struct
from koko_presence.protocol.procedures import Procedure, RoomTarget, Target

from .texts import Field, bare, fields_of, marks, names_of, own_fields, parts, structs_of, text_of

WIDTH = 120
MODELS = structs_of(models)
INPUTS = [each for each in structs_of(procedures) if issubclass(each, Target)]
RESULTS = [each for each in structs_of(procedures) if not issubclass(each, Target)]
ALIASES = {name: value for module in (models, events) for name, value in vars(module).items() if names_of(value)}
FREE = "  [key: string]: unknown;\n"  # the application's own object
BROADCAST = "  type?: string;\n"  # the field that most objects of broadcasts have


def type_text(type_: Any) -> str:
    """Return a Python annotation as a TypeScript type."""
    for name, alias in ALIASES.items():
        if type_ == alias:
            return name
    if names := names_of(type_):
        return _union(f'"{name}"' for name in names)
    for mark in marks(type_):
        constant = (mark.extra_json_schema or {}).get("const")
        if constant is not None:
            return str(constant).lower()
    type_ = bare(type_)
    members = parts(type_)
    if len(members) > 1:
        kept = [each for each in members if each not in (UnsetType, Raw, NoneType)]
        return _union([*map(type_text, kept), *(["null"] if NoneType in members else [])])
    if get_origin(type_) is list:
        return f"{type_text(get_args(type_)[0])}[]"
    if type_ is Raw:
        return "Record<string, unknown>"
    if get_origin(type_) is dict:
        return f"Record<string, {type_text(get_args(type_)[1])}>"
    if isinstance(type_, type) and issubclass(type_, Struct):
        return type_.__name__
    return {str: "string", int: "number", float: "number", bool: "boolean", Any: "unknown"}[type_]


def _union(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts))


def comment(text: str, indent: str = "") -> str:
    """Return a text as a comment, on a line of its own; "" for none."""
    if not text:
        return ""
    one = f"{indent}/** {text} */\n"
    if len(one) <= WIDTH + 1:
        return one
    lines = textwrap.wrap(text, WIDTH - len(indent) - 3, break_on_hyphens=False)
    return f"{indent}/**\n" + "".join(f"{indent} * {line}\n" for line in lines) + f"{indent} */\n"


def field_text(field: Field, *, optional: bool | None = None) -> str:
    """Return the lines of a field: its comment, and its name with its type."""
    optional = field.optional if optional is None else optional
    type_ = type_text(field.annotation)
    if field.default_is_null:  # absent and null mean the same there
        type_ = type_.removesuffix(" | null")
    return f"{comment(field.text, '  ')}  {field.name}{'?' if optional else ''}: {type_};\n"


def interface(name: str, body: str, *, text: str = "", extends: Iterable[str] = ()) -> str:
    heads = ", ".join(extends)
    brace = f"{{\n{body}}}" if body else "{}"
    return f"{comment(text)}export interface {name}{' extends ' + heads if heads else ''} {brace}\n"


def struct_text(struct: type[Struct], head: str = "") -> str:
    """Return a Struct as an interface. `head` are lines before its own fields."""
    extends = [base.__name__ for base in struct.__bases__ if base in (*INPUTS, *RESULTS)]
    fields = own_fields(struct) if extends else fields_of(struct)
    is_message = issubclass(struct, events.ServerMessage)
    body = "".join(field_text(field) for field in fields if not (is_message and field.name == "id"))
    return interface(struct.__name__, head + body, text=text_of(struct), extends=extends)


def data_text(data: type[events.EventData]) -> str:
    """Return the data of an event. A switch that the server omits while it is off is true where it is."""
    if data.is_free:
        head = BROADCAST if data is events.BroadcastSent else ""
        return interface(data.__name__, head + FREE, text=text_of(data))
    return struct_text(data).replace("?: boolean;", "?: true;")


def message_text(message: type[Struct]) -> str:
    """Return a message of the server that is no event."""
    text = struct_text(message, f'  type: "{message.__struct_config__.tag}";\n')
    return text.replace("  code: string;\n", "  code: ErrorCode;\n") if message is events.ErrorReply else text


# --- inputs of procedures -----------------------------------------------------------------------------------------


def input_of(message: type[ClientMessage], procedure: Procedure) -> tuple[str, str]:
    """Return the name and the text of the input of a procedure; "" for the text of a `RoomTarget`."""
    if procedure.input is not None:
        return procedure.input.__name__, struct_text(procedure.input)
    fields = {field.name: field for field in fields_of(message) if field.name != "id"}
    extends = ["RoomTarget" if fields.pop("roomId", None) else "Target"]
    data, struct = fields.pop("data", None), data_struct(message)
    body = ""
    if data is not None and struct is not None:
        nullable = NoneType in parts(data.annotation)  # then `data: null` is an input, too
        if struct in MODELS:
            required = any(not field.optional for field in fields_of(struct))
            extends.append(f"Partial<{struct.__name__}>" if nullable and required else struct.__name__)
        else:
            body += "".join(_flat_field(field, procedure) for field in fields_of(struct))
        if nullable:
            body += comment(f"The same under `data`; {data.text}", "  ")
            body += f"  data?: {type_text(data.annotation)};\n"
    elif data is not None and not data.optional:
        body += field_text(data)
    body += "".join(map(field_text, fields.values()))
    if extends == ["RoomTarget"] and not body:
        return "RoomTarget", ""
    name = procedure.input_name or f"{procedure.name[0].upper()}{procedure.name[1:]}Input"
    return name, interface(name, body, extends=extends)


def _flat_field(field: Field, procedure: Procedure) -> str:
    if field.name in procedure.fixed:
        return ""
    if field.name in procedure.default:
        field.text = f"`{procedure.default[field.name]}` when it is left out."
        return field_text(field, optional=True)
    return field_text(field)


# --- the files ----------------------------------------------------------------------------------------------------


def _rule(title: str) -> str:
    return f"// --- {title} ".ljust(WIDTH, "-") + "\n"


def _alternatives(name: str, members: Iterable[str], text: str = "") -> str:
    return f"{comment(text)}export type {name} =" + "".join(f"\n  | {member}" for member in members) + ";\n"


def _models() -> list[str]:
    aliases = "".join(
        f"export type {name} = {_union(map(_quoted, names_of(each)))};\n" for name, each in ALIASES.items()
    )
    return [_rule("models"), aliases, *map(struct_text, MODELS)]


def _error_codes() -> str:
    return _alternatives("ErrorCode", map(_quoted, ERRORS), "The codes of refusals (docs/protocol.md).")


def _quoted(name: str) -> str:
    return f'"{name}"'


def _events(envelope: str, mark: str = "") -> list[str]:
    """Return the envelope of all events, under that name, and the data of each; `mark` precedes the envelope's
    fields."""
    generic = {"type": f"  {mark}type: Type;\n", "data": f"  {mark}data: Data;\n"}
    fields = [
        generic.get(each.name) or field_text(each).replace("  ", f"  {mark}", 1) for each in fields_of(events.Event)
    ]
    head = interface(f"{envelope}<Type extends string, Data>", "".join(fields), text=text_of(events.Event))
    return [_rule("events"), head, *map(data_text, events.EVENTS.values())]


def protocol() -> str:
    """Return protocol.d.ts, the types of the SDK that are the protocol's."""
    table = "".join(
        f'{comment(text_of(data), "  ")}  {type_}: RoomEvent<"{type_}", {data.__name__}>;\n'
        for type_, data in events.EVENTS.items()
    )
    text = "The events of the protocol, by type."
    return "\n".join(
        [
            PROTOCOL,
            *_models(),
            *_events("RoomEvent", "readonly "),
            interface("ProtocolEvents", table, text=text),
            _rule("replies and notices"),
            _error_codes(),
            *map(message_text, events.SERVER_MESSAGES.values()),
            _alternatives(
                "ServerMessage",
                ["ProtocolEvents[keyof ProtocolEvents]", *(each.__name__ for each in events.SERVER_MESSAGES.values())],
                "Anything that the server sends.",
            ),
        ]
    )


def router() -> str:
    """Return presence-router.d.ts."""
    inputs = {each.__name__: struct_text(each) for each in (Target, RoomTarget)}
    table = ""
    for message in MESSAGES.values():
        for procedure in message.procedures:
            name, text = input_of(message, procedure)
            inputs.setdefault(name, text)
            may_be_absent = procedure.input is not None and all(each.optional for each in fields_of(procedure.input))
            given = f"{name} | void" if may_be_absent else name
            table += f"      {procedure.name}: {procedure.kind.title()}<{given}, {procedure.returns.__name__}>;\n"
    received = [each for each in events.SERVER_MESSAGES.values() if each.subscribed or each is events.ErrorReply]
    room_events = (f'Event<"{type_}", {data.__name__}>' for type_, data in events.EVENTS.items())
    return "\n".join(
        [
            HEAD,
            *_models(),
            *_events("Event"),
            _error_codes(),
            _alternatives("RoomEvent", room_events),
            *map(message_text, received),
            _alternatives(
                "PresenceEvent",
                ["RoomEvent", *(each.__name__ for each in received)],
                "The events of `presence.onEvent`: narrow them by `type`. `error` comes over event streams only, and "
                "answers no call.",
            ),
            _rule("inputs"),
            *inputs.values(),
            ON_EVENT,
            _rule("outputs"),
            *map(struct_text, RESULTS),
            _rule("the router"),
            ROUTER.replace("PROCEDURES\n", table),
        ]
    )


PROTOCOL = """/**
 * The models and events of the protocol (docs/protocol.md).
 *
 * Written by `make generate` from koko_presence/protocol.
 */
"""

HEAD = """/**
 * The type of the server's tRPC router, for `createTRPCClient<PresenceRouter>` of @trpc/client 11.
 *
 * Types only: no code of @trpc/server is added to your bundle. Written by `make generate` from koko_presence/protocol.
 * How to call it: docs/http.md.
 */
import type {
  TRPCBuiltRouter,
  TRPCDefaultErrorData,
  TRPCDefaultErrorShape,
  TRPCMutationProcedure,
  TRPCQueryProcedure,
  TRPCSubscriptionProcedure,
} from "@trpc/server";
"""

ON_EVENT = """export interface OnEventInput {
  /** Only this room's events, and those without a room. NOT_IN_ROOM if the session does not join the room in 2 s. */
  roomId?: string;
}
"""

ROUTER = """/** Fields of `error.data` besides those of tRPC. */
export interface PresenceErrorData extends TRPCDefaultErrorData {
  /** The server's own code, for example ROOM_FULL: docs/protocol.md lists them. */
  reason?: ErrorCode;
  /** Seconds to wait, for RATE_LIMITED and UNAVAILABLE. */
  retryAfter?: number;
  /** The room's playback, to which a client returns. */
  state?: PlaybackRow;
}

export interface PresenceErrorShape extends TRPCDefaultErrorShape {
  data: PresenceErrorData;
}

type Query<Input, Output> = TRPCQueryProcedure<{ meta: object; input: Input; output: Output }>;
type Mutation<Input, Output> = TRPCMutationProcedure<{ meta: object; input: Input; output: Output }>;
type Subscription<Input, Output> = TRPCSubscriptionProcedure<{
  meta: object;
  input: Input;
  output: AsyncIterable<Output, void, unknown>;
}>;

/** Set `transformer` to true for a client that uses superjson: the server answers as it is asked. */
export type PresenceRouterOf<Transformer extends boolean> = TRPCBuiltRouter<
  { ctx: object; meta: object; errorShape: PresenceErrorShape; transformer: Transformer },
  {
    presence: {
PROCEDURES
      onEvent: Subscription<OnEventInput | void, PresenceEvent>;
    };
  }
>;

export type PresenceRouter = PresenceRouterOf<false>;
"""
