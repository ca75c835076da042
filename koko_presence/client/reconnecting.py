"""Keeps one client connected: attempts, close codes, tokens and heartbeats; the client handles the messages.

`ReconnectingConnection` is the only writer of its state, with one task per client. `status` goes connecting -> online
-> (offline -> online)* -> closed.
"""

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from koko_presence.protocol.errors import ReconnectPolicy
from koko_presence.protocol.messages import Heartbeat
from koko_presence.protocol.models import Activity

from .errors import AuthRefused, NoToken, PresenceOffline, PresenceRefused
from .link import Link, open_link
from .models import Authenticated
from .renewal import TokenRenewal
from .timing import Backoff, Handle, ServerClock, Timers, come_back

log = logging.getLogger("koko_presence.client")

Token: TypeAlias = str | Callable[[], Awaitable[str | None] | str | None]

CONNECT_TIMEOUT_S = 10.0
HEARTBEAT_MIN_S = 5.0  # the server does not answer more frequent ones [D3]
PONG_WAIT_S = 10.0
STABLE_S = 5.0  # a connection shorter than this does not reset the back-off
MAX_TOKENS_REFUSED = 3


class Owner(Protocol):
    """The client that uses the connection."""

    async def authenticate(self, token: str) -> Authenticated: ...

    def send(self, message: Heartbeat) -> None: ...

    def on_online(self, authenticated: Authenticated) -> None: ...

    def on_message(self, data: bytes) -> None: ...

    def on_lost(self, error: PresenceOffline) -> None: ...

    def on_over(self, error: PresenceOffline | None) -> None: ...

    def on_status(self, status: str) -> None: ...

    def on_flow(self, writable: bool) -> None: ...


class ReconnectingConnection:
    """The connection of one client, which is opened again after each loss until the client is closed."""

    def __init__(
        self,
        owner: Owner,
        url: str,
        token: Token,
        *,
        ssl_context: ssl.SSLContext | None,
        clock: Callable[[], float],
        timers: Timers,
        random: Callable[[], float],
        backoff: Backoff,
    ) -> None:
        """Errors: ValueError for an address that is not ws:// or wss://."""
        self.status = "closed"
        self.close_code: int | None = None
        self.heartbeat_s = 30.0
        self.activity: Activity = "active"
        self.retry_after_s: float | None = None
        self.server_clock = ServerClock()
        self.heard_at = 0.0  # the monotonic second of the last message of the server
        self._owner = owner
        self._url = _checked_url(url)
        self._token = token
        self._ssl = ssl_context
        self._clock = clock
        self._timers = timers
        self._random = random
        self._backoff = backoff
        self._link: Link | None = None
        self._connection_task: asyncio.Task[None] | None = None
        self._renewal = TokenRenewal(self._renew, pause=self._pause, clock=clock, random=random)
        self._tokens_refused = 0
        self._online_at = 0.0
        self._beat_at = float("-inf")
        self._beat_timer: Handle | None = None
        self._pong_timer: Handle | None = None
        self._received = False

    @property
    def connected(self) -> bool:
        return self._link is not None

    async def connect(self) -> None:
        """Make one attempt; after it succeeds a task keeps the client connected. Errors: `AuthRefused`, `NoToken`,
        `PresenceOffline`, RuntimeError when connected, and those of the token function."""
        if self._connection_task is not None or self.status != "closed":
            raise RuntimeError("this client is connected already; make another PresenceClient for another session")
        self._set_status("connecting")
        try:
            link = await self._open()
        except BaseException:
            self._set_status("closed")
            raise
        self._connection_task = asyncio.create_task(self._keep_connected(link))

    async def close(self) -> None:
        """Close the connection with 1000 and do not reconnect."""
        self._renewal.stop()
        if self._connection_task is not None:
            self._connection_task.cancel()
            await asyncio.gather(self._connection_task, return_exceptions=True)
        self._connection_task = None
        if self._link is not None:
            await self._link.close(1000)
        self._finish(1000)

    async def wait_closed(self) -> int:
        """Wait until there is no connection and no further attempt; returns the close code [L7]."""
        if self._connection_task is not None:
            await asyncio.wait([self._connection_task])
        return self.close_code or 1000

    def send(self, data: bytes) -> None:
        """Send one message; do nothing without a connection."""
        if self._link is not None:
            self._link.send(data)

    # --- attempts ------------------------------------------------------------------------------------------------

    async def _keep_connected(self, link: Link) -> None:
        """Reconnect after each loss by the policy of its close code, until that forbids it."""
        code = await link.wait_closed()
        while self._judge_return(code):
            wait_s, self.retry_after_s = self._backoff.next_s(come_back(code), self.retry_after_s), None
            await self._pause(wait_s)
            try:
                link = await self._open()
            except NoToken as none:
                log.warning("no user, the client closes: %s", none)
                code = 1000
            except AuthRefused as refused:
                log.warning("authentication refused on reconnect: %s", refused)
                code = self._after_refusal(refused)
            except PresenceOffline as lost:
                code = lost.close_code or 1006
            except Exception:  # the application's token function may raise anything
                log.exception("connection attempt failed, will be retried")
                code = 1006
            else:
                code = await link.wait_closed()
        self._finish(code)

    def _after_refusal(self, refused: AuthRefused) -> int:
        """Return the close code that corresponds to a refusal, which may arrive before the close. A refusal with a
        retry time does not mean that the token is invalid, so the same one is used again."""
        if refused.retry_after_ms is not None:
            self.retry_after_s = refused.retry_after_ms / 1000.0
            return 1013
        return 4401 if refused.code == "UNAUTHENTICATED" else 4429

    def _judge_return(self, code: int) -> bool:
        """Return whether to connect again after a close with `code`; a refused token is counted."""
        how = come_back(code)
        if how is not ReconnectPolicy.NEW_TOKEN:
            return how is not ReconnectPolicy.NO
        self._tokens_refused += 1
        return callable(self._token) and self._tokens_refused <= MAX_TOKENS_REFUSED

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        handle = self._timers.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            handle.cancel()

    async def _open(self) -> Link:
        """Make one attempt, until `authenticated` is received. Errors: those of `connect`."""
        token = await self._fetch_token()
        link = await open_link(self._url, self, ssl_context=self._ssl, timeout_s=CONNECT_TIMEOUT_S)
        _check_alive(link)  # it may have been closed in the loop iteration before this coroutine continued
        self._link = link
        sent_at = self._clock()
        try:
            authenticated = await self._owner.authenticate(token)
        except PresenceRefused as refused:
            await link.close(1000)
            raise AuthRefused(refused.code, refused.message, retry_after_ms=refused.retry_after_ms) from None
        except BaseException:
            link.abort()
            raise
        _check_alive(link)
        self.server_clock.note(sent_at, self._clock(), authenticated.server_time)
        self._online_at = self._clock()
        self._tokens_refused = 0
        self.heartbeat_s = authenticated.heartbeat_interval
        self._beat_at = float("-inf")
        self.heartbeat()
        self._owner.on_online(authenticated)
        self._set_status("online")
        return link

    async def _fetch_token(self) -> str:
        """Errors: `NoToken`, TypeError, and those of the token function."""
        if isinstance(self._token, str):
            return self._token
        made = self._token()
        token = await made if inspect.isawaitable(made) else made
        if token is None:
            raise NoToken
        if not isinstance(token, str):
            raise TypeError(f"the token function returned {type(token).__name__}, not a text, or None for no user")
        return token

    def _finish(self, code: int) -> None:
        if self.status == "closed":
            return
        self.close_code = code
        if code == 1000:
            self._owner.on_over(None)
        else:
            text = f"The connection was closed with {code} and will not come back. Make a new PresenceClient."
            self._owner.on_over(PresenceOffline(text, code))
        self._set_status("closed")

    def _set_status(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self._owner.on_status(status)

    # --- renewal of the token --------------------------------------------------------------------------------------

    def renew(self, expires_at: str) -> None:
        """The token expires soon: authenticate with a new one over the same connection, and try again while that fails
        [A4, A7]."""
        if isinstance(self._token, str):
            log.warning("token expires at %s and cannot be renewed: pass a token function to the client", expires_at)
        else:
            self._renewal.begin()

    async def _renew(self) -> None:
        try:
            token = await self._fetch_token()
        except NoToken as none:
            log.warning("no user, the client closes: %s", none)
            if self._link is not None:
                await self._link.close(1000)
            return
        await self._owner.authenticate(token)

    # --- heartbeats ------------------------------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Send a heartbeat now and again after `heartbeat_s` (30 s) +- 10 % [D3], but not within 5 s of the last one.
        The connection is aborted when no message follows within 10 s."""
        now = self._clock()
        if self._link is None or now - self._beat_at < HEARTBEAT_MIN_S:
            return
        self._beat_at, self._received = now, False
        self._owner.send(Heartbeat(status=self.activity, client_time=now * 1000.0))
        self._stop_beating()
        self._beat_timer = self._timers.call_later(self.heartbeat_s * (0.9 + 0.2 * self._random()), self.heartbeat)
        self._pong_timer = self._timers.call_later(PONG_WAIT_S, self._check_pong)

    def _check_pong(self) -> None:
        if not self._received and self._link is not None:
            self._link.abort()

    def _stop_beating(self) -> None:
        for timer in (self._beat_timer, self._pong_timer):
            if timer is not None:
                timer.cancel()

    # --- called by the link ----------------------------------------------------------------------------------------

    def on_message(self, data: bytes) -> None:
        """Pass one text message on to the client."""
        self._received = True
        self.heard_at = self._clock()
        self._owner.on_message(data)

    def on_closed(self, code: int) -> None:
        """The connection is closed with `code`."""
        self._link = None
        self._renewal.stop()
        self._stop_beating()
        self._owner.on_lost(PresenceOffline(f"The connection was lost ({code}) before the answer came.", code))
        if self.status == "online":
            if self._clock() - self._online_at >= STABLE_S:
                self._backoff.reset()
            self._set_status("offline")

    def on_unwritable(self) -> None:
        """The socket's buffer is full."""
        self._owner.on_flow(False)

    def on_writable(self) -> None:
        """The socket's buffer accepts bytes again."""
        self._owner.on_flow(True)


def _check_alive(link: Link) -> None:
    if link.closed:
        raise PresenceOffline(f"The connection was closed with {link.code} right after the start.", link.code)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is not a WebSocket address; it looks like wss://presence.example.org/presence")
    if parts.scheme == "ws" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        log.warning("token is sent unencrypted to %s: use wss:// outside of tests", parts.hostname)
    return url
