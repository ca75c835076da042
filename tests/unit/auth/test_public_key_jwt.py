"""Tokens of key pairs: those that must be refused, each with its reason, from PEM and from a JWK set; and valid
ones."""

import asyncio
import base64
import hashlib
import hmac
import json
import struct
import warnings
from collections.abc import Coroutine
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.auth.identity import Identity, TokenRefused, VerifierUnavailable
from koko_presence.auth.jwks import Jwks
from koko_presence.auth.jwt_claims import ClaimRules
from koko_presence.auth.public_key_jwt import FixedKeys, KeyVerifier
from koko_presence.auth.public_keys import PUBLIC_ALGORITHMS, keys_from_jwks, keys_from_pem
from tests.provider import jwk, jwk_set, private_key, private_pem, public_pem, signed
from tests.unit.auth.test_hmac_jwt import EXPIRED, MALFORMED, NO_EXP, PARTS, TOO_FAR, TWICE, WHOLE, by_hand

from .fakes import GOOD, NOW, Clock, FakeHttpClient

KINDS = ("RS256", "ES256", "ES384", "EdDSA")
EVERY = jwk_set(*map(jwk, KINDS))
RULES = ClaimRules(issuer="https://id.example", audience="koko")
CLAIMS = GOOD | {"iss": "https://id.example", "aud": "koko"}


def by_pem(algorithms: Any = KINDS) -> KeyVerifier:
    return KeyVerifier(FixedKeys(keys_from_pem("".join(map(public_pem, KINDS)))), algorithms, RULES)


def by_jwks(body: bytes | None = EVERY, algorithms: Any = KINDS) -> tuple[KeyVerifier, FakeHttpClient, Clock]:
    http_client, clock = FakeHttpClient(body), Clock()
    return KeyVerifier(Jwks("https://id.example/jwks", http_client, clock), algorithms, RULES), http_client, clock  # type: ignore[arg-type]


def verified(verifier: Any, token: str, now_s: float = NOW) -> Identity:
    """Return the verifier's answer, awaited where needed."""
    answer = verifier.verify(token, now_s)
    if isinstance(answer, Coroutine):
        return asyncio.run(answer)  # type: ignore[arg-type,return-value]
    assert isinstance(answer, Identity)
    return answer


def raw(algorithm: str, payload: bytes, header: bytes | None = None) -> str:
    """Return a token with a payload and a header that PyJWT would not make, and a valid signature."""
    jws = jwt.PyJWS()
    if header is None:
        return jws.encode(payload, private_key(algorithm), algorithm=algorithm, headers={"kid": f"{algorithm}-0"})
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    signature = jws.get_algorithm_by_name(algorithm).sign(b".".join(parts), private_key(algorithm))
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def confused(secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    """Return an HMAC token whose secret is public: the public key."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": algorithm, "typ": "JWT"} | header, CLAIMS)
    ]
    mac = hmac.digest(secret, b".".join(parts), {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm])
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def changed(token: str, part: int) -> str:
    parts = token.split(".")
    at = len(parts[part]) // 2
    parts[part] = parts[part][:at] + ("A" if parts[part][at] != "A" else "B") + parts[part][at + 1 :]
    return ".".join(parts)


def with_claims(**more: Any) -> str:
    return raw(
        "EdDSA", json.dumps({name: value for name, value in (CLAIMS | more).items() if value is not None}).encode()
    )


def der_signature(token: str) -> str:
    """Return the same ECDSA signature in the other of its two forms."""
    head, _, last = token.rpartition(".")
    r_s = base64.urlsafe_b64decode(last + "==")

    def number(data: bytes) -> bytes:
        data = data.lstrip(b"\0")
        data = b"\0" + data if data[0] & 0x80 else data
        return struct.pack("BB", 2, len(data)) + data

    body = number(r_s[:32]) + number(r_s[32:])
    return f"{head}.{base64.urlsafe_b64encode(struct.pack('BB', 0x30, len(body)) + body).decode().rstrip('=')}"


ALGORITHM = "it is not signed with RS256 or ES256 or ES384 or EdDSA, as auth.algorithms asks"
SIGNATURE = "its signature does not match: was it made with another key?"
HEADER = "its header asks for too much: leave out crit and b64; kid is a text"
ISSUER, AUDIENCE = (
    "its issuer (iss) is not the one in auth.issuer",
    "its audience (aud) is not the one in auth.audience",
)
EARLY = "it is not valid yet (nbf): compare the clocks"
NO_USER = "it names no user: sub must be a text, not empty"
RSA_PEM, ED_PEM = public_pem("RS256").encode(), public_pem("EdDSA").encode()

REFUSED: list[tuple[str, str, str]] = [
    ("alg none", jwt.encode(CLAIMS, None, algorithm="none"), ALGORITHM),
    ("alg none with a kid", by_hand({"alg": "none", "kid": "EdDSA-0"}, CLAIMS, ""), ALGORITHM),
    ("alg nOnE", by_hand({"alg": "nOnE"}, CLAIMS, ""), ALGORITHM),
    ("alg missing", by_hand({"typ": "JWT", "kid": "EdDSA-0"}, CLAIMS), ALGORITHM),
    ("alg a list", by_hand({"alg": ["EdDSA"]}, CLAIMS), ALGORITHM),
    ("HS256 with the RSA key's PEM", confused(RSA_PEM), ALGORITHM),
    ("HS256 with the RSA key's PEM, stripped", confused(RSA_PEM.strip()), ALGORITHM),
    ("HS256 with the RSA key's PEM and its kid", confused(RSA_PEM, kid="RS256-0"), ALGORITHM),
    ("HS512 with the Ed25519 key's PEM", confused(ED_PEM, "HS512", kid="EdDSA-0"), ALGORITHM),
    ("HS256 with the JWK", confused(json.dumps(jwk("RS256")).encode(), kid="RS256-0"), ALGORITHM),
    ("HS256 with nothing", confused(b""), ALGORITHM),
    ("RS384, which is not configured", signed("RS384", CLAIMS, kid="RS256-0"), ALGORITHM),
    ("PS256, which is not configured", signed("PS256", CLAIMS, kid="RS256-0"), ALGORITHM),
    ("ES512", by_hand({"alg": "ES512", "kid": "ES256-0"}, CLAIMS), ALGORITHM),
    ("Ed25519, the name of another RFC", by_hand({"alg": "Ed25519", "kid": "EdDSA-0"}, CLAIMS), ALGORITHM),
    ("another key of the same kind", signed("RS256", CLAIMS, 1, kid="RS256-0"), SIGNATURE),
    ("another Ed25519 key", signed("EdDSA", CLAIMS, 1, kid="EdDSA-0"), SIGNATURE),
    ("no signature", signed("EdDSA", CLAIMS).rpartition(".")[0] + ".", SIGNATURE),
    ("signature changed", changed(signed("RS256", CLAIMS), 2), SIGNATURE),
    ("payload changed", changed(signed("RS256", CLAIMS), 1), SIGNATURE),
    ("signature of zeros", signed("ES256", CLAIMS).rpartition(".")[0] + "." + "A" * 86, SIGNATURE),
    ("ECDSA signature as DER", der_signature(signed("ES256", CLAIMS)), SIGNATURE),
    ("signature of another token", ".".join((*with_claims(sub="eve").split(".")[:2], with_claims().split(".")[2])), SIGNATURE),
    ("crit, unknown", signed("EdDSA", CLAIMS, crit=["exp"], exp=1), HEADER),
    ("crit, a text", signed("EdDSA", CLAIMS, crit="exp"), HEADER),
    ("crit, empty", signed("EdDSA", CLAIMS, crit=[]), HEADER),
    ("kid a number", by_hand({"alg": "EdDSA", "kid": 5}, CLAIMS), HEADER),
    ("kid a list", by_hand({"alg": "EdDSA", "kid": ["EdDSA-0"]}, CLAIMS), HEADER),
    ("b64 switched off", by_hand({"alg": "EdDSA", "kid": "EdDSA-0", "b64": False, "crit": ["b64"]}, CLAIMS), MALFORMED),
    ("a JWE", "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn", "it is encrypted (JWE): sign it instead"),
    ("an opaque session id", "SdX9kq2lPzVw", PARTS.format(1)),
    ("a Better Auth cookie", "SdX9kq2l.PzVw=", PARTS.format(2)),
    ("header twice alg", raw("EdDSA", json.dumps(CLAIMS).encode(), b'{"alg":"none","kid":"EdDSA-0","alg":"EdDSA"}'), TWICE),
    ("header twice kid", raw("EdDSA", json.dumps(CLAIMS).encode(), b'{"alg":"EdDSA","kid":"x","kid":"EdDSA-0"}'), TWICE),
    ("header a list", by_hand([], CLAIMS), MALFORMED),
    ("header with other base64", "+" + signed("EdDSA", CLAIMS)[1:], MALFORMED),
    ("a newline behind it", signed("EdDSA", CLAIMS) + "\n", MALFORMED),
    ("exp missing", with_claims(exp=None), NO_EXP),
    ("exp past", with_claims(exp=NOW - 6), EXPIRED),
    ("exp 1e308", raw("EdDSA", b'{"sub":"a","exp":1e308}'), WHOLE.format("exp")),
    ("exp a text", with_claims(exp="99999999999"), WHOLE.format("exp")),
    ("exp a fraction", with_claims(exp=NOW + 0.5), WHOLE.format("exp")),
    ("exp true", with_claims(exp=True), WHOLE.format("exp")),
    ("exp infinite", raw("EdDSA", b'{"sub":"a","exp":Infinity}'), MALFORMED),
    ("exp far ahead", with_claims(exp=NOW + 10 * 365 * 86_400), TOO_FAR),
    ("exp in milliseconds", with_claims(exp=(NOW + 600) * 1000), TOO_FAR),
    ("exp twice", raw("EdDSA", b'{"sub":"a","exp":1,"exp":1700000600}'), TWICE),
    ("nbf ahead", with_claims(nbf=NOW + 60), EARLY),
    ("nbf a text", with_claims(nbf="1"), WHOLE.format("nbf")),
    ("iat ahead", with_claims(iat=NOW + 60), "it was issued in the future (iat): compare the clocks"),
    ("iss missing", with_claims(iss=None), ISSUER),
    ("iss another", with_claims(iss="https://evil.example"), ISSUER),
    ("iss that begins alike", with_claims(iss="https://id.example.evil"), ISSUER),
    ("iss a list", with_claims(iss=["https://id.example"]), ISSUER),
    ("aud missing", with_claims(aud=None), AUDIENCE),
    ("aud another", with_claims(aud="other"), AUDIENCE),
    ("aud others", with_claims(aud=["a", "b"]), AUDIENCE),
    ("aud an object", with_claims(aud={"koko": 1}), AUDIENCE),
    ("sub missing", with_claims(sub=None), NO_USER),
    ("sub a number", with_claims(sub=5), NO_USER),
    ("J4: sub system", with_claims(sub="system"), "the user id 'system' is reserved for the server: use another sub"),
    ("payload a list", raw("EdDSA", b"[]"), "its payload is not a JSON object"),
    ("payload no JSON", raw("EdDSA", b"{"), MALFORMED),
]  # fmt: skip


def test_there_are_forty_tokens_and_more() -> None:
    assert len(REFUSED) >= 40 and len({token for _, token, _ in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize(("token", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_from_pem(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        verified(by_pem(), token)
    assert str(refused.value) == reason and not isinstance(refused.value, VerifierUnavailable)


@pytest.mark.parametrize(("token", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_from_a_jwk_set(token: str, reason: str) -> None:
    verifier, http_client, _ = by_jwks()
    with pytest.raises(TokenRefused) as refused:
        verified(verifier, token)
    assert str(refused.value) == reason
    assert len(http_client.requests) <= 1


JWKS_ONLY: list[tuple[str, str, str]] = [
    ("swapped kid: another algorithm's", signed("EdDSA", CLAIMS, kid="ES256-0"), "its key (kid) does not go with EdDSA"),
    ("swapped kid: another key's", signed("RS256", CLAIMS, 1, kid="RS256-0"), SIGNATURE),
    ("swapped kid: ES256 by the P-384 key's name", signed("ES256", CLAIMS, kid="ES384-0"), "its key (kid) does not go with ES256"),
    ("kid a path", signed("EdDSA", CLAIMS, kid="../../etc/passwd"), "its key (kid) is not among those of auth.jwks.url"),
    ("kid an address", signed("EdDSA", CLAIMS, kid="http://127.0.0.1/evil"), "its key (kid) is not among those of auth.jwks.url"),
    ("kid empty", signed("EdDSA", CLAIMS, kid=""), "its key (kid) is not among those of auth.jwks.url"),
    ("kid in other letters", signed("EdDSA", CLAIMS, kid="eddsa-0"), "its key (kid) is not among those of auth.jwks.url"),
    ("jku and its own key", signed("EdDSA", CLAIMS, 1, jku="http://127.0.0.1/evil", jwk=jwk("EdDSA", 1), kid="mine"), "its key (kid) is not among those of auth.jwks.url"),
    ("its own key under a good kid", signed("EdDSA", CLAIMS, 1, jwk=jwk("EdDSA", 1), kid="EdDSA-0"), SIGNATURE),
]  # fmt: skip


@pytest.mark.parametrize(("token", "reason"), [case[1:] for case in JWKS_ONLY], ids=[case[0] for case in JWKS_ONLY])
def test_a_kid_is_a_key_of_our_own_map_and_nothing_in_a_token_is_an_address(token: str, reason: str) -> None:
    verifier, http_client, _ = by_jwks()
    with pytest.raises(TokenRefused) as refused:
        verified(verifier, token)
    assert str(refused.value) == reason
    assert {url for url, _, _ in http_client.requests} == {"https://id.example/jwks"}


@pytest.mark.parametrize("algorithm", PUBLIC_ALGORITHMS)
def test_each_algorithm_from_pem_and_from_a_jwk_set(algorithm: str) -> None:
    pem = KeyVerifier(FixedKeys(keys_from_pem(public_pem(algorithm))), [algorithm], RULES)
    jwks, _, _ = by_jwks(jwk_set(jwk(algorithm)), [algorithm])
    for verifier in (pem, jwks):
        assert verified(verifier, signed(algorithm, CLAIMS)).user_id == "ann"
    with pytest.raises(TokenRefused):
        verified(pem, changed(signed(algorithm, CLAIMS), 2))


def test_several_keys_in_one_pem_are_all_tried() -> None:
    pem = public_pem("EdDSA", 1) + "\n# the one before\n" + public_pem("EdDSA", 2)
    verifier = KeyVerifier(FixedKeys(keys_from_pem(pem)), ["EdDSA"], RULES)
    for number in (1, 2):
        assert verified(verifier, signed("EdDSA", CLAIMS, number)).user_id == "ann"
    with pytest.raises(TokenRefused, match="another key"):
        verified(verifier, signed("EdDSA", CLAIMS, 3))


def test_a_pem_from_an_environment_variable_has_its_line_breaks_written_out() -> None:
    assert len(keys_from_pem(public_pem("ES256").replace("\n", "\\n"))) == 1


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        ("", "holds no public key"),
        ("secret", "holds no public key"),
        (private_pem("EdDSA"), "holds a private key"),
        (public_pem("ES256").replace("E", "F", 60), "holds no public key|cannot be read"),
        ("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nMCow\n-----END CERTIFICATE-----", "cannot be read"),
    ],
)
def test_an_unusable_pem_is_refused_with_the_reason(pem: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        keys_from_pem(pem)


def test_a_weak_or_odd_key_is_no_key() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = [
            rsa.generate_private_key(65537, 1024),
            ec.generate_private_key(ec.SECP256K1()),
            ed448.Ed448PrivateKey.generate(),
        ]
    for key in odd:
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="of a kind that is not used here"):
            keys_from_pem(pem)


def test_keys_of_a_jwk_set_that_cannot_sign_are_skipped() -> None:
    ours = jwk("EdDSA")
    others = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
        jwk("RS256", 1, use="enc"), jwk("RS256", 2, key_ops=["encrypt"]), jwk("RS256", 3, key_ops="verify"),
        jwk("ES256", 1, alg="HS256"), jwk("ES256", 2, alg="ES384"), jwk("ES256", 3, kid=5), jwk("ES256", 4, x="AA"),
        jwk("EdDSA", 1) | {"d": "c2VjcmV0"}, jwk("EdDSA", 2, kty="XXX"), {}, [], None, "x", {"kty": ["RSA"]},
    ]  # fmt: skip
    assert [key.kid for key in keys_from_jwks(jwk_set(*others, ours))] == ["EdDSA-0"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[{}]}', b"[" * 5000, b"\xff", b"<html>"],
)
def test_an_answer_without_a_key_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"it (is|holds)"):
        keys_from_jwks(body)


@given(st.sampled_from(KINDS), st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops"]), st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2))  # fmt: skip
def test_whatever_stands_in_a_jwk_it_is_a_key_or_none(kind: str, field: str, value: object) -> None:
    try:
        keys = keys_from_jwks(jwk_set(jwk(kind) | {field: value}))
    except ValueError:
        return
    assert all(key.algorithms for key in keys)


def test_a_jwk_of_one_algorithm_takes_no_other_of_its_kind() -> None:
    verifier, _, _ = by_jwks(jwk_set(jwk("RS256")), ["RS256", "PS256"])
    assert verified(verifier, signed("RS256", CLAIMS)).user_id == "ann"
    with pytest.raises(TokenRefused, match=r"\(kid\) does not go with PS256"):
        verified(verifier, signed("PS256", CLAIMS, kid="RS256-0"))


def test_a_token_may_come_along_for_the_applications_own_api_and_no_repr_shows_it() -> None:
    token = signed("EdDSA", CLAIMS)
    verifier = KeyVerifier(FixedKeys(keys_from_pem(public_pem("EdDSA"))), ["EdDSA"], RULES, forwards=True)
    who = verified(verifier, token)
    assert who.forward == (("authorization", f"Bearer {token}"),)
    assert token not in repr(who) and token not in str(list(who.__rich_repr__())) and token not in f"{who}"
    assert verified(by_pem(), token).forward == ()
