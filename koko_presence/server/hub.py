"""Holds all sessions of one worker's edge, delivers the bus's messages and room flushes to them, and runs their timers.

`Hub` writes the tables of sessions and subscriptions. A session is found by connection number until it is opened and by
session id from then on; a resumed session replaces the entry of its old connection in one step [D16]. Messages and
flushes are delivered in the order in which the bus passes them on; all sockets are written once, after a flush.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.fanout import RoomFlush
from koko_presence._fastpath.flush_scheduler import CursorRoute
from koko_presence._fastpath.outbox import WriteBatch
from koko_presence._fastpath.rounds import Round
from koko_presence._fastpath.wallclock import WallClock
from koko_presence.access.policy import Access
from koko_presence.admin.upstream_metrics import Durations
from koko_presence.auth.hmac_jwt import ResumeTokens, TokenVerifier
from koko_presence.cluster.bus import Alarm, Bus, Timers
from koko_presence.protocol.commands import EndSession
from koko_presence.protocol.edge_messages import (
    CallAnswered,
    EdgeMessage,
    Left,
    Reply,
    RoomRefused,
    SessionActed,
    SessionEvicted,
    SessionLost,
    SessionOpened,
    SessionRefused,
    SessionReplaced,
    SummaryChanged,
)
from koko_presence.protocol.limits import Limits
from koko_presence.protocol.snapshots import Present, SessionRecord
from koko_presence.rooms.deadlines import Deadlines
from koko_presence.rooms.service_delays import Delays
from koko_presence.users.session import NONE

from .address_limits import FREE, AddressUse
from .pending_requests import PendingRequests
from .room_summaries import RoomSummaries
from .rpc import Procedures
from .self_service import note_acted
from .session import Session
from .session_states import Link
from .subscription import RoomSubscription, SubscribedSession, Subscriber

log = logging.getLogger("koko_presence.edge")

# A worker that was stalled has unread data, and timers run before sockets are read. After a timer that runs STALL_S
# late no session is judged silent, idle or lost, and no token expires, for as long as the timer was late, at most
# UNREAD_S [D4, D11, N13]. Everything that does not depend on received data runs in time.
STALL_S, UNREAD_S = 0.25, 1.0
TICK_S = 0.004  # longest part of the deadlines that are due together; the rest follows after other work
SHED_BYTES = 64 * 1024  # many times the unsent bytes of a client that keeps up


class Hub:
    """One worker's edge. Written by the loop's thread only; implements `EdgePort` for the bus."""

    def __init__(
        self,
        edge_id: int,
        *,
        bus: Bus,
        limits: Limits,
        verifier: TokenVerifier,
        access: Access,
        resume_tokens: ResumeTokens,
        wall: WallClock,
        clock: Callable[[], float],
        timers: Timers,
        new_session_id: Callable[[], str],
        round: Round | None = None,
        delays: Delays | None = None,
    ) -> None:
        """`round` is the poller's: data read in it counts as received when it began. `delays` has the times in which
        the service was behind, by which timeouts of clients are extended. `clock` returns monotonic seconds."""
        self.edge_id = edge_id
        self.bus = bus
        self.limits = limits
        self.verifier = verifier
        self.access = access
        self.resume_tokens = resume_tokens
        self.wall = wall
        self.clock = clock
        self.timers = timers
        self.new_session_id = new_session_id
        self.round = round or Round(clock)
        self.delays = Delays() if delays is None else delays
        # seconds that a new connection has waited for this worker's work, by monotonic second
        self.waits_for: Callable[[float], float] = self.round.admission_waits_for
        self.sessions: dict[str, Session] = {}
        self.connections: dict[int, Session] = {}
        self.drains = False  # all clients are being moved to other workers
        self.migrating: set[int] = set()  # connections moved to other workers whose sessions are not resumed there yet
        self.subscriptions: dict[str, RoomSubscription] = {}
        self.write_batch = WriteBatch(timers.call_soon)
        self._last_connection = edge_id << 32  # connection numbers are unique over all workers
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadlines = Deadlines()
        self._alarm = Alarm(timers, clock, self._tick)
        self.judges_from = 0.0  # monotonic second from which silence is judged again
        self.refuses_new_clients = False  # set by the worker while memory is short
        self.calls = PendingRequests(edge_id, bus, timers, clock)
        self.procedures = Procedures(self)
        self.room_summaries = RoomSummaries(edge_id, bus, timers, clock)
        self.join_access = Durations()  # waits of joins for the authoriser

    def unix_s(self) -> float:
        """The present time in seconds since 1970."""
        return self.wall.ms(self.clock()) / 1000.0

    def received_at(self) -> float:
        """The monotonic second at which the data being handled could have been read: rates and silences are judged by
        it [L3, D4]."""
        return self.round.received_at(self.clock())

    # --- connections ----------------------------------------------------------------------------------------------

    def accept(self, link: Link, address_use: AddressUse = FREE) -> Session:
        """Make the session of a new connection; `address_use` counts the connection for its address. The returned
        session is the connection's handler."""
        self._last_connection += 1
        counters.accepted += 1
        session = Session(self, self._last_connection, link, address_use)
        self.connections[session.connection] = session
        return session

    def forget(self, session: Session) -> None:
        """Remove the session of a closed connection from all tables and subscriptions, and cancel its deadlines."""
        self.connections.pop(session.connection, None)
        self._deadlines.cancel(session.connection)
        self._deadlines.cancel((session.connection, "waiting"))
        if self.sessions.get(session.session_id) is session:
            del self.sessions[session.session_id]
            for room_id in session.memberships.end():
                self._drop_subscriber(session.session_id, room_id)
        session.memberships.end()
        session.end_watching()

    def unsubscribe(self, session: SubscribedSession, room_id: str) -> None:
        """Remove the session from a room's subscription and drop what its outbox holds back of the room: the client
        gets nothing more of it."""
        self._drop_subscriber(session.session_id, room_id)
        session.outbox.forget(room_id)

    def _drop_subscriber(self, session_id: str, room_id: str) -> None:
        """Remove a session from a room's subscription, and the subscription with its last subscriber. The room's owner
        may be lost, so that no flush follows which would remove it; as long as it is here, so is the room's replica."""
        subscription = self.subscriptions.get(room_id)
        if subscription is not None:
            subscription.drop(session_id)
            if not subscription.subscribers:
                del self.subscriptions[room_id]

    def wake(self, connection: int, at: float) -> None:
        """Call `on_tick` of the connection's session at monotonic second `at`."""
        self._deadlines.set(connection, at)
        self._alarm.schedule(at)

    def wake_waiting(self, connection: int, at: float) -> None:
        """Call `release_waiting` of the connection's session at monotonic second `at`."""
        self._deadlines.set((connection, "waiting"), at)
        self._alarm.schedule(at)

    def await_answer(self, answer: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a check that queries another service as a task; these are the only tasks of an edge. A failure is
        logged."""
        task = asyncio.ensure_future(answer)
        self._tasks.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("edge task failed", exc_info=task.exception())

    def shed_slow(self) -> int:
        """Close the sessions with more than SHED_BYTES of unsent data; they may resume. Returns their number."""
        slow = [session for session in self.sessions.values() if session.outbox.waiting_bytes() > SHED_BYTES]
        for session in slow:
            session.shed()
        return len(slow)

    def stop(self) -> None:
        """Stop all timers, fail pending calls and cancel pending checks."""
        self._alarm.stop()
        self.room_summaries.stop()
        self.calls.stop()
        for task in self._tasks:
            task.cancel()

    def _tick(self) -> None:
        now = self.clock()
        due_at = self._deadlines.next_at()
        if due_at is not None and now - due_at > STALL_S:
            self.judges_from = max(self.judges_from, now + min(UNREAD_S, now - due_at))
        try:
            for key in self._deadlines.take_due(now):
                session = self.connections.get(key[0] if isinstance(key, tuple) else key)
                if session is None:
                    continue
                try:
                    if isinstance(key, tuple):
                        session.release_waiting(now)
                    else:
                        session.on_tick(now)
                except Exception:  # its own deadlines are lost; those of the others are not
                    session.fail()
                if self.clock() >= now + TICK_S:
                    break
        finally:
            self._alarm.schedule(self._deadlines.next_at())

    # --- messages from owners -------------------------------------------------------------------------------------

    def on_edge_message(self, message: EdgeMessage, now: float) -> None:
        """Deliver one message from an owner to its session or call. A session that has closed meanwhile is no error."""
        if isinstance(message, SessionOpened):
            session = self.connections.get(message.connection)
            if session is not None and session.session_id == message.session_id and session.state == "open":
                session.note_version(message.session_version)
                return  # repeated by the backup owner after the owner had sent it and was lost
            if session is None or not session.opening:  # closed while its session was opened: end the session
                migrates = self.drains and message.resumed
                if migrates:
                    self.migrating.add(message.connection)
                self.bus.send(
                    EndSession(
                        user_id=message.user_id,
                        session_id=message.session_id,
                        edge=self.edge_id,
                        connection=message.connection,
                        session_version=message.session_version,
                        grace=message.resumed,
                        reason="disconnected",
                        migrates=migrates,
                    ),
                    now,
                )
                return
            self.sessions[message.session_id] = session
            session.on_opened(message, now)
        elif isinstance(message, SessionRefused):
            session = self.connections.get(message.connection)
            if session is not None:
                session.on_refused(message.code, now)
        elif isinstance(message, (SessionReplaced, SessionEvicted)):
            self.migrating.discard(message.connection)
            session = self.connections.get(message.connection)
            if session is not None:
                session.on_ended(4409 if isinstance(message, SessionReplaced) else 4429, now)
        elif isinstance(message, SessionLost):
            session = self.sessions.get(message.session_id)
            if session is not None:
                session.finish(1012)
        elif isinstance(message, RoomRefused):
            session = self.sessions.get(message.session_id)
            if session is not None:
                session.memberships.on_refused(message.room_id, message.payload, now, out=message.out)
        elif isinstance(message, Left):
            session = self.sessions.get(message.session_id)
            if session is not None:
                session.memberships.on_left(message.room_id, message.payload, now)
        elif isinstance(message, Reply):
            session = self.sessions.get(message.session_id)
            if session is not None and not (message.shown_room_id and session.discards(message.shown_room_id)):
                session.write(message.payload)
                if message.refusal:
                    session.on_refusal()
        elif isinstance(message, SessionActed):
            session = self.sessions.get(message.session_id)
            if session is not None:
                note_acted(session, message, now)
        elif isinstance(message, CallAnswered):
            self.calls.on_answer(message)
        elif isinstance(message, SummaryChanged):
            self.room_summaries.on_summary(message)

    def on_flush(self, flush: RoomFlush, now: float) -> None:
        """Copy a room's flush to the outbox of each subscriber here, in stream order."""
        subscription = self.subscriptions.get(flush.room_id)
        if subscription is None:
            subscription = self.subscriptions[flush.room_id] = RoomSubscription(flush.room_id)
        subscription.deliver(flush, self._find)
        if subscription.subscribers:
            self.subscriptions[flush.room_id] = (
                subscription  # a session that ended during delivery may have removed the subscription
            )
        else:
            self.subscriptions.pop(flush.room_id, None)

    def on_flushed(self, now: float) -> None:
        """Write all outboxes with data, one write per socket, after all rooms that are due are flushed."""
        self.write_batch.write()

    # --- view changes [N-b] ---------------------------------------------------------------------------------------

    def on_route(self, session_id: str, route: CursorRoute) -> None:
        """Add a cursor route to a session, if the session is still subscribed to the room."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.memberships.add_route(route.key.decode(), route)

    def drop_routes(self, room_ids: Iterable[str]) -> None:
        """Remove the cursor routes of rooms whose owner changes. Cursors of these rooms are handled in Python until the
        new owner provides new routes; a cursor that waited in a route is sent at once."""
        for room_id in room_ids:
            subscription = self.subscriptions.get(room_id)
            for session_id in subscription.subscribers if subscription is not None else ():
                self.sessions[session_id].memberships.drop_route(room_id, self.clock())

    @property
    def newest(self) -> int:
        """The highest connection number up to which each connection has an open session or is closed; later connections
        may still become sessions."""
        coming = [number for number, session in self.connections.items() if session.state != "open"]
        return min(coming, default=self._last_connection + 1) - 1

    def presences(self) -> dict[str, Present]:
        """By room: the sessions of this edge that are in it or join it, whether they are subscribed, and their last
        cursors (`CursorRoute.last`)."""
        found: dict[str, Present] = {}
        called = self.calls.joins()
        for session in self.sessions.values():
            presences = session.memberships.presences(called.get(session.session_id, NONE))
            for room_id, (subscribed, cursor) in presences.items():
                found.setdefault(room_id, {})[session.session_id] = (subscribed, session.connection, cursor)
        return found

    def retry_pending(self, now: float) -> None:
        """Repeat all requests without an answer, after the loss of an owner."""
        for session in list(self.connections.values()):
            try:
                session.authentication.retry_pending(now)
                session.memberships.retry_pending(now)
            except Exception:  # the requests of the others are repeated
                session.fail()
        self.calls.retry_pending(now)

    @property
    def watched_rooms(self) -> Iterable[str]:
        """The rooms that sessions of this edge watch without being in them [Q12]."""
        return self.room_summaries.room_ids

    def repeat_watches(self, room_ids: Iterable[str], now: float) -> None:
        """Tell the owners of these rooms, which have changed, that this edge watches them."""
        self.room_summaries.repeat(room_ids, now)

    def session_records(self) -> dict[str, list[SessionRecord]]:
        """By user: the records of the open sessions of this edge."""
        found: dict[str, list[SessionRecord]] = {}
        called = self.calls.joins()
        for session in self.sessions.values():
            if session.state == "open":
                record = session.record(called.get(session.session_id, NONE))
                found.setdefault(session.user_id, []).append(record)
        return found

    def _find(self, session_id: str) -> Subscriber | None:
        return self.sessions.get(session_id)
