"""Writes TypeScript declarations from the Structs of `koko_presence.protocol`."""

import textwrap
from collections.abc import Iterable
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from msgspec import Raw, Struct, UnsetType

from koko_presence.protocol import events, models, procedures
from koko_presence.protocol.messages import MESSAGES, ClientMessage, data_struct
from koko_presence.protocol.procedures import Procedure, RoomTarget, Target

from .texts import Field, bare, fields_of, marks, own_fields, parts, text_of

WIDTH = 120
ALIASES = {
    "RoomType": models.RoomType,
    "Status": models.Status,
    "Activity": models.Activity,
    "PlaybackAction": models.PlaybackAction,
    "LeaveReason": events.LeaveReason,
}
MODELS: list[type[Struct]] = [
    models.Cursor, models.Selection, models.ViewerState, models.PlaybackRow, models.SyncRow, models.PresenceUser,
    models.ControlRequestRow, models.PresenceRoom, models.Privacy,
]  # fmt: skip
RESULTS: list[type[Struct]] = [
    procedures.JoinResult, procedures.ActiveResult, procedures.HeartbeatResult, procedures.Success,
    procedures.LeaveResult, procedures.StatusResult, procedures.PlaybackResult, procedures.RequestControlResult,
    procedures.GrantControlResult, procedures.BroadcastResult, procedures.PrivacyResult,
]  # fmt: skip


def type_text(type_: Any) -> str:
    """Return a Python annotation as a TypeScript type."""
    for name, alias in ALIASES.items():
        if type_ == alias:
            return name
    for mark in marks(type_):
        schema = mark.extra_json_schema or {}
        if "enum" in schema:
            return _union(f'"{value}"' for value in schema["enum"])
        if "const" in schema:
            return str(schema["const"]).lower()
        if "of" in (mark.extra or {}):
            return type_text(mark.extra["of"])
    type_ = bare(type_)
    if get_origin(type_) is Literal:
        return _union(f'"{value}"' for value in get_args(type_))
    members = parts(type_)
    if len(members) > 1:
        kept = [each for each in members if each not in (UnsetType, Raw, NoneType)]
        return _union([*map(type_text, kept), *(["null"] if NoneType in members else [])])
    if get_origin(type_) is list:
        return f"{type_text(get_args(type_)[0])}[]"
    if type_ is Raw or get_origin(type_) is dict:
        return "Record<string, unknown>"
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
    lines = textwrap.wrap(text, WIDTH - len(indent) - 3, break_long_words=False, break_on_hyphens=False)
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
    extends = [base.__name__ for base in struct.__bases__ if base in (Target, RoomTarget, procedures.Success)]
    fields = own_fields(struct) if extends else fields_of(struct)
    text = "" if struct.__name__ in UNDOCUMENTED else text_of(struct)
    body = head + "".join(field_text(field) for field in fields if not (head and field.name == "id"))
    return interface(struct.__name__, body, text=text, extends=extends)


def message_text(message: type[Struct]) -> str:
    """Return a message of the server that is no event."""
    return struct_text(message, f'  type: "{message.__struct_config__.tag}";\n')


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


# --- the file of the router ---------------------------------------------------------------------------------------

UNDOCUMENTED = {
    "Cursor", "Selection", "ViewerState", "SyncRow", "ControlRequestRow", "PresenceRoom", "Privacy", "Joined",
    "StatusShown", "PlaybackSynced", "HeartbeatInput", "HeartbeatResult",
}  # fmt: skip
EVENT_INTERFACES = [
    "Joined",
    "CursorShown",
    "SelectionShown",
    "StatusShown",
    "PlaybackSynced",
    "ControlGranted",
    "ViewerSync",
]
EVENT_ORDER = [
    "user_joined",
    "user_left",
    "cursor_moved",
    "selection_changed",
    "typing_started",
    "typing_stopped",
    "status_changed",
    "playback_synced",
    "viewer_sync",
    "control_requested",
    "control_granted",
    "control_denied",
    "control_released",
    "broadcast",
]
NOTICES = ["Authenticated", "JoinedReply", "LeftReply", "AuthExpiring", "Kicked", "ServerNotice"]


def _rule(title: str) -> str:
    return f"// --- {title} ".ljust(WIDTH, "-") + "\n"


def event_union() -> str:
    lines = []
    for name in EVENT_ORDER:
        data = events.EVENTS[name]
        if data is events.BroadcastSent:
            shown = "Record<string, unknown>"
        elif data.__name__ in EVENT_INTERFACES:
            shown = data.__name__
        else:
            shown = "{ " + "; ".join(field_text(each).strip()[:-1] for each in fields_of(data)) + " }"
        lines.append(f'\n  | Event<"{name}", {shown}>')
    return f"export type RoomEvent ={''.join(lines)};\n"


def router() -> str:
    """Return presence-router.d.ts."""
    inputs = {"Target": struct_text(Target), "RoomTarget": struct_text(RoomTarget)}
    table = ""
    pairs = [(message, procedure) for message in MESSAGES.values() for procedure in message.procedures]
    for message, procedure in pairs:
        name, text = input_of(message, procedure)
        if text:
            inputs[name] = text
        optional = procedure.input is not None and all(field.optional for field in fields_of(procedure.input))
        given = f"{name} | void" if optional else name
        table += f"      {procedure.name}: {procedure.kind.title()}<{given}, {procedure.returns.__name__}>;\n"
    typing = inputs.pop("TypingInput")
    inputs = dict(
        x for k, v in inputs.items() for x in ([("TypingInput", typing), (k, v)] if k == "SetStatusInput" else [(k, v)])
    )
    envelope = "".join(
        field_text(field) if field.name not in ("type", "data") else f"  {field.name}: {field.name.title()};\n"
        for field in fields_of(events.Event)
    )
    results = [struct_text(each) for each in RESULTS]
    pr = next(i for i, r in enumerate(RESULTS) if r.__name__ == "PlaybackResult")
    results[pr] = interface(
        "PlaybackResult",
        "  syncEnabled?: boolean;\n",
        text=text_of(procedures.PlaybackResult),
        extends=["Success", "Partial<PlaybackRow>"],
    )
    return "\n".join(
        [
            HEAD,
            _rule("models"),
            "".join(f"export type {name} = {_alias(type_)};\n" for name, type_ in ALIASES.items()),
            *map(struct_text, MODELS),
            _rule("events"),
            interface("Event<Type extends string, Data>", envelope, text=text_of(events.Event)),
            *(struct_text(getattr(events, each)) for each in EVENT_INTERFACES),
            event_union(),
            *(message_text(getattr(events, each)) for each in NOTICES),
            comment("The events of `presence.onEvent`: narrow them by `type`.")
            + f"export type PresenceEvent ={''.join(f'{chr(10)}  | {each}' for each in ['RoomEvent', *NOTICES])};\n",
            _rule("inputs"),
            *inputs.values(),
            ON_EVENT,
            _rule("outputs"),
            *results,
            _rule("the router"),
            ROUTER.replace("PROCEDURES\n", table),
        ]
    )


def _alias(type_: Any) -> str:
    """Return what an alias stands for."""
    if get_origin(type_) is Literal:
        return _union(f'"{value}"' for value in get_args(type_))
    return _union(f'"{value}"' for mark in marks(type_) for value in (mark.extra_json_schema or {})["enum"])


HEAD = """/**
 * The type of the server's tRPC router, for `createTRPCClient<PresenceRouter>` of @trpc/client 11.
 *
 * Types only: no code of @trpc/server is added to your bundle. A test compares every field here with the server's own
 * definitions. How to call it: docs/http.md.
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
  /** Only this room's events, and those without a room. */
  roomId?: string;
}
"""

ROUTER = """/** Fields of `error.data` besides those of tRPC. */
export interface PresenceErrorData extends TRPCDefaultErrorData {
  /** The server's own code, for example ROOM_FULL: docs/protocol.md lists them. */
  reason?: string;
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
