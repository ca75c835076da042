"""Authenticates one session: from its `auth` message to its identity and session id, until its token expires [A].

`Authentication` writes the session's identity and what is pending for it. The order is: verify the token, open the
session at the user's owner, answer the client. The verifier may query another service; until it has answered and the
user's owner has opened the session, the session holds the client's messages.

While the token cannot be checked because that service does not answer, a resume token authenticates a session that has
not ended. The token is then checked as soon as possible, and a refusal closes the connection. A resume token is not
accepted in place of a token that is refused, or that was refused when it was last checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from math import ceil, inf
from typing import Protocol

from msgspec import UNSET

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.outbox import Outbox
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.cookies import SessionCookie, verify_cookie
from koko_presence.auth.hmac_jwt import Identity, TokenRefused, TokenVerifier, VerifierUnavailable
from koko_presence.auth.resume_tokens import Resumable, ResumeTokens
from koko_presence.cluster.bus import TimerHandle
from koko_presence.protocol.commands import OpenSession, RenewUserInfo
from koko_presence.protocol.edge_messages import SessionOpened
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Authenticated, AuthExpiring
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.messages import Auth
from koko_presence.protocol.models import MessageId, Privacy
from koko_presence.rooms.service_delays import LONGEST_EXTRA_S

from .address_limits import AddressUse
from .self_service import PrivacySession, UserReports, change_privacy
from .session_ports import EdgeServices

AGAIN_HZ, AGAIN_BURST = 0.2, 5  # rate of `auth` messages after the first one
RESUME_WAITS_S = 1.0  # for the verifier's answer before the resume token is used: well within the grace [D2]
CHECK_AGAIN_S = 5.0  # until the check of an unchecked token is repeated, at most twice that
COMPACT = "cursors"  # the only capability: compact cursors [B12]


class AuthenticationHub(EdgeServices, Protocol):
    """The edge of a session that authenticates. `unix_s` returns seconds since 1970."""

    @property
    def verifier(self) -> TokenVerifier: ...

    @property
    def resume_tokens(self) -> ResumeTokens: ...

    def new_session_id(self) -> str: ...

    def unix_s(self) -> float: ...


class GrantedRooms(UserReports, Protocol):
    """The rooms that the present token of a session opens."""

    @property
    def joined(self) -> list[str]: ...

    def update_has_pending(self) -> None: ...

    def check_again(self, now: float) -> None: ...


class AuthenticationSession(PrivacySession, Protocol):
    """A session that authenticates."""

    @property
    def hub(self) -> AuthenticationHub: ...

    @property
    def memberships(self) -> GrantedRooms: ...

    @property
    def address_use(self) -> AddressUse: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def opened_at(self) -> float: ...

    @property
    def opening(self) -> bool: ...

    @property
    def is_stream(self) -> bool: ...

    def begin_privacy_changes(self, *, with_first: bool) -> None: ...

    def move(self, event: str) -> None: ...

    def on_tick(self, now: float) -> None: ...

    def refuse(self, error: PresenceError, id: MessageId | None = None) -> None: ...

    def finish(self, code: int) -> None: ...


class Authentication:
    """The identity of one session and the pending steps of its authentication. Written by its own methods only."""

    __slots__ = (
        "_again_bucket", "_check_at", "_failure", "_late", "_message", "_open_request", "_proof", "_resume_timer",
        "_session", "_taken", "_tokens_received", "_unchecked", "_warn_s", "_warned", "cookie", "identity",
    )  # fmt: skip

    def __init__(self, session: AuthenticationSession) -> None:
        self._session = session
        self._message: Auth | None = None  # the first `auth`, until it is answered
        self._open_request: OpenSession | None = None  # the command without an answer
        self._unchecked: Auth | None = None  # its resume token is accepted until its token can be checked
        self._proof: Resumable | None = None  # the content of that resume token
        self._check_at = inf  # monotonic second of the next check of the unchecked token
        self._late: Identity | None = None  # result of that check, received while the session was being resumed,
        self._failure: VerifierUnavailable | None = None  # or its failure
        self._resume_timer: TimerHandle | None = None
        self._warned = False
        self._warn_s = 0.0  # seconds before the end of the token in force at which its client is warned
        self._again_bucket = TokenBucket(AGAIN_HZ, AGAIN_BURST)
        self._tokens_received = self._taken = (
            0  # number of tokens received after the first one, and number of the one in force
        )
        self.identity: Identity | None = None
        # the cookie of the upgrade or of a later call, or why none counts: kept until the client has authenticated with
        # a token
        self.cookie: SessionCookie | str | None = None

    def release(self) -> None:
        """Release the session and the timer; the connection is closed."""
        self._stop_waiting()
        del self._session

    @property
    def message_id(self) -> str | int | None:
        """The id of the first `auth` while it has no answer."""
        return None if self._message is None else self._message.id

    def begin(self, message: Auth) -> None:
        """Handle the first `auth` of a connection [A1]. Errors: INVALID_MESSAGE."""
        self._check(message)
        self._session.move("auth")
        self._session.outbox.compact = COMPACT in message.caps  # until the connection is closed
        self._message = message
        self._verify_first(message)
        if self._session.state == "verifying" and self._resumable(message) is not None:
            self._resume_timer = self._session.hub.timers.call_later(
                RESUME_WAITS_S, lambda: self._on_resume_timeout(message)
            )

    def again(self, message: Auth) -> None:
        """Handle a further `auth`: a token of the same user replaces the present one, a token of another user is
        refused [A4]. Errors: RATE_LIMITED, INVALID_MESSAGE."""
        self._check(message)
        now = self._session.hub.clock()
        if not self._again_bucket.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=self._again_bucket.ready_at(now) - now)
        self._tokens_received += 1
        number = self._tokens_received
        self._verify(message, lambda identity: self._refresh(message, identity, number))

    def renew(self, token: str, cookie: SessionCookie | None, expires_at_s: float) -> None:
        """Take the token of a call for this session, or without `token` its cookie, as a further `auth`, if it ends
        later than the present one. Does nothing when that is not possible now: a later call repeats it."""
        if self.identity is None or expires_at_s <= self.identity.expires_at_s or not (token or cookie):
            return
        if not token:
            self.cookie = cookie  # an application may have given the client another one since its connection was made
        with contextlib.suppress(PresenceError):
            self.again(Auth(token=token) if token else Auth())

    def _check(self, message: Auth) -> None:
        if message.token is UNSET and self.cookie is None:
            raise PresenceError("INVALID_MESSAGE", "Object missing required field `token`.")

    def _verify_first(self, message: Auth) -> None:
        """Check the connection's first token; repeated while the check has no answer."""

        def refuse(refused: TokenRefused) -> None:
            if not self._is_replaced(message):
                self.on_token_refused(message, refused)

        self._verify(message, lambda identity: self._on_verified(message, identity), refuse)

    def _is_replaced(self, message: Auth) -> bool:
        """True when the result of a check of `message` is not needed: a newer token, or an earlier answer about this
        one, has replaced it."""
        return message is not self._unchecked and self._session.state != "verifying"

    def _verify(
        self, message: Auth, then: Callable[[Identity], None], refuse: Callable[[TokenRefused], None] | None = None
    ) -> None:
        session, refuse = self._session, refuse or (lambda refused: self.on_token_refused(message, refused))
        try:
            answer = self._identify(message, session.hub.unix_s())
        except TokenRefused as refused:
            refuse(refused)
            return
        if isinstance(answer, Identity):
            then(answer)
        else:
            session.hub.await_answer(_await_identity(session, answer, then, refuse))

    def on_token_refused(self, message: Auth, refused: TokenRefused) -> None:
        """Handle a refused token, or one that cannot be checked now: fall back to the resume token, or answer with an
        error and close the connection. A refused refresh leaves the session open until its present token expires."""
        session = self._session
        unavailable = isinstance(refused, VerifierUnavailable)
        if message is self._unchecked:  # resumed without the check: the client has its answer, or gets it
            if not isinstance(refused, VerifierUnavailable):
                self._send_refusal(message, refused)
                session.finish(4401)
            elif not self._proof or not _stands(self._proof, refused):
                self._send_refusal(message, refused)
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
        self._send_refusal(message, refused)
        if session.state == "verifying":
            self._stop_waiting()
            session.finish(1013 if unavailable else 4401)

    def _send_refusal(self, message: Auth, refused: TokenRefused) -> None:
        what = "cookie" if message.token is UNSET else "token"
        if isinstance(refused, VerifierUnavailable):  # the token may be valid: the client may retry with it
            counters.auth("unavailable")
            text, retry_after_s = f"The {what} cannot be checked now", refused.retry_after_s
        else:
            counters.auth("refused")
            text, retry_after_s = f"The {what} was refused", None
        error = PresenceError("UNAUTHENTICATED", f"{text}: {refused.sentence}", retry_after_s=retry_after_s)
        self._session.refuse(error, message.id)

    def _identify(self, message: Auth, now_s: float) -> Identity | Awaitable[Identity]:
        verifier, cookie, may_query = self._session.hub.verifier, self.cookie, self._session.address_use.take_question
        if message.token is not UNSET:
            return verifier.verify(message.token, now_s, may_query)
        if isinstance(cookie, SessionCookie):
            return verify_cookie(verifier, cookie, now_s, may_query)
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
        self._set_identity(identity)
        if message.token is not UNSET:
            self.cookie = None
        session.begin_privacy_changes(with_first=message.privacy is not None)
        command = self._open_request = OpenSession(
            user_id=identity.user_id,
            edge=hub.edge_id,
            connection=session.connection,
            accepted_at=session.opened_at,
            resumes_only=resumes_only,
            new_session_id=hub.new_session_id(),
            resume=resume,
            privacy=message.privacy,
            disabled=not identity.presence,
            stream=session.is_stream,
            user_info=identity.user_info,
        )
        hub.bus.send(command, hub.clock())

    # --- tokens that cannot be checked ------------------------------------------------------------------------------

    def _resumable(self, message: Auth) -> Resumable | None:
        """The content of the resume token of `message`, if it is accepted in place of a check of the token."""
        hub, token = self._session.hub, self._token(message)
        if message.resume_token is None or not token or not hub.verifier.is_remote:
            return None
        now_s = hub.unix_s()
        found = hub.resume_tokens.read_identity(message.resume_token, token, now_s)
        if found is None or hub.verifier.was_refused(token, now_s):
            return None
        return None if hub.verifier.has_refused(found.token_hash, now_s) else found

    def _token(self, message: Auth) -> str:
        """The token of the message, or of the upgrade's cookie."""
        if message.token is not UNSET:
            return message.token
        return self.cookie.value if isinstance(self.cookie, SessionCookie) else ""

    def _stop_waiting(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None

    def _on_resume_timeout(self, message: Auth) -> None:
        self._resume_timer = None
        resumable = self._resumable(message) if self._session.state == "verifying" else None
        if resumable is not None:
            self._resume_unchecked(message, resumable)

    def _resume_unchecked(self, message: Auth, resumable: Resumable) -> None:
        self._stop_waiting()
        self._unchecked, self._proof = message, resumable
        self._open(message, resumable.identity, resumable.session_id, resumes_only=True)

    def on_session_over(self) -> None:
        """Handle that the session named by the resume token has ended: the resume token no longer authenticates, and
        `auth` waits for the check of the token, or uses its result that has come meanwhile."""
        message, self._unchecked, self._proof = self._unchecked, None, None
        late, self._late = self._late, None
        failure, self._failure = self._failure, None
        if message is None:
            return
        self.identity = self._open_request = None
        self._session.move("over")
        message.resume_token = None
        if late is not None:
            self._on_verified(message, late)
        elif failure is not None:
            self.on_token_refused(message, failure)

    def check_again(self, now: float) -> float:
        """Repeat the check of an unchecked token when it is due. Returns the monotonic second of the next check,
        infinity for none."""
        if self._unchecked is None:
            return inf
        if now >= self._check_at:
            message = self._unchecked
            self._schedule_check(now)
            self._verify_first(message)
        return self._check_at

    def _schedule_check(self, now: float) -> None:
        # spread by connection number: many sessions are resumed at the same time
        self._check_at = now + CHECK_AGAIN_S * (1.0 + self._session.connection % 16 / 16.0)

    def _on_checked(self, message: Auth, identity: Identity) -> None:
        """Apply the identity of a valid token of a session that was resumed before the check."""
        self._unchecked = self._proof = None
        if identity.user_id == self._session.user_id:
            self._take(identity, self._session.hub.clock())
        else:
            self._send_refusal(message, TokenRefused("it is another user's than the session"))
            self._session.finish(4401)

    # ----------------------------------------------------------------------------------------------------------------

    def retry_pending(self, now: float) -> None:
        """Repeat `OpenSession` after the loss of an owner, if it has no answer."""
        if self._open_request is not None and self._session.opening:
            self._session.hub.bus.send(self._open_request, now)

    def on_opened(self, opened: SessionOpened, now: float) -> None:
        """Answer the client's `auth`; the user's owner has opened or resumed the session."""
        message, self._message = self._message, None
        self._open_request = None
        assert message is not None
        resumed = "resumed" if self._unchecked is None else "resumed_unchecked"
        counters.auth(resumed if opened.resumed else "accepted")
        self._answer(message, opened.resumed, opened.rooms, now)
        late, self._late, self._failure = self._late, None, None
        if late is not None:
            self._on_checked(message, late)
        elif self._unchecked is not None:
            self._schedule_check(now)

    def _refresh(self, message: Auth, identity: Identity, number: int) -> None:
        session = self._session
        if identity.user_id != session.user_id:
            session.refuse(PresenceError("ALREADY_AUTHENTICATED"), message.id)
            return
        now = session.hub.clock()
        if number < self._taken:  # a newer token was verified before and stays in force
            self._answer(message, False, session.memberships.joined, now, with_identity=False)
            return
        self._taken = number
        self._unchecked = self._proof = None
        self._take(identity, now, message)
        session.on_tick(now)

    def _take(self, identity: Identity, now: float, message: Auth | None = None) -> None:
        """Apply a new identity of the same user: scopes, presence, name and expiry. Answers `message`, if there is one,
        then sends the changes to the user's owner and rechecks all rooms."""
        session = self._session
        was_hidden = session.hidden
        self._set_identity(identity)
        session.memberships.update_has_pending()  # the token may switch presence off
        if session.hidden != was_hidden:
            session.rate_limiter.forget_last()
        if message is not None:
            counters.auth("refreshed")
            self._answer(message, False, session.memberships.joined, now)
        command = change_privacy(session, Privacy())
        command.disabled = not identity.presence
        session.hub.bus.send(command, now)
        renewal = RenewUserInfo(user_id=session.user_id, session_id=session.session_id, user_info=identity.user_info)
        session.hub.bus.send(renewal, now)
        session.memberships.check_again(now)

    def _set_identity(self, identity: Identity) -> None:
        """Put an identity into force. The warning before its end is due `auth_warning_s` before, and for a token that
        lives less than twice as long, at half of what is left now [A7]."""
        hub = self._session.hub
        self.identity = identity
        self._warned = False
        self._warn_s = max(min(hub.limits.auth_warning_s, (identity.expires_at_s - hub.unix_s()) / 2.0), 0.0)

    def _answer(
        self, message: Auth, resumed: bool, rooms: list[str], now: float, *, with_identity: bool = True
    ) -> None:
        """Send `authenticated` with a new resume token. `with_identity`: the session's identity is that of the token of
        `message`, so the resume token may contain both."""
        session, hub = self._session, self._session.hub
        assert self.identity is not None
        tokens, token = hub.resume_tokens, self._token(message)
        if token and hub.verifier.is_remote and with_identity:
            checked = None if self._proof is None else self._proof.token_hash
            resume_token = tokens.issue_for(self.identity, session.session_id, self._resume_until_s, token, checked)
        else:
            resume_token = self.short_resume_token()
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

    @property
    def _resume_until_s(self) -> int:
        """The unix second at which resume tokens end: a session that is cut because its token has ended may come back
        with a fresh one within its grace period."""
        limits = self._session.hub.limits
        assert self.identity is not None
        return self.identity.expires_at_s + ceil(limits.auth_grace_s + limits.grace_s + LONGEST_EXTRA_S)

    def short_resume_token(self) -> str:
        """Return a resume token that is no proof of identity: the client authenticates as well."""
        session = self._session
        return session.hub.resume_tokens.issue(session.user_id, session.session_id, self._resume_until_s)

    def watch_expiry(self, now: float) -> float:
        """Warn before the token expires, close the connection `auth_grace_s` (30 s) after [A7]. Returns the monotonic
        second of the next step."""
        session, hub = self._session, self._session.hub
        assert self.identity is not None
        expires_at = now + self.identity.expires_at_s - hub.unix_s()
        cut_at = expires_at + hub.limits.auth_grace_s
        if now >= cut_at:
            session.refuse(PresenceError("UNAUTHENTICATED", "The token has expired. Connect with a new one."))
            session.finish(4401)
        elif not self._warned:
            warn_at = expires_at - self._warn_s
            if now < warn_at:
                return warn_at
            self._warned = True
            session.send(AuthExpiring(expires_at=hub.wall.iso(expires_at)))
        return cut_at


async def _await_identity(
    session: AuthenticationSession,
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
    except Exception:  # logged by the hub
        if session.state != "closed":
            refuse(VerifierUnavailable("something went wrong, and was logged"))
        raise
    if session.state != "closed":
        then(identity)


def _stands(resumable: Resumable, failure: VerifierUnavailable) -> bool:
    """True when a resume token is accepted in place of a token that could not be checked. For a token that was not
    checked before only when the service does not answer: any client can cause the rate limit that refuses a check."""
    return resumable.is_same or failure.is_silence


def _advertised(limits: Limits) -> dict[str, float]:
    """The limits that are sent to clients."""
    return {
        "maxUsersPerRoom": limits.max_users_per_room,
        "maxRoomsPerUser": limits.max_rooms_per_user,
        "maxSessionsPerUser": limits.max_sessions_per_user,
        "cursorHz": limits.cursor_hz,
        "selectionHz": limits.selection_hz,
        "presenceHz": limits.presence_hz,
        "typingHz": limits.typing_hz,
        "playbackHz": limits.playback_hz,
        "broadcastHz": limits.broadcast_hz,
        "maxMessageBytes": limits.max_message_bytes,
        "maxBroadcastBytes": limits.max_broadcast_bytes,
        "maxPresenceBytes": limits.max_presence_bytes,
    }
