"""Decodes the bytes of a client's text message into its Struct, or into an error that names the fault [L6].

The typed decoder takes valid messages. A message that it refuses is decoded a second time, without types, to find the
error code, the id and the room that the error belongs to. The module holds no state.
"""

from typing import Any, Union

import msgspec
from msgspec import Raw, Struct

from .errors import PresenceError
from .messages import MESSAGES, ClientMessage


class BadMessage(PresenceError):
    """A message that cannot be accepted, with as much of its `id`, `room_id` and `type` as could be read [B8, L6]."""

    def __init__(self, code: str, message: str = "", *, id: Any = None, room_id: str | None = None, type: str = "?"):
        super().__init__(code, message)
        self.id, self.room_id, self.type = id, room_id, type


_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(
    Union[tuple(MESSAGES.values())]  # noqa: UP007
)
_any_decoder = msgspec.json.Decoder()


def decode(data: bytes) -> ClientMessage:
    """Decode one client message from `data`, a complete text message of valid UTF-8. Errors: `BadMessage` with a code
    of L6."""
    try:
        return _client_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(data, error) from None


def _explained(data: bytes, error: Exception) -> BadMessage:
    """Return the error for a message that the typed decoder refused. This slow path runs for invalid messages only."""
    if isinstance(error, RecursionError):
        return BadMessage("INVALID_JSON", "The message is nested too deeply.")
    if not isinstance(error, msgspec.ValidationError):
        return BadMessage("INVALID_JSON", f"The message is not valid JSON: {error}.")
    try:
        message = _without_types(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        return BadMessage("INVALID_JSON", f"The message is not valid JSON: {worse}.")
    if not isinstance(message, dict):
        return BadMessage("INVALID_MESSAGE", "A message is a JSON object with a type.")
    type_, room_id, id_ = message.get("type"), message.get("roomId"), message.get("id")
    address: dict[str, Any] = {
        "id": id_ if _is_message_id(id_) else None,
        "room_id": room_id if isinstance(room_id, str) and 0 < len(room_id) <= 128 else None,
    }
    if not isinstance(type_, str):
        return BadMessage("INVALID_MESSAGE", 'A message needs a type, as in {"type":"heartbeat"}.', **address)
    if type_ not in MESSAGES:
        return BadMessage("UNKNOWN_TYPE", f"There is no message of type {type_[:64]!r}.", **address)
    address["type"] = type_
    text = str(error)
    if any(part in text for part in ("`$.data", "field `data`", "`$.presence")):
        return BadMessage("INVALID_DATA", f"{text}.", **address)
    return BadMessage("INVALID_MESSAGE", f"{text}.", **address)


class _Address(Struct):
    """The fields that are still readable in a message that holds a number out of range for every decoder."""

    type: Raw = Raw(b"null")
    id: Raw = Raw(b"null")
    roomId: Raw = Raw(b"null")


def _without_types(data: bytes) -> Any:
    try:
        return _any_decoder.decode(data)
    except msgspec.ValidationError:
        pass  # a number that no decoder accepts; `type`, `id` and `roomId` may still be readable
    found = msgspec.json.decode(data, type=_Address)
    values = {}
    for name in ("type", "id", "roomId"):
        try:
            values[name] = _any_decoder.decode(getattr(found, name))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            values[name] = None
    return values


def _is_message_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 64
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


MAX_DATA_DEPTH = 8
_POISONED_KEYS = frozenset(("__proto__", "constructor", "prototype"))


def check_free_data(data: Raw) -> None:
    """Check the data of a broadcast: a JSON object with finite numbers that `check_free_object` accepts.

    `Raw` is not decoded by msgspec: an escaped lone surrogate, 1e400 or `__proto__` would be sent to every member
    [B14, J1]. Errors: `PresenceError` INVALID_DATA.
    """
    try:
        value = _any_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PresenceError("INVALID_DATA", f"data cannot be relayed: {error}.") from None
    if not isinstance(value, dict):
        raise PresenceError("INVALID_DATA", "A broadcast's data is a JSON object.")
    check_free_object(value)


def check_free_object(value: dict[str, Any]) -> None:
    """Check an object of the application, decoded JSON: at most `MAX_DATA_DEPTH` levels, and no key that changes a
    JavaScript prototype. Errors: `PresenceError` INVALID_DATA."""
    level: list[Any] = [value]
    for _ in range(MAX_DATA_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise PresenceError("INVALID_DATA", f"data is nested deeper than {MAX_DATA_DEPTH} levels.")


def encode_presence(data: dict[str, Any]) -> bytes:
    """Return a presence object as compact JSON, without keys that have null [P1]."""
    return msgspec.json.encode({key: value for key, value in data.items() if value is not None})


def check_presence(data: dict[str, Any], max_bytes: int) -> None:
    """Check the presence object of a join. Errors: `PresenceError` INVALID_DATA, TOO_LARGE [P4]."""
    check_free_object(data)
    if len(encode_presence(data)) > max_bytes:
        raise presence_too_large(max_bytes)


def presence_too_large(max_bytes: int) -> PresenceError:
    """Return the error for a presence object that would be larger than the limit [P4]."""
    return PresenceError("TOO_LARGE", f"A presence object may have {max_bytes} bytes as JSON.")


def _children(item: Any) -> list[Any]:
    if isinstance(item, dict):
        if not _POISONED_KEYS.isdisjoint(item):
            raise PresenceError("INVALID_DATA", "data holds a key that JavaScript treats specially.")
        return [value for value in item.values() if isinstance(value, (dict, list))]
    return [value for value in item if isinstance(value, (dict, list))]
