"""Who is it? Tokens in, identities out; and the server's own tokens for coming back.

The algorithm is fixed by configuration, never by the token. Signatures are PyJWT's business; the claims are checked
here against a time that is an argument. A refusal says what is wrong and what to do, and never repeats the token.
"""

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Awaitable, Collection, Mapping
from typing import Any, Protocol

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm
from msgspec import Struct

from .profile import clean_image, clean_name, has_controls

SCOPES = frozenset(("join", "control", "broadcast", "moderate"))
MAX_TOKEN_CHARS = 8192
MAX_USER_ID_CHARS = 128
MIN_SECRET_BYTES = 32
ALGORITHMS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
RESERVED_USER = "system"  # the sender of the server's own broadcasts [J4]


class TokenRefused(Exception):
    """Why a token does not count, in words for its owner; never holds the token."""


class Identity(Struct, frozen=True, kw_only=True):
    """Who a verified token speaks for, until unix second `expires_at_s`. `rooms` maps a room id, or a prefix with one
    trailing `*`, to scopes [A6]; `sid` is the application's own session id, never the one of presence [A3]."""

    user_id: str
    name: str
    image: str | None
    expires_at_s: int
    rooms: Mapping[str, tuple[str, ...]]
    presence: bool = True  # False: the user has switched presence off [K1]
    sid: str | None = None


class TokenVerifier(Protocol):
    """Whatever can tell who a token belongs to, at once or after asking elsewhere."""

    def verify(self, token: str, now_s: float) -> Identity | Awaitable[Identity]:
        """The identity behind `token` at unix second `now_s`. Errors: TokenRefused."""
        ...


class HmacVerifier:
    """Tokens signed with a shared secret: HS256, or its longer sisters if configured."""

    def __init__(
        self,
        secret: str,
        *,
        algorithms: Collection[str] = ("HS256",),
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 5.0,
        max_ttl_s: float = 86_400.0,
    ) -> None:
        """`leeway_s`: seconds by which clocks may differ; `max_ttl_s`: how far ahead an expiry is believed.

        Errors: ValueError for an algorithm that is not HMAC with SHA-2, and for a secret too short or of another kind.
        """
        if not algorithms or not ALGORITHMS.keys() >= set(algorithms):
            raise ValueError("a shared secret goes with HS256, HS384 or HS512: set auth.algorithms to one of them")
        self._algorithms = list(algorithms)
        self._jws = _signer()
        self._key = _usable_key(secret)
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._max_ttl_s = max_ttl_s

    def verify(self, token: str, now_s: float) -> Identity:
        """The identity behind `token` at unix second `now_s`. Errors: TokenRefused."""
        claims = self._claims(token)
        expires_at_s = self._check_times(claims, now_s)
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenRefused("its issuer (iss) is not the one in auth.issuer")
        self._check_audience(claims.get("aud"))
        user_id = _user_id(claims.get("sub"))
        return Identity(
            user_id=user_id,
            name=clean_name(claims.get("name"), user_id),
            image=clean_image(claims.get("image")) or clean_image(claims.get("picture")),
            expires_at_s=expires_at_s,
            rooms=_rooms(claims.get("rooms", {})),
            presence=_switch(claims.get("presence", True)),
            sid=_sid(claims.get("sid")),
        )

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenRefused(f"it is longer than {MAX_TOKEN_CHARS} characters: name rooms by prefix, as in project_*")
        parts = token.count(".") + 1
        if parts == 5:
            raise TokenRefused("it is encrypted (JWE): sign it instead")
        if parts != 3:
            raise TokenRefused(f"it is not a JWT, which has three parts; this has {parts}. Is it a session id?")
        try:
            payload = self._jws.decode(token, self._key, algorithms=self._algorithms)
            claims = msgspec.json.decode(payload)
            # msgspec keeps the last of two equal names; another reader may keep the first [RFC 7519, 4]
            _ONCE.decode(payload.decode())
        except jwt.InvalidAlgorithmError:
            expected = " or ".join(self._algorithms)
            raise TokenRefused(f"it is not signed with {expected}, as auth.algorithms asks") from None
        except jwt.InvalidSignatureError:
            raise TokenRefused("its signature does not match: was it made with another secret?") from None
        except (jwt.DecodeError, UnicodeError, ValueError, RecursionError):
            raise TokenRefused("it is not a well-formed JWT: was it cut or changed on its way?") from None
        except jwt.InvalidTokenError:
            raise TokenRefused("its header asks for too much: leave out crit and b64; kid is a text") from None
        if not isinstance(claims, dict):
            raise TokenRefused("its payload is not a JSON object")
        return claims

    def _check_times(self, claims: dict[str, Any], now_s: float) -> int:
        expires_at_s = _unix(claims, "exp")
        if expires_at_s is None:
            raise TokenRefused("it never expires: exp is needed, in unix seconds")
        if expires_at_s <= now_s - self._leeway_s:
            raise TokenRefused("it has expired: fetch a new one")
        if expires_at_s > now_s + self._max_ttl_s + self._leeway_s:
            raise TokenRefused(f"it expires more than {self._max_ttl_s:.0f} seconds ahead (auth.max_ttl_s)")
        not_before_s, issued_at_s = _unix(claims, "nbf"), _unix(claims, "iat")
        if not_before_s is not None and not_before_s > now_s + self._leeway_s:
            raise TokenRefused("it is not valid yet (nbf): compare the clocks")
        if issued_at_s is not None and issued_at_s > now_s + self._leeway_s:
            raise TokenRefused("it was issued in the future (iat): compare the clocks")
        return expires_at_s

    def _check_audience(self, audience: Any) -> None:
        if self._audience is None:
            return
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or self._audience not in named:
            raise TokenRefused("its audience (aud) is not the one in auth.audience")


class _ReadyKey(HMACAlgorithm):
    """HMAC with a key that `_usable_key` has seen: PyJWT would look for PEM, DER and JWK in it again with every token
    (10 us), and warn of HS512 with fewer than 64 bytes, where we ask for 32."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        return None


@functools.cache
def _signer() -> jwt.PyJWS:
    jws = jwt.PyJWS(algorithms=[])
    for name, hash_algorithm in ALGORITHMS.items():
        jws.register_algorithm(name, _ReadyKey(hash_algorithm))
    return jws


def _usable_key(secret: str) -> bytes:
    key = secret.encode()
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"The secret needs at least {MIN_SECRET_BYTES} bytes: make one with  openssl rand -base64 48")
    try:
        return HMACAlgorithm(hashlib.sha256).prepare_key(key)
    except jwt.InvalidKeyError:  # who knows a public key could sign with it
        raise ValueError("The secret is a key pair's key or a JWK: make one with  openssl rand -base64 48") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise TokenRefused("a name stands twice in it: write each claim and each room once")
    return named


_ONCE = json.JSONDecoder(object_pairs_hook=_each_once)


def _unix(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise TokenRefused(f"{name} must be a whole number of seconds since 1970")
    return value


def _user_id(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TokenRefused("it names no user: sub must be a text, not empty")
    if len(value) > MAX_USER_ID_CHARS:
        raise TokenRefused(f"its user id (sub) is longer than {MAX_USER_ID_CHARS} characters")
    if has_controls(value):
        raise TokenRefused("its user id (sub) holds control characters")
    if value == RESERVED_USER:
        raise TokenRefused(f"the user id {RESERVED_USER!r} is reserved for the server: use another sub")
    return value


def _rooms(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise TokenRefused("rooms must be an object from room ids to lists of scopes")
    rooms = {}
    for pattern, scopes in value.items():
        if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
            raise TokenRefused("rooms must be an object from room ids to lists of scopes")
        if "*" in pattern[:-1]:
            raise TokenRefused("a room pattern may have one * and only at its end")
        # scopes of a later version are no reason to refuse: they allow nothing here
        rooms[pattern] = tuple(scope for scope in scopes if scope in SCOPES)
    return rooms


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TokenRefused("presence must be true or false")
    return value


def _sid(value: Any) -> str | None:
    """Nothing is decided by it, so one that cannot be used is dropped, as an image is."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_USER_ID_CHARS and value.isprintable() else None


def issue_token(
    secret: str,
    *,
    user: str,
    name: str | None = None,
    image: str | None = None,
    rooms: Mapping[str, Collection[str]] | None = None,
    ttl_s: int = 3600,
    now_s: int,
    issuer: str | None = None,
    audience: str | None = None,
    algorithm: str = "HS256",
) -> str:
    """A signed token for `user`, good for `ttl_s` seconds from unix second `now_s`.

    Errors: ValueError, with what to do, for a secret or algorithm that HmacVerifier would not take, an unusable user id
    or time, unknown scopes, more than fits into a token.
    """
    key = _usable_key(secret)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"There is no algorithm {algorithm!r} here: use {', '.join(ALGORITHMS)}.")
    if type(ttl_s) is not int or type(now_s) is not int:  # a bool is an int, and 1.5 would be refused as exp
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
    try:
        _user_id(user)
        _rooms(claims.get("rooms", {}))
    except TokenRefused as refused:
        raise ValueError(f"Such a token would be refused: {refused}.") from None
    token = _signer().encode(msgspec.json.encode(claims), key, algorithm=algorithm)
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"The token would be longer than {MAX_TOKEN_CHARS} characters: name rooms by prefix.")
    return token


class ResumeTokens:
    """The server's own tokens for coming back to a session: signed, so that any worker with the secret can read them
    [A1, N-c]. They name the user, the session and an end, and open nothing without a token of the user beside them."""

    def __init__(self, secret: str) -> None:
        # a key of its own: what is signed here can never be taken for a JWT of the same secret
        self._key = hmac.digest(secret.encode(), b"koko-presence resume token", "sha256")

    def issue(self, user_id: str, session_id: str, expires_at_s: int) -> str:
        """A token for `session_id`, good until unix second `expires_at_s`."""
        body = f"{expires_at_s}.{session_id}".encode()
        return base64.urlsafe_b64encode(self._sign(user_id, body) + body).decode().rstrip("=")

    def read(self, token: str, user_id: str, now_s: float) -> str | None:
        """The session id, or None for a token that is forged, expired, somebody else's or no token at all."""
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            end, _, session_id = raw[16:].decode().partition(".")
            expires_at_s = int(end)
            # made again and compared whole: base64 and int have several spellings of one value, this leaves one
            genuine = hmac.compare_digest(self.issue(user_id, session_id, expires_at_s).encode(), token.encode())
            return session_id if genuine and expires_at_s > now_s else None
        except ValueError:
            return None

    def _sign(self, user_id: str, body: bytes) -> bytes:
        user = user_id.encode()
        return hmac.digest(self._key, len(user).to_bytes(4, "big") + user + body, hashlib.sha256)[:16]
