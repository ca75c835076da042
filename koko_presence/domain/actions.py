"""Which rule handles which message of a member. Adding a message type adds a line here."""

from collections.abc import Callable

from koko_presence.messages import (
    Broadcast,
    ControlCancel,
    ControlDeny,
    ControlGrant,
    ControlRelease,
    ControlRequest,
    CursorMessage,
    PlaybackMessage,
    SelectionMessage,
    Typing,
)

from . import showing, watching

ACTIONS: dict[type, Callable[..., showing.Result]] = {
    CursorMessage: showing.handle_cursor,
    SelectionMessage: showing.handle_selection,
    Typing: showing.handle_typing,
    Broadcast: showing.handle_broadcast,
    PlaybackMessage: watching.handle_playback,
    ControlRequest: watching.handle_control_request,
    ControlGrant: watching.handle_control_grant,
    ControlDeny: watching.handle_control_deny,
    ControlRelease: watching.handle_control_release,
    ControlCancel: watching.handle_control_cancel,
}
