"""The client's state of a room: a snapshot, to which every event is applied in order. `RoomState` is its only
writer."""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, structs

from koko_presence.protocol.models import MAIN

from .models import (
    ControlDenied,
    ControlGranted,
    ControlReleased,
    ControlRequested,
    ControlRequestRow,
    Cursor,
    CursorMoved,
    Joined,
    MediaChanged,
    Medium,
    Playback,
    PlaybackSynced,
    PresenceChanged,
    Rights,
    RoomChanged,
    RoomSettings,
    Selection,
    SelectionChanged,
    StatusChanged,
    TypingStarted,
    TypingStopped,
    User,
    UserChanged,
    UserJoined,
    UserLeft,
    ViewerState,
    ViewerSync,
)


class RoomState:
    """The state of one room. `users` has a row for each session, `people` groups them by user [C7]. The server does not
    send a session its own cursor, selection and typing, so in the own row these are those of the last snapshot [B9]."""

    def __init__(self, room_id: str) -> None:
        self.id = room_id
        self.type = ""
        self.users: dict[str, User] = {}
        self.playback: Playback | None = None
        self.media: dict[str, Medium] = {}
        self.sync_enabled = False
        self.settings = RoomSettings()  # of the application's back end; None for what has its default
        self.controller: str | None = None
        self.controller_session_id: str | None = None
        self.requests: dict[str, ControlRequestRow] = {}
        self.synced: tuple[int, int] | None = None
        self.color = ""
        self.seq = 0
        self.session_id = ""
        self.rights: Rights | None = None
        self.send_interval_ms = 0
        self.created_at = ""

    @property
    def people(self) -> dict[str, list[User]]:
        """The sessions by user id, in the order in which they joined."""
        found: dict[str, list[User]] = {}
        for user in self.users.values():
            found.setdefault(user.user_id, []).append(user)
        return found

    @property
    def others(self) -> list[User]:
        """All sessions except this client's own."""
        return [user for session_id, user in self.users.items() if session_id != self.session_id]

    def replace(self, joined: Joined) -> None:
        """Replace the whole state by a snapshot [C4]."""
        room = joined.room
        self.type = room.type
        self.users = {user.session_id: user for user in room.users}
        self.playback = room.playback
        self.media = room.media or {}
        self.sync_enabled = room.sync_enabled
        self.settings = room.settings or RoomSettings()
        self.controller, self.controller_session_id = room.controller, room.controller_session_id
        self.requests = {request.user_id: request for request in room.control_requests}
        self.synced = None
        self.color = joined.assigned_color
        self.seq = joined.seq
        self.session_id = joined.session_id
        self.rights = joined.rights
        self.send_interval_ms = joined.send_interval_ms
        self.created_at = room.created_at

    def fold(self, event: Any) -> None:
        """Apply an event of this room. One of an unknown session or type changes only `seq`."""
        fold = _FOLDS.get(type(event))
        if fold is not None:
            fold(self, event)
        if event.seq is not None:
            self.seq = event.seq

    # --- one method per event ----------------------------------------------------------------------------------------

    def _user_joined(self, event: UserJoined) -> None:
        data = event.data
        self.users[event.session_id] = User(
            user_id=event.user_id,
            session_id=event.session_id,
            name=data.name,
            image=data.image,
            color=data.color,
            status=data.status,
            status_message=data.status_message,
            activity=data.activity,
            connected=True,
            last_active_at=event.timestamp,
            room_id=self.id,
            room_type=self.type,
            index=data.index,
            is_typing=False,
            is_watching=False,
            transport=data.transport,
            presence=data.presence,
        )

    def _user_changed(self, event: UserChanged) -> None:
        for user in self.users.values():
            if user.user_id == event.user_id:
                user.name, user.image = event.data.name, event.data.image
        request = self.requests.get(event.user_id)
        if request is not None:
            self.requests[event.user_id] = structs.replace(request, requester_name=event.data.name)

    def _user_left(self, event: UserLeft) -> None:
        self.users.pop(event.session_id, None)
        if event.data.session_count == 0:
            self.requests.pop(event.user_id, None)

    def _cursor_moved(self, event: CursorMoved) -> None:
        user = self.users.get(event.session_id)
        if user is not None:
            user.cursor = None if event.data.hidden else event.data
            user.last_active_at = event.timestamp

    def _selection_changed(self, event: SelectionChanged) -> None:
        user = self.users.get(event.session_id)
        if user is not None:
            user.selection = None if event.data.cleared else event.data
            user.last_active_at = event.timestamp

    def _typing_started(self, event: TypingStarted) -> None:
        user = self.users.get(event.session_id)
        if user is not None:
            user.is_typing, user.typing_context = True, event.data.context
            user.last_active_at = event.timestamp

    def _typing_stopped(self, event: TypingStopped) -> None:
        user = self.users.get(event.session_id)
        if user is not None:
            user.is_typing, user.typing_context = False, None

    def _presence_changed(self, event: PresenceChanged) -> None:
        user = self.users.get(event.session_id)
        if user is not None:
            merged = (user.presence or {}) | event.data
            user.presence = {key: value for key, value in merged.items() if value is not None} or None

    def _status_changed(self, event: StatusChanged) -> None:
        data = event.data
        own = self.users.get(event.session_id)
        if own is not None:
            own.connected, own.is_watching = data.connected, data.is_watching
        for user in self.users.values():
            if user.user_id == event.user_id:
                user.status_message = data.status_message
                # the status away of a session in its grace period does not apply to the user's other sessions [D2]
                if user is own or (data.connected and user.connected):
                    user.status, user.activity = data.status, data.activity

    def _playback_synced(self, event: PlaybackSynced) -> None:
        data = event.data
        self.sync_enabled = data.sync_enabled
        if self.playback is not None and data.version < self.playback.version:
            return
        self.playback = Playback(
            is_playing=data.is_playing,
            current_time=data.current_time,
            playback_rate=data.playback_rate,
            anchor=data.server_time,
            version=data.version,
            duration=data.duration,
            target=data.target,
            frame=data.frame,
            frame_target=data.frame_target,
            ended=data.ended,
        )

    def _media_changed(self, event: MediaChanged) -> None:
        data = event.data
        before = self.media.get(data.target)
        if before is not None and (data.medium is None or data.medium.media_id != before.media_id):
            self._keep_places(data.target, before.media_id)
        if data.medium is None:
            self.media.pop(data.target, None)
        else:
            self.media[data.target] = data.medium
        if self.playback is None or data.playback.version >= self.playback.version:
            self.playback = data.playback

    def _keep_places(self, target: str, media_id: str) -> None:
        """Note the medium of cursors and selections that name none: they were made in the one that is replaced now
        [H19]."""
        for user in self.users.values():
            if user.cursor is not None and _is_unnamed(user.cursor, target):
                user.cursor = structs.replace(user.cursor, media_id=media_id)
            if user.selection is not None and _is_unnamed(user.selection, target):
                user.selection = structs.replace(user.selection, media_id=media_id)

    def _control_requested(self, event: ControlRequested) -> None:
        self.requests[event.user_id] = ControlRequestRow(
            user_id=event.user_id, requester_name=event.data.requester_name, requested_at=event.timestamp
        )

    def _control_granted(self, event: ControlGranted) -> None:
        self.controller, self.controller_session_id = event.data.to_user_id, event.data.controller_session_id
        self.requests.pop(event.data.to_user_id, None)

    def _control_denied(self, event: ControlDenied) -> None:
        self.requests.pop(event.data.to_user_id, None)

    def _control_released(self, event: ControlReleased) -> None:
        self.controller = self.controller_session_id = None

    def _room_changed(self, event: RoomChanged) -> None:
        changed = {name: value for name, value in structs.asdict(event.data).items() if value is not UNSET}
        self.settings = structs.replace(self.settings, **changed)

    def _viewer_synced(self, event: ViewerSync) -> None:
        data = event.data
        self.synced = (data.synced, data.total)
        user = self.users.get(event.session_id)
        if user is not None:
            user.viewer_sync = ViewerState(state=data.state, drift_ms=data.drift_ms, drift_frames=data.drift_frames)


def _is_unnamed(place: Cursor | Selection, target: str) -> bool:
    """Return whether a cursor or selection is in this target, and does not say in which medium."""
    return place.media_id is None and (place.target or MAIN) == target


_FOLDS: dict[type, Callable[[RoomState, Any], None]] = {
    UserJoined: RoomState._user_joined,
    UserChanged: RoomState._user_changed,
    UserLeft: RoomState._user_left,
    CursorMoved: RoomState._cursor_moved,
    SelectionChanged: RoomState._selection_changed,
    TypingStarted: RoomState._typing_started,
    TypingStopped: RoomState._typing_stopped,
    PresenceChanged: RoomState._presence_changed,
    StatusChanged: RoomState._status_changed,
    PlaybackSynced: RoomState._playback_synced,
    MediaChanged: RoomState._media_changed,
    ControlRequested: RoomState._control_requested,
    ControlGranted: RoomState._control_granted,
    ControlDenied: RoomState._control_denied,
    ControlReleased: RoomState._control_released,
    RoomChanged: RoomState._room_changed,
    ViewerSync: RoomState._viewer_synced,
}
