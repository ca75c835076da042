"""Fetches an identity provider's public keys from their JWKS address [RFC 7517 section 5].

The keys are fetched in the background: at the start, every ten minutes, and when a token names an unknown key, at most
twice a minute. Verification with a known key never waits, and the last valid keys stay in use while the address does
not answer. Keys that another worker has fetched are used when they are newer. `Jwks` is the only writer of its state,
on one event loop; `clock` returns monotonic seconds, the same for all workers of a host.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence

from .http_client import HttpClient, RequestFailed
from .identity import SIGNATURE, TokenRefused, VerifierUnavailable
from .jws import Header
from .public_keys import MAX_KEYS, Key, keys_from_jwks

log = logging.getLogger("koko_presence.jwks")

TIMEOUT_S = 10.0  # tokens with a known key do not wait for it
TOKEN_WAITS_S = 3.0  # how long a token with an unknown key waits for a pending request, before it is refused for now
REFRESH_S = 600.0
RETRY_S = 30.0  # after a refresh that failed
MIN_QUERY_INTERVAL_S = 30.0  # between two requests that tokens have caused
FIRST_S = 2.0  # in place of both while no keys are known

NOT_AMONG = "its key (kid) is not among those of auth.jwks.url"

OnRead = Callable[[bytes, float, Sequence[str]], None]


class Jwks:
    """The keys of one address. `start` begins the periodic refresh; `close` ends it."""

    is_remote = True

    def __init__(
        self,
        url: str,
        http_client: HttpClient,
        clock: Callable[[], float],
        on_read: OnRead = lambda body, read_at, withdrawn: None,
    ) -> None:
        """`on_read` is called with the body, time and withdrawn key ids of every successful answer, for `learn` of
        other workers."""
        self.url = url
        self._http_client = http_client
        self._clock = clock
        self._on_read = on_read
        self._keys: list[Key] = []
        self._names: set[str] = set()
        self._withdrawn: dict[str, None] = {}  # key ids of earlier answers that the newest one does not have
        self._read_at = float("-inf")
        self._requested_at = float("-inf")
        self._why_not = ""  # why the last request failed; empty after a success
        self._fetching: asyncio.Future[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Fetch the keys now, and again every ten minutes."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh_loop())

    async def close(self) -> None:
        """End the refresh and close the client. A token that waits for an answer gets `VerifierUnavailable`."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self._http_client.close()

    def find(self, header: Header) -> Sequence[Key]:
        """Return the keys named by `kid`, or without `kid` the only key for that algorithm; an empty sequence when none
        is known. Errors: `TokenRefused` when several keys match without `kid`, or the key has another algorithm."""
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
        """Return True when the token's key was published earlier and is not published any more."""
        return header.kid in self._withdrawn

    def learn(self, body: bytes, read_at: float, withdrawn: Collection[str]) -> None:
        """Store the keys that another worker has requested at monotonic second `read_at`. An answer that is not newer
        than the present one is ignored."""
        if read_at <= self._read_at or self._closed:
            return
        try:
            keys = keys_from_jwks(body)
        except ValueError:  # a worker of another version accepts other keys
            return
        self._take(keys, read_at, withdrawn)
        log.info(
            "JWKS keys received from another worker",
            extra={"url": self.url, "keys": len(keys), "age_s": round(self._clock() - read_at)},
        )

    async def look_up(self, header: Header) -> Sequence[Key]:
        """Return the same after a new request, unless the last one is too recent.

        Errors: `TokenRefused` for a key that is missing from an answer requested after the token came, or that was
        withdrawn; `VerifierUnavailable` when there is no such answer, because the key may be newer than the known
        ones."""
        try:
            return await self._look_up(header)
        except VerifierUnavailable:
            if self.withdrew(header):
                raise TokenRefused(NOT_AMONG, SIGNATURE) from None
            raise

    async def _look_up(self, header: Header) -> Sequence[Key]:
        for _ in range(2):
            under_way = self._fetching is not None  # requested before this token came, so it may lack a new key
            await self._fetch_for_token()
            keys = self.find(header)
            if keys:
                return keys
            if self._why_not:
                raise VerifierUnavailable("the keys of auth.jwks.url cannot be read now", self._pause_s())
            if not under_way:
                break
        raise TokenRefused(NOT_AMONG, SIGNATURE)

    async def _fetch_for_token(self) -> None:
        if self._fetching is None:
            wait_s = self._requested_at + self._pause_s() - self._clock()
            if 0 < wait_s <= MIN_QUERY_INTERVAL_S:
                text = "its key (kid) is not known yet, and it is too early to ask again"
                raise VerifierUnavailable(text, wait_s, is_silence=bool(self._why_not))
            self._requested_at = self._clock()
        fetching = self._fetch_once()
        await asyncio.wait((fetching,), timeout=TOKEN_WAITS_S)
        if not fetching.done():
            raise VerifierUnavailable("the keys of auth.jwks.url are still being read", FIRST_S)

    def _pause_s(self) -> float:
        return MIN_QUERY_INTERVAL_S if self._keys else FIRST_S

    async def fetch(self) -> None:
        """Request the keys now, or wait for the pending request. A failure is logged, not raised."""
        await asyncio.shield(self._fetch_once())

    def _fetch_once(self) -> "asyncio.Future[None]":
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        requested_at = self._clock()
        try:
            answer = await self._http_client.get(self.url)
            if answer.status != 200:
                raise RequestFailed(f"it answers with status {answer.status}")
            keys = keys_from_jwks(answer.body)
        except (RequestFailed, ValueError) as failure:
            self._why_not = str(failure)
            if not self._closed:
                log.warning(
                    "JWKS keys not read, the last valid ones stay in use",
                    extra={"url": self.url, "why": self._why_not},
                )
        else:
            if self._names_of(keys) != self._names or not self._keys:
                log.info("JWKS keys read", extra={"url": self.url, "keys": len(keys)})
            self._take(keys, requested_at, self._withdrawn)
            self._on_read(answer.body, requested_at, list(self._withdrawn))
        finally:
            self._fetching = None

    def _take(self, keys: list[Key], read_at: float, withdrawn: Collection[str]) -> None:
        """Replace the keys. `read_at` is when they were requested; an answer older than the present one is ignored."""
        if read_at < self._read_at:
            return
        names = self._names_of(keys)
        gone = [name for name in dict.fromkeys((*withdrawn, *self._withdrawn, *self._names)) if name not in names]
        self._withdrawn = dict.fromkeys(gone[-MAX_KEYS:])
        self._keys, self._names, self._read_at, self._why_not = keys, names, read_at, ""

    @staticmethod
    def _names_of(keys: Sequence[Key]) -> set[str]:
        return {key.kid for key in keys if key.kid is not None}

    async def _refresh_loop(self) -> None:
        while True:
            wait_s = self._read_at + REFRESH_S - self._clock()  # another worker may have fetched them
            if wait_s <= 0.0:
                await self.fetch()
                wait_s = self._retry_s() if self._why_not else REFRESH_S
            await asyncio.sleep(wait_s)

    def _retry_s(self) -> float:
        return RETRY_S if self._keys else FIRST_S
