"""Manages the rooms that one session watches without being in them: checks access, answers, delivers summaries [Q12].

Access is checked as for getActive when a list comes, and again after a new token or on an operator's request; a room
that is not open any more is taken out of the list at once [N12], and so is one from which the session is expelled. A
room is watched as one of the type for which access was given [C1]. The list belongs to the connection: after a resume
the client sends it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from math import inf
from typing import Protocol

from koko_presence._fastpath.counters import counters
from koko_presence._fastpath.outbox import Outbox
from koko_presence._fastpath.throttle import TokenBucket
from koko_presence.access.policy import Access, Grant
from koko_presence.auth.hmac_jwt import Identity
from koko_presence.protocol.errors import PresenceError
from koko_presence.protocol.events import Watching
from koko_presence.protocol.messages import Watch
from koko_presence.protocol.models import MessageId, RefusedRoom, RoomType

from .room_checks import CHECKS_AT_ONCE, await_grant, check_room_id, checked_type, refused_room
from .room_summaries import PORTION_BYTES, RoomSummaries, WatchedRoom, WatchGroup
from .session_ports import EdgeServices, SessionContext

RECHECK_S = 5.0  # until an undecided check is repeated, at most twice that

NO_ROOMS: frozenset[str] = frozenset()  # shared: an empty set takes 216 bytes


class WatchingHub(EdgeServices, Protocol):
    """The edge of a session that watches rooms."""

    @property
    def access(self) -> Access: ...

    @property
    def room_summaries(self) -> RoomSummaries: ...

    def wake(self, connection: int, at: float) -> None: ...


class JoinedRooms(Protocol):
    """The rooms that a session is in."""

    def is_member(self, room_id: str) -> bool: ...


class WatchingSession(SessionContext, Protocol):
    """A session that watches rooms."""

    @property
    def hub(self) -> WatchingHub: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def memberships(self) -> JoinedRooms: ...


class _Checks:
    """Access checks under way: `on_grant` is called for each room with the answer, `on_answers` after one or several of
    these calls, then `on_done`."""

    __slots__ = ("is_done", "on_answers", "on_done", "on_grant", "open", "waiting")

    def __init__(
        self,
        room_ids: Iterable[str],
        on_grant: Callable[[str, Grant], object],
        on_done: Callable[[], object],
        on_answers: Callable[[], object] = lambda: None,
    ) -> None:
        self.waiting = deque(room_ids)
        self.open = 0
        self.on_grant, self.on_answers, self.on_done = on_grant, on_answers, on_done
        self.is_done = False


class WatchList:
    """The list of one session. Its session and the edge's `RoomSummaries` call it."""

    __slots__ = ("_bucket", "_due", "_group", "_lists", "_recheck_at", "_rechecks", "_session", "_undecided")

    def __init__(self, session: WatchingSession) -> None:
        limits = session.hub.limits
        self._session = session
        self._bucket = TokenBucket(limits.watch_hz, limits.watch_burst)
        self._lists = 0  # that have come
        self._rechecks = 0  # that have begun
        self._group: WatchGroup | None = None  # of the sessions with the same list
        self._due: dict[WatchedRoom, None] | None = None  # whose summaries it has to get, the oldest first
        self._undecided = NO_ROOMS  # rooms whose last check had no answer
        self._recheck_at = inf

    @property
    def room_ids(self) -> list[str]:
        """The rooms that the session watches, ordered by id."""
        return list(self._types())

    def release(self) -> None:
        """Release the session; the connection is closed."""
        del self._session

    def end(self) -> None:
        """Watch nothing any more: the session has ended."""
        self._replace({})
        self._session.hub.room_summaries.forget(self)

    # --- lists ----------------------------------------------------------------------------------------------------

    def watch(self, message: Watch, now: float) -> None:
        """Handle `watch`: answer with `watching` when the access to all rooms is known, then deliver the summaries of
        those that are new. A room that the session is in may be watched without an answer, too, until there is one. Of
        two lists under way the later one counts: the answer to the other one has the rooms that are watched. Errors:
        RATE_LIMITED."""
        if not self._bucket.take(now):
            raise PresenceError("RATE_LIMITED", retry_after_s=max(0.1, self._bucket.ready_at(now) - now))
        self._lists += 1
        room_ids = list(dict.fromkeys(message.rooms))
        refused: dict[str, PresenceError] = {}
        allowed: dict[str, RoomType | None] = {}
        unsure: set[str] = set()
        for room_id in room_ids:
            try:
                check_room_id(room_id)
            except PresenceError as error:
                refused[room_id] = error

        def on_grant(room_id: str, grant: Grant) -> None:
            if grant.allow:
                allowed[room_id] = checked_type(room_id, grant)
            elif grant.retry_after_s is not None and self._session.memberships.is_member(room_id):
                unsure.add(room_id)  # members see more than the summary
                allowed[room_id] = self._types().get(room_id, checked_type(room_id, grant))
            else:
                refused[room_id] = grant.refusal()

        def on_done() -> None:
            rooms = {room_id: allowed[room_id] for room_id in room_ids if room_id in allowed}
            self._answer(message.id, number, rechecks, rooms, unsure, refused)

        number, rechecks = self._lists, self._rechecks
        self._advance(_Checks([room_id for room_id in room_ids if room_id not in refused], on_grant, on_done))

    def _answer(
        self,
        id: MessageId | None,
        number: int,
        rechecks: int,
        allowed: dict[str, RoomType | None],
        unsure: set[str],
        refused: dict[str, PresenceError],
    ) -> None:
        """Answer list `number`, which came after `rechecks` repeated checks."""
        if number != self._lists:
            watched = self.room_ids
            self._send(id, watched, [refused_room(*each) for each in refused.items() if each[0] not in watched])
            return
        self._send(id, list(allowed), [refused_room(room_id, error) for room_id, error in refused.items()])
        self._replace(allowed)
        for room_id in unsure:
            self._note_undecided(room_id)
        if rechecks != self._rechecks:  # some answers may be older than what the check is repeated for
            self.recheck()

    def _replace(self, wanted: Mapping[str, RoomType | None]) -> None:
        if self._due is not None:
            keys = wanted.items()
            self._due = {each: None for each in self._due if (each.room_id, each.room_type) in keys} or None
        self._group = self._session.hub.room_summaries.replace(self, self._group, wanted)
        if self._undecided:
            self._undecided = self._undecided.intersection(wanted)

    def _types(self) -> dict[str, RoomType | None]:
        """The rooms of the list, each with the type as which it is watched."""
        return {} if self._group is None else {each.room_id: each.room_type for each in self._group.watched}

    def _send(self, id: MessageId | None, room_ids: list[str], refused: list[RefusedRoom]) -> None:
        self._session.send(Watching(id=id, rooms=room_ids, refused=refused))

    # --- access ---------------------------------------------------------------------------------------------------

    def _advance(self, checks: _Checks) -> None:
        session = self._session
        while checks.waiting and checks.open < CHECKS_AT_ONCE:
            room_id = checks.waiting.popleft()
            answer = session.hub.access.check(
                session.identity, room_id, None, session_id=session.session_id, action="get_active"
            )
            if isinstance(answer, Grant):
                checks.on_grant(room_id, answer)
            else:
                checks.open += 1
                session.hub.await_answer(await_grant(session, answer, partial(self._on_grant, checks, room_id)))
        checks.on_answers()
        if not checks.waiting and not checks.open and not checks.is_done:
            checks.is_done = True
            checks.on_done()

    def _on_grant(self, checks: _Checks, room_id: str, grant: Grant) -> None:
        checks.open -= 1
        checks.on_grant(room_id, grant)
        self._advance(checks)

    def recheck(self, room_id: str | None = None, then: Callable[[bool | None], object] = lambda allowed: None) -> int:
        """Check again whether the session may watch a room, or with None all of its list; those that it may not are
        taken out, and the client is told. `then` is called for each with the result, None when there was no answer.
        Returns the number of rooms [A6, N12]."""
        self._rechecks += 1
        room_ids = [each for each in self.room_ids if room_id in (None, each)]
        if room_ids:
            self._recheck(room_ids, then)
        return len(room_ids)

    def _recheck(self, room_ids: list[str], then: Callable[[bool | None], object] = lambda allowed: None) -> None:
        refused: list[RefusedRoom] = []
        closed: set[str] = set()  # rooms to be taken out
        allowed: dict[str, RoomType | None] = {}

        def on_grant(room_id: str, grant: Grant) -> None:
            if grant.allow:
                if room_id in self._undecided:
                    self._undecided -= {room_id}
                allowed[room_id] = checked_type(room_id, grant)
            elif grant.retry_after_s is not None:
                self._note_undecided(room_id)
            else:
                refused.append(refused_room(room_id, grant.refusal()))
                closed.add(room_id)
            then(None if not grant.allow and grant.retry_after_s is not None else grant.allow)

        def on_answers() -> None:
            types = self._types()
            wanted = {each: allowed.get(each, room_type) for each, room_type in types.items() if each not in closed}
            if wanted != types:
                self._replace(wanted)
            closed.clear()
            allowed.clear()

        def on_done() -> None:
            if refused:
                self._send(None, self.room_ids, refused)

        self._advance(_Checks(room_ids, on_grant, on_done, on_answers))

    def take_out(self, room_id: str, reason: str) -> None:
        """Take a room out of the list, and tell the client; lists under way are checked again."""
        self._rechecks += 1
        types = self._types()
        if room_id in types:
            del types[room_id]
            self._replace(types)
            self._send(None, self.room_ids, [refused_room(room_id, PresenceError("FORBIDDEN", reason))])

    def _note_undecided(self, room_id: str) -> None:
        """Record that the check of a watched room had no answer: it stays in the list, and the check is repeated."""
        session = self._session
        if not self._undecided:
            now = session.hub.clock()
            # spread by connection number: many sessions become undecided at the same time
            self._recheck_at = now + RECHECK_S * (1.0 + session.connection % 16 / 16.0)
            session.hub.wake(session.connection, now)
        self._undecided |= {room_id}

    def recheck_undecided(self, now: float) -> float:
        """Repeat the checks without an answer when it is due. Returns the monotonic second of the next time, infinity
        for none."""
        if now >= self._recheck_at:
            undecided = [room_id for room_id in self.room_ids if room_id in self._undecided]
            self._undecided = NO_ROOMS
            self._recheck_at = inf
            self._recheck(undecided)
        return self._recheck_at

    # --- summaries ------------------------------------------------------------------------------------------------

    def add_due(self, watched: WatchedRoom) -> bool:
        """Add a room whose summary the client has to get; returns whether it had none to get before."""
        if self._due is None:
            self._due = {watched: None}
            return True
        self._due[watched] = None
        return False

    def deliver(self) -> bool:
        """Write the newest summaries that the client has to get, up to `PORTION_BYTES`, and none while it has not taken
        what was written before. Returns whether some are left."""
        outbox, due = self._session.outbox, self._due
        if due is None or self._group is None:
            return False
        due.update(dict.fromkeys(self._group.claim(self)))
        if outbox.is_backed_up():
            return True
        count = written = 0
        for watched in due:
            counters.sent(watched.frame)
            outbox.write_frame(watched.frame)
            count += 1
            written += len(watched.frame)
            if written >= PORTION_BYTES:
                break
        self._due = dict.fromkeys(islice(due, count, None)) or None  # a new one: a dict that was large stays large
        return self._due is not None

    def write(self, frames: tuple[bytes, ...], joined: bytes) -> bool:
        """Write these summaries, joined in `joined`, unless others are due, or the client has not taken what was
        written before; returns whether they were written."""
        outbox = self._session.outbox
        if self._due is not None or outbox.is_backed_up():
            return False
        outbox.write_frames(frames, joined)
        return True
