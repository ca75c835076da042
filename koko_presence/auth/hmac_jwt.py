"""Verifies and issues tokens that are signed with a shared secret.

The configuration defines the algorithm, never the token. The message of a refusal names the fault and the remedy, and
never contains the token. The module holds no state.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from koko_presence.config.sections import MIN_SECRET_BYTES

from .identity import Identity, MayQuery, TokenRefused, TokenVerifier, VerifierUnavailable, unlimited
from .jws import HMAC_ALGORITHMS, MAX_TOKEN_CHARS, other_algorithm, read_claims, read_header, sign
from .jwt_claims import MAX_USER_ID_CHARS, SCOPES, ClaimRules, check_rooms, check_settings, check_user_id
from .resume_tokens import ResumeTokens

__all__ = [
    "MAX_TOKEN_CHARS", "MAX_USER_ID_CHARS", "SCOPES", "HmacVerifier", "Identity", "ResumeTokens", "TokenRefused",
    "TokenVerifier", "VerifierUnavailable", "issue_token",
]  # fmt: skip


class HmacVerifier:
    """Verifies tokens signed with a shared secret: HS256, or HS384 and HS512 when configured."""

    def __init__(
        self,
        secret: str,
        *,
        algorithms: Collection[str] = ("HS256",),
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 5.0,
        max_ttl_s: float = 86_400.0,
        forwards: bool = False,
    ) -> None:
        """`issuer`, `audience`, `leeway_s` and `max_ttl_s` are those of `ClaimRules`; `forwards`: identities carry the
        token as a header for the application's API.

        Errors: ValueError for an algorithm that is not HMAC with SHA-2, and for a secret that is too short or a key of
        another kind.
        """
        if not algorithms or not HMAC_ALGORITHMS.keys() >= set(algorithms):
            raise ValueError("a shared secret goes with HS256, HS384 or HS512: set auth.algorithms to one of them")
        self._algorithms = list(algorithms)
        self._key = _usable_key(secret)
        self._rules = ClaimRules(issuer=issuer, audience=audience, leeway_s=leeway_s, max_ttl_s=max_ttl_s)
        self._forwards = forwards

    is_remote = False

    def was_refused(self, token: str, now_s: float) -> bool:
        """Return False: `verify` decides at any time without a request."""
        return False

    def has_refused(self, token_hash: bytes, now_s: float) -> bool:
        """Return False: no refusal is cached."""
        return False

    def verify(self, token: str, now_s: float, may_query: MayQuery = unlimited) -> Identity:
        """Return the identity of `token` at unix second `now_s`, without a request. Errors: `TokenRefused`."""
        if read_header(token).alg not in self._algorithms:
            raise other_algorithm(self._algorithms)
        claims = read_claims(token, self._key, self._algorithms, _WRONG)
        return self._rules.identity(claims, now_s, bearer(token) if self._forwards else ())


_WRONG = "its signature does not match: was it made with another secret?"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that authenticate the token's user at the application's API [RFC 6750 section 2.1]."""
    return (("authorization", f"Bearer {token}"),)


def _usable_key(secret: str) -> bytes:
    key = secret.encode()
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"The secret needs at least {MIN_SECRET_BYTES} bytes: make one with  openssl rand -base64 48")
    try:
        return HMACAlgorithm(hashlib.sha256).prepare_key(key)
    except jwt.InvalidKeyError:  # a public key is no secret: any client that has it could sign with it
        raise ValueError("The secret is a key pair's key or a JWK: make one with  openssl rand -base64 48") from None


def issue_token(
    secret: str,
    *,
    user: str,
    name: str | None = None,
    image: str | None = None,
    rooms: Mapping[str, Collection[str]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    presence: bool = True,
    ttl_s: int = 3600,
    now_s: int,
    issuer: str | None = None,
    audience: str | None = None,
    algorithm: str = "HS256",
) -> str:
    """Return a signed token for `user`, valid for `ttl_s` seconds from unix second `now_s`. `presence` False: the user
    is never shown to others [K1].

    Errors: ValueError, with the remedy, for a secret or algorithm that `HmacVerifier` does not accept, an invalid user
    id or time, unknown scopes, unusable settings, and a token above `MAX_TOKEN_CHARS` characters.
    """
    key = _usable_key(secret)
    if algorithm not in HMAC_ALGORITHMS:
        raise ValueError(f"There is no algorithm {algorithm!r} here: use {', '.join(HMAC_ALGORITHMS)}.")
    if type(ttl_s) is not int or type(now_s) is not int:  # a bool is an int; 1.5 would be refused as `exp`
        raise ValueError("The time and the time to live are whole numbers of seconds.")
    if ttl_s < 1:
        raise ValueError("The time to live must be at least 1 second.")
    for pattern, scopes in (rooms or {}).items():
        unknown = [scopes] if isinstance(scopes, str) else [scope for scope in scopes if scope not in SCOPES]
        if unknown:
            raise ValueError(f"{pattern}: no such scope: {', '.join(unknown)}. There are {', '.join(sorted(SCOPES))}.")
    claims: dict[str, Any] = {"sub": user, "iat": now_s, "exp": now_s + ttl_s}
    optional = {"name": name, "image": image, "iss": issuer, "aud": audience}
    claims |= {claim: value for claim, value in optional.items() if value is not None}
    if rooms:
        claims["rooms"] = {pattern: list(scopes) for pattern, scopes in rooms.items()}
    if settings:
        claims["settings"] = {pattern: dict(each) for pattern, each in settings.items()}
    if not presence:
        claims["presence"] = False
    try:
        check_user_id(user)
        check_rooms(claims.get("rooms", {}))
        check_settings(claims.get("settings", {}))
    except TokenRefused as refused:
        raise ValueError(f"Such a token would be refused: {refused}.") from None
    token = sign(msgspec.json.encode(claims), key, algorithm)
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"The token would be longer than {MAX_TOKEN_CHARS} characters: name rooms by prefix.")
    return token
