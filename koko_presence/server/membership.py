"""Manages one session's rooms at its edge: applies events to its memberships (`room_membership.TRANSITIONS`), and the
session's rates to its messages to rooms.

`Memberships` has one `RoomMembership` for each room. While a room is joined, the client's messages for it are held, in
order, because a join takes another route between workers than the messages that follow it. What belongs to no single
room is the session's: its rates, the order in which values wait for them, and the queue behind a change of privacy,
which waits for all pending joins, as all later messages wait for it: held messages were sent before that change [K3].
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Set
from typing import Any, Protocol

from msgspec import UNSET

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.access.policy import UNSURE, Access, Action, Grant, settings_for
from koko_presence.admin.upstream_metrics import Durations
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol import snapshots
from koko_presence.protocol.codec import check_presence, encode_presence
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
from koko_presence.protocol.events import Kicked, LeftReply
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
    PresenceMessage,
    RoomMessage,
    SelectionMessage,
    Typing,
)
from koko_presence.protocol.models import Activity, Cursor, MessageId, RoomType, is_plain

from .flood_limits import Abuse
from .held_messages import HeldQueue
from .idle_tracker import ActivityWatch
from .reauthorization import NO_LONGER_OPEN, NOT_OPEN, Reauthorization, RecheckedSession, RecheckHub
from .room_checks import await_grant, check_room_id, requested_type, settled_type
from .room_membership import (
    ABSENT,
    ANSWERED,
    DISCARDING,
    HOLDING,
    IN_ROOM,
    LEAVING,
    STREAMING,
    SUBSCRIBED,
    RoomMembership,
)
from .self_service import PrivacySession, changes_privacy, hide_with_join, last_shown
from .session_ports import reply_to
from .session_states import Link

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

    @property
    def round_trip_s(self) -> float: ...

    def decode(self, data: bytes) -> ClientMessage | None: ...

    def dispatch(self, message: ClientMessage, raw: bytes, within: bool, now: float) -> None: ...

    def dispatch_held(self, messages: list[bytes]) -> None: ...

    def on_refusal(self) -> None: ...

    def write(self, payload: bytes) -> None: ...

    def refuse(self, error: PresenceError, id: MessageId | None = None, room_id: str | None = None) -> None: ...


class Memberships(Reauthorization):
    """The rooms of one session at its edge. Its session, the hub and the rooms' subscriptions send it events."""

    __slots__ = (
        "_catching_up", "_join_bucket", "_selections", "_session", "_steps", "_waiting", "behind_joins", "cursors",
        "joining", "max_bytes", "rooms",
    )  # fmt: skip

    def __init__(self, session: MembershipsSession) -> None:
        super().__init__()
        limits = session.hub.limits
        self._session: MembershipsSession = session
        self.max_bytes = min(limits.max_presence_bytes, limits.max_message_bytes)
        self.rooms: dict[str, RoomMembership] = {}
        self.joining = 0  # memberships whose messages are held
        self.behind_joins: HeldQueue | None = None  # a change of privacy and the messages after it; None without one
        self._steps = 0  # that were passed on
        self._catching_up = False  # messages older than those in `behind_joins` are being handled
        self._join_bucket = TokenBucket(limits.join_hz, limits.join_burst)
        self.cursors = TokenBucket(limits.cursor_hz, MERGED_BURST)
        self._selections = TokenBucket(limits.selection_hz, MERGED_BURST)
        # memberships with a waiting cursor or selection, and which of the two, the longest waiting first
        self._waiting: tuple[tuple[RoomMembership, str], ...] = ()

    def end(self) -> list[str]:
        """Drop all memberships, because the session has ended. Returns the rooms whose stream it received."""
        streaming = [room_id for room_id, each in self.rooms.items() if each.state in STREAMING]
        self.rooms.clear()
        self.joining, self.behind_joins, self._waiting = 0, None, ()
        return streaming

    def release(self) -> None:
        """Release the session; the connection is closed."""
        del self._session

    # --- queries --------------------------------------------------------------------------------------------------

    def is_member(self, room_id: str) -> bool:
        """True when the client may act in the room."""
        membership = self.rooms.get(room_id)
        return membership is not None and membership.state in IN_ROOM

    def discards(self, room_id: str) -> bool:
        """True when what arrives of the room is dropped, because the session was expelled from it."""
        membership = self.rooms.get(room_id)
        return membership is not None and membership.state in DISCARDING

    def is_holding(self, room_id: str) -> bool:
        """True when messages for the room are held, because it is being joined."""
        membership = self.rooms.get(room_id)
        return membership is not None and membership.state in HOLDING

    @property
    def joined(self) -> list[str]:
        """The rooms that the session is in, sorted."""
        return sorted(room_id for room_id, each in self.rooms.items() if each.state in IN_ROOM)

    @property
    def current(self) -> list[str]:
        """The rooms that the session is in or joins, sorted."""
        return sorted(room_id for room_id, each in self.rooms.items() if each.is_current)

    @property
    def subscribed_rooms(self) -> set[str]:
        """The rooms whose stream the session receives."""
        return {room_id for room_id, each in self.rooms.items() if each.state in STREAMING}

    def record(self, called: Set[str]) -> dict[str, int]:
        """All rooms of the session with their states in `SessionRecord`, for the next owner of its user. `called` are
        the rooms that it joins by pending calls."""
        entering = [room_id for room_id, each in self.rooms.items() if each.join is not None]
        rooms = dict.fromkeys((*entering, *sorted(called)), snapshots.JOINING)
        for room_id, each in self.rooms.items():
            if each.state in IN_ROOM:
                rooms[room_id] = snapshots.SUBSCRIBED if each.state == SUBSCRIBED else snapshots.NOT_SUBSCRIBED
        return rooms

    def presences(self, called: Set[str]) -> dict[str, tuple[bool, Cursor | None]]:
        """The rooms that the edge reports to their next owners: whether the session receives the stream, and its last
        cursor. `called` are the rooms that it joins by pending calls."""
        found: dict[str, tuple[bool, Cursor | None]] = dict.fromkeys(called, (False, None))
        for room_id, each in self.rooms.items():
            if each.is_present or room_id in called:
                found[room_id] = (each.state in STREAMING, None if each.route is None else each.route.last())
        return found

    def recently_left(self, now: float) -> dict[str, str]:
        """Rooms that the session has left lately, with the reasons, and has not joined again."""
        reasons = {room_id: each.left_reason(now) for room_id, each in self.rooms.items()}
        return {room_id: reason for room_id, reason in reasons.items() if reason is not None}

    # --- events ---------------------------------------------------------------------------------------------------

    def _membership(self, room_id: str) -> RoomMembership:
        membership = self.rooms.get(room_id)
        if membership is None:
            membership = self.rooms[room_id] = RoomMembership(room_id)
        return membership

    def _apply(self, membership: RoomMembership, event: str, now: float, *arguments: Any) -> None:
        """Move a membership by an event and carry out the action of the table. One that becomes ABSENT loses its route
        and waiting values; it is dropped when it holds nothing any more."""
        before = membership.state
        action = membership.move(event)
        self.joining += (membership.state in HOLDING) - (before in HOLDING)
        if membership.state == ABSENT != before:  # before the action: held messages may join again
            self._forget(membership)
        if action:
            ACTIONS[action](self, membership, now, *arguments)
        if membership.state == ABSENT:
            self._drop_if_over(membership, now)

    def _drop_if_over(self, membership: RoomMembership, now: float) -> None:
        if membership.is_over(now) and self.rooms.get(membership.room_id) is membership:
            del self.rooms[membership.room_id]

    def expire(self, now: float) -> None:
        """Drop what was remembered for a while only."""
        for membership in list(self.rooms.values()):
            membership.expire(now)
            self._drop_if_over(membership, now)

    def resume(self, rooms: list[str]) -> None:
        """Restore the rooms of a resumed session; it gets their events after it has joined again [C4]."""
        now = self._session.hub.clock()
        for room_id in rooms:
            self._apply(self._membership(room_id), "resumed", now)

    def on_attach(self, room_id: str) -> None:
        """Handle that the room's first frame, its snapshot, has been written."""
        membership, now = self._membership(room_id), self._session.hub.clock()
        if membership.state in (ABSENT, LEAVING) and membership.take_refusal(now):
            self._apply(membership, "attached_after_refusal", now)
        else:
            self._apply(membership, "attached", now)

    def on_detach(self, room_id: str) -> None:
        """Handle that the room's last frame for this session has been written, or has arrived without a stream."""
        membership = self.rooms.get(room_id)
        if membership is not None:
            self._apply(membership, "detached", self._session.hub.clock())

    def on_left(self, room_id: str, payload: bytes, now: float) -> None:
        """Handle the owner's answer to a leave, for a session without the room's stream."""
        membership = self._membership(room_id)
        if not membership.is_superseded:
            self._apply(membership, "left", now, payload)

    def on_refused(self, room_id: str, payload: bytes, now: float, *, out: bool) -> None:
        """Handle a refused join. `out`: the session is not in the room; false when an earlier membership remains."""
        membership = self._membership(room_id)
        if membership.note_refused(now):
            self._apply(membership, "refused" if out else "refused_in_room", now, payload)

    def add_route(self, room_id: str, route: CursorRoute) -> None:
        """Add a cursor route, if the session is in the room and receives its stream; otherwise the route is that of a
        membership which ends."""
        membership = self.rooms.get(room_id)
        if membership is not None and membership.state == SUBSCRIBED:
            self._use_route(membership, route)

    def drop_route(self, room_id: str, now: float) -> None:
        """Remove the cursor route to a room whose owner changes; a cursor that waited in it is sent at once."""
        membership = self.rooms.get(room_id)
        waited = None if membership is None else self._drop_route(membership)
        if waited is not None:
            self.show_deferred(room_id, waited, now)

    # --- joins ----------------------------------------------------------------------------------------------------

    def join(self, message: Join, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.join. Errors: INVALID_MESSAGE, INVALID_DATA, TOO_LARGE [P4], ROOM_TYPE_MISMATCH [C1],
        FORBIDDEN, RATE_LIMITED; owners answer with ROOM_FULL and TOO_MANY_ROOMS."""
        check_room_id(message.room_id)
        if message.presence is not UNSET:
            check_presence(message.presence, self._session.hub.limits.max_presence_bytes)
        if not (within and self._join_bucket.take(now)):
            raise PresenceError("RATE_LIMITED", retry_after_s=max(0.1, self._join_bucket.ready_at(now) - now))
        waits_for_s = self._session.hub.waits_for(now)
        # joins of resumed members, and of sessions that are in a room already, are served first
        if waits_for_s > LONGEST_WAIT_TO_JOIN_S and not self.subscribed_rooms and not self.is_member(message.room_id):
            # spread by connection number, so that clients do not retry at the same moment
            raise PresenceError("RATE_LIMITED", retry_after_s=waits_for_s * (1.0 + self._session.connection % 16 / 8.0))
        if message.privacy is not UNSET:
            hide_with_join(self._session, message.privacy, now)
        membership = self._membership(message.room_id)
        # a join after a resume is made by the SDK and is no interaction of the user [D14]
        if membership.state not in IN_ROOM:
            self.interacted(now)
        membership.begin(now)
        again = membership.state == ABSENT and membership.join is not None
        self._apply(membership, "join_again" if again else "join", now, message)

    def _check_join(self, membership: RoomMembership, now: float, message: Join) -> None:
        """Enter the room, or refuse the join, after the access check. A session that is in the room already, as a
        resumed session without a subscription is, waits MEMBER_WAITS_S at most: then it enters with its present
        permissions, and a later answer is applied when it arrives. The wait is observed in `Hub.join_access` and not
        counted in the duration of the join."""
        session, room_id, entered = self._session, message.room_id, False
        hub = session.hub
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

        answering = hub.await_answer(await_grant(session, answer, on_grant))
        if membership.state in IN_ROOM:
            of = weakref.ref(session)  # the timer must not keep a closed session alive

            def on_wait_over() -> None:
                nonlocal entered
                session = of()
                if answering.done() or session is None or session.state != "open":
                    return
                if not session.memberships.is_member(room_id):
                    return
                entered = True
                session.memberships._note_wait(room_id, now)
                session.memberships._enter(message, UNSURE)

            hub.timers.call_later(MEMBER_WAITS_S, on_wait_over)

    def _note_wait(self, room_id: str, requested_at: float) -> None:
        hub = self._session.hub
        waited_s = max(0.0, hub.clock() - requested_at)
        hub.join_access.observe(waited_s)
        if (membership := self.rooms.get(room_id)) is not None:
            membership.note_wait(waited_s)

    def _enter(self, message: Join, grant: Grant) -> None:
        membership, now = self.rooms.get(message.room_id), self._session.hub.clock()
        if membership is None:
            return  # left or expelled during the access check
        try:
            members_only = grant.retry_after_s is not None and membership.state in IN_ROOM
            # before the check of the type: a refusal must not reveal the room's type
            if not grant.allow and not members_only:
                raise grant.refusal()
            room_type = settled_type(message, grant)
        except PresenceError as error:
            self._apply(membership, "denied", now, message, error)
            return
        self._apply(membership, "granted", now, message, grant, room_type, members_only)

    def _send_join(
        self,
        membership: RoomMembership,
        now: float,
        message: Join,
        grant: Grant,
        room_type: RoomType | None,
        members_only: bool,
    ) -> None:
        session = self._session
        identity = session.identity
        session_info = SessionInfo(
            edge=session.hub.edge_id,
            session_id=session.session_id,
            user_id=identity.user_id,
            connection=session.connection,
            session_version=session.version,
        )
        command = EnterRoom(
            user_id=identity.user_id,
            room_id=message.room_id,
            session_info=session_info,
            user_info=identity.user_info,
            members_only=members_only,
            room_type=room_type,
            can_control=grant.can_control,
            can_broadcast=grant.can_broadcast,
            moderator=grant.moderator,
            presence=grant.presence,
            known=None if message.known is UNSET else message.known,
            reply_to=reply_to(session, message.id),
            settings=settings_for(identity, message.room_id, grant),
            presence_object=b"" if message.presence is UNSET else encode_presence(message.presence),
        )
        membership.note_join_sent(command)
        self._send(command, now)
        if members_only:
            self.note_undecided(message.room_id, now)

    def _deny(self, membership: RoomMembership, now: float, message: Join, error: PresenceError) -> None:
        counters.refused(message, error.code)
        self._session.refuse(error, message.id, message.room_id)
        self._end_join(membership, now)

    def _tell_refusal(self, membership: RoomMembership, now: float, payload: bytes) -> None:
        self._session.write(payload)
        self._session.on_refusal()
        self._end_join(membership, now)

    def _end_join(self, membership: RoomMembership, now: float, payload: bytes = b"") -> None:
        """End a refused join; messages held for the room are handled, and refused each for itself."""
        membership.end_join()
        self._release_held(membership)

    def _subscribe(self, membership: RoomMembership, now: float) -> None:
        """Complete the join. Held messages are handled next, in order."""
        membership.note_entered()
        if (began_at := membership.take_began_at()) is not None:
            counters.joined(now - began_at)
        self._session.link.promote()
        route = self._session.hub.bus.cursor_route(membership.room_id, self._session.session_id)
        if route is not None:
            self._use_route(membership, route)
        self._release_held(membership)
        if membership.take_outdated():
            self.recheck(membership.room_id, NOT_OPEN)

    def outdate_joins(self) -> None:
        """Mark all pending joins after a new token: they carry the old token's permissions, and a `ChangeGrant` may
        overtake them, so they are rechecked when they are answered."""
        for membership in self.rooms.values():
            membership.note_outdated()

    # --- the end of a membership ----------------------------------------------------------------------------------

    def leave(self, message: Leave, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.leave. Errors: NOT_IN_ROOM."""
        membership = self._require(message.room_id)
        self._apply(membership, "leave", now, reply_to(self._session, message.id))

    def _send_leave(
        self,
        membership: RoomMembership,
        now: float,
        reply: ReplyTo | None = None,
        reason: str = "left",
        *,
        before: int = 0,
    ) -> None:
        self._forget(membership)
        session = self._session
        command = LeaveRoom(
            user_id=session.user_id,
            room_id=membership.room_id,
            session_id=session.session_id,
            reply_to=reply,
            reason=reason,
            connection=session.connection,
            session_version=session.version,
            before=before,
        )
        membership.note_leave_sent(command, now)
        self._send(command, now)

    def _take_back(self, membership: RoomMembership, now: float) -> None:
        """Leave a room that a repeated join has entered after the first one was refused: the client has the refusal."""
        self._send_leave(membership, now)

    def _note_left(self, membership: RoomMembership, now: float) -> None:
        membership.note_left()

    def _tell_left(self, membership: RoomMembership, now: float, payload: bytes) -> None:
        self._session.write(payload)
        self._session.hub.unsubscribe(self._session, membership.room_id)
        membership.note_left()

    def _leave_resumed(self, membership: RoomMembership, now: float, payload: bytes) -> None:
        """Pass on an answer to a leave that this connection has not sent: a call did, or an earlier connection. The
        latter may have joined the room again behind its leave; the membership by which the session was resumed ends,
        because the client takes itself for out. One that a call has begun since does not."""
        self._tell_left(membership, now, payload)
        self._send_leave(membership, now, before=self._session.version)
        membership.note_acknowledged()

    def _acknowledge_leave(self, membership: RoomMembership, now: float) -> None:
        assert membership.leave is not None
        self._drop_route(membership)  # of the lost owner
        self._session.hub.unsubscribe(self._session, membership.room_id)
        self._session.send(LeftReply(id=membership.leave.message_id, room_id=membership.room_id))
        membership.note_acknowledged()

    def _expel(self, membership: RoomMembership, now: float, reason: str) -> None:
        session = self._session
        # at once: the owner, perhaps on another worker, handles the leave later
        session.hub.unsubscribe(session, membership.room_id)
        session.send(Kicked(room_id=membership.room_id, reason=reason))
        membership.take_held()  # held messages get no answer but `kicked`
        self._send_leave(membership, now, None, "kicked")
        self._catch_up()

    def _forget(self, membership: RoomMembership) -> None:
        """Drop what belongs to a member only."""
        self._drop_route(membership)
        if membership.forget_member():
            self._waiting = tuple(each for each in self._waiting if each[0] is not membership)
        self.update_has_pending()

    # --- the loss of an owner -------------------------------------------------------------------------------------

    def retry_pending(self, now: float) -> None:
        """Repeat commands without an answer after the loss of an owner: joins, then leaves and permissions of the last
        LEAVING_S. A stream that arrives after a leave of earlier memberships only is that of a later one, or its owner
        ends it."""
        for membership in list(self.rooms.values()):
            membership.expire(now)
            self._apply(membership, "owner_lost", now)
        rooms = list(self.rooms.values())
        joins = [(each, each.join) for each in rooms if each.join is not None]
        leaves = [(each, each.leave) for each in rooms if each.leave is not None and each.leave_stage != ANSWERED]
        grants = [each.grant for each in rooms if each.grant is not None]
        for membership, _ in joins:
            membership.note_repeated(now)
        for _, join in joins:
            self._send(join, now)
        for membership, leave in leaves:
            if membership.state in STREAMING and not leave.before:
                self._apply(membership, "leave_unanswered", now)
            self._send(leave, now)
        for grant in grants:
            self._send(grant, now)

    # --- held messages --------------------------------------------------------------------------------------------

    def _release_held(self, membership: RoomMembership) -> None:
        held = membership.take_held()
        if held:
            before, self._catching_up = self._catching_up, True  # older than `behind_joins`: not queued there
            try:
                self._session.dispatch_held(held)
            finally:
                self._catching_up = before
        self._catch_up()

    def hold(self, message: RoomMessage, raw: bytes) -> None:
        """Hold a message, received as `raw`, for a room that is being joined. Errors: RATE_LIMITED when it does not
        fit, TOO_LARGE."""
        self._hold(self.rooms[message.room_id].held_queue(self._session.held), message, raw)

    def hold_back(self, message: Any, raw: bytes) -> bool:
        """Hold a change of privacy while joins are pending, and any message while one is held. Returns True when the
        message, received as `raw`, is held. Errors: RATE_LIMITED, TOO_LARGE."""
        if self._catching_up or not (
            self.behind_joins is not None or (self.joining and changes_privacy(self._session, message))
        ):
            return False
        queue = self.behind_joins or HeldQueue(self._session.held)
        self._hold(queue, message, raw)
        self.behind_joins = queue
        self.update_has_pending()
        return True

    def _hold(self, queue: HeldQueue, message: Any, raw: bytes) -> None:
        """Append a message to a queue; only the newest cursor and the newest selection of a room are held [L3]."""
        kind = _MERGED.get(type(message), "")
        key = f"{kind} {message.room_id}" if kind else ""
        if kind:
            self._check_size(len(raw))
        supersedes = queue.has(key)
        if not queue.add(raw, key=key):
            raise PresenceError("RATE_LIMITED", "Wait for the reply to join.", retry_after_s=1.0)
        if supersedes:
            counters.superseded(kind)

    def _catch_up(self) -> None:
        """Handle the messages in `behind_joins`, in order, up to the next change of privacy that has to wait for
        another pending join."""
        session, now = self._session, self._session.hub.clock()
        if self._catching_up or self.behind_joins is None:
            return
        self._catching_up = True
        try:
            while (queue := self.behind_joins) is not None:
                message = session.decode(queue.first())
                if message is not None and self.joining and changes_privacy(session, message):
                    break
                raw = queue.take_first()
                if not queue:
                    self.behind_joins = None
                if message is not None:
                    session.dispatch(message, raw, True, now)
        finally:
            self._catching_up = False
        if session.state == "open":
            self.update_has_pending()

    def _check(self, room_id: str, room_type: Any, then: Callable[[Grant], None], action: Action = "join") -> None:
        session, type_ = self._session, requested_type(room_type)
        answer = session.hub.access.check(
            session.identity, room_id, type_, session_id=session.session_id, action=action
        )
        if isinstance(answer, Grant):
            then(answer)
        else:
            session.hub.await_answer(await_grant(session, answer, then))

    # --- messages to rooms ----------------------------------------------------------------------------------------

    def act(self, message: RoomMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a room message that is not coalesced. Errors: NOT_IN_ROOM, RATE_LIMITED, TOO_LARGE; the room answers
        with its own."""
        membership, round_trip_ms, step = self._require(message.room_id), 0, 0
        if not within and not isinstance(message, Typing | PresenceMessage):
            raise PresenceError("RATE_LIMITED", retry_after_s=0.1)
        if isinstance(message, PlaybackMessage):
            round_trip_ms = round(self._session.round_trip_s * 1000.0)
            if message.adds_up:
                self._steps = step = self._steps + 1
        if isinstance(message, Typing):
            self._check_size(len(raw))
            if message.data.is_typing:
                self.interacted(now)
        elif isinstance(message, PresenceMessage) or (
            isinstance(message, PlaybackMessage) and message.data.action == "report"
        ):
            self._session.activity.note_activity(now)
        else:
            self.interacted(now)
        if isinstance(message, PresenceMessage) and self._session.hidden:
            membership.note_hidden_presence()
        self._pass_on(membership, message, now, raw, round_trip_ms, step)

    def note_hidden_presence(self, room_id: str) -> None:
        """Record that a call has changed the presence object in a room while the session is invisible."""
        if (membership := self.rooms.get(room_id)) is not None:
            membership.note_hidden_presence()

    def reveal_presence(self, now: float) -> None:
        """Let rooms show what the session has changed in its presence objects while it was invisible: a room that has
        received these changes after it has shown the session again does not show them by itself [P3]."""
        for membership in list(self.rooms.values()):
            if membership.take_hidden_presence() and membership.state in IN_ROOM:
                self._pass_on(membership, PresenceMessage(room_id=membership.room_id, data={}), now)

    def show(self, message: CursorMessage | SelectionMessage, raw: bytes, within: bool, now: float) -> None:
        """Handle a cursor or selection: send it at once within the session's rate, else keep it as the newest waiting
        value of its kind and room [E1, E2]. Errors: NOT_IN_ROOM, TOO_LARGE."""
        membership = self._require(message.room_id)
        self._check_size(len(raw))
        self.interacted(now)
        kind = _MERGED[type(message)]
        if isinstance(message, CursorMessage) and self._replaces_pending(membership, message, now):
            self._pass_on(membership, message, now, raw)
        elif membership.waiting(kind) is not None:
            membership.hold_waiting(message)
            counters.superseded(kind)
        elif self._bucket(kind).take(now):
            self._pass_on(membership, message, now, raw)
        else:
            self._wait(membership, message)
            self.update_has_pending()
            self._session.hub.wake_waiting(self._session.connection, self._next_release(now))

    def _bucket(self, kind: str) -> TokenBucket:
        return self.cursors if kind == "cursor" else self._selections

    def _wait(self, membership: RoomMembership, message: CursorMessage | SelectionMessage) -> None:
        if not membership.hold_waiting(message):
            self._waiting += ((membership, _MERGED[type(message)]),)

    def _replaces_pending(self, membership: RoomMembership, message: CursorMessage, now: float) -> bool:
        """True when a cursor handled in Python replaces one that is still on its way into the room, which costs no
        token. A cursor of the room that waits in the rate limiter is dropped for it. When the cursor has to wait, too,
        the other cursors in the rate limiter become waiting values, so that all wait in one place, in order."""
        rate_limiter, route = self._session.rate_limiter, membership.route
        if route is not None:
            if rate_limiter.take_back(route) is not None:
                counters.superseded("cursor")
            if rate_limiter.unsent(route) and is_plain(message.data):
                return True
        if self.cursors.ready_at(now) > now:
            for room_id, cursor in rate_limiter.take_all_back():
                self._wait(self.rooms[room_id], CursorMessage(room_id=room_id, data=cursor))
        return False

    def show_deferred(self, room_id: str, cursor: Cursor, now: float) -> None:
        """Send a cursor that waited in the rate limiter for a room without a cursor route."""
        membership = self.rooms.get(room_id)
        if self._session.state == "open" and membership is not None and membership.state in IN_ROOM:
            self._pass_on(membership, CursorMessage(room_id=room_id, data=cursor), now)

    def note_flood(self, now: float) -> bool:
        """Record a cursor above the connection's rate. Returns False when the flood has lasted too long [L3]."""
        abuse = self._session.abuse
        abuse.note_flood(now, now)
        return abuse.flooding_for(now) < self._session.hub.limits.flood_s

    def drop_waiting(self, kinds: Set[type]) -> None:
        """Drop waiting values of these kinds, which were sent while their kind was hidden [K3, K5]."""
        names = {_MERGED[kind] for kind in kinds}
        for membership, kind in self._waiting:
            if kind in names:
                membership.drop_waiting(kind)
        self._waiting = tuple(each for each in self._waiting if each[1] not in names)
        if CursorMessage in kinds:
            self._session.rate_limiter.take_all_back()
        self.update_has_pending()

    def release_waiting(self, now: float) -> None:
        """Send waiting values, the oldest first, as far as their rates allow."""
        for membership, kind in self._waiting:
            message = membership.waiting(kind)
            if message is not None and self._session.state == "open" and self._bucket(kind).take(now):
                membership.drop_waiting(kind)
                self._waiting = tuple(each for each in self._waiting if each != (membership, kind))
                self._pass_on(membership, message, now)
        self.update_has_pending()
        if self._waiting and self._session.state == "open":
            self._session.hub.wake_waiting(self._session.connection, self._next_release(now))

    def update_has_pending(self) -> None:
        """Update whether cursors must be handled in Python: while one waits there, while messages are held behind
        joins, and while the session is invisible."""
        waits = self.behind_joins is not None or any(kind == "cursor" for _, kind in self._waiting)
        self._session.rate_limiter.has_pending = waits or self._session.hidden

    def _next_release(self, now: float) -> float:
        return min(self._bucket(kind).ready_at(now) for _, kind in self._waiting)

    def query_active(self, message: GetActive, raw: bytes, within: bool, now: float) -> None:
        """Handle presence.getActive: for members, and for users who may enter [C13, C14]. Errors: INVALID_MESSAGE,
        FORBIDDEN, RATE_LIMITED."""
        check_room_id(message.room_id)
        if not (within and self._join_bucket.take(now)):
            raise PresenceError("RATE_LIMITED", retry_after_s=max(0.1, self._join_bucket.ready_at(now) - now))
        self._session.activity.note_activity(now)
        if self.is_member(message.room_id):
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
        if (membership := self.rooms.get(message.room_id)) is not None:
            self._apply(membership, "seen", self._session.hub.clock())
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
                at=now,
            ),
            now,
        )

    # --- helpers --------------------------------------------------------------------------------------------------

    def _require(self, room_id: str) -> RoomMembership:
        membership = self.rooms.get(room_id)
        if membership is None or membership.state not in IN_ROOM:
            raise PresenceError("NOT_IN_ROOM")
        return membership

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise PresenceError("TOO_LARGE", f"Such a message may have {self.max_bytes} bytes.")

    def _use_route(self, membership: RoomMembership, route: CursorRoute) -> None:
        self._session.rate_limiter.add_route(route, membership.replace_route(route))

    def _drop_route(self, membership: RoomMembership) -> Cursor | None:
        """Remove the cursor route; returns the cursor that waited in it."""
        route = membership.replace_route(None)
        return None if route is None else self._session.rate_limiter.drop_route(route)

    def _pass_on(
        self,
        membership: RoomMembership,
        message: RoomMessage,
        now: float,
        raw: bytes = b"",
        round_trip_ms: int = 0,
        step: int = 0,
    ) -> None:
        session = self._session
        if isinstance(message, CursorMessage) and membership.route is not None:
            membership.route.note_last(last_shown(session, message.data))
        command = RoomAction(
            room_id=message.room_id,
            session_id=session.session_id,
            message=message,
            raw=raw,
            reply_to=reply_to(session, message.id),
            hidden=session.hidden,
            round_trip_ms=round_trip_ms,
            step=step,
        )
        if isinstance(message, PresenceMessage):
            command.connection, command.session_version = session.connection, session.version
        session.hub.bus.send(command, now)

    def _send(self, command: Any, now: float) -> None:
        self._session.hub.bus.send(command, now)


# actions of `room_membership.TRANSITIONS`
ACTIONS: dict[str, Callable[..., None]] = {
    "check": Memberships._check_join,
    "send_join": Memberships._send_join,
    "deny": Memberships._deny,
    "subscribe": Memberships._subscribe,
    "take_back": Memberships._take_back,
    "note_left": Memberships._note_left,
    "send_leave": Memberships._send_leave,
    "tell_left": Memberships._tell_left,
    "leave_resumed": Memberships._leave_resumed,
    "expel": Memberships._expel,
    "tell_refusal": Memberships._tell_refusal,
    "end_join": Memberships._end_join,
    "acknowledge_leave": Memberships._acknowledge_leave,
}

# message types that are coalesced, with their names in the counters
_MERGED: dict[type, str] = {message: type_ for type_, message in ROOM_MESSAGES.items() if EDGE in message.coalesced}
