"""Tokens signed with a private key whose public half is known here: from PEM, or from an identity provider's JWKS."""

from collections.abc import Awaitable, Collection, Sequence
from typing import Protocol

from .hmac_jwt import bearer
from .identity import SIGNATURE, Identity, MayAsk, TokenRefused, freely
from .jws import Header, other_algorithm, read_claims, read_header
from .jwt_claims import ClaimRules
from .public_keys import Key

NOT_SIGNED = "its signature does not match: was it made with another key?"


class KeySource(Protocol):
    """Where public keys come from."""

    asks: bool  # whether look_up can find what `find` did not

    def find(self, header: Header) -> Sequence[Key]:
        """The keys that may have signed a token with this header; none when its key is not known (yet). Errors:
        TokenRefused when there can be none."""
        ...

    async def look_up(self, header: Header) -> Sequence[Key]:
        """The same after asking for newer keys. Errors: TokenRefused, VerifierUnavailable."""
        ...

    def withdrew(self, header: Header) -> bool:
        """Is the token's key one that counted once and does no more?"""
        ...


class KeyVerifier:
    """Tokens signed with one of the keys of a source, by algorithms that the configuration has chosen."""

    def __init__(
        self, source: KeySource, algorithms: Collection[str], rules: ClaimRules, *, forwards: bool = False
    ) -> None:
        """`forwards`: identities bring the token along."""
        self._source = source
        self._algorithms = list(algorithms)
        self._rules = rules
        self._forwards = forwards

    @property
    def asks(self) -> bool:
        """Keys of an identity provider may be too new to be known."""
        return self._source.asks

    def verify(self, token: str, now_s: float, may_ask: MayAsk = freely) -> Identity | Awaitable[Identity]:
        """The identity behind `token` at unix second `now_s`: at once when its key is known. `may_ask` does not matter,
        as keys are asked for at times of their own. Errors: TokenRefused; the
        answer that comes later has VerifierUnavailable too."""
        header = read_header(token)
        if header.alg not in self._algorithms:
            raise other_algorithm(self._algorithms)
        keys = self._source.find(header)
        if not keys:
            return self._after_asking(token, header, now_s)
        try:
            return self._verified(token, header, keys, now_s)
        except TokenRefused as refused:
            # a key without a name may have been exchanged for another one without a name
            if refused.came != SIGNATURE or header.kid is not None or not self._source.asks:
                raise
        return self._after_asking(token, header, now_s)

    def was_refused(self, token: str, now_s: float) -> bool:
        """Was its key withdrawn?"""
        try:
            return self._source.withdrew(read_header(token))
        except TokenRefused:  # not of the form that has keys: `verify` says so
            return False

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """Of tokens nothing is remembered, only of keys."""
        return False

    async def _after_asking(self, token: str, header: Header, now_s: float) -> Identity:
        return self._verified(token, header, await self._source.look_up(header), now_s)

    def _verified(self, token: str, header: Header, keys: Sequence[Key], now_s: float) -> Identity:
        for left, key in enumerate(keys, start=1 - len(keys)):
            try:
                claims = read_claims(token, key.material, (header.alg,), NOT_SIGNED)
            except TokenRefused as refused:
                if refused.came == SIGNATURE and left:
                    continue
                raise
            return self._rules.identity(claims, now_s, bearer(token) if self._forwards else ())
        raise TokenRefused(NOT_SIGNED, SIGNATURE)


class FixedKeys:
    """Keys out of the configuration. A token's `kid` chooses nothing: they have no names."""

    asks = False

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def find(self, header: Header) -> Sequence[Key]:
        """All keys of the token's algorithm."""
        keys = [key for key in self._keys if header.alg in key.algorithms]
        if not keys:
            raise TokenRefused(f"there is no key for {header.alg} in auth.public_key", SIGNATURE)
        return keys

    async def look_up(self, header: Header) -> Sequence[Key]:
        """The same: there is nobody to ask."""
        return self.find(header)

    def withdrew(self, header: Header) -> bool:
        """What the configuration has no more was never known here."""
        return False
