"""Parses public keys from PEM text and from a JWK set [RFC 7517].

A key is used only with the algorithms of its own type, so that a token cannot have it used for another one: shared
secrets and HMAC are excluded.
"""

import re
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256")
PUBLIC_ALGORITHMS = (*RSA_ALGORITHMS, "ES256", "ES384", "EdDSA")
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3
MAX_KEYS = 64
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_READERS: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}


class Key(NamedTuple):
    """A public key, the algorithms that it is used with, and the key id by which tokens name it."""

    material: Any
    algorithms: tuple[str, ...]
    kid: str | None = None


def keys_from_pem(text: str) -> list[Key]:
    """Return the public keys and the keys of certificates in `text`, at most `MAX_KEYS`. A line break may be written as
    backslash and n, as in environment variables. Errors: ValueError with the remedy."""
    text = text.replace("\\n", "\n")
    keys = []
    for block in _BLOCK.finditer(text):
        pem, kind = block[0].encode(), block[1]
        if "PRIVATE" in kind:
            raise ValueError("holds a private key: give the public one:  openssl pkey -in FILE -pubout")
        try:
            material = (
                load_pem_x509_certificate(pem).public_key() if kind == "CERTIFICATE" else load_pem_public_key(pem)
            )
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"holds a {kind.lower()} that cannot be read: was it cut?") from None
        algorithms = _algorithms_of(material)
        if not algorithms:
            raise ValueError(
                f"holds a key of a kind that is not used here: RSA from {MIN_RSA_BITS} bits, P-256, P-384 or Ed25519"
            )
        keys.append(Key(material, algorithms))
    if not keys:
        raise ValueError("holds no public key: it begins with -----BEGIN PUBLIC KEY-----")
    return keys[:MAX_KEYS]


def keys_from_jwks(body: bytes) -> list[Key]:
    """Return the keys of a JWK set that may sign tokens, at most `MAX_KEYS`; others are skipped. Errors: ValueError
    when there is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is not JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError('it is not a JWK set, which is {"keys": [...]}')
    keys = [key for key in map(_key_from_jwk, listed) if key is not None]
    if not keys:
        raise ValueError("it holds no key that could have signed a token")
    return keys[:MAX_KEYS]


def _key_from_jwk(jwk: Any) -> Key | None:
    # a published private key (d) proves nothing
    if not isinstance(jwk, dict) or "d" in jwk or jwk.get("use", "sig") != "sig":
        return None
    reader, operations, kid = _READERS.get(str(jwk.get("kty"))), jwk.get("key_ops", ["verify"]), jwk.get("kid")
    if reader is None or not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not isinstance(kid, str):
        return None
    try:
        material = reader.from_jwk(jwk)
    except (jwt.PyJWTError, ArithmeticError, AttributeError, LookupError, TypeError, UnsupportedAlgorithm, ValueError):
        return None  # PyJWT does not check all values and lets errors of other kinds through
    algorithms = _algorithms_of(material)
    if "alg" in jwk:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    return Key(material, algorithms, kid) if algorithms else None


def _algorithms_of(material: Any) -> tuple[str, ...]:
    if isinstance(material, RSAPublicKey) and material.key_size >= MIN_RSA_BITS:
        return RSA_ALGORITHMS
    if isinstance(material, EllipticCurvePublicKey):
        return {SECP256R1: ("ES256",), SECP384R1: ("ES384",)}.get(type(material.curve), ())
    return ("EdDSA",) if isinstance(material, Ed25519PublicKey) else ()
