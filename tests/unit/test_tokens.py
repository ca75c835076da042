"""Tokens that must be refused, each with its reason; names and resume tokens."""

import base64
import json
import unicodedata
import warnings
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.auth.tokens import HmacVerifier, ResumeTokens, TokenRefused, clean_image, clean_name, issue_token

SECRET = "a secret that is long enough for HS256, and then some"
NOW = 1_700_000_000
GOOD = {"sub": "ann", "exp": NOW + 600}


def make(claims: dict[str, Any] | None = None, key: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT warns of keys that are short for HS512
        return jwt.encode(GOOD if claims is None else claims, key, algorithm=algorithm, headers=headers or None)


def by_hand(header: object, payload: object, signature: str = "c2ln") -> str:
    def part(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    return f"{part(header)}.{part(payload)}.{signature}"


def signed(payload: bytes) -> str:
    """A payload that PyJWT would not make, with a right signature."""
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")


REFUSED: list[tuple[str, str, str]] = [
    ("empty", "", "well-formed"),
    ("no parts", "abc", "well-formed"),
    ("two parts", "a.b", "well-formed"),
    ("four parts", make() + ".x", "well-formed"),
    ("five parts, a JWE", "a.b.c.d.e", "well-formed"),
    ("not base64", "!!!.???.***", "well-formed"),
    ("not ASCII", "é.é.é", "well-formed"),
    ("a null byte", make() + "\x00", "well-formed"),
    ("header is no JSON", by_hand(b"{", {}), "well-formed"),
    ("header is a list", by_hand([], {}), "well-formed"),
    ("alg none", jwt.encode(GOOD, None, algorithm="none"), "not signed with HS256"),
    ("alg none by hand", by_hand({"alg": "none"}, GOOD, ""), "not signed with HS256"),
    ("alg None in capitals", by_hand({"alg": "NONE"}, GOOD, ""), "not signed with HS256"),
    ("alg missing", by_hand({"typ": "JWT"}, GOOD), "refused|well-formed|not signed"),
    ("alg is a number", by_hand({"alg": 5}, GOOD), "well-formed|not signed"),
    ("HS512 where HS256 is configured", make(algorithm="HS512"), "not signed with HS256"),
    ("RS256 with anything", by_hand({"alg": "RS256"}, GOOD), "not signed with HS256"),
    ("ES256 with anything", by_hand({"alg": "ES256"}, GOOD), "not signed with HS256"),
    ("signed with a public key as secret", by_hand({"alg": "HS256"}, GOOD, "AAAA"), "signature"),
    ("another secret", make(key="another secret that is long enough too"), "signature"),
    ("one bit off", make()[:-2] + ("AA" if make()[-2:] != "AA" else "BB"), "signature|well-formed"),
    ("payload swapped", ".".join((make().split(".")[0], make({"sub": "eve", "exp": NOW + 600}).split(".")[1], make().split(".")[2])), "signature"),
    ("an unknown crit", make(crit=["exp"], exp=1), "well-formed"),
    ("a kid that is a path", make(kid="../../etc/passwd") + "x", "signature|well-formed"),
    ("payload no JSON", signed(b"{"), "well-formed"),
    ("payload a list", signed(b"[]"), "not a JSON object"),
    ("payload a text", signed(b'"x"'), "not a JSON object"),
    ("payload no UTF-8", signed(b'{"sub":"\xff"}'), "well-formed"),
    ("payload nested deeply", signed(b"[" * 3000), "well-formed"),
    ("payload with an infinity", signed(b'{"sub":"a","exp":1e999}'), "well-formed"),
    ("exp missing", make({"sub": "ann"}), "never expires"),
    ("exp null", make({"sub": "ann", "exp": None}), "never expires"),
    ("exp past", make({"sub": "ann", "exp": NOW - 6}), "expired"),
    ("exp a float", signed(b'{"sub":"a","exp":1700000600.5}'), "exp must be a whole number"),
    ("exp 1e308", signed(b'{"sub":"a","exp":1e308}'), "exp must be a whole number"),
    ("exp a text", signed(b'{"sub":"a","exp":"99999999999"}'), "exp must be a whole number"),
    ("exp a bool", signed(b'{"sub":"a","exp":true}'), "exp must be a whole number"),
    ("exp negative", signed(b'{"sub":"a","exp":-1}'), "exp must be a whole number"),
    ("exp beyond 2^53", signed(b'{"sub":"a","exp":99999999999999999}'), "exp must be a whole number"),
    ("exp in a hundred years", make({"sub": "ann", "exp": NOW + 3_153_600_000}), "more than 86400 seconds ahead"),
    ("nbf ahead", make(GOOD | {"nbf": NOW + 60}), "not valid yet"),
    ("nbf a text", make(GOOD | {"nbf": "soon"}), "nbf must be"),
    ("iat ahead", make(GOOD | {"iat": NOW + 60}), "issued in the future"),
    ("sub missing", make({"exp": NOW + 600}), "names no user"),
    ("sub empty", make(GOOD | {"sub": ""}), "names no user"),
    ("sub a number", signed(b'{"sub":5,"exp":1700000600}'), "names no user"),
    ("sub too long", make(GOOD | {"sub": "x" * 129}), "longer than 128"),
    ("sub with a newline", make(GOOD | {"sub": "a\nb"}), "control characters"),
    ("sub turned round", make(GOOD | {"sub": "a\u202eb"}), "control characters"),
    ("sub system", make(GOOD | {"sub": "system"}), "reserved"),
    ("rooms a list", make(GOOD | {"rooms": ["video_1"]}), "rooms must be an object"),
    ("scopes a text", make(GOOD | {"rooms": {"video_1": "join"}}), "rooms must be an object"),
    ("scopes of numbers", make(GOOD | {"rooms": {"video_1": [1]}}), "rooms must be an object"),
    ("a star inside", make(GOOD | {"rooms": {"vi*deo": ["join"]}}), "one \\* and only at its end"),
    ("two thousand rooms", make(GOOD | {"rooms": {str(n): [] for n in range(1001)}}), "longer than|rooms must be"),
    ("presence a text", make(GOOD | {"presence": "off"}), "presence must be"),
    ("too long", make(GOOD | {"pad": "x" * 8192}), "longer than 8192"),
]  # fmt: skip


@pytest.mark.parametrize(("token", "reason"), [pytest.param(t, r, id=name) for name, t, r in REFUSED])
def test_refused(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason) as refused:
        HmacVerifier(SECRET).verify(token, NOW)
    for part in token.split("."):
        assert len(part) < 8 or part not in str(refused.value), "a reason never repeats the token"


@pytest.mark.parametrize(
    ("claims", "ok"),
    [
        ({"iss": "https://app"}, True), ({"iss": "https://app", "aud": "koko"}, True), ({"iss": "https://app", "aud": ["x", "koko"]}, True),
        ({}, False), ({"iss": "https://evil"}, False),
        ({"iss": "https://app", "aud": "other"}, False), ({"iss": "https://app", "aud": {"koko": 1}}, False),
    ],
)  # fmt: skip
def test_issuer_and_audience(claims: dict[str, Any], ok: bool) -> None:
    audience = "koko" if "aud" in claims else None
    verifier = HmacVerifier(SECRET, issuer="https://app", audience=audience)
    if ok:
        assert verifier.verify(make(GOOD | claims), NOW).user_id == "ann"
    else:
        with pytest.raises(TokenRefused, match=r"issuer|audience"):
            verifier.verify(make(GOOD | claims), NOW)


def test_leeway_is_for_clocks_that_differ() -> None:
    verifier = HmacVerifier(SECRET, leeway_s=5)
    for claims in ({"exp": NOW - 4}, {"nbf": NOW + 4}, {"iat": NOW + 4}):
        assert verifier.verify(make(GOOD | claims), NOW)


def test_a_good_token_says_everything() -> None:
    rooms = {"video_123": ["join", "control", "broadcast", "fly"], "project_*": ["join"]}
    claims = GOOD | {"name": "John Doe", "picture": "https://x/y.png", "rooms": rooms, "presence": False}
    who = HmacVerifier(SECRET).verify(make(claims), NOW)
    assert (who.user_id, who.name, who.image, who.expires_at_s) == ("ann", "John Doe", "https://x/y.png", NOW + 600)
    assert who.rooms == {"video_123": ("join", "control", "broadcast"), "project_*": ("join",)} and not who.presence


def test_issue_and_verify() -> None:
    token = issue_token(
        SECRET, user="u", name="N", rooms={"a*": ["join"]}, ttl_s=60, now_s=NOW, issuer="i", audience="a"
    )
    who = HmacVerifier(SECRET, issuer="i", audience="a").verify(token, NOW + 30)
    assert (who.user_id, who.name, who.expires_at_s) == ("u", "N", NOW + 60)


@pytest.mark.parametrize(
    ("more", "text"),
    [({"user": ""}, "names no user"), ({"user": "system"}, "reserved"), ({"user": "a", "ttl_s": 0}, "at least 1 second"),
     ({"user": "a", "rooms": {"r": ["fly"]}}, "no such scope: fly"), ({"user": "a", "rooms": {"a*b": ["join"]}}, "at its end")],
)  # fmt: skip
def test_issuing_a_token_that_would_be_refused_says_so(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        issue_token(SECRET, now_s=NOW, **more)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        issue_token("short", user="a", now_s=NOW)


def test_a_secret_goes_with_hmac_only() -> None:
    for algorithms in ((), ("RS256",), ("none",), ("HS256", "ES256")):
        with pytest.raises(ValueError, match="HS256"):
            HmacVerifier(SECRET, algorithms=algorithms)


@given(st.text(max_size=300))
def test_a5_names_are_clean_short_and_stay_so(name: str) -> None:
    clean = clean_name(name, "user")
    assert clean and len(clean.encode("utf-16-le")) <= 200
    assert clean_name(clean, "user") == clean
    assert not any(unicodedata.category(char) == "Cc" or char in "\u202e\u2066\u200f" for char in clean)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "ann"),
        ("", "ann"),
        ("  \n ", "ann"),
        (5, "ann"),
        ("\u202eevil", "evil"),
        ("a\x00b", "ab"),
        ("👍" * 60, "👍" * 50),
        ("<img onerror>", "<img onerror>"),
    ],
)
def test_a5_names(name: object, shown: str) -> None:
    assert clean_name(name, "ann") == shown


@pytest.mark.parametrize(
    ("image", "ok"),
    [
        ("https://x/y", True),
        ("http://x/y", False),
        ("javascript:alert(1)", False),
        ("data:image/png,x", False),
        ("https://", False),
        ("https://x y", False),
        ("https://x/\n", False),
        (5, False),
        (None, False),
        ("https://x/" + "y" * 2048, False),
        ("https://[", False),
    ],
)
def test_a5_images_are_https_or_none(image: object, ok: bool) -> None:
    assert clean_image(image) == (image if ok else None)


@given(
    st.text(min_size=1, max_size=40),
    st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=40),
    st.integers(1, 2**40),
)
def test_a1_only_the_issued_triple_reads_back(user: str, session: str, expires: int) -> None:
    tokens = ResumeTokens(SECRET)
    token = tokens.issue(user, session, expires)
    assert tokens.read(token, user, expires - 1) == session
    assert tokens.read(token, user + "x", expires - 1) is None
    assert tokens.read(token, user, expires) is None
    assert ResumeTokens(SECRET + "!").read(token, user, expires - 1) is None
    assert len(token) < 300


@given(st.text(max_size=200))
def test_a1_garbage_is_no_resume_token(token: str) -> None:
    assert ResumeTokens(SECRET).read(token, "ann", 0) is None


def test_a1_a_changed_resume_token_is_none() -> None:
    tokens = ResumeTokens(SECRET)
    token = tokens.issue("ann", "session", 2**31)
    for at in range(len(token) - 1):  # the last character holds bits that base64 drops
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert tokens.read(changed, "ann", 0) is None
