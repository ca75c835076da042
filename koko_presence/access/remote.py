"""Access that asks the application: what a webhook and the tRPC probe have in common.

An answer is remembered for as long as it counts, a question that several have is asked once, and when nobody answers
everybody who wants in is told to try again: at once, as long as the breaker is open.

One person's questions are no reason to refuse others. An answer, however useless, is a sign of life, and "cannot be
checked now" for that question alone; silence opens the circuit breaker only when nearly all that is asked for some time
meets it, and several people in several rooms. What failed for a moment is asked once more within the same time.
"""

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

from koko_presence.admin.upstream_metrics import Upstream
from koko_presence.auth.http_client import AskFailed, HttpClient, Late, Useless
from koko_presence.auth.identity import Identity
from koko_presence.auth.ttl_cache import Kept, Memory
from koko_presence.protocol.messages import RoomType

from .policy import UNSURE, Access, Action, Grant

log = logging.getLogger("koko_presence.access")

ASK_TIMEOUT_S = 2.0
CONNECTIONS = 64
LONGEST_TTL_S = 60.0  # [A6]
REFUSAL_TTL_S = 5.0
MAX_ANSWERS = 50_000
UNSURE_TTL_S = 2.0  # for how long a question with a useless answer is not asked again
MAX_QUESTIONS = 2_048  # on their way at a time
MAX_QUESTIONS_PER_USER = 8
AGAIN_AFTER_S = 0.05  # the pause before the second try: longer than the hiccup of a process that restarts or collects
SHORTEST_TRY_S = 0.2  # with less time left there is no second try

# The circuit breaker opens when of the questions that ended within WINDOW_S this share, and so many at least, had no
# answer, the first of them asked OPENS_AFTER_S ago or earlier, for so many different people and different rooms.
WINDOW_S, SLOT_S = 2.0, 0.25
OPENS_AT_SHARE = 0.8
OPENS_AT_FAILURES = 5
OPENS_AFTER_S = 0.25
OPENS_FOR = 3
STAYS_OPEN_S = 2.0


class Unsure(Exception):
    """There is no answer that says yes or no; `why` for the operator. `passing`: it may well answer in a moment."""

    def __init__(self, why: str = "", *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class Question(NamedTuple):
    """Who wants what. `extra` is whatever else the answer depends on."""

    user_id: str
    room_id: str
    room_type: RoomType | None
    action: Action
    extra: Hashable = None


class _Slot:
    """The questions that ended within a quarter of a second from `at` on; of the people and rooms a few are enough."""

    __slots__ = ("answered", "asked_at", "at", "failed", "people", "rooms")

    def __init__(self, at: float) -> None:
        self.at = at
        self.answered = self.failed = 0
        self.asked_at = float("inf")  # when the first of those that failed was asked
        self.people: set[str] = set()
        self.rooms: set[str] = set()


class Breaker:
    """A circuit breaker that judges by share and time: a burst of failures among answers does not open it, however many
    they are. While it is open one question every two seconds may try whether that is over."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._tries_at = 0.0
        self.is_open = False

    def lets_pass(self, now: float) -> bool:
        """Whether a question may be asked at `now`; if so, while open, no other one may for a while."""
        if not self.is_open:
            return True
        if now < self._tries_at:
            return False
        self._tries_at = now + STAYS_OPEN_S
        return True

    def answered(self, now: float) -> None:
        """A question was answered, which ends whatever opened the breaker."""
        if self.is_open:
            self.is_open = False
            self._slots.clear()
        self._slot(now).answered += 1

    def failed(self, now: float, asked_at: float, user_id: str, room_id: str) -> None:
        """No answer to a question about this user and room, which was asked at `asked_at`."""
        if self.is_open:
            return
        slot = self._slot(now)
        slot.failed += 1
        slot.asked_at = min(slot.asked_at, asked_at)
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
            and now - min(slot.asked_at for slot in self._slots) >= OPENS_AFTER_S
            and all(
                len(set().union(*seen)) >= OPENS_FOR
                for seen in ((slot.people for slot in self._slots), (slot.rooms for slot in self._slots))
            )
        )


class AskedAccess(Access):
    """Base. `clock` gives monotonic seconds; `asker` is this access's own and is closed with it."""

    def __init__(
        self,
        asker: HttpClient | None,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        upstream: Upstream | None = None,
    ) -> None:
        """`pause` sleeps so many seconds, before a second try; requests are counted in `upstream`."""
        self._upstream = upstream or Upstream()
        self._asker = asker or HttpClient(timeout_s=ASK_TIMEOUT_S, connections=CONNECTIONS, upstream=self._upstream)
        self._clock = clock
        self._pause = pause
        self._memory: Memory[Question, Grant] = Memory(MAX_ANSWERS)
        self._breaker = Breaker()
        self._is_closed = False
        self._on_their_way = 0
        self._of_user: dict[str, int] = {}  # of these, by user

    @abstractmethod
    def _question(
        self, identity: Identity, room_id: str, room_type: RoomType | None, action: Action
    ) -> Question | Grant:
        """What an answer would be remembered by; a Grant when there is nothing to ask."""

    @abstractmethod
    async def _ask(self, question: Question, identity: Identity, session_id: str) -> tuple[Grant, float]:
        """The application's word, and how many seconds it counts. Errors: AskFailed, Unsure."""

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
        return self._memory.get(question, self._clock()) or self._find_out(question, identity, session_id)

    def forget(self, user_id: str | None = None, room_id: str | None = None) -> None:
        self._memory.forget(lambda key: user_id in (None, key.user_id) and room_id in (None, key.room_id))

    @property
    def breaker_open(self) -> bool:
        return self._breaker.is_open

    async def close(self) -> None:
        self._is_closed = True
        self._memory.stop()
        await self._asker.close()

    async def _find_out(self, question: Question, identity: Identity, session_id: str) -> Grant:
        try:
            return await self._memory.ask(
                question, self._clock(), lambda: self._ask_once(question, identity, session_id)
            )
        except Unsure:
            return UNSURE
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._is_closed or (task is not None and task.cancelling()):
                raise
            return UNSURE  # the question was given up, and who waits for it was not: another access has taken over

    async def _ask_once(self, question: Question, identity: Identity, session_id: str) -> Kept[Grant]:
        user_id, of_user = question.user_id, self._of_user.get(question.user_id, 0)
        if self._on_their_way >= MAX_QUESTIONS or of_user >= MAX_QUESTIONS_PER_USER:
            self._upstream.skip()
            raise Unsure
        asked_at = self._clock()
        if not self._breaker.lets_pass(asked_at):
            self._upstream.skip()
            raise Unsure
        self._on_their_way += 1
        self._of_user[user_id] = of_user + 1
        try:
            grant, ttl_s = await self._answer(question, identity, session_id, asked_at)
        except (Unsure, Useless) as unsure:
            self._breaker.answered(self._clock())
            log.warning("the application has no answer to who may enter", extra={"why": str(unsure)})
            return Kept(UNSURE, self._clock() + UNSURE_TTL_S)
        except AskFailed as failure:
            self._breaker.failed(self._clock(), asked_at, user_id, question.room_id)
            log.warning("the application cannot be asked who may enter", extra={"why": str(failure)})
            raise Unsure from None
        finally:
            self._on_their_way -= 1
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]
        self._breaker.answered(self._clock())
        longest_s = LONGEST_TTL_S if grant.allow else REFUSAL_TTL_S
        return Kept(grant, self._clock() + min(max(ttl_s, 0.0), longest_s))

    async def _answer(
        self, question: Question, identity: Identity, session_id: str, asked_at: float
    ) -> tuple[Grant, float]:
        """The application's word. Asked once more when there is none that could not be had a moment later, both within
        ASK_TIMEOUT_S. Errors: AskFailed, Unsure."""
        try:
            return await self._ask(question, identity, session_id)
        except (Unsure, AskFailed) as failure:
            left_s = asked_at + ASK_TIMEOUT_S - self._clock() - AGAIN_AFTER_S
            passing = failure.passing if isinstance(failure, Unsure) else not isinstance(failure, Late | Useless)
            if not passing or left_s < SHORTEST_TRY_S:
                raise
        await self._pause(AGAIN_AFTER_S)
        try:
            async with asyncio.timeout(left_s):
                return await self._ask(question, identity, session_id)
        except TimeoutError:
            raise AskFailed(f"it did not answer within {ASK_TIMEOUT_S:g} s, asked twice") from None
