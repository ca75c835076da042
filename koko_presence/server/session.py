"""What one client may do, in which state: from `auth` to the last frame.

A session's life is the table LIFE. Messages are decoded here, checked against the connection's own limits [E2, L3],
and passed to the owner of their room or user; replies and events come back through the hub. Errors never disconnect,
abuse does, after a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

from koko_presence._fastpath.counters import tally
from koko_presence._fastpath.delivery_window import DeliveryWindow
from koko_presence._fastpath.fanout import frame_text
from koko_presence._fastpath.outbox import Outbox
from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.codec import BadMessage, decode
from koko_presence.protocol.commands import EndSession
from koko_presence.protocol.edge_messages import SessionOpened
from koko_presence.protocol.errors import CLOSES, PresenceError
from koko_presence.protocol.events import ServerNotice, encode, error_reply
from koko_presence.protocol.messages import (
    AnyClientMessage,
    Auth,
    Heartbeat,
    MessageId,
    Privacy,
    SetPrivacy,
    SetStatus,
    SetStatusAlias,
)
from koko_presence.protocol.snapshots import SessionRecord
from koko_presence.users.session import NONE

from .address_limits import FREE, AddressUse
from .authentication import Authentication
from .flood_limits import Abuse
from .held_messages import OPENING, HeldMessages
from .idle_tracker import ActivityWatch
from .keepalive import LinkWatch
from .membership import ROOM_HANDLERS, Memberships
from .self_service import handle_heartbeat, handle_privacy, handle_status
from .session_states import CLOSED_LINK, LIFE, Link

if TYPE_CHECKING:
    from .hub import Hub

# How often heartbeats may turn a session from active to idle and back: each time is an event for all in its rooms.
CLAIM_HZ, CLAIM_BURST = 0.5, 4
NO_WORDS: dict[str, int] = {}  # one for all, never written to: a dictionary of its own has 64 bytes


class Session:
    """One client. The connection calls `on_*`; everything it writes goes through its outbox. It receives the streams of
    its rooms (`subscription.Subscriber`).

    Authentication, memberships, outbox and link know their session; `on_close`, the last that the connection says, cuts
    that.
    """

    __slots__ = (
        "__weakref__", "_link_watch", "_strangers", "abuse", "activity", "address_use", "barred", "claims",
        "connection", "gate", "held", "hub", "link", "login", "opened_at", "outbox", "ponged_at", "privacy",
        "privacy_unheard", "privacy_version", "privacy_words", "refusal", "rooms", "session_id", "state",
        "status_bucket", "version",
    )  # fmt: skip

    def __init__(self, hub: Hub, connection: int, link: Link, address_use: AddressUse = FREE) -> None:
        now = hub.clock()
        limits = hub.limits
        self.hub = hub
        self.connection = connection
        self.link = link
        self.address_use = address_use
        self.state = "new"
        self.session_id = ""
        self.login = Authentication(self)
        self.outbox = Outbox(link, limits.send_soft_bytes, limits.send_hard_bytes, hub.turn, self._on_slow)
        self.abuse = Abuse(limits)
        self.rooms = Memberships(self)
        self.gate = SessionRateLimiter(
            self.abuse.messages, self.rooms.cursors, self.rooms.max_bytes, hub.clock, now, self.rooms, hub.round
        )
        self.barred: frozenset[str] = NONE
        self.activity = ActivityWatch(limits, now, self.gate)
        self.claims = TokenBucket(CLAIM_HZ, CLAIM_BURST)
        self.status_bucket = TokenBucket(limits.status_hz, limits.status_burst)
        self.opened_at = now
        self.refusal = ""  # what the client was told last that it had done wrong
        self._strangers = 0  # messages before auth
        self.held = HeldMessages()
        self._link_watch = LinkWatch(limits, now)
        self.ponged_at = -1e9
        self.version = 0  # by which the user's owner gave the session to this connection
        self.privacy = Privacy()  # what it hides, as far as this edge knows
        self.privacy_version = 0  # of the owner's last word on it
        self.privacy_words = 0  # how often the client has spoken of it
        self.privacy_unheard: dict[str, int] = NO_WORDS  # switches, and which word the last on each was
        hub.wake(self, now + limits.auth_timeout_s)

    @property
    def opening(self) -> bool:
        return self.state == "opening"

    @property
    def is_known(self) -> bool:
        """Is it certain who the client is?"""
        return self.login.identity is not None

    @property
    def hearing(self) -> set[str]:
        """Rooms whose stream this session receives."""
        return self.rooms.hearing

    def move(self, event: str) -> None:
        """Take the step of LIFE. Errors: KeyError for a step that does not exist, which is a fault of the caller."""
        self.state = LIFE[self.state, event]
        self.gate.open = self.state == "open"
        if event == "auth":
            self.link.invite()

    # --- what the connection calls --------------------------------------------------------------------------------

    def on_open(self, connection: Any) -> None:
        """The handshake is done; the time for `auth` has been running since the session was made [A1]."""
        connection.shorten(self.outbox, self.gate)
        if connection.is_proxied:
            self.bound_delivery()
        self.login.cookie, connection.cookie = connection.cookie, None

    def bound_delivery(self) -> None:
        """Bound what is under way to the client by its pongs: it is behind a proxy, which reads as fast as this server
        writes [N1]."""
        self.outbox.use_window(DeliveryWindow(self.hub.clock()), self.hub.clock)

    def on_text(self, data: bytes) -> None:
        """A whole text message, valid UTF-8."""
        if self.state == "closed":
            return
        now = self.hub.heard_at()
        self.activity.note_life(now)
        within = self.abuse.take(now)
        if not within and self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")
            return
        if self.state != "open" and self.state != "new" and self.held.add(OPENING, data, known=self.is_known):
            return
        message = self._decode(data)
        if message is None:
            return
        tally.received(message)
        if self.state == "open":
            self.dispatch(message, data, within, now)
        else:
            self._before_open(message)

    def _decode(self, data: bytes) -> AnyClientMessage | None:
        """The message, or None for what is none and has been told so."""
        try:
            return decode(data)
        except BadMessage as error:
            tally.bad(error)
            self.refuse(error, error.id, error.room_id)
            return None

    def on_binary(self, data: bytes) -> None:
        """Binary frames are refused [B13]."""
        self.on_bad(PresenceError("BINARY_NOT_SUPPORTED"))

    def on_too_large(self, size: int) -> None:
        """A message above the soft limit was dropped [B10]."""
        limit = self.hub.limits.max_message_bytes
        self.on_bad(PresenceError("TOO_LARGE", f"The message has {size} bytes; {limit} are allowed."))

    def on_bad(self, error: PresenceError) -> None:
        """Something came that was not even a message."""
        if self.state != "closed":
            tally.bad(error)
            self.activity.note_life(self.hub.clock())
            self.refuse(error)

    def on_ping(self, count: int = 1) -> None:
        """So many pings of the client's: no sign of life [D4], but they count against floods [L3]."""
        self._count(count)

    def on_pong(self, count: int = 1) -> None:
        """The transport is alive [D4]. Pongs count against floods like all else [L3]."""
        self._link_watch.on_pong()
        self._count(count)
        if self.state != "closed":
            self.outbox.on_pong()

    def _count(self, count: int) -> None:
        now = self.hub.clock()
        if not self.abuse.take(now, count) and self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")

    def on_rest(self, until: float) -> None:
        """The client sends so much that it is not read before monotonic second `until`: a flood [L3]."""
        now = self.hub.clock()
        self.abuse.note_flood(now, until)
        if self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")

    def on_uninvited(self) -> None:
        """More frames than may come before `auth` [A2]."""
        if self.state == "new":
            self.refuse(PresenceError("UNAUTHENTICATED", "Too much came before the auth message."))
            self.finish(4401)

    def on_writable(self) -> None:
        """The socket takes bytes again."""
        self._link_watch.on_drained(self.hub.clock())
        if self.state != "closed":
            self.outbox.on_drained()

    def on_unwritable(self) -> None:
        """The socket is full: from now on it is watched whether what waits grows less [N1]."""
        now = self.hub.clock()
        if self.state != "closed":
            self.outbox.on_full()
        self._link_watch.on_full(self.outbox.taken_bytes(), now)
        self.hub.wake(self, now)  # soon; that sets all times anew

    def on_close(self, code: int | None, clean: bool) -> None:
        """The connection is gone. 1000, or a close without a code, is a leave; anything else may come back [D2]."""
        said_goodbye = code in (1000, 1005) and clean
        self._end(grace=not said_goodbye, reason="left" if said_goodbye else "disconnected")
        if self.link is CLOSED_LINK:
            return
        self.link = CLOSED_LINK
        self.held.clear()
        self.outbox.end(CLOSED_LINK)
        self.login.let_go()
        self.rooms.let_go()

    # --- messages -------------------------------------------------------------------------------------------------

    def _before_open(self, message: AnyClientMessage) -> None:
        """The first `auth`, a message before it, or one that does not fit behind it."""
        if isinstance(message, Auth) and self.state == "new":
            try:
                self.login.begin(message)
            except PresenceError as error:
                tally.refused(message, error.code)
                self.refuse(error, message.id)
        elif self.state == "new":  # [A2]
            self._strangers += 1
            tally.refused(message, "UNAUTHENTICATED")
            self.refuse(PresenceError("UNAUTHENTICATED"), message.id)
            if self._strangers >= 3:
                self.finish(4401)
        else:
            tally.refused(message, "RATE_LIMITED")
            self.refuse(PresenceError("RATE_LIMITED", "Wait for the reply to auth.", retry_after_s=1.0), message.id)

    def dispatch(self, message: AnyClientMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a message of an open session, which came as `raw`; `within` says that the connection's rate allows it
        [E2]. What is for a room that is being joined waits there."""
        if self.state != "open":  # cut off by one of the messages before, which were held together
            return
        kind = type(message)
        try:
            if (self.rooms.joining or self.rooms.behind) and self.rooms.hold_back(message, raw):
                return
            if kind in ROOM_HANDLERS:
                room_id: str = message.room_id  # type: ignore[union-attr]
                if room_id in self.rooms.joining:
                    self.rooms.hold(room_id, message, raw)
                else:
                    ROOM_HANDLERS[kind](self.rooms, message, len(raw), within, now)
                return
            if not within:
                raise PresenceError("RATE_LIMITED", retry_after_s=0.1)
            _HANDLERS[kind](self, message, now)
        except PresenceError as error:
            tally.refused(message, error.code)
            self.refuse(error, message.id, getattr(message, "room_id", None))

    def dispatch_held(self, place: str) -> None:
        """Handle what has waited in a place of `held`."""
        now = self.hub.clock()
        for raw in self.held.take(place):
            message = self._decode(raw) if self.state == "open" else None
            if message is None:
                continue
            if place == OPENING:  # the others were decoded when they came, to find the room that they are for
                tally.received(message)
            self.dispatch(message, raw, True, now)

    def _again(self, message: Auth, now: float) -> None:
        self.login.again(message)

    def on_opened(self, news: SessionOpened, now: float) -> None:
        """The user's owner has made or resumed the session."""
        self.move("opened")
        self.session_id = news.session_id
        self.address_use.settle()
        self.version, self.privacy, self.privacy_version = news.opening, news.privacy, news.privacy_version
        self.rooms.note_crowd()
        self.activity.restore(news.activity, now)
        self.rooms.resume(news.rooms)
        self.login.on_opened(news, now)
        if news.resumed:
            self.rooms.check_again(now)  # the token may open less than the one before
        self.on_tick(now)
        self.dispatch_held(OPENING)

    def on_refused(self, code: str, now: float) -> None:
        """No session for this connection: the user has too many [C11], or the one to be resumed is over."""
        if code == "UNAUTHENTICATED":
            if self.opening:  # else another owner has made it meanwhile
                self.login.on_session_over()
            return
        tally.auth("session_limit")
        self.refuse(PresenceError(code), self.login.message_id)
        self.finish(4429)

    # --- time -----------------------------------------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Do what has become due and say when to come again: auth, pings, silence, idleness, token expiry. What the
        client may have prevented is not judged while its words may not have been read (`Hub.judges_from`)."""
        limits, judges_from = self.hub.limits, self.hub.judges_from
        judges = now >= judges_from
        if self.state == "closed":
            return
        if self.state != "open":
            until = self.hub.delays.ends(self.opened_at, limits.auth_timeout_s)
            if judges and now >= until:
                tally.auth("timeout")
                self.refuse(PresenceError("UNAUTHENTICATED", "No auth message came in time."))
                self.finish(4408)
            else:
                self.hub.wake(self, max(until, judges_from))
            return
        if judges and self._is_over(now):
            return
        if judges:
            self.rooms.report(self.activity.lapse(now), now, interacted=False)
        if self._link_watch.take_ping(now):
            self.outbox.ping()
        times = [judges_from]
        if judges:
            times = [self.activity.next_at(), self._link_watch.next_at(now), self.login.watch_expiry(now)]
        if self.state == "open":
            times += (self.login.check_again(now), self.rooms.ask_undecided(now))
        if self.state == "open":  # the token may have ended it
            self.hub.wake(self, min(times))

    def _is_over(self, now: float) -> bool:
        """End the session if its client says nothing any more, takes nothing or does not answer. True: it is ended."""
        if now >= self.activity.silent_at:  # three heartbeats missed [D4]
            self._end(grace=False, reason="timeout")
            self._close(4408)
        elif self._link_watch.is_stuck(self.outbox.taken_bytes(), now):
            self._on_slow()
        elif self._link_watch.is_lost(now):
            self._end(grace=True, reason="disconnected")
            self.link.abort()
        else:
            return False
        return True

    def release_waiting(self, now: float) -> None:
        """A value that waited for this session's budget may go [E2]."""
        self.rooms.release_waiting(now)

    # --- ends -----------------------------------------------------------------------------------------------------

    def on_ended(self, code: int, now: float) -> None:
        """The user's owner has given the session to a newer connection, or ended it [D16, C11]."""
        if self.state != "closed":
            self.move("end")
            self.outbox.flush()
            self.hub.forget(self)
            self._close(code)

    def on_attach(self, room_id: str) -> None:
        """The first frame of a room's stream has been written."""
        self.rooms.on_attach(room_id)

    def on_detach(self, room_id: str) -> None:
        """The last frame of a room's stream has been written."""
        self.rooms.on_detach(room_id)

    def on_room_refused(self, room_id: str, payload: bytes, now: float) -> None:
        """A join failed."""
        if not self.rooms.unanswered.refused(room_id, now):
            return
        if room_id in self.barred:
            self.barred -= {room_id}
        else:
            self.write(payload)
            self.on_refusal()
        self.rooms.on_refused(room_id, now)

    def on_refusal(self) -> None:
        """An error was sent to this client; too many of them are abuse [L3]."""
        verdict = self.abuse.note_error(self.hub.clock())
        if verdict == "warn":
            self.send(ServerNotice(code="RATE_LIMITED", message="Too many errors. A few more and you are cut off."))
        elif verdict == "cut" and self.state != "closed":
            self.cut_for_abuse("Too many errors.")

    def refuse(self, error: PresenceError, id: MessageId | None = None, room_id: str | None = None) -> None:
        self.refusal = error.message
        self.write(error_reply(error, id, room_id))
        not_ours = error.code in ("INVALID_JSON", "UNKNOWN_TYPE", "BINARY_NOT_SUPPORTED")
        if not_ours and self.abuse.note_protocol_error(self.hub.clock()):  # [B13]
            self.finish(4400)
            return
        self.on_refusal()

    def cut_for_abuse(self, why: str) -> None:
        wait_s = self.hub.limits.abuse_retry_after_s
        if self.state == "closed":
            return
        self.send(ServerNotice(code="RATE_LIMITED", message=why, retry_after_ms=round(wait_s * 1000)))
        self.finish(4429)

    def shed(self) -> None:
        """Memory is short, and much waits for this client: cut it off as a slow one, and drop what is not sent yet."""
        self.outbox.discard()
        self._on_slow()

    def _on_slow(self) -> None:
        self._end(grace=True, reason="disconnected")
        self._close(4413)

    def finish(self, code: int, *, migrates: bool = False) -> None:
        """End the session from our side with a close code; whether it may be resumed stands in CLOSES. `migrates`:
        another worker takes the client at once, and the others in its rooms see nothing of it."""
        kicked = code == 4403
        self._end(grace=not kicked, reason="kicked" if kicked else "disconnected", migrates=migrates)
        self._close(code)

    def _end(self, *, grace: bool, reason: str, migrates: bool = False) -> None:
        if self.state == "closed":
            return
        was_open = self.state in ("opening", "open")
        self.move("end")
        self.outbox.flush()
        session_id, now = self.session_id, self.hub.clock()
        self.hub.forget(self)
        if was_open:
            if migrates and session_id:
                self.hub.migrating.add(self.connection)
            self.hub.bus.send(
                EndSession(
                    user_id=self.user_id,
                    session_id=session_id,
                    edge=self.hub.edge_id,
                    connection=self.connection,
                    opening=self.version,
                    grace=grace,
                    reason=reason,
                    migrates=migrates,
                ),
                now,
            )

    def _close(self, code: int) -> None:
        self.link.close(code, CLOSES[code].reason)

    # --- writing --------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Who this is; there once the token has been verified."""
        assert self.login.identity is not None
        return self.login.identity

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    @property
    def hidden(self) -> bool:
        """May others not know of it, as far as this edge knows [K1]?"""
        return self.privacy.invisible is True or not self.identity.presence

    def record(self, called: Set[str] = NONE) -> SessionRecord:
        """This session, for the next owner of its user [N-b]. `called` are the rooms that it joins by a call which is
        not answered yet."""
        hidden = self.privacy
        return SessionRecord(
            session_id=self.session_id,
            edge=self.hub.edge_id,
            connection=self.connection,
            accepted_at=self.opened_at,
            opening=self.version,
            privacy_version=self.privacy_version,
            heard=0,  # what it has said since its owner's last word may not have come to anybody
            lease_until=0.0,
            grace_until=0.0,
            connected=True,
            disabled=not self.identity.presence,
            invisible=hidden.invisible is True,
            share_cursor=hidden.share_cursor is not False,
            share_selection=hidden.share_selection is not False,
            activity=self.activity.activity,
            rooms=self.rooms.record(called),
            left=self.rooms.unanswered.left_lately(self.hub.clock()),
        )

    def send(self, message: Any) -> None:
        """Write one message of the server."""
        self.write(encode(message))

    def write(self, payload: bytes | None) -> None:
        """Write one encoded message; nothing when there is none."""
        if payload is not None and self.state != "closed":
            tally.sent(payload)
            self.outbox.write(frame_text(payload))

    def _send_command(self, command: Any, now: float) -> None:
        self.hub.bus.send(command, now)


_HANDLERS: dict[type, Callable[[Session, Any, float], None]] = {
    Auth: Session._again,
    Heartbeat: handle_heartbeat,
    SetStatus: handle_status,
    SetStatusAlias: handle_status,
    SetPrivacy: handle_privacy,
}
