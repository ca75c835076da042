"""Who is behind a session: from its `auth` message to its identity and session id, and on to the end of the token [A].

The verifier may have to ask elsewhere; until it has answered, and until the user's owner has made the session, what the
client sends is held back by the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import UNSET

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.cookies import SessionCookie, verify_cookie
from koko_presence.auth.tokens import Identity, TokenRefused, VerifierUnavailable
from koko_presence.commands import OpenSession
from koko_presence.errors import PresenceError
from koko_presence.events import Authenticated, AuthExpiring
from koko_presence.limits import Limits
from koko_presence.messages import Auth, Privacy
from koko_presence.news import SessionOpened

from .oneself import change_privacy

if TYPE_CHECKING:
    from .session import Session

AGAIN_HZ, AGAIN_BURST = 0.2, 5
COMPACT = "cursors"  # the one capability there is: compact cursors [B12]


class Login:
    """The identity of one session. Written by itself alone."""

    __slots__ = ("_again_bucket", "_message", "_opening", "_session", "_warned", "cookie", "identity")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._message: Auth | None = None  # the one that is being answered
        self._opening: OpenSession | None = None  # not answered yet
        self._warned = False
        self._again_bucket = TokenBucket(AGAIN_HZ, AGAIN_BURST)
        self.identity: Identity | None = None
        # what came with the upgrade: kept while the client may come back to it, which is until it has sent a token
        self.cookie: SessionCookie | str | None = None

    def let_go(self) -> None:
        """The connection is gone, and nothing more is asked of this."""
        del self._session

    @property
    def message_id(self) -> str | int | None:
        """The id of the `auth` that is being answered."""
        return None if self._message is None else self._message.id

    def begin(self, message: Auth) -> None:
        """The first `auth` of a connection [A1]. Errors: INVALID_MESSAGE."""
        self._check(message)
        self._session.move("auth")
        self._session.outbox.compact = COMPACT in message.caps  # for as long as the connection lasts
        self._message = message
        self._verify(message, lambda identity: self._on_verified(message, identity))

    def again(self, message: Auth) -> None:
        """A second `auth`: the same user refreshes the token, another one is refused [A4]. Errors: RATE_LIMITED,
        INVALID_MESSAGE."""
        self._check(message)
        now = self._session.hub.clock()
        if not self._again_bucket.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=self._again_bucket.ready_at(now) - now)
        self._verify(message, lambda identity: self._refresh(message, identity))

    def _check(self, message: Auth) -> None:
        if message.token is UNSET and self.cookie is None:
            raise PresenceError("INVALID_MESSAGE", "Object missing required field `token`.")

    def _verify(self, message: Auth, then: Callable[[Identity], None]) -> None:
        session = self._session
        try:
            answer = self._ask(message, session.hub.unix_s())
        except TokenRefused as refused:
            _on_token_refused(session, message, refused)
            return
        if isinstance(answer, Identity):
            then(answer)
        else:
            session.hub.await_answer(_await_identity(session, message, answer, then))

    def _ask(self, message: Auth, now_s: float) -> Identity | Awaitable[Identity]:
        verifier, cookie, may_ask = self._session.hub.verifier, self.cookie, self._session.address_use.may_ask
        if message.token is not UNSET:
            return verifier.verify(message.token, now_s, may_ask)
        if isinstance(cookie, SessionCookie):
            return verify_cookie(verifier, cookie, now_s, may_ask)
        raise TokenRefused(cookie or "there is none")

    def _on_verified(self, message: Auth, identity: Identity) -> None:
        session, hub = self._session, self._session.hub
        session.move("verified")
        self.identity = identity
        if message.token is not UNSET:
            self.cookie = None
        resume = None
        if message.resume_token is not None:
            resume = hub.resume_tokens.read(message.resume_token, identity.user_id, hub.unix_s())
        session.privacy_words = 0 if message.privacy is None else 1
        command = self._opening = OpenSession(
            user_id=identity.user_id,
            edge=hub.edge_id,
            connection=session.connection,
            accepted_at=session.opened_at,
            fresh=hub.new_session_id(),
            resume=resume,
            privacy=message.privacy,
            disabled=not identity.presence,
        )
        hub.bus.send(command, hub.clock())

    def say_again(self, now: float) -> None:
        """An owner was lost: perhaps it had the session that is not opened yet."""
        if self._opening is not None and self._session.opening:
            self._session.hub.bus.send(self._opening, now)

    def on_opened(self, news: SessionOpened, now: float) -> None:
        """The session is there: tell the client."""
        message, self._message = self._message, None
        self._opening = None
        assert message is not None
        tally.auth("resumed" if news.resumed else "accepted")
        self._answer(message, news.resumed, news.rooms, now)

    def _refresh(self, message: Auth, identity: Identity) -> None:
        session = self._session
        if identity.user_id != session.user_id:
            session.refuse(PresenceError("ALREADY_AUTHENTICATED"), message.id)
            return
        now = session.hub.clock()
        was_hidden, self.identity = session.hidden, identity
        session.rooms.note_crowd()  # it may say that presence is off
        if session.hidden != was_hidden:
            session.gate.forget_last()
        self._warned = False
        tally.auth("refreshed")
        self._answer(message, False, sorted(session.rooms.joined), now)
        command = change_privacy(session, Privacy())
        command.disabled = not identity.presence
        session.hub.bus.send(command, now)
        session.rooms.check_again(now)
        session.on_tick(now)

    def _answer(self, message: Auth, resumed: bool, rooms: list[str], now: float) -> None:
        session, hub = self._session, self._session.hub
        assert self.identity is not None
        resume_until_s = self.identity.expires_at_s + int(hub.limits.auth_grace_s)
        session.send(
            Authenticated(
                id=message.id,
                user_id=session.user_id,
                session_id=session.session_id,
                resume_token=hub.resume_tokens.issue(session.user_id, session.session_id, resume_until_s),
                resumed=resumed,
                rooms=rooms,
                server_time=hub.wall.ms(now),
                heartbeat_interval=hub.limits.heartbeat_interval_s,
                limits=_advertised(hub.limits),
                caps=[COMPACT] if session.outbox.compact else [],
            )
        )

    def watch_expiry(self, now: float) -> float:
        """Warn 60 s before the token ends, cut 30 s after it has [A7]. Returns when to look again."""
        session, hub = self._session, self._session.hub
        assert self.identity is not None
        expires_at = now + self.identity.expires_at_s - hub.unix_s()
        cut_at = expires_at + hub.limits.auth_grace_s
        if now >= cut_at:
            session.refuse(PresenceError("UNAUTHENTICATED", "The token has expired. Connect with a new one."))
            session.finish(4401)
        elif not self._warned:
            warn_at = expires_at - hub.limits.auth_warning_s
            if now < warn_at:
                return warn_at
            self._warned = True
            session.send(AuthExpiring(expires_at=hub.wall.iso(expires_at)))
        return cut_at


async def _await_identity(
    session: Session, message: Auth, answer: Awaitable[Identity], then: Callable[[Identity], None]
) -> None:
    try:
        identity = await answer
    except TokenRefused as refused:
        _on_token_refused(session, message, refused)
        return
    except Exception:  # the hub logs it
        _on_token_refused(session, message, VerifierUnavailable("something went wrong, and was logged"))
        raise
    if session.state != "closed":
        then(identity)


def _on_token_refused(session: Session, message: Auth, refused: TokenRefused) -> None:
    what = "cookie" if message.token is UNSET else "token"
    if isinstance(refused, VerifierUnavailable):  # it may be good: come back with the same one
        tally.auth("unavailable")
        text, retry_after_s, code = f"The {what} cannot be checked now", refused.retry_after_s, 1013
    else:
        tally.auth("refused")
        text, retry_after_s, code = f"The {what} was refused", None, 4401
    error = PresenceError("UNAUTHENTICATED", f"{text}: {refused}.", retry_after_s=retry_after_s)
    session.refuse(error, message.id)
    if session.state == "verifying":  # a refused refresh leaves the session as it is until its token ends
        session.finish(code)


def _advertised(limits: Limits) -> dict[str, float]:
    """The limits that concern a client."""
    return {
        "maxUsersPerRoom": limits.max_users_per_room,
        "maxRoomsPerUser": limits.max_rooms_per_user,
        "maxSessionsPerUser": limits.max_sessions_per_user,
        "cursorHz": limits.cursor_hz,
        "selectionHz": limits.selection_hz,
        "typingHz": limits.typing_hz,
        "playbackHz": limits.playback_hz,
        "broadcastHz": limits.broadcast_hz,
        "maxMessageBytes": limits.max_message_bytes,
        "maxBroadcastBytes": limits.max_broadcast_bytes,
    }
