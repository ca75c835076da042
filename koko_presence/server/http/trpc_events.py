"""Manages one socket's `presence.onEvent` subscriptions, and wraps a session's messages in their envelopes [M6].

Pure: bytes in, bytes out. `Subscriptions` writes the set of live subscriptions. `started` is the first message of a
subscription.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import SERVER_MESSAGES
from koko_presence.protocol.models import RoomId

from . import trpc
from .trpc import Input, TrpcError

MAX_SUBSCRIPTIONS = 8  # each gets a copy of every event
ROOM_WAIT_S = 2.0  # for the join of the room of a subscription: it may be sent behind it
NOT_IN_ROOM = trpc.from_presence(
    PresenceError("NOT_IN_ROOM", "The session of this subscription is not in the room. Join it for this session first.")
)
# answers of calls: not delivered, because each call has an answer of its own
_ANSWERS = frozenset(type_ for type_, each in SERVER_MESSAGES.items() if not each.subscribed and type_ != "error")

Id = int | str


class EventHead(msgspec.Struct, rename="camel"):
    """The fields of a session's message that select its subscriptions."""

    type: str
    id: Any = None
    room_id: str | UnsetType = UNSET


class Filter(msgspec.Struct, rename="camel"):
    """The input of presence.onEvent."""

    room_id: RoomId | UnsetType = UNSET


_event_heads = msgspec.json.Decoder(EventHead)


class Event(NamedTuple):
    """A message of the session for its subscriptions, and the fields that select them."""

    head: EventHead
    payload: bytes

    def is_for(self, room_id: str | UnsetType) -> bool:
        """True for a subscription of this room; UNSET subscribes to all rooms."""
        return room_id is UNSET or self.head.room_id is UNSET or self.head.room_id == room_id


class _Params(msgspec.Struct):
    path: Raw = Raw(b"null")
    input: Raw = Raw(b"null")


class _Request(msgspec.Struct):
    """The fields of a request needed to refuse it; its input is not decoded."""

    id: Raw
    params: _Params


class _Superjson(msgspec.Struct, forbid_unknown_fields=True):
    """superjson's wrapper [M6]."""

    json: Raw
    meta: Raw = Raw(b"null")


_list = msgspec.json.Decoder(list[Raw])
_request = msgspec.json.Decoder(_Request)
_superjson = msgspec.json.Decoder(_Superjson)


class Subscription(NamedTuple):
    """One live subscription: of one room, or of all rooms when `room_id` is UNSET."""

    room_id: str | UnsetType
    wrapped: bool


class Subscriptions:
    """The subscriptions of one socket. `authenticated` is the session's message of that type, once it has been sent,
    `failure` its last error that answers no call. Written by its `TrpcSocket`."""

    __slots__ = ("_live", "authenticated", "failure")

    def __init__(self) -> None:
        self._live: dict[Id, Subscription] = {}
        self.authenticated: bytes | None = None
        self.failure: TrpcError | None = None

    @property
    def is_delivering(self) -> bool:
        """True when at least one subscription gets events."""
        return bool(self._live)

    def add(self, id_: Id, given: Input) -> list[bytes]:
        """Add a subscription and return its first messages: `started`, and the event `authenticated` of an open
        session. Errors: TrpcError BAD_REQUEST."""
        room_id = read_filter(given).room_id
        if id_ in self._live:
            raise TrpcError("BAD_REQUEST", f"Duplicate id {id_}")
        if len(self._live) >= MAX_SUBSCRIPTIONS:
            raise TrpcError("BAD_REQUEST", f"A socket may have {MAX_SUBSCRIPTIONS} subscriptions.")
        subscription = self._live[id_] = Subscription(room_id, given.wrapped)
        started = trpc.encode({"id": id_, "result": {"type": "started"}})
        return [started] if self.authenticated is None else [started, _event(id_, subscription, self.authenticated)]

    def stop(self, id_: Id) -> bytes | None:
        """Remove a subscription and return its `stopped`; None when there is no such subscription."""
        if self._live.pop(id_, None) is None:
            return None
        return trpc.encode({"id": id_, "result": {"type": "stopped"}})

    def of_rooms(self) -> list[tuple[Id, str, bool]]:
        """The subscriptions of one room: id, room, and whether superjson wraps it."""
        return [(id_, each.room_id, each.wrapped) for id_, each in self._live.items() if each.room_id is not UNSET]

    def end(self, id_: Id) -> None:
        """Remove a subscription that has ended with an error."""
        self._live.pop(id_, None)

    def take_all(self) -> list[tuple[Id, bool]]:
        """Remove all subscriptions and return their ids, each with whether superjson wraps it."""
        live, self._live = self._live, {}
        return [(id_, each.wrapped) for id_, each in live.items()]

    def clear(self) -> None:
        """Remove all subscriptions; the socket is closed."""
        self._live.clear()

    def translate(self, message: bytes) -> list[bytes]:
        """The envelopes for one message of the session: one for each subscription that selects it."""
        event = read_event(message)
        if event is None:
            return []
        if event.head.type == "error":
            self.failure = error_of(event.payload)
            return [trpc.encode({"id": None, "error": self.failure.shape(None)})]
        if event.head.type == "authenticated":
            self.authenticated = event.payload
        return [_event(id_, each, event.payload) for id_, each in self._live.items() if event.is_for(each.room_id)]


def read_event(message: bytes) -> Event | None:
    """The event of a session's message, without the id of the message that it answers; None for the answer to a call,
    errors included."""
    head = _event_heads.decode(message)
    if head.type in _ANSWERS or (head.type == "error" and head.id is not None):
        return None
    return Event(head, message if head.id is None else _without_id(message))


def read_filter(given: Input) -> Filter:
    """The input of presence.onEvent. Errors: TrpcError BAD_REQUEST."""
    if given.value is UNSET or given.value is None:
        return Filter()
    try:
        return msgspec.convert(given.value, Filter)
    except msgspec.ValidationError as error:
        raise TrpcError("BAD_REQUEST", f"{error}.") from None


def id_of(message: Any) -> Id | None:
    """A request's id; None for a missing or invalid one."""
    value = message.get("id") if isinstance(message, dict) else None
    if isinstance(value, str):
        return value if len(value) <= 64 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53 else None


def requests_of(data: bytes) -> Iterator[tuple[Id, str | None, bool]]:
    """Id, path and whether its input is wrapped, for each request of a message that is refused as a whole. Skips
    whatever is no request or no JSON."""
    try:
        requests = _list.decode(data) if data.lstrip()[:1] == b"[" else [data]
    except (msgspec.DecodeError, RecursionError):
        return
    for raw in requests:
        try:
            request = _request.decode(raw)
            id_ = id_of({"id": _short(request.id)})
            path = _short(request.params.path)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if id_ is not None:
            yield id_, path if isinstance(path, str) else None, _is_superjson(request.params.input)


def _short(raw: Raw) -> Any:
    """Decode a value of at most 1 KiB, as ids and paths are; None for a longer one."""
    return msgspec.json.decode(raw) if len(bytes(raw)) <= 1024 else None


def _is_superjson(raw: Raw) -> bool:
    try:
        _superjson.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _event(id_: Id, subscription: Subscription, payload: bytes) -> bytes:
    data = b'{"json":%b}' % payload if subscription.wrapped else payload
    return b'{"id":%b,"result":{"type":"data","data":%b}}' % (trpc.encode(id_), data)


def _without_id(payload: bytes) -> bytes:
    fields = msgspec.json.decode(payload, type=dict[str, Raw])
    del fields["id"]
    return trpc.encode(fields)


def error_of(payload: bytes) -> TrpcError:
    """Convert a session's error message to its tRPC error."""
    fields: Mapping[str, Any] = msgspec.json.decode(payload)
    error = PresenceError(fields["code"], fields["message"], state=fields.get("state"))
    error.retry_after_ms = fields.get("retryAfterMs")
    return trpc.from_presence(error)
