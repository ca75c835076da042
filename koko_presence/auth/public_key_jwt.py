"""Verifies tokens signed with a private key, by public keys from PEM text or from an identity provider's JWKS."""

from collections.abc import Awaitable, Collection, Sequence
from typing import Protocol

from .hmac_jwt import bearer
from .identity import SIGNATURE, Identity, MayQuery, TokenRefused, unlimited
from .jws import Header, other_algorithm, read_claims, read_header
from .jwt_claims import ClaimRules
from .public_keys import Key

NOT_SIGNED = "its signature does not match: was it made with another key?"


class KeySource(Protocol):
    """A source of public keys."""

    is_remote: bool  # True when `look_up` can find a key that `find` did not

    def find(self, header: Header) -> Sequence[Key]:
        """Return the keys that may have signed a token with this header; an empty sequence when its key is unknown.
        Errors: `TokenRefused` when no key can match."""
        ...

    async def look_up(self, header: Header) -> Sequence[Key]:
        """Return the same after a request for newer keys. Errors: `TokenRefused`, `VerifierUnavailable`."""
        ...

    def withdrew(self, header: Header) -> bool:
        """Return True when the token's key was valid earlier and was withdrawn."""
        ...


class KeyVerifier:
    """Verifies tokens with the keys of a source and the configured algorithms."""

    def __init__(
        self, source: KeySource, algorithms: Collection[str], rules: ClaimRules, *, forwards: bool = False
    ) -> None:
        """`forwards`: identities carry the token as a header for the application's API."""
        self._source = source
        self._algorithms = list(algorithms)
        self._rules = rules
        self._forwards = forwards

    @property
    def is_remote(self) -> bool:
        """True when the source can request newer keys."""
        return self._source.is_remote

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity | Awaitable[Identity]:
        """Return the identity of `token` at unix second `now_s`: at once when its key is known. `may_query` is not
        used, because the source limits its requests itself. Errors: `TokenRefused`; from the awaitable also
        `VerifierUnavailable`."""
        header = read_header(token)
        if header.alg not in self._algorithms:
            raise other_algorithm(self._algorithms)
        keys = self._source.find(header)
        if not keys:
            return self._verify_remotely(token, header, now_s)
        try:
            return self._verified(token, header, keys, now_s)
        except TokenRefused as refused:
            # a key without `kid` may have been replaced by another one without `kid`
            if refused.came != SIGNATURE or header.kid is not None or not self._source.is_remote:
                raise
        return self._verify_remotely(token, header, now_s)

    def was_refused(self, token: str, now_s: float) -> bool:
        """Return True when the key of `token` was withdrawn."""
        try:
            return self._source.withdrew(read_header(token))
        except TokenRefused:  # not a JWS: `verify` refuses it
            return False

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """Return False: no results for tokens are cached, only keys."""
        return False

    async def _verify_remotely(self, token: str, header: Header, now_s: float) -> Identity:
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
    """The keys of the configuration. They have no key ids, so a token's `kid` is ignored."""

    is_remote = False

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def find(self, header: Header) -> Sequence[Key]:
        """Return all keys for the token's algorithm. Errors: `TokenRefused` when there is none."""
        keys = [key for key in self._keys if header.alg in key.algorithms]
        if not keys:
            raise TokenRefused(f"there is no key for {header.alg} in auth.public_key", SIGNATURE)
        return keys

    async def look_up(self, header: Header) -> Sequence[Key]:
        """Return the same as `find`: there is no newer source."""
        return self.find(header)

    def withdrew(self, header: Header) -> bool:
        """Return False: earlier configurations are not known."""
        return False
