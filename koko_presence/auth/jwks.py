"""An identity provider's public keys, from the address where it publishes them [RFC 7517 section 5].

Read in the background: at the start, every ten minutes, and when a token names a key that is not known, which can make
us ask twice a minute at most. Who needs a key that is known never waits, and the last good keys stay while nobody
answers there. Keys that another worker has read count here too, by their age. Written on one loop; `clock` is
monotonic, in seconds, and the same for all workers of a host.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence

from .http_client import AskFailed, HttpClient
from .identity import SIGNATURE, TokenRefused, VerifierUnavailable
from .jws import Header
from .public_keys import MAX_KEYS, Key, keys_from_jwks

log = logging.getLogger("koko_presence.jwks")

TIMEOUT_S = 10.0  # nobody who has a known key waits for it
TOKEN_WAITS_S = 3.0  # for an answer that is on its way, before its owner is told to come back
REFRESH_S = 600.0
RETRY_S = 30.0  # after a refresh that failed
ASK_S = 30.0  # between two questions that tokens have caused
FIRST_S = 2.0  # both while there are no keys at all

NOT_AMONG = "its key (kid) is not among those of auth.jwks.url"

OnRead = Callable[[bytes, float, Sequence[str]], None]


class Jwks:
    """The keys at one address. `start` begins to refresh them; `close` ends that."""

    asks = True

    def __init__(
        self,
        url: str,
        asker: HttpClient,
        clock: Callable[[], float],
        on_read: OnRead = lambda body, read_at, withdrawn: None,
    ) -> None:
        """`on_read` is told of every answer with other keys or a new age: what `learn` takes elsewhere."""
        self.url = url
        self._asker = asker
        self._clock = clock
        self._on_read = on_read
        self._keys: list[Key] = []
        self._names: set[str] = set()
        self._withdrawn: dict[str, None] = {}  # names of earlier keys that the newest answer does not have
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
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

    def withdrew(self, header: Header) -> bool:
        """Is the token's key one that was published once and is no more?"""
        return header.kid in self._withdrawn

    def learn(self, body: bytes, read_at: float, withdrawn: Collection[str]) -> None:
        """What was answered at `read_at`, to another worker; nothing is done with an answer that is older than ours."""
        if read_at <= self._read_at or self._closed:
            return
        try:
            keys = keys_from_jwks(body)
        except ValueError:  # of a worker with another idea of what a key is
            return
        self._take(keys, read_at, withdrawn)
        log.info("keys learned", extra={"url": self.url, "keys": len(keys), "age_s": round(self._clock() - read_at)})

    async def look_up(self, header: Header) -> Sequence[Key]:
        """The same after asking, if it is not too early to ask again.

        Errors: TokenRefused for a key that is not in an answer asked for after the token came, or was withdrawn;
        VerifierUnavailable when there is no such answer: the key may be too new for us."""
        try:
            return await self._look_up(header)
        except VerifierUnavailable:
            if self.withdrew(header):
                raise TokenRefused(NOT_AMONG, SIGNATURE) from None
            raise

    async def _look_up(self, header: Header) -> Sequence[Key]:
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
        raise TokenRefused(NOT_AMONG, SIGNATURE)

    async def _ask_for_tokens(self) -> None:
        if self._fetching is None:
            wait_s = self._asked_at + self._pause_s() - self._clock()
            if 0 < wait_s <= ASK_S:
                text = "its key (kid) is not known yet, and it is too early to ask again"
                raise VerifierUnavailable(text, wait_s, is_silence=bool(self._why_not))
            self._asked_at = self._clock()
        fetching = self._fetch_once()
        await asyncio.wait((fetching,), timeout=TOKEN_WAITS_S)
        if not fetching.done():
            raise VerifierUnavailable("the keys of auth.jwks.url are still being read", FIRST_S)

    def _pause_s(self) -> float:
        return ASK_S if self._keys else FIRST_S

    async def fetch(self) -> None:
        """Ask for the keys now, or wait for the answer that is on its way. A failure is in the log."""
        await asyncio.shield(self._fetch_once())

    def _fetch_once(self) -> "asyncio.Future[None]":
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        asked_at = self._clock()
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
            if self._names_of(keys) != self._names or not self._keys:
                log.info("keys read", extra={"url": self.url, "keys": len(keys)})
            self._take(keys, asked_at, self._withdrawn)
            self._on_read(answer.body, asked_at, list(self._withdrawn))
        finally:
            self._fetching = None

    def _take(self, keys: list[Key], read_at: float, withdrawn: Collection[str]) -> None:
        """From now on these count. `read_at` is when they were asked for, so a newer answer never gives way."""
        if read_at < self._read_at:
            return
        names = self._names_of(keys)
        gone = [name for name in dict.fromkeys((*withdrawn, *self._withdrawn, *self._names)) if name not in names]
        self._withdrawn = dict.fromkeys(gone[-MAX_KEYS:])
        self._keys, self._names, self._read_at, self._why_not = keys, names, read_at, ""

    @staticmethod
    def _names_of(keys: Sequence[Key]) -> set[str]:
        return {key.kid for key in keys if key.kid is not None}

    async def _keep_fresh(self) -> None:
        while True:
            wait_s = self._read_at + REFRESH_S - self._clock()  # another worker may have read them
            if wait_s <= 0.0:
                await self.fetch()
                wait_s = self._retry_s() if self._why_not else REFRESH_S
            await asyncio.sleep(wait_s)

    def _retry_s(self) -> float:
        return RETRY_S if self._keys else FIRST_S
