"""Base of authorisers that send a request to the application: cache, limits, retry and circuit breaker.

Answers are cached until they expire, and concurrent equal checks share one request. Without an answer a
join is refused for now and may be retried; while the circuit breaker is open it is refused without a request.

Requests for one user must not cause refusals for others. Therefore an unusable answer counts as a sign that the
application is up, and refuses only its own check. Missing answers open the circuit breaker only when they are nearly
all of the requests of some time, for several users in several rooms. A request that fails for a transient reason is
sent once more within the same time-out. `RemoteAccess` and its `Breaker` are the only writers of their state, on one
event loop.
"""

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

from koko_presence.admin.upstream_metrics import Upstream
from koko_presence.auth.http_client import HttpClient, RequestFailed, ResponseTimeout, UnusableResponse
from koko_presence.auth.identity import Identity
from koko_presence.auth.ttl_cache import CachedValue, TtlCache
from koko_presence.protocol.models import RoomType

from .policy import UNSURE, Access, Action, Grant

log = logging.getLogger("koko_presence.access")

REQUEST_TIMEOUT_S = 2.0
CONNECTIONS = 64
LONGEST_TTL_S = 60.0  # [A6]
REFUSAL_TTL_S = 5.0
MAX_ANSWERS = 50_000
UNSURE_TTL_S = 2.0  # how long no request is sent after an unusable answer
MAX_QUESTIONS = 2_048  # pending requests
MAX_QUESTIONS_PER_USER = 8
AGAIN_AFTER_S = 0.05  # pause before the second try: longer than a short restart or garbage collection
SHORTEST_TRY_S = 0.2  # no second try with less time left

# The circuit breaker opens when at least OPENS_AT_SHARE of the requests that ended within WINDOW_S, and at least
# OPENS_AT_FAILURES of them, had no answer, the first of these was sent at least OPENS_AFTER_S ago, and they were for
# OPENS_FOR different users and as many rooms.
WINDOW_S, SLOT_S = 2.0, 0.25
OPENS_AT_SHARE = 0.8
OPENS_AT_FAILURES = 5
OPENS_AFTER_S = 0.25
OPENS_FOR = 3
STAYS_OPEN_S = 2.0


class Unsure(Exception):
    """The answer neither permits nor refuses; `why` is for the operator. `passing`: the cause is probably transient."""

    def __init__(self, why: str = "", *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class Question(NamedTuple):
    """The key of a check and of its cached answer. `extra` is all else that the answer depends on."""

    user_id: str
    room_id: str
    room_type: RoomType | None
    action: Action
    extra: Hashable = None


class _Slot:
    """Counts the requests that ended within `SLOT_S` from `at` on. At most `OPENS_FOR` users and rooms are stored."""

    __slots__ = ("answered", "at", "failed", "people", "requested_at", "rooms")

    def __init__(self, at: float) -> None:
        self.at = at
        self.answered = self.failed = 0
        self.requested_at = float("inf")  # when the first of the failed requests was sent
        self.people: set[str] = set()
        self.rooms: set[str] = set()


class Breaker:
    """A circuit breaker that judges the share of failures over time: a burst of failures among answers does not open
    it. While it is open one request every `STAYS_OPEN_S` seconds is let through as a trial. Times are monotonic
    seconds."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._tries_at = 0.0
        self.is_open = False

    def lets_pass(self, now: float) -> bool:
        """Return True when a request may be sent at `now`. While open, the next trial is `STAYS_OPEN_S` later."""
        if not self.is_open:
            return True
        if now < self._tries_at:
            return False
        self._tries_at = now + STAYS_OPEN_S
        return True

    def answered(self, now: float) -> None:
        """A request was answered: close the breaker."""
        if self.is_open:
            self.is_open = False
            self._slots.clear()
        self._slot(now).answered += 1

    def failed(self, now: float, requested_at: float, user_id: str, room_id: str) -> None:
        """A request about this user and room, sent at `requested_at`, had no answer: open the breaker if it is due."""
        if self.is_open:
            return
        slot = self._slot(now)
        slot.failed += 1
        slot.requested_at = min(slot.requested_at, requested_at)
        for seen, one in ((slot.people, user_id), (slot.rooms, room_id)):
            if len(seen) < OPENS_FOR:
                seen.add(one)
        if self._judge(now):
            self.is_open = True
            self._tries_at = now + STAYS_OPEN_S

    def _slot(self, now: float) -> _Slot:
        while self._slots and self._slots[0].at <= now - WINDOW_S:
            self._slots.popleft()
        if not self._slots or self._slots[-1].at <= now - SLOT_S:
            self._slots.append(_Slot(now))
        return self._slots[-1]

    def _judge(self, now: float) -> bool:
        failed = sum(slot.failed for slot in self._slots)
        ended = failed + sum(slot.answered for slot in self._slots)
        return (
            failed >= max(OPENS_AT_FAILURES, OPENS_AT_SHARE * ended)
            and now - min(slot.requested_at for slot in self._slots) >= OPENS_AFTER_S
            and all(
                len(set().union(*seen)) >= OPENS_FOR
                for seen in ((slot.people for slot in self._slots), (slot.rooms for slot in self._slots))
            )
        )


class RemoteAccess(Access):
    """Base of the authorisers that send requests. `clock` returns monotonic seconds; `http_client` belongs to this
    object and is closed with it."""

    def __init__(
        self,
        http_client: HttpClient | None,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        upstream: Upstream | None = None,
    ) -> None:
        """`pause` sleeps for the given seconds before a second try; requests are counted in `upstream`."""
        self._upstream = upstream or Upstream()
        self._http_client = http_client or HttpClient(
            timeout_s=REQUEST_TIMEOUT_S, connections=CONNECTIONS, upstream=self._upstream
        )
        self._clock = clock
        self._pause = pause
        self._cache: TtlCache[Question, Grant] = TtlCache(MAX_ANSWERS)
        self._breaker = Breaker()
        self._is_closed = False
        self._in_flight = 0
        self._of_user: dict[str, int] = {}  # of these, by user

    @abstractmethod
    def _question(
        self, identity: Identity, room_id: str, room_type: RoomType | None, action: Action
    ) -> Question | Grant:
        """Return the key of the check; a `Grant` when it is decided without a request."""

    @abstractmethod
    async def _query(self, question: Question, identity: Identity, session_id: str) -> tuple[Grant, float]:
        """Send the request; return the application's decision and the seconds for which it is valid. Errors:
        `RequestFailed`, `Unsure`."""

    def check(
        self,
        identity: Identity,
        room_id: str,
        room_type: RoomType | None,
        *,
        session_id: str = "",
        action: Action = "join",
    ) -> Grant | Awaitable[Grant]:
        question = self._question(identity, room_id, room_type, action)
        if isinstance(question, Grant):
            return question
        return self._cache.get(question, self._clock()) or self._fetch_grant(question, identity, session_id)

    def forget(self, user_id: str | None = None, room_id: str | None = None) -> None:
        self._cache.forget(lambda key: user_id in (None, key.user_id) and room_id in (None, key.room_id))

    @property
    def answers_within_s(self) -> float:
        return REQUEST_TIMEOUT_S

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    async def close(self) -> None:
        self._is_closed = True
        self._cache.stop()
        await self._http_client.close()

    async def _fetch_grant(self, question: Question, identity: Identity, session_id: str) -> Grant:
        try:
            return await self._cache.get_or_fetch(
                question, self._clock(), lambda: self._query_once(question, identity, session_id)
            )
        except Unsure:
            return UNSURE
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_closed or (task is not None and task.cancelling()):
                raise
            return UNSURE  # `close` has cancelled the request, not the caller: a reload has replaced this authoriser

    async def _query_once(self, question: Question, identity: Identity, session_id: str) -> CachedValue[Grant]:
        user_id, of_user = question.user_id, self._of_user.get(question.user_id, 0)
        if self._in_flight >= MAX_QUESTIONS or of_user >= MAX_QUESTIONS_PER_USER:
            self._upstream.skip()
            raise Unsure
        requested_at = self._clock()
        if not self._breaker.lets_pass(requested_at):
            self._upstream.skip()
            raise Unsure
        self._in_flight += 1
        self._of_user[user_id] = of_user + 1
        try:
            grant, ttl_s = await self._answer(question, identity, session_id, requested_at)
        except (Unsure, UnusableResponse) as unsure:
            self._breaker.answered(self._clock())
            log.warning("access check: unusable answer of the application", extra={"why": str(unsure)})
            return CachedValue(UNSURE, self._clock() + UNSURE_TTL_S)
        except RequestFailed as failure:
            self._breaker.failed(self._clock(), requested_at, user_id, question.room_id)
            log.warning("access check: no answer of the application", extra={"why": str(failure)})
            raise Unsure from None
        finally:
            self._in_flight -= 1
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]
        self._breaker.answered(self._clock())
        longest_s = LONGEST_TTL_S if grant.allow else REFUSAL_TTL_S
        return CachedValue(grant, self._clock() + min(max(ttl_s, 0.0), longest_s))

    async def _answer(
        self, question: Question, identity: Identity, session_id: str, requested_at: float
    ) -> tuple[Grant, float]:
        """Return the application's decision and the seconds for which it is valid. After a transient failure the
        request is sent once more, both within `REQUEST_TIMEOUT_S`. Errors: `RequestFailed`, `Unsure`."""
        try:
            return await self._query(question, identity, session_id)
        except (Unsure, RequestFailed) as failure:
            left_s = requested_at + REQUEST_TIMEOUT_S - self._clock() - AGAIN_AFTER_S
            passing = (
                failure.passing
                if isinstance(failure, Unsure)
                else not isinstance(failure, ResponseTimeout | UnusableResponse)
            )
            if not passing or left_s < SHORTEST_TRY_S:
                raise
        await self._pause(AGAIN_AFTER_S)
        try:
            async with asyncio.timeout(left_s):
                return await self._query(question, identity, session_id)
        except TimeoutError:
            raise RequestFailed(f"it did not answer within {REQUEST_TIMEOUT_S:g} s, asked twice") from None
