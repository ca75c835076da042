"""Maps each message type of a member to its handler. A new message type adds a line here."""

from collections.abc import Callable

from koko_presence.protocol.messages import (
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

from . import playback_sync, presence_state

ACTIONS: dict[type, Callable[..., presence_state.Result]] = {
    CursorMessage: presence_state.handle_cursor,
    SelectionMessage: presence_state.handle_selection,
    Typing: presence_state.handle_typing,
    Broadcast: presence_state.handle_broadcast,
    PlaybackMessage: playback_sync.handle_playback,
    ControlRequest: playback_sync.handle_control_request,
    ControlGrant: playback_sync.handle_control_grant,
    ControlDeny: playback_sync.handle_control_deny,
    ControlRelease: playback_sync.handle_control_release,
    ControlCancel: playback_sync.handle_control_cancel,
}
