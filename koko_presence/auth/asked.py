"""Access that asks the application: what a webhook and the tRPC probe have in common.

An answer is remembered for as long as it counts, a question that several have is asked once, and when nobody answers
everybody who wants in is told to try again: at once, as long as the breaker is open.

One person's questions are no reason to refuse others. An answer, however useless, is a sign of life, and "cannot be
checked now" for that question alone; silence opens the breaker only when several people hear it in several rooms.
"""

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

from koko_presence.messages import RoomType

from .access import UNSURE, Access, Action, Grant
from .asking import Asker, AskFailed, Useless
from .identity import Identity
from .memory import Kept, Memory

log = logging.getLogger("koko_presence.access")

ASK_TIMEOUT_S = 2.0
CONNECTIONS = 64
LONGEST_TTL_S = 60.0  # [A6]
REFUSAL_TTL_S = 5.0
MAX_ANSWERS = 50_000
UNSURE_TTL_S = 2.0  # for how long a question with a useless answer is not asked again
MAX_QUESTIONS = 2_048  # on their way at a time
MAX_QUESTIONS_PER_USER = 8
OPENS_AFTER = 5  # questions without an answer, one after the other
OPENS_FOR = 3  # different people, and different rooms, among them
STAYS_OPEN_S = 2.0


class Unsure(Exception):
    """There is no answer that says yes or no; `why` for the operator."""


class Question(NamedTuple):
    """Who wants what. `extra` is whatever else the answer depends on."""

    user_id: str
    room_id: str
    room_type: RoomType | None
    action: Action
    extra: Hashable = None


class Breaker:
    """Open after several failures in a row that concern several people and rooms; then one question every two seconds
    may try whether that is over."""

    def __init__(self) -> None:
        self._failures = 0
        self._people: set[str] = set()
        self._rooms: set[str] = set()
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

    def answered(self) -> None:
        """Somebody answers: whatever failed before is over."""
        self._failures = 0
        self._people.clear()
        self._rooms.clear()
        self.is_open = False

    def failed(self, now: float, user_id: str, room_id: str) -> None:
        """No answer to a question about this user and room."""
        if self.is_open:
            return
        self._failures += 1
        for seen, one in ((self._people, user_id), (self._rooms, room_id)):
            if len(seen) < OPENS_FOR:
                seen.add(one)
        if self._failures >= OPENS_AFTER and len(self._people) == len(self._rooms) == OPENS_FOR:
            self.is_open = True
            self._tries_at = now + STAYS_OPEN_S


class AskedAccess(Access):
    """Base. `clock` gives monotonic seconds; `asker` is this access's own and is closed with it."""

    def __init__(self, asker: Asker, *, clock: Callable[[], float]) -> None:
        self._asker = asker
        self._clock = clock
        self._memory: Memory[Question, Grant] = Memory(MAX_ANSWERS)
        self._breaker = Breaker()
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

    async def close(self) -> None:
        self._memory.stop()
        await self._asker.close()

    async def _find_out(self, question: Question, identity: Identity, session_id: str) -> Grant:
        try:
            return await self._memory.ask(
                question, self._clock(), lambda: self._ask_once(question, identity, session_id)
            )
        except Unsure:
            return UNSURE

    async def _ask_once(self, question: Question, identity: Identity, session_id: str) -> Kept[Grant]:
        user_id, of_user = question.user_id, self._of_user.get(question.user_id, 0)
        if self._on_their_way >= MAX_QUESTIONS or of_user >= MAX_QUESTIONS_PER_USER:
            raise Unsure
        if not self._breaker.lets_pass(self._clock()):
            raise Unsure
        self._on_their_way += 1
        self._of_user[user_id] = of_user + 1
        try:
            grant, ttl_s = await self._ask(question, identity, session_id)
        except (Unsure, Useless) as unsure:
            self._breaker.answered()
            log.warning("the application has no answer to who may enter", extra={"why": str(unsure)})
            return Kept(UNSURE, self._clock() + UNSURE_TTL_S)
        except AskFailed as failure:
            self._breaker.failed(self._clock(), user_id, question.room_id)
            log.warning("the application cannot be asked who may enter", extra={"why": str(failure)})
            raise Unsure from None
        finally:
            self._on_their_way -= 1
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]
        self._breaker.answered()
        longest_s = LONGEST_TTL_S if grant.allow else REFUSAL_TTL_S
        return Kept(grant, self._clock() + min(max(ttl_s, 0.0), longest_s))
