"""The client: one session of one user, with its rooms and all that concerns the whole session.

`PresenceClient` writes its rooms and settings; `ReconnectingConnection` calls it with connections and messages, in
order.
"""

from __future__ import annotations

import asyncio
import random as chance
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from koko_presence.protocol.messages import Auth, GetActive, Join, Leave, SetPrivacy, SetStatus, StatusData
from koko_presence.protocol.models import Activity, Privacy, RoomType, Status

from . import models
from .dispatcher import Dispatcher
from .errors import PresenceOffline, PresenceRefused
from .listeners import Callback, Listeners, Undo
from .pending import Requests
from .reconnecting import ReconnectingConnection, Token
from .room import Room
from .timing import Backoff, Pacer, Timers
from .watched_rooms import WatchedRooms

CURSOR_GAP_S = 0.05  # [Message Throttling], until the server has sent its limits
RETRY_JOIN_S = 1.0

_encode = msgspec.json.Encoder().encode


class PresenceClient:
    """One session of one user: `async with PresenceClient(url, token) as client:`. Create it inside a coroutine."""

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        privacy: Privacy | None = None,
        caps: Sequence[str] = (),
        activity: Activity = "active",
        min_backoff_s: float = 0.25,
        max_backoff_s: float = 20.0,
        timeout_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        timers: Timers | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """`token` is a string, or a function, plain or async, that returns a new one, or None when there is no user:
        then the client closes. Only with a function the client stays connected beyond the token's expiry. `timeout_s`
        is how long a call waits for its answer, including the wait for a connection. `clock` (monotonic seconds),
        `timers` and `random` are for tests. Errors: ValueError for an address that is not ws:// or wss://."""
        timers = timers if timers is not None else asyncio.get_running_loop()
        self.user_id = self.session_id = ""
        self.limits: dict[str, Any] = {}
        self.caps: list[str] = []
        self.rooms: dict[str, Room] = {}
        self.clock = clock
        self._line = ReconnectingConnection(
            self,
            url,
            token,
            ssl_context=ssl_context,
            clock=clock,
            timers=timers,
            random=random,
            backoff=Backoff(min_backoff_s, max_backoff_s, random),
        )
        self._line.activity = activity
        self.server_clock = self._line.server_clock
        self.cursors = Pacer(clock, timers, self.send, CURSOR_GAP_S)
        self.selections = Pacer(clock, timers, self.send, CURSOR_GAP_S)
        self.singles = Pacer(clock, timers, self.send, 0.0)
        self._timers = timers
        self._random = random
        self._requests = Requests(self.send, timers, timeout_s)
        self._listeners = Listeners()
        self._raw: tuple[Callable[[bytes], object], ...] = ()
        self._privacy = privacy
        self._requested_caps = list(caps)
        self._shown: StatusData | None = None
        self._resume_token: str | None = None
        self._watched = WatchedRooms(partial(self.ask, repeat=True), self.send, self._listeners, timers, random)
        self._inbox = Dispatcher(self, self._line, self._requests, self._listeners, self._watched)

    # --- the connection -----------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The status: connecting, online, offline (it reconnects) or closed."""
        return self._line.status

    @property
    def close_code(self) -> int | None:
        """The close code after which the client did not reconnect [L7]; None before."""
        return self._line.close_code

    async def __aenter__(self) -> PresenceClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and authenticate; from then on the client reconnects. Errors: `AuthRefused` with the server's reason,
        `PresenceOffline` when the server is unreachable, `NoToken` when the token function returns None, and its own
        errors."""
        await self._line.connect()

    async def close(self) -> None:
        """Leave all rooms and disconnect; other users see it at once [D2]."""
        await self._line.close()

    async def wait_closed(self) -> int:
        """Wait until the client does not reconnect any more; returns the close code [L7]."""
        return await self._line.wait_closed()

    # --- the session --------------------------------------------------------------------------------------------------

    def on(self, name: str, callback: Callback) -> Undo:
        """Call `callback` for `status` (a string), `error` (a `PresenceRefused` that answers no awaited call),
        `notice`, `kicked`, `room_summary` or `watching` (the rooms that are watched now). Returns a function that
        removes it."""
        return self._listeners.add(name, callback)

    def on_raw(self, callback: Callable[[bytes], object]) -> Undo:
        """Call `callback` with every message, as bytes, before it is decoded. When it returns True, the message is not
        processed further and does not change the room's state. For load generators and recorders."""
        self._raw = (*self._raw, callback)

        def undo() -> None:
            self._raw = tuple(each for each in self._raw if each is not callback)

        return undo

    async def join(
        self,
        room_id: str,
        room_type: RoomType | None = None,
        *,
        privacy: Privacy | None = None,
        presence: Mapping[str, Any] | None = None,
    ) -> Room:
        """Join a room, or return it when the client is a member already; `presence` is the session's presence object
        there at first [P2]. Errors: `PresenceRefused` (FORBIDDEN,
        ROOM_FULL, ROOM_TYPE_MISMATCH, TOO_MANY_ROOMS, ...), `PresenceOffline`."""
        self._check_open()
        room = self.rooms.get(room_id)
        if room is None:
            room = self.rooms[room_id] = Room(self, room_id, room_type, privacy)
            room.presence = dict(presence or {})
        if not room.joined:
            await asyncio.shield(self._enter(room))
        return room

    async def get_active(self, room_id: str, room_type: RoomType | None = None) -> models.Active:
        """Return the members of a room without joining it [C13, C14]. Errors: `PresenceRefused`, `PresenceOffline`."""
        message = GetActive(room_id=room_id, room_type=UNSET if room_type is None else room_type)
        active = await self.ask(message, repeat=True)
        assert isinstance(active, models.Active)
        return active

    async def watch_rooms(self, room_ids: Iterable[str]) -> models.Watching:
        """Watch these rooms without joining them, and no others: at most 200, an empty list for none [Q12]. The answer
        names those that are refused. `summaries` has who is in them, and `room_summary` is called at each change; the
        list is sent again after a reconnect. Errors: ValueError for more than 200, `PresenceRefused`
        (RATE_LIMITED), `PresenceOffline`."""
        return await self._watched.watch(room_ids)

    @property
    def summaries(self) -> Mapping[str, models.RoomSummary]:
        """The last summary of each watched room, by its id [Q12]."""
        return self._watched.summaries

    async def set_status(self, status: Status, message: str | None = None) -> None:
        """Set the user's status in all rooms and for all sessions; `active` returns to the automatic one [D8]. An empty
        `message` clears the status message, None keeps it. Errors: ValueError for more than 100 UTF-16 units,
        `PresenceRefused`, `PresenceOffline`."""
        data = StatusData(status=status, status_message=UNSET if message is None else message)
        await self.ask(SetStatus(data=data), repeat=True)
        self._shown = data

    async def set_privacy(
        self,
        *,
        invisible: bool | None = None,
        share_cursor: bool | None = None,
        share_selection: bool | None = None,
        for_all_sessions: bool = False,
    ) -> None:
        """Set what other users may see of this session, or of all sessions of the user [K1, K6]. Errors:
        `PresenceRefused`, `PresenceOffline`."""
        before = self._privacy or Privacy()
        names = {"invisible": invisible, "share_cursor": share_cursor, "share_selection": share_selection}
        requested: dict[str, Any] = {name: UNSET if value is None else value for name, value in names.items()}
        scope: Any = "user" if for_all_sessions else "session"
        await self.ask(SetPrivacy(data=Privacy(**requested, scope=scope)), repeat=True)
        merged = {name: getattr(before, name) if value is UNSET else value for name, value in requested.items()}
        self._privacy = Privacy(**merged)

    def heartbeat(self, activity: Activity | None = None) -> None:
        """Send a heartbeat, with `activity` from now on. The client sends one every 30 s +- 10 % on its own [D3]."""
        if activity is not None:
            self._line.activity = activity
        self._line.heartbeat()

    def server_now_ms(self) -> float:
        """Return the estimated time of the server's clock, in ms since 1970. Errors: LookupError before the first
        connection."""
        return self.server_clock.now_ms(self.clock())

    # --- called by rooms ----------------------------------------------------------------------------------------------

    async def ask(self, message: Any, room: Room | None = None, *, repeat: bool = False) -> Any:
        """Send a message and wait for its answer. With `room`, it is held until the room is joined. Errors:
        `PresenceRefused`, `PresenceOffline`."""
        self._check_open()
        ready = self.status == "online" if room is None else room.joined
        return await self._requests.start(
            message, ready=ready, room_id=None if room is None else room.id, repeat=repeat
        )

    def forget(self, room: Room) -> None:
        """The client is not a member of the room any more: remove it and fail its pending requests."""
        if self.rooms.get(room.id) is room:
            del self.rooms[room.id]
            self._requests.fail(PresenceRefused("NOT_IN_ROOM", "The room was left meanwhile."), room.id)

    def send(self, message: Any) -> None:
        """Send a message; do nothing without a connection."""
        if self._line.connected:
            self._line.send(_encode(message))

    def _check_open(self) -> None:
        if self.status == "closed":
            raise PresenceOffline(
                "This client is not connected, or closed for good. Use  async with PresenceClient(...)"
            )

    # --- joining rooms, again after each reconnect --------------------------------------------------------------------

    def _enter(self, room: Room) -> asyncio.Future[Any]:
        if room.entering is None:
            message = Join(
                room_id=room.id,
                room_type=UNSET if room.requested_type is None else room.requested_type,
                privacy=UNSET if room.requested_privacy is None else room.requested_privacy,
                known=room.known or UNSET,
                presence=room.presence or UNSET,
            )
            room.entering = self._requests.start(message, ready=self._line.status == "online", repeat=True)
            room.entering.add_done_callback(partial(self._entered, room))
        return room.entering

    def _entered(self, room: Room, answer: asyncio.Future[Any]) -> None:
        room.entering = None
        error = answer.exception()
        if error is None or self.rooms.get(room.id) is not room:
            return
        retry_after_ms = getattr(error, "retry_after_ms", None)  # FORBIDDEN has it when access could not be checked
        passing = isinstance(error, PresenceOffline) or getattr(error, "code", "") in ("RATE_LIMITED", "INTERNAL")
        if not room.was_joined:
            self.forget(room)  # join() raises it
        elif not passing and retry_after_ms is None:
            room.end(error if isinstance(error, Exception) else None)
        else:
            wait_s = (retry_after_ms or RETRY_JOIN_S * 1000.0) / 1000.0
            self._timers.call_later(wait_s * (1.0 + self._random()), partial(self._reenter, room))

    def _reenter(self, room: Room) -> None:
        if self.rooms.get(room.id) is room and not room.joined and self.status == "online":
            self._enter(room)

    # --- called by the connection -------------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> models.Authenticated:
        """Authenticate at the start of a connection, and again with a new token [A4]. Errors: `PresenceRefused`,
        `PresenceOffline`."""
        auth = Auth(token=token, resume_token=self._resume_token, caps=self._requested_caps, privacy=self._privacy)
        authenticated = await self._requests.start(auth, ready=True)
        assert isinstance(authenticated, models.Authenticated)
        self._resume_token = authenticated.resume_token
        return authenticated

    def on_online(self, authenticated: models.Authenticated) -> None:
        """A connection is authenticated: take over its limits, leave rooms that were left meanwhile, and restore the
        status when the session was not resumed."""
        self.user_id, self.session_id = authenticated.user_id, authenticated.session_id
        self.limits, self.caps = authenticated.limits, authenticated.caps
        self.cursors.gap_s = 1.0 / float(authenticated.limits.get("cursorHz", 20.0))
        self.selections.gap_s = 1.0 / float(authenticated.limits.get("selectionHz", 20.0))
        for room_id in authenticated.rooms:
            if room_id not in self.rooms:
                self.send(Leave(room_id=room_id))  # left without a connection
        if self._shown is not None and not authenticated.resumed:
            self.send(SetStatus(data=self._shown))

    def on_status(self, status: str) -> None:
        """The status has changed to `status`. When online, send the held requests and join all rooms again."""
        if status == "online":
            self._requests.ready(None)
            self._watched.on_online()
            for room in list(self.rooms.values()):
                self._enter(room)
        self._listeners.emit("status", status)

    def on_lost(self, error: PresenceOffline) -> None:
        """The connection is lost; the client may reconnect."""
        for pacer in (self.cursors, self.selections, self.singles):
            pacer.clear()
        for room in self.rooms.values():
            if room.joined:
                room.heard_at_ms = self.server_clock.now_ms(self._line.heard_at)
            room.joined = False
        self._requests.on_lost(error)

    def on_over(self, error: PresenceOffline | None) -> None:
        """The client will not reconnect: end all rooms and fail all requests."""
        for room in list(self.rooms.values()):
            room.end(error)
        self._requests.fail(error or PresenceOffline("The client was closed before the answer came."))

    def on_flow(self, writable: bool) -> None:
        """The socket's buffer is full, or accepts bytes again: hold or continue sending coalesced values."""
        for pacer in (self.cursors, self.selections, self.singles):
            pacer.go_on() if writable else pacer.hold()

    def on_message(self, data: bytes) -> None:
        """Process one text message of the server."""
        for callback in self._raw:
            if callback(data) is True:
                return
        self._inbox.take(data)
