"""Handles one client's messages by the session's state, from `auth` to the last frame.

`Session` writes its state by the table `TRANSITIONS`. It decodes messages, checks them against the connection's own
limits [E2, L3] and sends commands to the owner of the room or user; replies and events arrive through the hub. Messages
of one client are handled in the order received; messages that cannot be handled yet are held. Errors do not close the
connection; abuse does, after a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from typing import Any, Protocol

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.delivery_window import DeliveryWindow
from koko_presence._fastpath.outbox import Outbox, WriteBatch
from koko_presence._fastpath.rounds import Round
from koko_presence._fastpath.session_limits import SessionRateLimiter
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.auth.cookies import SessionCookie
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.codec import BadMessage, decode
from koko_presence.protocol.commands import EndSession
from koko_presence.protocol.edge_messages import SessionOpened
from koko_presence.protocol.errors import CLOSES, PresenceError
from koko_presence.protocol.events import ServerNotice, encode, error_reply
from koko_presence.protocol.messages import (
    EDGE,
    MESSAGES,
    ROOM_MESSAGES,
    Auth,
    ClientMessage,
    GetActive,
    Heartbeat,
    Join,
    Leave,
    SetPrivacy,
    SetStatus,
    SetStatusAlias,
    Watch,
)
from koko_presence.protocol.models import MessageId, Privacy
from koko_presence.protocol.snapshots import SessionRecord
from koko_presence.rooms.service_delays import Delays
from koko_presence.users.session import NONE

from .address_limits import FREE, AddressUse
from .authentication import Authentication, AuthenticationHub
from .flood_limits import Abuse
from .held_messages import HeldBytes, HeldQueue
from .idle_tracker import ActivityWatch
from .keepalive import LinkWatch
from .membership import Memberships, MembershipsHub
from .self_service import SWITCHES, handle_heartbeat, handle_privacy, handle_status
from .session_states import CLOSED_LINK, TRANSITIONS, Link
from .watch_list import WatchingHub, WatchList

log = logging.getLogger("koko_presence.connection")

# How often heartbeats may change a session's activity: each change is an event for all members of its rooms.
ACTIVITY_CHANGE_HZ, ACTIVITY_CHANGE_BURST = 0.5, 4
# Size up to which the changes of a presence object are merged for a slow client, in sizes of such an object: any object
# may follow on any other one, with the names of all keys that the first one had.
MERGED_OBJECTS = 4
# shared and never written: a dictionary of each session's own would use 64 bytes
NONE_UNACKNOWLEDGED: dict[str, int] = {}


class SessionHub(AuthenticationHub, MembershipsHub, WatchingHub, Protocol):
    """The edge of a session: what the session and its parts use of it."""

    @property
    def write_batch(self) -> WriteBatch: ...

    @property
    def round(self) -> Round: ...

    @property
    def delays(self) -> Delays: ...

    @property
    def judges_from(self) -> float: ...

    @property
    def migrating(self) -> set[int]: ...

    def received_at(self) -> float: ...

    def forget(self, session: Session) -> None: ...


class Session:
    """One client's session. The connection calls `on_*`; all output goes through the outbox. The session subscribes to
    the streams of its rooms (`subscription.Subscriber`). Written by the loop's thread only.

    Authentication, memberships, outbox and link hold references to their session; `on_close`, the connection's last
    call, removes them.
    """

    __slots__ = (
        "__weakref__", "_behind_auth", "_link_watch", "_messages_before_auth", "abuse", "activity", "activity_changes",
        "address_use", "authentication", "connection", "held", "hub", "is_stream", "link", "memberships", "opened_at",
        "outbox", "ponged_at", "privacy", "privacy_seq", "privacy_version", "rate_limiter", "refusal", "session_id",
        "state", "status_bucket", "unacknowledged_privacy", "version", "watch_list",
    )  # fmt: skip

    def __init__(self, hub: SessionHub, connection: int, link: Link, address_use: AddressUse = FREE) -> None:
        now = hub.clock()
        limits = hub.limits
        self.hub = hub
        self.connection = connection
        self.link = link
        self.address_use = address_use
        self.state = "new"
        self.is_stream = False  # connected by an event stream [M6c]
        self.session_id = ""
        self.authentication = Authentication(self)
        self.outbox = Outbox(
            link,
            limits.send_soft_bytes,
            limits.send_hard_bytes,
            hub.write_batch,
            self._on_slow,
            MERGED_OBJECTS * limits.max_presence_bytes,
        )
        self.abuse = Abuse(limits)
        self.memberships = Memberships(self)
        self.rate_limiter = SessionRateLimiter(
            self.abuse.messages,
            self.memberships.cursors,
            self.memberships.max_bytes,
            hub.clock,
            now,
            self.memberships,
            hub.round,
        )
        self.activity = ActivityWatch(limits, now, self.rate_limiter)
        self.activity_changes = TokenBucket(ACTIVITY_CHANGE_HZ, ACTIVITY_CHANGE_BURST)
        self.status_bucket = TokenBucket(limits.status_hz, limits.status_burst)
        self.opened_at = now
        self.refusal = ""  # text of the last error sent to the client
        self._messages_before_auth = 0  # messages before `auth`
        self.held = HeldBytes()
        self._behind_auth: HeldQueue | None = None  # messages that wait for the answer to `auth`
        self._link_watch = LinkWatch(limits, now)
        self.watch_list: WatchList | None = None  # made with the first `watch`
        self.ponged_at = -1e9
        self.version = 0  # with which the user's owner opened the session for this connection
        self.privacy = Privacy()  # the privacy that applies at this edge
        self.privacy_version = 0  # version of the last privacy received from the owner
        self.privacy_seq = 0  # number of the client's privacy changes
        self.unacknowledged_privacy: dict[str, int] = NONE_UNACKNOWLEDGED  # unconfirmed switches: number of the change
        hub.wake(self.connection, now + limits.auth_timeout_s)

    def become_stream(self) -> None:
        """Record that the session is connected by an event stream, before it is authenticated."""
        self.is_stream = True

    @property
    def opening(self) -> bool:
        return self.state == "opening"

    @property
    def is_known(self) -> bool:
        """True when the client is authenticated."""
        return self.authentication.identity is not None

    @property
    def subscribed_rooms(self) -> set[str]:
        """Rooms that this session is subscribed to."""
        return self.memberships.subscribed_rooms

    def discards(self, room_id: str) -> bool:
        """True when what arrives of a room is dropped, because the session was expelled from it."""
        return self.memberships.discards(room_id)

    # --- state that other parts of the edge report ---------------------------------------------------------------

    def note_version(self, version: int) -> None:
        """Record the version with which the user's owner gave the session to this connection; a lower one than before
        changes nothing."""
        self.version = max(self.version, version)

    def note_pong_sent(self, now: float) -> None:
        """Record that a heartbeat was answered at monotonic second `now`."""
        self.ponged_at = now

    def begin_privacy_changes(self, *, with_first: bool) -> None:
        """Count the connection's privacy changes from the start; `with_first`: its `auth` carries the first."""
        self.privacy_seq = 1 if with_first else 0

    def change_privacy(self, privacy: Privacy) -> int:
        """Apply a change by the client; return its number among the privacy changes of this connection. Until the
        user's owner has applied it, it takes precedence over the owner's messages."""
        self.privacy_seq += 1
        for name in SWITCHES:
            if isinstance(value := getattr(privacy, name), bool):
                setattr(self.privacy, name, value)
                self.unacknowledged_privacy = {**self.unacknowledged_privacy, name: self.privacy_seq}
        return self.privacy_seq

    def apply_owner_privacy(self, privacy: Privacy, version: int, applied: int) -> bool:
        """Apply the owner's message on what the session hides, which includes the first `applied` changes by the
        client; later ones keep their effect [K3]. Return False for an outdated message, which changes nothing."""
        if version < self.privacy_version:
            return False
        unacknowledged = {name: seq for name, seq in self.unacknowledged_privacy.items() if seq > applied}
        for name in unacknowledged:
            setattr(privacy, name, getattr(self.privacy, name))
        self.privacy, self.privacy_version, self.unacknowledged_privacy = privacy, version, unacknowledged
        return True

    def move(self, event: str) -> None:
        """Change the state by the table `TRANSITIONS`. Errors: KeyError for a transition that is not in it, a fault of
        the caller."""
        self.state = TRANSITIONS[self.state, event]
        self.rate_limiter.open = self.state == "open"
        if event == "auth":
            self.link.lift_preauth_limit()

    # --- called by the connection ---------------------------------------------------------------------------------

    def on_open(self, connection: Any) -> None:
        """Attach rate limiter and outbox to the connection after the handshake. The timeout for `auth` runs since the
        session was made [A1]."""
        connection.use_fast_path(self.outbox, self.rate_limiter)
        if connection.is_proxied:
            self.bound_delivery(appends_pings=True)
        self.authentication.cookie, connection.cookie = connection.cookie, None

    def bound_delivery(self, *, appends_pings: bool) -> None:
        """Limit the unacknowledged data to the client by its pongs: the client is behind a proxy, which reads as fast
        as this server writes [N1]. `appends_pings`: the link passes bytes on unchanged."""
        self.outbox.use_window(DeliveryWindow(), self.hub.clock, appends_pings=appends_pings)

    def on_text(self, data: bytes) -> None:
        """Handle a complete text message, valid UTF-8."""
        if self.state == "closed":
            return
        now = self.hub.received_at()
        self.activity.note_received(now)
        within = self.abuse.take(now)
        if not within and self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")
            return
        if self.state != "open" and self.state != "new" and self._hold(data):
            return
        message = self.decode(data)
        if message is None:
            return
        counters.received(message)
        if self.state == "open":
            self.dispatch(message, data, within, now)
        else:
            self._before_open(message)

    def _hold(self, data: bytes) -> bool:
        """Hold a message until `auth` is answered [A2]. Returns False when it does not fit."""
        if self._behind_auth is None:
            self._behind_auth = HeldQueue(self.held)
        return self._behind_auth.add(data, known=self.is_known)

    def decode(self, data: bytes) -> ClientMessage | None:
        """Decode a message. Returns None for an invalid one, after answering with the error."""
        try:
            return decode(data)
        except BadMessage as error:
            counters.bad(error)
            self.refuse(error, error.id, error.room_id)
            return None

    def on_binary(self, data: bytes) -> None:
        """Refuse a binary message [B13]."""
        self.on_bad(PresenceError("BINARY_NOT_SUPPORTED"))

    def on_too_large(self, size: int) -> None:
        """Answer a message that was dropped because it is above the soft limit [B10]."""
        limit = self.hub.limits.max_message_bytes
        self.on_bad(PresenceError("TOO_LARGE", f"The message has {size} bytes; {limit} are allowed."))

    def on_bad(self, error: PresenceError) -> None:
        """Answer input that is no message of the protocol."""
        if self.state != "closed":
            counters.bad(error)
            self.activity.note_received(self.hub.clock())
            self.refuse(error)

    def on_ping(self, count: int = 1) -> None:
        """Count pings of the client against floods [L3]; they do not prevent the end of a silent session [D4]."""
        self._count(count)

    def on_pong(self, payload: bytes, count: int = 1) -> None:
        """Record pongs, which show that the transport is alive [D4], and count them against floods [L3]. `payload` is
        that of the last one."""
        self._link_watch.on_pong(self.hub.received_at())
        self._count(count)
        if self.state != "closed":
            now = self.hub.received_at()
            self.outbox.on_pong(payload, now, now >= self.hub.judges_from)

    def _count(self, count: int) -> None:
        now = self.hub.clock()
        if not self.abuse.take(now, count) and self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")

    def on_throttled(self, until: float) -> None:
        """Count as a flood that the client exceeds its read budget: it is not read before monotonic second `until`
        [L3]."""
        now = self.hub.clock()
        self.abuse.note_flood(now, until)
        if self.abuse.flooding_for(now) >= self.hub.limits.flood_s:
            self.cut_for_abuse("You send more than this connection may.")

    def on_preauth_limit(self) -> None:
        """Close a connection with more frames before `auth` than allowed [A2]."""
        if self.state == "new":
            self.refuse(PresenceError("UNAUTHENTICATED", "Too much came before the auth message."))
            self.finish(4401)

    def on_writable(self) -> None:
        """Record that the socket has taken all data."""
        self._link_watch.on_drained(self.hub.clock())
        if self.state != "closed":
            self.outbox.on_drained()

    def on_unwritable(self) -> None:
        """Record that the socket is full, and check from now on that the peer acknowledges data [N1]."""
        now = self.hub.clock()
        if self.state != "closed":
            self.outbox.on_full()
        self._link_watch.on_full(self.outbox.taken_bytes(), now)
        self.hub.wake(self.connection, now)  # at once: the next tick computes all deadlines anew

    def on_close(self, code: int | None, clean: bool) -> None:
        """End the session when its connection is closed. A clean close with 1000 or without a code is a leave; after
        any other close the session may be resumed [D2]."""
        closed_by_client = code in (1000, 1005) and clean
        self._end(grace=not closed_by_client, reason="left" if closed_by_client else "disconnected")
        if self.link is CLOSED_LINK:
            return
        self.link = CLOSED_LINK
        self._behind_auth = None
        self.outbox.end(CLOSED_LINK)
        self.authentication.release()
        self.memberships.release()
        if self.watch_list is not None:
            self.watch_list.release()

    def renew_token(self, token: str, cookie: SessionCookie | None, expires_at_s: float) -> None:
        """Take the token or the cookie of a call, if it ends later than the present one."""
        self.authentication.renew(token, cookie, expires_at_s)

    # --- messages -------------------------------------------------------------------------------------------------

    def _before_open(self, message: ClientMessage) -> None:
        """Handle the first `auth`, a message before it, or one that cannot be held while `auth` has no answer."""
        if isinstance(message, Auth) and self.state == "new":
            try:
                self.authentication.begin(message)
            except PresenceError as error:
                counters.refused(message, error.code)
                self.refuse(error, message.id)
        elif self.state == "new":  # [A2]
            self._messages_before_auth += 1
            counters.refused(message, "UNAUTHENTICATED")
            self.refuse(PresenceError("UNAUTHENTICATED"), message.id)
            if self._messages_before_auth >= 3:
                self.finish(4401)
        else:
            counters.refused(message, "RATE_LIMITED")
            self.refuse(PresenceError("RATE_LIMITED", "Wait for the reply to auth.", retry_after_s=1.0), message.id)

    def dispatch(self, message: ClientMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a message of an open session, received as `raw`; `within`: the connection's rate allows it [E2]. A
        message for a room that is joining is held."""
        if self.state != "open":  # closed by an earlier message of those that were held together
            return
        kind = type(message)
        try:
            memberships = self.memberships
            if (memberships.joining or memberships.behind_joins is not None) and memberships.hold_back(message, raw):
                return
            in_room, handler = _HANDLERS[kind]
            if not in_room:
                if not within:
                    raise PresenceError("RATE_LIMITED", retry_after_s=0.1)
                handler(self, message, now)
            elif memberships.joining and memberships.is_holding(message.room_id):  # type: ignore[attr-defined]
                memberships.hold(message, raw)  # type: ignore[arg-type]
            else:
                handler(memberships, message, raw, within, now)
        except PresenceError as error:
            counters.refused(message, error.code)
            self.refuse(error, message.id, getattr(message, "room_id", None))

    def dispatch_held(self, messages: list[bytes], *, counted: bool = True) -> None:
        """Handle messages that were held, in order. `counted`: they were decoded and counted when they arrived."""
        now = self.hub.clock()
        for raw in messages:
            message = self.decode(raw) if self.state == "open" else None
            if message is None:
                continue
            if not counted:
                counters.received(message)
            self.dispatch(message, raw, True, now)

    def _again(self, message: Auth, now: float) -> None:
        self.authentication.again(message)

    # --- rooms that the session watches without being in them [Q12] -----------------------------------------------

    def _watch(self, message: Watch, now: float) -> None:
        """Handle `watch`. Errors: RATE_LIMITED."""
        if self.watch_list is None:
            self.watch_list = WatchList(self)
        self.watch_list.watch(message, now)

    def recheck_watched(
        self, room_id: str | None = None, then: Callable[[bool | None], object] = lambda allowed: None
    ) -> int:
        """Check again whether the session may watch a room, or with None all that it watches, as
        `WatchList.recheck`."""
        return 0 if self.watch_list is None else self.watch_list.recheck(room_id, then)

    def unwatch(self, room_id: str, reason: str) -> None:
        """Take a room out of those that the session watches, because the user was kicked out of it."""
        if self.watch_list is not None:
            self.watch_list.take_out(room_id, reason)

    def end_watching(self) -> None:
        """Watch no rooms any more; the session has ended."""
        if self.watch_list is not None:
            self.watch_list.end()

    # --- opening --------------------------------------------------------------------------------------------------

    def on_opened(self, opened: SessionOpened, now: float) -> None:
        """Open the session, which the user's owner has made or resumed; answer the client, then handle held
        messages."""
        self.move("opened")
        self.session_id = opened.session_id
        self.address_use.settle()
        self.version = opened.session_version
        self.privacy = opened.privacy
        self.privacy_version = opened.privacy_version
        self.memberships.update_has_pending()
        self.activity.restore(opened.activity, now)
        self.memberships.resume(opened.rooms)
        self.hub.bus.note_opened(self.user_id, opened.session_version, self.record, now)
        self.authentication.on_opened(opened, now)
        if opened.resumed:
            self.memberships.check_again(now)  # the token may open fewer rooms than the one before
        self.on_tick(now)
        held, self._behind_auth = self._behind_auth, None
        if held is not None:
            self.dispatch_held(held.take(), counted=False)

    def on_refused(self, code: str, now: float) -> None:
        """Handle that the user's owner opens no session: the user has too many [C11], or the session to be resumed has
        ended."""
        if code == "UNAUTHENTICATED":
            if self.opening:  # otherwise another owner has opened it meanwhile
                self.authentication.on_session_over()
            return
        counters.auth("session_limit")
        self.refuse(PresenceError(code), self.authentication.message_id)
        self.finish(4429)

    # --- timers ---------------------------------------------------------------------------------------------------

    def on_tick(self, now: float) -> None:
        """Handle what is due and schedule the next tick: timeout of `auth`, pings, silence, activity, token expiry.
        What a message of the client would prevent is not judged while received data may be unread
        (`Hub.judges_from`)."""
        limits, judges_from = self.hub.limits, self.hub.judges_from
        judges = now >= judges_from
        if self.state == "closed":
            return
        self.memberships.expire(now)
        if self.state != "open":
            until = self.hub.delays.ends(self.opened_at, limits.auth_timeout_s)
            if judges and now >= until:
                counters.auth("timeout")
                self.refuse(PresenceError("UNAUTHENTICATED", "No auth message came in time."))
                self.finish(4408)
            else:
                self.hub.wake(self.connection, max(until, judges_from))
            return
        if judges and self._end_if_over(now):
            return
        if judges:
            self.memberships.report(self.activity.lapse(now), now, interacted=False)
        if self._link_watch.take_ping(now, self.outbox.delivery_s()):
            self.link.keep_alive(self.outbox.take_ping())
        times = [judges_from]
        if judges:
            times = [self.activity.next_at(), self._link_watch.next_at(now), self.authentication.watch_expiry(now)]
        if self.state == "open":
            times += (self.authentication.check_again(now), self.memberships.recheck_undecided(now))
        if self.state == "open" and self.watch_list is not None:
            times.append(self.watch_list.recheck_undecided(now))
        if self.state == "open":  # an expired token may have closed it
            self.hub.wake(self.connection, min(times))

    def _end_if_over(self, now: float) -> bool:
        """End the session if its client sends nothing, reads nothing or does not answer pings. Returns True when it has
        ended."""
        self._link_watch.note_taken(self.outbox.taken_bytes(), now)
        if now >= self.activity.silent_at:  # three heartbeats missed [D4]
            self._end(grace=False, reason="timeout")
            self._close(4408)
        elif self._link_watch.is_stuck(now):
            self._on_slow()
        elif self._link_watch.is_lost(now):
            self._end(grace=True, reason="disconnected")
            self.link.abort()
        else:
            return False
        return True

    def release_waiting(self, now: float) -> None:
        """Send values that waited for this session's rates [E2]."""
        self.memberships.release_waiting(now)

    # --- end of the session ---------------------------------------------------------------------------------------

    def on_ended(self, code: int, now: float) -> None:
        """Close the connection with `code`: the user's owner has moved the session to a newer connection, or ended it
        [D16, C11]."""
        if self.state != "closed":
            self.move("end")
            self.outbox.flush()
            self.hub.forget(self)
            self._close(code)

    def on_attach(self, room_id: str) -> None:
        """Called when the first frame of a room's stream has been written to the outbox."""
        self.memberships.on_attach(room_id)

    def on_detach(self, room_id: str) -> None:
        """Called when the last frame of a room's stream has been written to the outbox."""
        self.memberships.on_detach(room_id)

    def on_refusal(self) -> None:
        """Count an error sent to this client; too many errors are abuse [L3]."""
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

    def fail(self) -> None:
        """Close the connection after a fault in handling an event of this session, as the connection does after one in
        handling a message: the fault, which is being handled, is logged, and the client may resume."""
        log.exception("session failed, connection closed with 1011")
        self.finish(1011)

    def shed(self) -> None:
        """Close the connection as a slow consumer and drop its unsent data, because memory is short."""
        self.outbox.discard()
        self._on_slow()

    def _on_slow(self) -> None:
        self._end(grace=True, reason="disconnected")
        self._close(4413)

    def finish(self, code: int, *, migrates: bool = False) -> None:
        """End the session with a close code; its place is kept for the grace period, except after 4403. `CLOSES` has
        what clients do after each code. `migrates`: the client is moved to another worker, and other members of its
        rooms are notified only if it does not resume there soon."""
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
                    session_version=self.version,
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
        """The verified identity. Errors: AssertionError before the token is verified."""
        assert self.authentication.identity is not None
        return self.authentication.identity

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    @property
    def round_trip_s(self) -> float:
        """The round trip to the client in seconds, by the last answered ping; before the first, 25 s after the
        connection was made, by the kernel. 0.0: it is not known."""
        return self._link_watch.round_trip_s or self.outbox.round_trip_s()

    @property
    def hidden(self) -> bool:
        """True when the session is invisible to others by the privacy that applies at this edge, or by its token
        [K1]."""
        return self.privacy.invisible is True or not self.identity.presence

    def record(self, called: Set[str] = NONE) -> SessionRecord:
        """This session's record, for the next owner of its user [N-b]. `called` are the rooms that it joins by pending
        calls."""
        hidden = self.privacy
        return SessionRecord(
            session_id=self.session_id,
            edge=self.hub.edge_id,
            connection=self.connection,
            accepted_at=self.opened_at,
            session_version=self.version,
            privacy_version=self.privacy_version,
            received_privacy_seq=0,  # the lost owner may not have replicated the changes it has received
            lease_until=0.0,
            grace_until=0.0,
            connected=True,
            disabled=not self.identity.presence,
            invisible=hidden.invisible is True,
            share_cursor=hidden.share_cursor is not False,
            share_selection=hidden.share_selection is not False,
            activity=self.activity.activity,
            activity_at=self.activity.changed_at,
            rooms=self.memberships.record(called),
            left=self.memberships.recently_left(self.hub.clock()),
            stream=self.is_stream,
            user_info=self.identity.user_info,
        )

    def send(self, message: Any) -> None:
        """Encode and write one message."""
        self.write(encode(message))

    def write(self, payload: bytes | None) -> None:
        """Write one encoded message; does nothing for None or when the session is closed."""
        if payload is not None and self.state != "closed":
            counters.sent(payload)
            self.outbox.send(payload)


# By message: whether it is for a room, whose handlers are methods of the session's memberships, and the handler.
_HANDLERS: dict[type, tuple[bool, Callable[..., None]]] = {
    Auth: (False, Session._again),
    Heartbeat: (False, handle_heartbeat),
    SetStatus: (False, handle_status),
    SetStatusAlias: (False, handle_status),
    SetPrivacy: (False, handle_privacy),
    Watch: (False, Session._watch),
    Join: (True, Memberships.join),
    Leave: (True, Memberships.leave),
    GetActive: (True, Memberships.query_active),
    **{
        message: (True, Memberships.show if EDGE in message.coalesced else Memberships.act)
        for message in ROOM_MESSAGES.values()
    },
}
for _message in MESSAGES.values():
    if _message not in _HANDLERS:
        raise ImportError(f"session.py: nothing handles {_message.__name__} of messages.py, which is no RoomMessage")
