"""A room of which the client is a member: its state, the client's actions in it, and its callbacks and streams.

`Room` writes the state of the client's own actions; `RoomState`, its base, writes the state from the server's messages,
in their order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol
from weakref import WeakSet

import msgspec
from msgspec import UNSET, Raw, structs

from koko_presence.protocol.messages import (
    Broadcast,
    ControlCancel,
    ControlDeny,
    ControlGrant,
    ControlRelease,
    ControlRequest,
    CursorMessage,
    Leave,
    MediaData,
    MediaMessage,
    PlaybackData,
    PlaybackMessage,
    PresenceMessage,
    RoomMessage,
    SelectionMessage,
    ToUser,
    Typing,
    TypingData,
)
from koko_presence.protocol.models import (
    MAIN,
    MAX_MEDIA_TIME_S,
    Cursor,
    Known,
    PlaybackAction,
    Privacy,
    RoomType,
    Selection,
    in_medium,
)

from .errors import PresenceOffline, PresenceRefused
from .listeners import Callback, EventStream, Listeners, Undo
from .models import Joined, MediaChanged, Medium, Playback
from .state import RoomState
from .timing import Pacer, ServerClock, Slot

TYPING_LIFETIME_S = 5.0  # the server ends typing after it [G1]; an older start is not sent
TYPING_INTERVAL_S = 0.5  # [Message Throttling]
FRESH_MS = 2000  # a playback command or report that arrives later does not count [H4]
REPORT_STEADY_S, REPORT_CHANGE_S = 1.0, 0.2  # [H6]


class Client(Protocol):
    """The client that has joined the room."""

    cursors: Pacer
    selections: Pacer
    singles: Pacer
    clock: Callable[[], float]
    server_clock: ServerClock

    def server_now_ms(self) -> float: ...

    def forget(self, room: Room) -> None: ...

    async def ask(self, message: Any, room: Room | None = None, *, repeat: bool = False) -> Any: ...


class Room(RoomState):
    """Made by `client.join`. Awaited calls raise `PresenceRefused` when the server refuses them and `PresenceOffline`
    without an answer. Calls that are not awaited (cursor, selection, typing, report) do not block and are coalesced:
    the newest value is sent when its rate and the connection permit."""

    def __init__(self, client: Client, room_id: str, room_type: RoomType | None, privacy: Privacy | None) -> None:
        super().__init__(room_id)
        self.joined = False
        self.heard_at_ms: float | None = None  # server time of the last message before the connection was lost
        self.ended: Exception | None = None
        self.was_joined = False
        self.entering: asyncio.Future[Any] | None = None
        self.requested_type = room_type
        self.requested_privacy = privacy
        self.presence: dict[str, Any] = {}  # the own presence object, as the server has confirmed it
        self.listeners = Listeners()
        self._client = client
        self._cursor = Slot(client.cursors, client.cursors.gap_s)
        self._selection = Slot(client.selections, client.selections.gap_s)
        self._typing = Slot(client.singles, TYPING_INTERVAL_S)
        self._report = Slot(client.singles, REPORT_STEADY_S)
        self._streams: WeakSet[EventStream] = WeakSet()
        self._lasting: dict[Slot, CursorMessage | SelectionMessage] = {}  # shown again after a reconnect
        self._slots = (self._cursor, self._selection, self._typing, self._report)
        self._reported: tuple[Any, ...] = ()

    # --- listening ---------------------------------------------------------------------------------------------------

    def on(self, event_type: str, callback: Callback) -> Undo:
        """Call `callback(event)` for each event of a type, `*` for all. Besides those of the protocol there are
        `joined` (the room, at every new snapshot), `error` (a `PresenceRefused` that answers no awaited call) and
        `closed` (the cause, or None after `leave`). Returns a function that removes the callback."""
        return self.listeners.add(event_type, callback)

    def events(self, size: int = 1000) -> EventStream:
        """Return a stream of the events from now on, for `async for`; it ends with the membership."""
        stream = EventStream(size)
        if self.ended is not None:
            stream.end()
        self._streams.add(stream)
        return stream

    # --- coalesced values, not awaited ------------------------------------------------------------------------------

    def cursor(
        self, timestamp: float | None = None, x: float | None = None, y: float | None = None, target: str | None = None
    ) -> None:
        """Show the cursor at second `timestamp` of the video and at `x`, `y` in 0..1 of the picture; values out of
        range are clamped [E5]. Errors: ValueError for NaN, and for `x` without `y`."""
        cursor = Cursor(
            timestamp=_clamped(timestamp, MAX_MEDIA_TIME_S),
            x=_clamped(x, 1.0),
            y=_clamped(y, 1.0),
            target=UNSET if target is None else target,
        )
        self._show(self._cursor, CursorMessage(room_id=self.id, data=cursor), lasting=not cursor.hidden)

    def hide_cursor(self) -> None:
        """Hide the cursor [E3]."""
        self._show(self._cursor, CursorMessage(room_id=self.id, data=None), lasting=False)

    def selection(self, start_time: float, end_time: float, target: str | None = None) -> None:
        """Select a range of the timeline, in seconds of the video. Errors: ValueError when it ends before it starts."""
        start, end = _clamped(start_time, MAX_MEDIA_TIME_S), _clamped(end_time, MAX_MEDIA_TIME_S)
        selection = Selection(start_time=start, end_time=end, target=UNSET if target is None else target)
        self._show(self._selection, SelectionMessage(room_id=self.id, data=selection), lasting=True)

    def clear_selection(self) -> None:
        """Clear the selection [F1]."""
        self._show(self._selection, SelectionMessage(room_id=self.id, data=None), lasting=False)

    def typing(self, on: bool = True, context: str | None = None) -> None:
        """Show that the user types, for 5 s from the last call with True [G1], or has stopped."""
        message = Typing(room_id=self.id, data=TypingData(is_typing=on, context=UNSET if context is None else context))
        good_until = self._client.clock() + TYPING_LIFETIME_S if on else math.inf
        self._typing.render = lambda now: message if now < good_until else None
        self._offer(self._typing)

    def report(
        self,
        is_playing: bool,
        current_time: float,
        playback_rate: float = 1.0,
        *,
        buffering: bool = False,
        follow: bool = True,
    ) -> None:
        """Report the state of the local player, for "viewers synced" [H6]; `current_time` in seconds is its present
        position. A report is sent at most once a second, sooner after a change of the other values."""
        reported_at = self._client.clock()
        runs = is_playing and not buffering

        def render(now: float) -> PlaybackMessage:
            self._report.interval_s = REPORT_STEADY_S
            position = current_time + ((now - reported_at) * playback_rate if runs else 0.0)
            return PlaybackMessage(
                room_id=self.id,
                data=PlaybackData(
                    action="report",
                    is_playing=is_playing,
                    current_time=_clamped(position, MAX_MEDIA_TIME_S),
                    playback_rate=playback_rate,
                    at=self._at(),
                    max_age_ms=FRESH_MS,
                    buffering=buffering,
                    follow=follow,
                ),
            )

        report = (is_playing, playback_rate, buffering, follow)
        if report != self._reported:
            self._reported = report
            self._report.interval_s = REPORT_CHANGE_S
        self._report.render = render
        self._offer(self._report)

    def _show(self, slot: Slot, message: CursorMessage | SelectionMessage, *, lasting: bool) -> None:
        slot.render = lambda now: message
        if lasting:
            self._lasting[slot] = message
        else:
            self._lasting.pop(slot, None)
        self._offer(slot)

    def _keep_shown(self, before: Mapping[str, Medium]) -> None:
        """Note the medium of the shown cursor and selection where the room had another one `before`: they are sent
        again after a reconnect [H19]."""
        changed = {
            target: medium.media_id
            for target, medium in before.items()
            if target not in self.media or self.media[target].media_id != medium.media_id
        }
        for slot, message in list(self._lasting.items()):
            assert message.data is not None
            place: Any = message.data
            media_id = changed.get(place.target or MAIN)
            if media_id is not None:
                place = in_medium(place, place.target or MAIN, media_id)
                self._replace(slot, structs.replace(message, data=place))

    def _replace(self, slot: Slot, message: CursorMessage | SelectionMessage) -> None:
        self._lasting[slot] = message
        slot.render = lambda now: message

    def _offer(self, slot: Slot) -> None:
        slot.unsent = True
        if self.joined:
            slot.pacer.offer(slot)

    # --- requests -------------------------------------------------------------------------------------

    async def sync_playback(
        self,
        action: PlaybackAction,
        *,
        is_playing: bool | None = None,
        current_time: float | None = None,
        playback_rate: float | None = None,
        duration: float | None = None,
        base_version: int | None = None,
        target: str | None = None,
        start_delay_ms: int | Literal["auto"] | None = None,
        media_id: str | None = None,
        frames: int | None = None,
        max_age_ms: int | None = FRESH_MS,
    ) -> Playback | None:
        """Send a playback command: sync, play, pause, seek, rate, step, resync, enable or disable [H3, H21]; times are
        seconds of the video. `start_delay_ms` is for play: by how much later all players start, together [H10].
        `frames` is for step. A command that a network has held back for more than `max_age_ms` is STALE; None: it
        counts however late it arrives [H4]. Returns the room's playback after it. Errors: `PresenceRefused`, which has
        the room's `state` for NOT_CONTROLLER and STALE [H1, H16, H19]; `PresenceOffline`; ValueError when a field that
        the action needs is missing."""
        if action == "report":
            raise ValueError("a report is not awaited: call room.report(...)")
        data = PlaybackData(
            action=action,
            is_playing=UNSET if is_playing is None else is_playing,
            current_time=_clamped(current_time, MAX_MEDIA_TIME_S),
            playback_rate=UNSET if playback_rate is None else playback_rate,
            duration=UNSET if duration is None else duration,
            base_version=UNSET if base_version is None else base_version,
            target=UNSET if target is None else target,
            start_delay_ms=UNSET if start_delay_ms is None else start_delay_ms,
            media_id=UNSET if media_id is None else media_id,
            frames=UNSET if frames is None else frames,
            at=self._at(),
            max_age_ms=UNSET if max_age_ms is None else max_age_ms,
        )
        try:
            self._learn(await self.request(PlaybackMessage(room_id=self.id, data=data)))
        except PresenceRefused as refused:
            self._learn(refused.state)
            raise
        return self.playback

    async def set_media(
        self,
        media_id: str | None,
        *,
        target: str = MAIN,
        title: str | None = None,
        duration: float | None = None,
        frame_rate: float | str | None = None,
        offset: float | None = None,
        keep_position: bool = False,
        max_age_ms: int | None = FRESH_MS,
    ) -> None:
        """Set the medium of a target; None removes the target [H18]. `duration` and `offset` in seconds; `frame_rate` a
        number or a fraction such as "24000/1001". A message that a network has held back for more than `max_age_ms` is
        STALE; None: it counts however late it arrives [H4]. Errors: `PresenceRefused`, `PresenceOffline`; ValueError
        when values do not go together."""
        data = MediaData(
            target=target,
            media_id=media_id,
            title=UNSET if title is None else title,
            duration=UNSET if duration is None else duration,
            frame_rate=UNSET
            if frame_rate is None
            else float(frame_rate)
            if isinstance(frame_rate, int)
            else frame_rate,
            offset=UNSET if offset is None else offset,
            keep_position=keep_position,
            at=self._at(),
            max_age_ms=UNSET if max_age_ms is None else max_age_ms,
        )
        await self.request(MediaMessage(room_id=self.id, data=data))

    async def request_control(self) -> bool:
        """Request control. Returns True when it is granted at once, False when the request is pending [I1, I5]."""
        return (await self.request(ControlRequest(room_id=self.id))).get("granted") is True

    async def grant_control(self, user_id: str) -> None:
        """Grant control to another user of the room [I2]."""
        await self.request(ControlGrant(room_id=self.id, data=ToUser(to_user_id=user_id)))

    async def deny_control(self, user_id: str) -> None:
        """Deny another user's pending request for control [I5]."""
        await self.request(ControlDeny(room_id=self.id, data=ToUser(to_user_id=user_id)))

    async def release_control(self) -> None:
        """Release control [I5]."""
        await self.request(ControlRelease(room_id=self.id))

    async def cancel_request(self) -> None:
        """Cancel the user's own request for control [I5]."""
        await self.request(ControlCancel(room_id=self.id))

    async def broadcast(self, data: Mapping[str, Any], to: Iterable[str] | None = None) -> int:
        """Send an object of the application to all members, or to at most 20 users [J]. Returns the number of sessions
        to which it was sent."""
        raw = Raw(msgspec.json.encode(data))
        message = Broadcast(room_id=self.id, data=raw, to=None if to is None else list(to))
        return int((await self.request(message)).get("delivered", 0))

    async def set_presence(self, patch: Mapping[str, Any] | None) -> dict[str, Any]:
        """Change the session's presence object in the room: keys with None are removed, None alone removes all [P2].
        Returns the whole object, which is also `room.presence`; it is restored with a new session. Errors:
        `PresenceRefused` (TOO_LARGE, INVALID_DATA), `PresenceOffline`."""
        message = PresenceMessage(room_id=self.id, data=None if patch is None else dict(patch))
        if self.ended is None:
            self.presence = (await self._client.ask(message, self, repeat=True)).get("presence", {})
            return self.presence
        return dict((await self.request(message)).get("presence", {}))

    async def leave(self) -> None:
        """Leave the room. Without a connection it is removed here at once, and left on the server after a reconnect."""
        was_joined = self.joined
        if self.ended is None:
            self.end(None)
        if not was_joined:
            return
        try:
            await self._client.ask(Leave(room_id=self.id))
        except PresenceOffline:
            pass  # `on_online` leaves the rooms that the server still holds
        except PresenceRefused as refused:
            if refused.code != "NOT_IN_ROOM":
                raise

    async def request(self, message: RoomMessage) -> Any:
        """Send any message of `koko_presence.protocol.messages` to the room, also one without a method of its own here.
        Returns the acknowledgement. Errors: `PresenceRefused`, `PresenceOffline`."""
        if self.ended is not None:
            raise PresenceRefused(
                "NOT_IN_ROOM", f"This room is over ({self.ended}). Join it again.", room_id=self.id
            ) from self.ended
        return await self._client.ask(message, self)

    def _at(self) -> Any:
        return self._client.server_now_ms() if self._client.server_clock.known else UNSET

    def _learn(self, state: Any) -> None:
        """Store the playback of an answer or a refusal, when its version is newer."""
        if not isinstance(state, dict) or "anchor" not in state:
            return
        known = self.playback
        fresh = msgspec.convert(state, Playback)
        if known is None or fresh.version > known.version:
            self.playback = fresh

    @property
    def known(self) -> Known | None:
        """What the client knows of the room's playback, for a server that has lost it [H24]; None before the first
        command."""
        playback = self.playback
        if playback is None or playback.version == 0:
            return None
        fields = {name: value for name, value in msgspec.to_builtins(playback).items() if value is not None}
        media = {target: msgspec.to_builtins(medium) for target, medium in self.media.items()}
        for medium in media.values():
            for name in [name for name, value in medium.items() if value is None]:
                del medium[name]
        known: dict[str, Any] = {"playback": fields, "media": media}
        if self.heard_at_ms is not None:
            known["at"] = self.heard_at_ms
        return msgspec.convert(known, Known)

    # --- called by the client --------------------------------------------------------------------------------------

    def on_joined(self, joined: Joined) -> None:
        """A snapshot was received: replace the state, and send the shown and unsent values again."""
        media = self.media
        self.replace(joined)
        self._keep_shown(media)
        own = self.users.get(self.session_id)
        self.presence = dict(own.presence or {}) if own is not None else {}
        self.advise(joined.send_interval_ms)
        self.joined = self.was_joined = True
        for slot in self._slots:
            if slot.unsent or slot in self._lasting:
                slot.sent_at = -math.inf
                self._offer(slot)
        self.listeners.emit("joined", self)

    def advise(self, send_interval_ms: int) -> None:
        """Use the server's advised interval, in ms, for cursors and selections in this room [L2]."""
        self.send_interval_ms = send_interval_ms
        for slot in (self._cursor, self._selection):
            slot.interval_s = max(slot.pacer.gap_s, send_interval_ms / 1000.0)

    def on_event(self, event: Any) -> None:
        """Apply an event of this room, then call the callbacks and fill the streams."""
        media = dict(self.media) if isinstance(event, MediaChanged) else None
        self.fold(event)
        if media is not None:
            self._keep_shown(media)
        self.listeners.emit(event.type, event)
        if self._streams:
            for stream in list(self._streams):
                stream.put(event)

    def end(self, error: Exception | None) -> None:
        """The client is not a member of this room any more; `error` is the cause, None for its own leave."""
        self.joined = False
        for slot in self._slots:
            slot.pacer.drop(slot)
        self.ended = error if error is not None else PresenceRefused("NOT_IN_ROOM", "you left", room_id=self.id)
        self._client.forget(self)
        self.listeners.emit("closed", error)
        for stream in list(self._streams):
            stream.end()


def _clamped(value: float | None, most: float) -> Any:
    """Return `value` clamped to 0..`most`, or `UNSET` for None. Errors: ValueError for NaN, which JSON does not
    have."""
    if value is None:
        return UNSET
    if math.isnan(value):
        raise ValueError("not a number: leave the field out instead")
    return min(max(float(value), 0.0), most)
