"""Who is behind a session: from its `auth` message to its identity and session id, and on to the end of the token [A].

The verifier may have to ask elsewhere; until it has answered, and until the user's owner has made the session, what the
client sends is held back by the session.

While the token cannot be checked, since the server that would have to be asked does not answer, a resume token is proof
enough for a session that is not over, and the token is checked as soon as that is possible: a refusal then ends the
connection. A token that is refused, or was when it was checked last, is never helped by a resume token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING

from msgspec import UNSET

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.cookies import SessionCookie, verify_cookie
from koko_presence.auth.hmac_jwt import Identity, TokenRefused, VerifierUnavailable
from koko_presence.auth.resume_tokens import Resumable
from koko_presence.protocol.commands import OpenSession
from koko_presence.protocol.edge_messages import SessionOpened
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Authenticated, AuthExpiring
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import Auth, Privacy

from .self_service import change_privacy

if TYPE_CHECKING:
    from koko_presence.cluster.bus import TimerHandle

    from .session import Session

AGAIN_HZ, AGAIN_BURST = 0.2, 5
RESUME_WAITS_S = 1.0  # for an answer about the token of a client with a resume token: well within the grace [D2]
CHECK_AGAIN_S = 5.0  # until a token that could not be checked is checked again, twice that at most
COMPACT = "cursors"  # the one capability there is: compact cursors [B12]


class Authentication:
    """The identity of one session. Written by itself alone."""

    __slots__ = (
        "_again_bucket", "_asked", "_check_at", "_failure", "_late", "_message", "_opening", "_patience", "_proof",
        "_session", "_taken", "_unchecked", "_warned", "cookie", "identity",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        self._session = session
        self._message: Auth | None = None  # the one that is being answered
        self._opening: OpenSession | None = None  # not answered yet
        self._unchecked: Auth | None = None  # in place of its token the resume token counts, until it can be checked
        self._proof: Resumable | None = None  # what that resume token says
        self._check_at = inf
        self._late: Identity | None = None  # the answer about that token came while the session was being resumed,
        self._failure: VerifierUnavailable | None = None  # or that there is none for now
        self._patience: TimerHandle | None = None
        self._warned = False
        self._again_bucket = TokenBucket(AGAIN_HZ, AGAIN_BURST)
        self._asked = self._taken = 0  # tokens that have come behind the first one, and which of them holds
        self.identity: Identity | None = None
        # what came with the upgrade: kept while the client may come back to it, which is until it has sent a token
        self.cookie: SessionCookie | str | None = None

    def let_go(self) -> None:
        """The connection is gone, and nothing more is asked of this."""
        self._stop_waiting()
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
        self._verify_first(message)
        if self._session.state == "verifying" and self._resumable(message) is not None:
            self._patience = self._session.hub.timers.call_later(RESUME_WAITS_S, lambda: self._on_patience(message))

    def again(self, message: Auth) -> None:
        """A second `auth`: the same user refreshes the token, another one is refused [A4]. Errors: RATE_LIMITED,
        INVALID_MESSAGE."""
        self._check(message)
        now = self._session.hub.clock()
        if not self._again_bucket.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=self._again_bucket.ready_at(now) - now)
        self._asked += 1
        number = self._asked
        self._verify(message, lambda identity: self._refresh(message, identity, number))

    def _check(self, message: Auth) -> None:
        if message.token is UNSET and self.cookie is None:
            raise PresenceError("INVALID_MESSAGE", "Object missing required field `token`.")

    def _verify_first(self, message: Auth) -> None:
        """Check the token with which the connection came; that may be asked about more than once."""

        def refuse(refused: TokenRefused) -> None:
            if not self._is_replaced(message):
                self.on_token_refused(message, refused)

        self._verify(message, lambda identity: self._on_verified(message, identity), refuse)

    def _is_replaced(self, message: Auth) -> bool:
        """Has a newer token come since, or an answer about this one: is there nothing more to know about it?"""
        return message is not self._unchecked and self._session.state != "verifying"

    def _verify(
        self, message: Auth, then: Callable[[Identity], None], refuse: Callable[[TokenRefused], None] | None = None
    ) -> None:
        session, refuse = self._session, refuse or (lambda refused: self.on_token_refused(message, refused))
        try:
            answer = self._ask(message, session.hub.unix_s())
        except TokenRefused as refused:
            refuse(refused)
            return
        if isinstance(answer, Identity):
            then(answer)
        else:
            session.hub.await_answer(_await_identity(session, answer, then, refuse))

    def on_token_refused(self, message: Auth, refused: TokenRefused) -> None:
        """The token of `message` does not count, or cannot be checked now."""
        session = self._session
        unavailable = isinstance(refused, VerifierUnavailable)
        if message is self._unchecked:  # the client has been answered, or will be
            if not isinstance(refused, VerifierUnavailable):
                self._tell_refused(message, refused)
                session.finish(4401)
            elif not self._proof or not _stands(self._proof, refused):
                self._tell_refused(message, refused)
                session.finish(1013)
            elif session.state == "opening":
                self._failure = refused
            return
        if isinstance(refused, VerifierUnavailable) and session.state == "verifying":
            resumable = self._resumable(message)
            if resumable is not None and _stands(resumable, refused):
                self._failure = refused
                self._resume_unchecked(message, resumable)
                return
        self._tell_refused(message, refused)
        if session.state == "verifying":  # a refused refresh leaves the session as it is until its token ends
            self._stop_waiting()
            session.finish(1013 if unavailable else 4401)

    def _tell_refused(self, message: Auth, refused: TokenRefused) -> None:
        what = "cookie" if message.token is UNSET else "token"
        if isinstance(refused, VerifierUnavailable):  # it may be good: come back with the same one
            tally.auth("unavailable")
            text, retry_after_s = f"The {what} cannot be checked now", refused.retry_after_s
        else:
            tally.auth("refused")
            text, retry_after_s = f"The {what} was refused", None
        error = PresenceError("UNAUTHENTICATED", f"{text}: {refused}.", retry_after_s=retry_after_s)
        self._session.refuse(error, message.id)

    def _ask(self, message: Auth, now_s: float) -> Identity | Awaitable[Identity]:
        verifier, cookie, may_ask = self._session.hub.verifier, self.cookie, self._session.address_use.may_ask
        if message.token is not UNSET:
            return verifier.verify(message.token, now_s, may_ask)
        if isinstance(cookie, SessionCookie):
            return verify_cookie(verifier, cookie, now_s, may_ask)
        raise TokenRefused(cookie or "there is none")

    def _on_verified(self, message: Auth, identity: Identity) -> None:
        session = self._session
        if self._is_replaced(message):
            return
        if message is self._unchecked:
            if session.state == "opening":
                self._late = identity
            else:
                self._on_checked(message, identity)
            return
        self._stop_waiting()
        resume = None
        if message.resume_token is not None:
            hub = session.hub
            resume = hub.resume_tokens.read(message.resume_token, identity.user_id, hub.unix_s())
        self._open(message, identity, resume)

    def _open(self, message: Auth, identity: Identity, resume: str | None, *, resumes_only: bool = False) -> None:
        session, hub = self._session, self._session.hub
        session.move("verified")
        self.identity = identity
        if message.token is not UNSET:
            self.cookie = None
        session.privacy_words = 0 if message.privacy is None else 1
        command = self._opening = OpenSession(
            user_id=identity.user_id,
            edge=hub.edge_id,
            connection=session.connection,
            accepted_at=session.opened_at,
            resumes_only=resumes_only,
            fresh=hub.new_session_id(),
            resume=resume,
            privacy=message.privacy,
            disabled=not identity.presence,
        )
        hub.bus.send(command, hub.clock())

    # --- tokens that cannot be checked ------------------------------------------------------------------------------

    def _resumable(self, message: Auth) -> Resumable | None:
        """What the resume token of `message` proves, should its token not be checked in time."""
        hub, token = self._session.hub, self._token(message)
        if message.resume_token is None or not token or not hub.verifier.asks:
            return None
        now_s = hub.unix_s()
        found = hub.resume_tokens.read_identity(message.resume_token, token, now_s)
        if found is None or hub.verifier.was_refused(token, now_s):
            return None
        return None if hub.verifier.has_refused(found.token_hash, now_s) else found

    def _token(self, message: Auth) -> str:
        """The token itself: out of the message, or of the cookie that came with the upgrade."""
        if message.token is not UNSET:
            return message.token
        return self.cookie.value if isinstance(self.cookie, SessionCookie) else ""

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _on_patience(self, message: Auth) -> None:
        self._patience = None
        resumable = self._resumable(message) if self._session.state == "verifying" else None
        if resumable is not None:
            self._resume_unchecked(message, resumable)

    def _resume_unchecked(self, message: Auth, resumable: Resumable) -> None:
        self._stop_waiting()
        self._unchecked, self._proof = message, resumable
        self._open(message, resumable.identity, resumable.session_id, resumes_only=True)

    def on_session_over(self) -> None:
        """The session that the resume token names is over, so it proves nothing: only an answer about the token can
        help now."""
        message, self._unchecked, self._proof = self._unchecked, None, None
        late, self._late = self._late, None
        failure, self._failure = self._failure, None
        if message is None:
            return
        self.identity = self._opening = None
        self._session.move("over")
        message.resume_token = None
        if late is not None:
            self._on_verified(message, late)
        elif failure is not None:
            self.on_token_refused(message, failure)

    def check_again(self, now: float) -> float:
        """Check a token for which the resume token stands, if it is time. Returns when to look again."""
        if self._unchecked is None:
            return inf
        if now >= self._check_at:
            message = self._unchecked
            self._plan_check(now)
            self._verify_first(message)
        return self._check_at

    def _plan_check(self, now: float) -> None:
        # spread, for they were all resumed at the same time
        self._check_at = now + CHECK_AGAIN_S * (1.0 + self._session.connection % 16 / 16.0)

    def _on_checked(self, message: Auth, identity: Identity) -> None:
        """The token of a session that was resumed without it could be checked at last, and is good."""
        self._unchecked = self._proof = None
        if identity.user_id == self._session.user_id:
            self._take(identity, self._session.hub.clock())
        else:
            self._tell_refused(message, TokenRefused("it is another user's than the session"))
            self._session.finish(4401)

    # ----------------------------------------------------------------------------------------------------------------

    def say_again(self, now: float) -> None:
        """An owner was lost: perhaps it had the session that is not opened yet."""
        if self._opening is not None and self._session.opening:
            self._session.hub.bus.send(self._opening, now)

    def on_opened(self, news: SessionOpened, now: float) -> None:
        """The session is there: tell the client."""
        message, self._message = self._message, None
        self._opening = None
        assert message is not None
        resumed = "resumed" if self._unchecked is None else "resumed_unchecked"
        tally.auth(resumed if news.resumed else "accepted")
        self._answer(message, news.resumed, news.rooms, now)
        late, self._late, self._failure = self._late, None, None
        if late is not None:
            self._on_checked(message, late)
        elif self._unchecked is not None:
            self._plan_check(now)

    def _refresh(self, message: Auth, identity: Identity, number: int) -> None:
        session = self._session
        if identity.user_id != session.user_id:
            session.refuse(PresenceError("ALREADY_AUTHENTICATED"), message.id)
            return
        now = session.hub.clock()
        if number < self._taken:  # the answer came behind that to a newer token, which holds
            self._answer(message, False, sorted(session.rooms.joined), now, with_identity=False)
            return
        self._taken = number
        self._unchecked = self._proof = None
        self._take(identity, now, message)
        session.on_tick(now)

    def _take(self, identity: Identity, now: float, message: Auth | None = None) -> None:
        """From now on the session goes by this identity of the same user; the client is told when it has asked with
        `message`."""
        session = self._session
        was_hidden, self.identity = session.hidden, identity
        session.rooms.note_crowd()  # it may say that presence is off
        if session.hidden != was_hidden:
            session.gate.forget_last()
        self._warned = False
        if message is not None:
            tally.auth("refreshed")
            self._answer(message, False, sorted(session.rooms.joined), now)
        command = change_privacy(session, Privacy())
        command.disabled = not identity.presence
        session.hub.bus.send(command, now)
        session.rooms.check_again(now)

    def _answer(
        self, message: Auth, resumed: bool, rooms: list[str], now: float, *, with_identity: bool = True
    ) -> None:
        """`with_identity`: the resume token may hold it, which goes with the token of `message`."""
        session, hub = self._session, self._session.hub
        assert self.identity is not None
        resume_until_s = self.identity.expires_at_s + int(hub.limits.auth_grace_s)
        tokens, token = hub.resume_tokens, self._token(message)
        if token and hub.verifier.asks and with_identity:
            checked = None if self._proof is None else self._proof.token_hash
            resume_token = tokens.issue_for(self.identity, session.session_id, resume_until_s, token, checked)
        else:
            resume_token = tokens.issue(session.user_id, session.session_id, resume_until_s)
        session.send(
            Authenticated(
                id=message.id,
                user_id=session.user_id,
                session_id=session.session_id,
                resume_token=resume_token,
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
    session: Session,
    answer: Awaitable[Identity],
    then: Callable[[Identity], None],
    refuse: Callable[[TokenRefused], None],
) -> None:
    try:
        identity = await answer
    except TokenRefused as refused:
        if session.state != "closed":
            refuse(refused)
        return
    except Exception:  # the hub logs it
        if session.state != "closed":
            refuse(VerifierUnavailable("something went wrong, and was logged"))
        raise
    if session.state != "closed":
        then(identity)


def _stands(resumable: Resumable, failure: VerifierUnavailable) -> bool:
    """May a resume token stand in for a token that could not be checked? For one that has not been checked before only
    while nobody answers: that too much is asked anybody can cause."""
    return resumable.is_same or failure.is_silence


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
