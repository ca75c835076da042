"""Signed tokens in their compact form [RFC 7515]: what their header says, and what is in them when a key fits.

The header is read before anything is believed, and chooses nothing but among what the configuration allows. Signatures
are PyJWT's business, with keys that are ready to use.
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
    """What a token says of itself, which nobody has signed for yet."""

    alg: str
    kid: str | None


def check_length(token: str) -> None:
    """Errors: TokenRefused for a token that nobody reads."""
    if len(token) > MAX_TOKEN_CHARS:
        raise TokenRefused(
            f"it is longer than {MAX_TOKEN_CHARS} characters: name rooms by prefix, as in project_*", FORM
        )


def from_base64url(part: bytes) -> bytes:
    """What a part of a token stands for, without its padding [RFC 7515 section 2]. Errors: ValueError."""
    return base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True)


def looks_signed(token: str) -> bool:
    """Whether `token` has the form of a signed one: three parts, the first a JSON object in base64url."""
    return token.startswith("eyJ") and token.count(".") == 2


def read_header(token: str) -> Header:
    """The header of a signed token. Errors: TokenRefused."""
    check_length(token)
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
        raise _asks_too_much()
    return Header(alg if isinstance(alg, str) else "", kid)


def read_claims(token: str, key: Any, algorithms: Collection[str], wrong: str) -> dict[str, Any]:
    """What `key` has signed with one of `algorithms`; `wrong` is what to say of a signature that it has not made.
    Errors: TokenRefused."""
    try:
        payload = _signer().decode(token, key, algorithms=list(algorithms))
        claims = msgspec.json.decode(payload)
        # msgspec keeps the last of two equal names; another reader may keep the first [RFC 7519, 4]
        ONCE.decode(payload.decode())
    except jwt.InvalidAlgorithmError:
        raise other_algorithm(algorithms) from None
    except jwt.InvalidSignatureError:
        raise TokenRefused(wrong, SIGNATURE) from None
    except (jwt.DecodeError, UnicodeError, ValueError, RecursionError):
        raise _malformed() from None
    except jwt.InvalidTokenError:
        raise _asks_too_much() from None
    if not isinstance(claims, dict):
        raise TokenRefused("its payload is not a JSON object")
    return claims


def sign(payload: bytes, key: bytes, algorithm: str) -> str:
    """A token signed with a shared secret."""
    return _signer().encode(payload, key, algorithm=algorithm)


def other_algorithm(algorithms: Collection[str]) -> TokenRefused:
    """The refusal of a token that is signed with none of `algorithms`."""
    expected = " or ".join(algorithms)
    return TokenRefused(f"it is not signed with {expected}, as auth.algorithms asks", ALGORITHM)


def _malformed() -> TokenRefused:
    return TokenRefused("it is not a well-formed JWT: was it cut or changed on its way?", FORM)


def _asks_too_much() -> TokenRefused:
    return TokenRefused("its header asks for too much: leave out crit and b64; kid is a text", FORM)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise TokenRefused("a name stands twice in it: write each claim and each room once")
    return named


ONCE = json.JSONDecoder(object_pairs_hook=_each_once)


class _ReadySecret(HMACAlgorithm):
    """HMAC with a key that was looked at before: PyJWT would look for PEM, DER and JWK in it again with every token
    (10 us), and warn of HS512 with fewer than 64 bytes, where we ask for 32."""

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
