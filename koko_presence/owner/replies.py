"""Answers an HTTP call with one `CallAnswered` to the edge where it waits [M5, M9]."""

from typing import Any

from koko_presence.protocol.commands import Call
from koko_presence.protocol.edge_messages import CallAnswered
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import encode, error_reply
from koko_presence.rooms.context import ShardContext


def answer(context: ShardContext, call: Call, result: Any) -> None:
    """Answer a call that has succeeded; msgspec encodes `result`."""
    context.add_effect((call.edge, CallAnswered(number=call.number, payload=encode(result))))


def refuse(context: ShardContext, call: Call, error: PresenceError, room_id: str | None = None) -> None:
    """Answer a call that has failed."""
    payload = error_reply(error, None, room_id)
    context.add_effect((call.edge, CallAnswered(number=call.number, payload=payload, refused=True)))
