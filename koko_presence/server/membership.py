"""Manages one session's rooms at its edge: pending joins, memberships, and the session's rates for messages to rooms.

`Memberships` writes the sets `joining`, `joined` and `subscribed_rooms`, and the session's held messages for rooms. A
room is `joining` from the join until its first frame or its refusal arrives; the client's messages for it are held
meanwhile, in order (`held_messages.HeldMessages`), because a join takes another route between workers than the messages
that follow it. Then the room is `joined`. A change of privacy waits for all pending joins, and all later messages wait
behind it: held messages were sent before that change [K3].
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable, Set
from typing import Any, Protocol

from msgspec import UNSET

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.throttle import GO, WAITS, Coalescer, TokenBucket
from koko_presence.access.policy import UNSURE, Access, Action, Grant
from koko_presence.admin.upstream_metrics import Durations
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.codec import decode
from koko_presence.protocol.commands import (
    EnterRoom,
    LeaveRoom,
    QueryActive,
    ReplyTo,
    ReportActivity,
    RoomAction,
    SessionInfo,
)
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import LeftReply
from koko_presence.protocol.limits import MERGED_BURST
from koko_presence.protocol.messages import (
    EDGE,
    ROOM_MESSAGES,
    ClientMessage,
    CursorMessage,
    GetActive,
    Join,
    Leave,
    PlaybackMessage,
    RoomMessage,
    SelectionMessage,
    Typing,
)
from koko_presence.protocol.models import Activity, Cursor, MessageId, is_plain
from koko_presence.protocol.snapshots import JOINING, NOT_SUBSCRIBED, SUBSCRIBED
from koko_presence.users.session import NONE

from .flood_limits import Abuse
from .held_messages import BEHIND_JOINS
from .idle_tracker import ActivityWatch
from .reauthorization import NO_LONGER_OPEN, NOT_OPEN, Reauthorization, RecheckedSession, RecheckHub
from .room_checks import check_room_id, requested_type, settled_type
from .self_service import PrivacySession, changes_privacy, hide_with_join, last_shown
from .session_ports import reply_to
from .session_states import Link
from .unanswered import UnansweredRequests

log = logging.getLogger("koko_presence.rooms")

# A join costs a snapshot and an event for each member. While new connections wait for longer than this, joins of
# sessions without a room are refused with a time to retry, before their clients time out.
LONGEST_WAIT_TO_JOIN_S = 2.0

# How long a join of a resumed member waits for the authoriser's answer before the member enters as it was.
MEMBER_WAITS_S = 0.5


class MembershipsHub(RecheckHub, Protocol):
    """The edge of a session with rooms. `waits_for` returns the seconds that a new connection waits for at a monotonic
    second."""

    @property
    def access(self) -> Access: ...

    @property
    def join_access(self) -> Durations: ...

    def waits_for(self, now: float, /) -> float: ...

    def wake_waiting(self, connection: int, at: float) -> None: ...


class MembershipsSession(PrivacySession, RecheckedSession, Protocol):
    """A session with rooms."""

    @property
    def hub(self) -> MembershipsHub: ...

    @property
    def memberships(self) -> Memberships: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def link(self) -> Link: ...

    @property
    def abuse(self) -> Abuse: ...

    @property
    def activity(self) -> ActivityWatch: ...

    def clear_all_expelled(self) -> None: ...

    def dispatch(self, message: ClientMessage, raw: bytes, within: bool, now: float) -> None: ...

    def dispatch_held(self, queue: str) -> None: ...

    def refuse(self, error: PresenceError, id: MessageId | None = None, room_id: str | None = None) -> None: ...


class Memberships(Reauthorization):
    """The rooms of one session at its edge. Written by its session and by the hub's subscriptions."""

    __slots__ = (
        "_began", "_buckets", "_catching_up", "_join_bucket", "_session", "_waiting", "cursors", "joined", "joining",
        "max_bytes", "outdated", "subscribed_rooms", "unanswered",
    )  # fmt: skip

    def __init__(self, session: MembershipsSession) -> None:
        super().__init__()
        limits = session.hub.limits
        self._session: MembershipsSession = session
        self.max_bytes = min(limits.max_presence_bytes, limits.max_message_bytes)
        self.joined: set[str] = set()
        self.joining: dict[str, None] = {}  # a dict as an ordered set: usually empty, and an empty set has 216 bytes
        self._catching_up = False
        self.unanswered = UnansweredRequests()
        self.subscribed_rooms: set[str] = set()
        self._began: dict[str, float] = {}  # pending joins, with the monotonic second of each
        self.outdated: frozenset[str] = NONE  # pending joins that were sent before the present token was verified
        self._join_bucket = TokenBucket(limits.join_hz, limits.join_burst)
        self.cursors = TokenBucket(limits.cursor_hz, MERGED_BURST)
        self._buckets: dict[type, TokenBucket] = {
            CursorMessage: self.cursors,
            SelectionMessage: TokenBucket(limits.selection_hz, MERGED_BURST),
        }
        self._waiting = Coalescer()  # the newest waiting value by kind and room

    def release(self) -> None:
        """Release the session and drop waiting values; the connection is closed."""
        del self._session
        self._waiting.clear()

    # --- joins and leaves -----------------------------------------------------------------------------------------

    def join(self, message: Join, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.join. Errors: INVALID_MESSAGE, ROOM_TYPE_MISMATCH [C1], FORBIDDEN, RATE_LIMITED; owners
        answer with ROOM_FULL and TOO_MANY_ROOMS."""
        check_room_id(message.room_id)
        if not (within and self._join_bucket.take(now)):
            raise PresenceError("RATE_LIMITED", retry_after_s=max(0.1, self._join_bucket.ready_at(now) - now))
        waits_for_s = self._session.hub.waits_for(now)
        # joins of resumed members, and of sessions that are in a room already, are served first
        if waits_for_s > LONGEST_WAIT_TO_JOIN_S and not self.subscribed_rooms and message.room_id not in self.joined:
            # spread by connection number, so that clients do not retry at the same moment
            raise PresenceError("RATE_LIMITED", retry_after_s=waits_for_s * (1.0 + self._session.connection % 16 / 8.0))
        if message.privacy is not UNSET:
            hide_with_join(self._session, message.privacy, now)
        if (
            message.room_id not in self.joined
        ):  # a join after a resume is made by the SDK and is no interaction of the user [D14]
            self.interacted(now)
            self.joining[message.room_id] = None
        self._began[message.room_id] = now
        self._request_entry(message, now)

    def _request_entry(self, message: Join, now: float) -> None:
        """Enter the room, or refuse the join, after the access check. A session that is in the room already, as a
        resumed session without a subscription is, waits MEMBER_WAITS_S at most: then it enters with its present
        permissions, and a later answer is applied when it arrives. The wait is observed in `Hub.join_access` and not
        counted in the duration of the join."""
        session, room_id, entered = self._session, message.room_id, False
        hub, is_member = session.hub, room_id in self.joined
        answer = hub.access.check(
            session.identity, room_id, requested_type(message.room_type), session_id=session.session_id, action="join"
        )
        if isinstance(answer, Grant):
            self._enter(message, answer)
            return

        def on_grant(grant: Grant) -> None:
            if entered:
                self._regrant(room_id, grant, NO_LONGER_OPEN)
            else:
                self._note_wait(room_id, now)
                self._enter(message, grant)

        answering = hub.await_answer(_await_grant(session, answer, on_grant))
        if is_member:
            of = weakref.ref(session)  # the timer must not keep a closed session alive

            def on_wait_over() -> None:
                nonlocal entered
                session = of()
                if answering.done() or session is None or session.state != "open" or room_id not in self.joined:
                    return
                entered = True
                session.memberships._note_wait(room_id, now)
                session.memberships._enter(message, UNSURE)

            hub.timers.call_later(MEMBER_WAITS_S, on_wait_over)

    def _note_wait(self, room_id: str, requested_at: float) -> None:
        hub = self._session.hub
        waited_s = max(0.0, hub.clock() - requested_at)
        hub.join_access.observe(waited_s)
        if room_id in self._began:
            self._began[room_id] += waited_s

    def _enter(self, message: Join, grant: Grant) -> None:
        session, now = self._session, self._session.hub.clock()
        if message.room_id not in self.joining and message.room_id not in self.joined:
            return  # expelled during the access check
        try:
            members_only = grant.retry_after_s is not None and message.room_id in self.joined
            # before the check of the type: a refusal must not reveal the room's type
            if not grant.allow and not members_only:
                raise grant.refusal()
            room_type = settled_type(message, grant)
        except PresenceError as error:
            counters.refused(message, error.code)
            session.refuse(error, message.id, message.room_id)
            self.on_refused(message.room_id, now)
            return
        session.clear_expelled(message.room_id)
        identity = session.identity
        session_info = SessionInfo(
            edge=session.hub.edge_id,
            session_id=session.session_id,
            user_id=identity.user_id,
            name=identity.name,
            image=identity.image,
            connection=session.connection,
            session_version=session.version,
        )
        command = EnterRoom(
            user_id=identity.user_id,
            room_id=message.room_id,
            session_info=session_info,
            members_only=members_only,
            room_type=room_type,
            can_control=grant.can_control,
            can_broadcast=grant.can_broadcast,
            moderator=grant.moderator,
            reply_to=reply_to(session, message.id),
        )
        self.unanswered.enter(command)
        self._send(command, now)
        if members_only:
            self.note_undecided(message.room_id, now)

    def leave(self, message: Leave, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.leave. Errors: NOT_IN_ROOM."""
        self._require(message.room_id)
        self._forget(message.room_id)
        command = LeaveRoom(
            user_id=self._session.user_id,
            room_id=message.room_id,
            session_id=self._session.session_id,
            reply_to=reply_to(self._session, message.id),
        )
        self.unanswered.leave(command, now)
        self._send(command, now)

    def outdate_joins(self) -> None:
        """Mark all pending joins after a new token: they carry the old token's permissions, and a `ChangeGrant` may
        overtake them, so they are rechecked when they are answered."""
        if self._began:
            self.outdated |= self._began.keys()

    def resume(self, rooms: list[str]) -> None:
        """Restore the rooms of a resumed session; it gets their events after it has joined again [C4]."""
        self.joined.update(rooms)

    def record(self, called: Set[str]) -> dict[str, int]:
        """All rooms of the session with their states in `SessionRecord`, for the next owner of its user. `called` are
        the rooms that it joins by pending calls."""
        pending = dict.fromkeys((*self.unanswered.entering, *sorted(called)), JOINING)
        return pending | {room: SUBSCRIBED if room in self.subscribed_rooms else NOT_SUBSCRIBED for room in self.joined}

    def on_attach(self, room_id: str) -> None:
        """Complete the join when the room's snapshot has been written: the session is in the room and subscribed. Held
        messages are handled next, in order."""
        now = self._session.hub.clock()
        if room_id not in self.joining and room_id not in self.joined and self.unanswered.take_refused(room_id, now):
            self._take_back(room_id, now)
            return
        self.subscribed_rooms.add(room_id)
        self.joined.add(room_id)
        self.unanswered.note_entered_again(room_id)
        if room_id in self._began:
            counters.joined(now - self._began.pop(room_id))
        self._session.link.promote()
        route = self._session.hub.bus.cursor_route(room_id, self._session.session_id)
        if route is not None:
            self._session.rate_limiter.add_route(route)
        self._release_held(room_id)
        if room_id in self.outdated:
            self.outdated -= {room_id}
            self.recheck(room_id, NOT_OPEN)

    def on_detach(self, room_id: str) -> None:
        """End the membership when the room's last frame for this session has been written."""
        self.subscribed_rooms.discard(room_id)
        self.unanswered.note_left(room_id)
        if room_id not in self.joining:
            self._forget(room_id)

    def drop_joined(self, room_id: str) -> None:
        """Record that the session is not in a room that it was in before a resume: the room's owner says so."""
        self.joined.discard(room_id)

    def end_subscription(self, room_id: str) -> None:
        """Record that the session no longer receives the stream of a room."""
        self.subscribed_rooms.discard(room_id)

    def end_subscriptions(self) -> None:
        """Record that the session no longer receives any room's stream."""
        self.subscribed_rooms.clear()

    def on_refused(self, room_id: str, now: float) -> None:
        """End a refused join; messages held for the room are handled, and refused each for itself."""
        self._began.pop(room_id, None)
        if room_id in self.outdated:
            self.outdated -= {room_id}
        self._release_held(room_id)

    def _take_back(self, room_id: str, now: float) -> None:
        """Leave a room that a repeated join has entered after the first one was refused: the client has the refusal."""
        self.subscribed_rooms.add(room_id)
        command = LeaveRoom(user_id=self._session.user_id, room_id=room_id, session_id=self._session.session_id)
        self.unanswered.leave(command, now)
        self._send(command, now)

    def retry_pending(self, now: float) -> None:
        """Repeat commands without an answer, after the loss of an owner."""
        self._session.clear_all_expelled()  # the lost owner sends no more frames
        for command in self.unanswered.begin_retry(now):
            if isinstance(command, LeaveRoom) and command.room_id in self.subscribed_rooms:
                # the new owner may not have the member, and then sends no `left`
                self._session.hub.unsubscribe(self._session, command.room_id)
                self._session.send(LeftReply(id=command.message_id, room_id=command.room_id))
                self.unanswered.note_notified(command.room_id)
            self._send(command, now)

    def _release_held(self, room_id: str) -> None:
        self.unanswered.note_entered(room_id)
        if room_id in self.joining:
            del self.joining[room_id]
            before, self._catching_up = self._catching_up, True  # older than BEHIND_JOINS: not queued there
            try:
                self._session.dispatch_held(room_id)
            finally:
                self._catching_up = before
        self._catch_up()

    @property
    def has_held_changes(self) -> bool:
        """True while a change of privacy, and all later messages, wait for joins."""
        return self._session.held.first(BEHIND_JOINS) is not None

    def hold_back(self, message: Any, raw: bytes) -> bool:
        """Hold a change of privacy while joins are pending, and any message while one is held. Returns True when the
        message, received as `raw`, is held. Errors: RATE_LIMITED, TOO_LARGE."""
        if self._catching_up or not (
            self.has_held_changes or (self.joining and changes_privacy(self._session, message))
        ):
            return False
        self.hold(BEHIND_JOINS, message, raw)
        self.update_has_pending()
        return True

    def _catch_up(self) -> None:
        """Handle messages held in BEHIND_JOINS, in order, up to the next change of privacy that has to wait for another
        pending join."""
        session, now = self._session, self._session.hub.clock()
        if self._catching_up or not self.has_held_changes:
            return
        self._catching_up = True
        try:
            while (raw := session.held.first(BEHIND_JOINS)) is not None:
                message = decode(raw)
                if self.joining and changes_privacy(session, message):
                    break
                session.held.take_first(BEHIND_JOINS)
                session.dispatch(message, raw, True, now)
        finally:
            self._catching_up = False
        if session.state == "open":
            self.update_has_pending()

    def hold(self, queue: str, message: Any, raw: bytes) -> None:
        """Hold a message, received as `raw`, for a room that is joining, or in `BEHIND_JOINS`; only the newest cursor
        and the newest selection of a room are held [L3]. Errors: RATE_LIMITED when it does not fit, TOO_LARGE."""
        held, kind = self._session.held, _MERGED.get(type(message), "")
        key = f"{kind} {message.room_id}" if kind else ""
        if kind:
            self._check_size(len(raw))
        supersedes = held.has(queue, key)
        if not held.add(queue, raw, key=key):
            raise PresenceError("RATE_LIMITED", "Wait for the reply to join.", retry_after_s=1.0)
        if supersedes:
            counters.superseded(kind)

    def _forget(self, room_id: str) -> None:
        self.joined.discard(room_id)
        if room_id in self.undecided:
            self.undecided -= {room_id}
        if room_id in self.outdated:
            self.outdated -= {room_id}
        self._session.rate_limiter.drop_route(room_id)
        for kind in self._buckets:
            self._waiting.drop((kind, room_id))
        self.update_has_pending()

    def _check(self, room_id: str, room_type: Any, then: Callable[[Grant], None], action: Action = "join") -> None:
        session, type_ = self._session, requested_type(room_type)
        answer = session.hub.access.check(
            session.identity, room_id, type_, session_id=session.session_id, action=action
        )
        if isinstance(answer, Grant):
            then(answer)
        else:
            session.hub.await_answer(_await_grant(session, answer, then))

    # --- messages to rooms ----------------------------------------------------------------------------------------

    def act(self, message: RoomMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a room message that is not coalesced. Errors: NOT_IN_ROOM, RATE_LIMITED, TOO_LARGE; the room answers
        with its own."""
        self._require(message.room_id)
        if not within and not isinstance(message, Typing):
            raise PresenceError("RATE_LIMITED", retry_after_s=0.1)
        if isinstance(message, Typing):
            self._check_size(len(raw))
            if message.data.is_typing:
                self.interacted(now)
        elif isinstance(message, PlaybackMessage) and message.data.action == "report":
            self._session.activity.note_activity(now)
        else:
            self.interacted(now)
        self._pass_on(message, now, raw)

    def show(self, message: CursorMessage | SelectionMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a cursor or selection: send it at once within the session's rate, else keep it as the newest waiting
        value of its kind and room [E1, E2]. Errors: NOT_IN_ROOM, TOO_LARGE."""
        self._require(message.room_id)
        self._check_size(len(raw))
        self.interacted(now)
        kind = type(message)
        if kind is CursorMessage and self._replaces_pending(message, now):
            self._pass_on(message, now, raw)
            return
        at = self._waiting.offer((kind, message.room_id), message, self._buckets[kind], None, now)
        if at == GO:
            self._pass_on(message, now, raw)
        elif at == WAITS:
            counters.superseded(_MERGED[kind])
        else:
            self.update_has_pending()
            self._session.hub.wake_waiting(self._session.connection, self._next_release(now))

    def _replaces_pending(self, message: Any, now: float) -> bool:
        """True when a cursor handled in Python replaces one that is still on its way into the room, which costs no
        token. A cursor of the room that waits in the rate limiter is dropped for it. When the cursor has to wait, too,
        the other cursors in the rate limiter are moved to `_waiting`, so that all wait in one place, in order."""
        rate_limiter = self._session.rate_limiter
        if rate_limiter.take_back(message.room_id) is not None:
            counters.superseded("cursor")
        if rate_limiter.unsent(message.room_id) and is_plain(message.data):
            return True
        if self.cursors.ready_at(now) > now:
            for room_id, cursor in rate_limiter.take_all_back():
                self._waiting.hold((CursorMessage, room_id), CursorMessage(room_id=room_id, data=cursor))
        return False

    def show_deferred(self, room_id: str, cursor: Cursor, now: float) -> None:
        """Send a cursor that waited in the rate limiter for a room without a cursor route."""
        if self._session.state == "open" and room_id in self.joined:
            self._pass_on(CursorMessage(room_id=room_id, data=cursor), now)

    def note_flood(self, now: float) -> bool:
        """Record a cursor above the connection's rate. Returns False when the flood has lasted too long [L3]."""
        abuse = self._session.abuse
        abuse.note_flood(now, now)
        return abuse.flooding_for(now) < self._session.hub.limits.flood_s

    def drop_waiting(self, kinds: Set[type]) -> None:
        """Drop waiting values of these kinds, which were sent while their kind was hidden [K3, K5]."""
        for key in self._waiting:
            if key[0] in kinds:
                self._waiting.drop(key)
        if CursorMessage in kinds:
            self._session.rate_limiter.take_all_back()
        self.update_has_pending()

    def release_waiting(self, now: float) -> None:
        """Send waiting values, the oldest first, as far as their rates allow."""
        for key in self._waiting:
            if self._session.state == "open" and self._buckets[key[0]].take(now):
                self._pass_on(self._waiting.take(key), now)
        self.update_has_pending()
        if self._waiting and self._session.state == "open":
            self._session.hub.wake_waiting(self._session.connection, self._next_release(now))

    def update_has_pending(self) -> None:
        """Update whether cursors must be handled in Python: while one waits there, while messages are held behind
        joins, and while the session is invisible."""
        waits = self.has_held_changes or any(kind is CursorMessage for kind, _ in self._waiting)
        self._session.rate_limiter.has_pending = waits or self._session.hidden

    def _next_release(self, now: float) -> float:
        return min(self._buckets[kind].ready_at(now) for kind, _ in self._waiting)

    def query_active(self, message: GetActive, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.getActive: for members, and for users who may enter [C13, C14]. Errors: INVALID_MESSAGE,
        FORBIDDEN, RATE_LIMITED."""
        check_room_id(message.room_id)
        if not (within and self._join_bucket.take(now)):
            raise PresenceError("RATE_LIMITED", retry_after_s=max(0.1, self._join_bucket.ready_at(now) - now))
        self._session.activity.note_activity(now)
        if message.room_id in self.joined:
            self._query_active(message)
        else:
            self._check(
                message.room_id, message.room_type, lambda grant: self._query_if_allowed(grant, message), "get_active"
            )

    def _query_if_allowed(self, grant: Grant, message: GetActive) -> None:
        try:
            if not grant.allow:
                raise grant.refusal()
            message.room_type = settled_type(message, grant) or UNSET  # the type that was checked is the one shown [C1]
        except PresenceError as error:
            counters.refused(message, error.code)
            self._session.refuse(error, message.id, message.room_id)
            return
        self._session.clear_expelled(message.room_id)
        self._query_active(message)

    def _query_active(self, message: GetActive) -> None:
        session = self._session
        self._send(
            QueryActive(
                room_id=message.room_id,
                user_id=session.user_id,
                session_id=session.session_id,
                room_type=message.room_type,
                reply_to=reply_to(session, message.id),
            ),
            session.hub.clock(),
        )

    # --- activity -------------------------------------------------------------------------------------------------

    def interacted(self, now: float) -> None:
        """Record an interaction of the user [D12]."""
        self.report(self._session.activity.interact(now), now, interacted=False)

    def report(self, activity: Activity | None, now: float, *, interacted: bool) -> None:
        """Send a change of activity, or an interaction, to the user's owner; does nothing without either."""
        if activity is None and not interacted:
            return
        session = self._session
        self._send(
            ReportActivity(
                user_id=session.user_id,
                session_id=session.session_id,
                activity=session.activity.activity,
                interacted=interacted,
            ),
            now,
        )

    # --- helpers --------------------------------------------------------------------------------------------------

    def _require(self, room_id: str) -> None:
        if room_id not in self.joined:
            raise PresenceError("NOT_IN_ROOM")

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise PresenceError("TOO_LARGE", f"Such a message may have {self.max_bytes} bytes.")

    def _pass_on(self, message: RoomMessage, now: float, raw: bytes = b"") -> None:
        session = self._session
        if isinstance(message, CursorMessage):
            session.rate_limiter.note_last(message.room_id, last_shown(session, message.data))
        command = RoomAction(
            room_id=message.room_id,
            session_id=session.session_id,
            message=message,
            raw=raw,
            reply_to=ReplyTo(session.hub.edge_id, session.session_id, message.id),
            hidden=session.hidden,
        )
        session.hub.bus.send(command, now)

    def _send(self, command: Any, now: float) -> None:
        self._session.hub.bus.send(command, now)


# message types that are coalesced, with their names in the counters
_MERGED: dict[type, str] = {message: type_ for type_, message in ROOM_MESSAGES.items() if EDGE in message.coalesced}


async def _await_grant(session: MembershipsSession, answer: Awaitable[Grant], then: Callable[[Grant], None]) -> None:
    try:
        grant = await answer
    except Exception:  # fail closed: the join is refused, and messages held for the room are handled
        log.exception("access check failed")
        grant = UNSURE
    if session.state == "open":
        then(grant)


ROOM_HANDLERS: dict[type, Callable[[Memberships, Any, bytes, bool, float], None]] = {
    Join: Memberships.join,
    Leave: Memberships.leave,
    GetActive: Memberships.query_active,
    **{
        message: Memberships.show if EDGE in message.coalesced else Memberships.act
        for message in ROOM_MESSAGES.values()
    },
}
