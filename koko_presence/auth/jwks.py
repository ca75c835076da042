"""An identity provider's public keys, from the address where it publishes them [RFC 7517 section 5].

Fetched at the start, every ten minutes, and when a token names a key that is not known, which can make us ask twice a
minute at most. Who needs a key that is known never waits, and the last good keys stay while nobody answers there.
Written on one loop; `clock` is monotonic, in seconds.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from .asking import Asker, AskFailed
from .identity import SIGNATURE, TokenRefused, VerifierUnavailable
from .jws import Header
from .keys import Key, keys_from_jwks

log = logging.getLogger("koko_presence.jwks")

TIMEOUT_S = 1.0
REFRESH_S = 600.0
RETRY_S = 30.0  # after a refresh that failed
ASK_S = 30.0  # between two questions that tokens have caused
FIRST_S = 2.0  # the same while there are no keys at all


class Jwks:
    """The keys at one address. `start` begins to refresh them; `close` ends that."""

    asks = True

    def __init__(self, url: str, asker: Asker, clock: Callable[[], float]) -> None:
        self.url = url
        self._asker = asker
        self._clock = clock
        self._keys: list[Key] = []
        self._names: set[str] = set()
        self._asked_at = -1e9
        self._why_not = ""  # the last answer was of no use
        self._fetching: asyncio.Future[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Fetch the keys now, and again every ten minutes."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._keep_fresh())

    async def close(self) -> None:
        """Ask no more; who waits for an answer is told to come back."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self._asker.close()

    def find(self, header: Header) -> Sequence[Key]:
        """The keys named by `kid`, or without one the only key of that algorithm; none when it is not known. Errors:
        TokenRefused."""
        if header.kid is None:
            keys = [key for key in self._keys if header.alg in key.algorithms]
            if len(keys) > 1:
                raise TokenRefused("it does not say which of several keys signed it (kid)", SIGNATURE)
            return keys
        if header.kid not in self._names:
            return ()
        keys = [key for key in self._keys if key.kid == header.kid and header.alg in key.algorithms]
        if not keys:
            raise TokenRefused(f"its key (kid) does not go with {header.alg}", SIGNATURE)
        return keys

    async def look_up(self, header: Header) -> Sequence[Key]:
        """The same after asking, if it is not too early to ask again.

        Errors: TokenRefused for a key that is not in an answer asked for after the token came; VerifierUnavailable when
        there is no such answer: the key may be too new for us."""
        for _ in range(2):
            under_way = self._fetching is not None  # asked before this token came: a new key may not be in it yet
            await self._ask_for_tokens()
            keys = self.find(header)
            if keys:
                return keys
            if self._why_not:
                raise VerifierUnavailable("the keys of auth.jwks.url cannot be read now", self._pause_s())
            if not under_way:
                break
        raise TokenRefused("its key (kid) is not among those of auth.jwks.url", SIGNATURE)

    async def _ask_for_tokens(self) -> None:
        if self._fetching is None:
            wait_s = self._asked_at + self._pause_s() - self._clock()
            if 0 < wait_s <= ASK_S:
                raise VerifierUnavailable("its key (kid) is not known yet, and it is too early to ask again", wait_s)
            self._asked_at = self._clock()
        await self.fetch()

    def _pause_s(self) -> float:
        return ASK_S if self._keys else FIRST_S

    async def fetch(self) -> None:
        """Ask for the keys now, or wait for the answer that is on its way. A failure is in the log."""
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._fetch())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            answer = await self._asker.get(self.url)
            if answer.status != 200:
                raise AskFailed(f"it answers with status {answer.status}")
            keys = keys_from_jwks(answer.body)
        except (AskFailed, ValueError) as failure:
            self._why_not = str(failure)
            if not self._closed:
                log.warning("keys not read, the last good ones stay", extra={"url": self.url, "why": self._why_not})
        else:
            names = {key.kid for key in keys if key.kid is not None}
            if not self._keys or names != self._names:
                log.info("keys read", extra={"url": self.url, "keys": len(keys)})
            self._keys, self._names, self._why_not = keys, names, ""
        finally:
            self._fetching = None

    async def _keep_fresh(self) -> None:
        while True:
            await self.fetch()
            await asyncio.sleep(RETRY_S if self._why_not else REFRESH_S)
