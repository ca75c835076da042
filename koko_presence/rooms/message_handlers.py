"""Registers the handlers of members' messages: functions of (room, member, message, now) with the decorator
`handles`."""

from .handler_table import HandlerTable

# The fields of a message's acknowledgement [M5]; None for kinds that are not acknowledged over a socket.
Result = dict[str, object] | None

MESSAGE_HANDLERS = HandlerTable()
handles = MESSAGE_HANDLERS.handles
