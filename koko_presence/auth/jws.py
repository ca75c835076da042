"""Reads and signs tokens in JWS compact form [RFC 7515]: the unverified header, and the claims that a key has signed.

The header is read before the signature is verified; it only selects among the algorithms and keys that the
configuration permits. PyJWT verifies signatures, with keys that are prepared beforehand.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Collection
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from .identity import ALGORITHM, FORM, SIGNATURE, TokenRefused

MAX_TOKEN_CHARS = 8192
HMAC_ALGORITHMS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


class Header(NamedTuple):
    """The algorithm and key id of a token's header, not verified yet."""

    alg: str
    kid: str | None


def check_length(token: str) -> None:
    """Errors: `TokenRefused` for a token above `MAX_TOKEN_CHARS` characters."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefused(
            f"it is longer than {MAX_TOKEN_CHARS} characters: name rooms by prefix, as in project_*", FORM
        )


def from_base64url(part: bytes) -> bytes:
    """Decode one part of a token, base64url without padding [RFC 7515 section 2]. Errors: ValueError."""
    return base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True)


def looks_signed(token: str) -> bool:
    """Return True when `token` has the form of a JWS: three parts, the first a JSON object in base64url."""
    return token.startswith("eyJ") and token.count(".") == 2


def read_header(token: str) -> Header:
    """Return the header of a signed token. Errors: `TokenRefused`."""
    check_length(token)
    if token.startswith(("{", '"')):
        raise TokenRefused("it is JSON: send the token that is in it, such as its field `token`", FORM)
    parts = token.count(".") + 1
    if parts == 5:
        raise TokenRefused("it is encrypted (JWE): sign it instead", FORM)
    if parts != 3:
        raise TokenRefused(f"it is not a JWT, which has three parts; this has {parts}. Is it a session id?", FORM)
    try:
        part = token.partition(".")[0].encode("ascii")
        header = ONCE.decode(from_base64url(part).decode())
        alg, kid = header.get("alg"), header.get("kid")
    except (ValueError, AttributeError, RecursionError):
        raise _malformed() from None
    if kid is not None and not isinstance(kid, str):
        raise _unsupported_header()
    return Header(alg if isinstance(alg, str) else "", kid)


def read_claims(token: str, key: Any, algorithms: Collection[str], wrong: str) -> dict[str, Any]:
    """Verify `token` with `key` and one of `algorithms`, and return its claims; `wrong` is the message for a signature
    that does not match. Errors: `TokenRefused`."""
    try:
        payload = _signer().decode(token, key, algorithms=list(algorithms))
        claims = msgspec.json.decode(payload)
        # of two equal names msgspec keeps the last, another parser may keep the first [RFC 7519, 4]
        ONCE.decode(payload.decode())
    except jwt.InvalidAlgorithmError:
        raise other_algorithm(algorithms) from None
    except jwt.InvalidSignatureError:
        raise TokenRefused(wrong, SIGNATURE) from None
    except (jwt.DecodeError, UnicodeError, ValueError, RecursionError):
        raise _malformed() from None
    except jwt.InvalidTokenError:
        raise _unsupported_header() from None
    if not isinstance(claims, dict):
        raise TokenRefused("its payload is not a JSON object")
    return claims


def sign(payload: bytes, key: bytes, algorithm: str) -> str:
    """Return a token with `payload`, signed with a shared secret."""
    return _signer().encode(payload, key, algorithm=algorithm)


def other_algorithm(algorithms: Collection[str]) -> TokenRefused:
    """Return the error for a token that is signed with none of `algorithms`."""
    expected = " or ".join(algorithms)
    return TokenRefused(f"it is not signed with {expected}, as auth.algorithms asks", ALGORITHM)


def _malformed() -> TokenRefused:
    return TokenRefused("it is not a well-formed JWT: was it cut or changed on its way?", FORM)


def _unsupported_header() -> TokenRefused:
    return TokenRefused("its header asks for too much: leave out crit and b64; kid is a text", FORM)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise TokenRefused("a name stands twice in it: write each claim and each room once")
    return named


ONCE = json.JSONDecoder(object_pairs_hook=_each_once)


class _ReadySecret(HMACAlgorithm):
    """HMAC with a key that was checked before. PyJWT would search it for PEM, DER and JWK with every token (10 us), and
    warn of fewer than 64 bytes for HS512, where 32 are required here."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> None:
        return None


@functools.cache
def _signer() -> jwt.PyJWS:
    jws = jwt.PyJWS(algorithms=[])
    algorithms: dict[str, Algorithm] = {name: _ReadySecret(digest) for name, digest in HMAC_ALGORITHMS.items()}
    algorithms |= {
        "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
        "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
        "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
        "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
        "ES256": ECAlgorithm(ECAlgorithm.SHA256),
        "ES384": ECAlgorithm(ECAlgorithm.SHA384),
        "EdDSA": OKPAlgorithm(),
    }
    for name, algorithm in algorithms.items():
        jws.register_algorithm(name, algorithm)
    return jws
