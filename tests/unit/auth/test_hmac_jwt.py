"""HMAC tokens: those that must be refused, each with its reason; valid ones; issuing; resume tokens."""

import base64
import hmac
import json
import warnings
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koko_presence.auth.hmac_jwt import HmacVerifier, ResumeTokens, TokenRefused, issue_token
from koko_presence.protocol.models import RoomSettings

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
    """Return a token with a payload that PyJWT would not make, and a valid signature."""
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")


def turned(part: int) -> str:
    """Return a valid token with one character of a part changed."""
    parts = make().split(".")
    at = len(parts[part]) // 2
    parts[part] = parts[part][:at] + ("A" if parts[part][at] != "A" else "B") + parts[part][at + 1 :]
    return ".".join(parts)


MALFORMED = "it is not a well-formed JWT: was it cut or changed on its way?"
JSON = "it is JSON: send the token that is in it, such as its field `token`"
PARTS = "it is not a JWT, which has three parts; this has {}. Is it a session id?"
ALGORITHM = "it is not signed with HS256, as auth.algorithms asks"
SIGNATURE = "its signature does not match: was it made with another secret?"
HEADER = "its header asks for too much: leave out crit and b64; kid is a text"
TWICE = "a name stands twice in it: write each claim and each room once"
WHOLE = "{} must be a whole number of seconds since 1970"
NO_EXP = "it never expires: exp is needed, in unix seconds"
EXPIRED = "it has expired: fetch a new one"
TOO_FAR = "it expires more than 86400 seconds ahead (auth.max_ttl_s)"
NO_USER = "it names no user: sub must be a text, not empty"
CONTROLS = "its user id (sub) holds control characters"
ROOMS = "rooms must be an object from room ids to lists of scopes"
STAR = "a room pattern may have one * and only at its end"
TOO_LONG = "it is longer than 8192 characters: name rooms by prefix, as in project_*"

REFUSED: list[tuple[str, str, str]] = [
    ("empty", "", PARTS.format(1)),
    ("an opaque session id", "abc", PARTS.format(1)),
    ("two parts", "a.b", PARTS.format(2)),
    ("the answer that it is in", f'{{"token":"{make()}"}}', JSON),
    ("a JSON text", f'"{make()}"', JSON),
    ("four parts", make() + ".x", PARTS.format(4)),
    ("five parts, a JWE", "a.b.c.d.e", "it is encrypted (JWE): sign it instead"),
    ("not base64", "!!!.???.***", MALFORMED),
    ("not ASCII", "é.é.é", MALFORMED),
    ("half a surrogate pair", "\ud800.a.b", MALFORMED),
    ("a null byte", make() + "\x00", MALFORMED),
    ("a newline behind it", make() + "\n", MALFORMED),
    ("cut short", make()[:-3], SIGNATURE),
    ("header is no JSON", by_hand(b"{", {}), MALFORMED),
    ("header is a list", by_hand([], {}), MALFORMED),
    ("header nested deeply", by_hand(b"[" * 2500 + b"]" * 2500, {}), MALFORMED),
    ("alg none", jwt.encode(GOOD, None, algorithm="none"), ALGORITHM),
    ("alg none by hand", by_hand({"alg": "none"}, GOOD, ""), ALGORITHM),
    ("alg None in capitals", by_hand({"alg": "NONE"}, GOOD, ""), ALGORITHM),
    ("alg in small letters", by_hand({"alg": "hs256"}, GOOD), ALGORITHM),
    ("alg missing", by_hand({"typ": "JWT"}, GOOD), ALGORITHM),
    ("alg is a number", by_hand({"alg": 5}, GOOD), ALGORITHM),
    ("alg is a list", by_hand({"alg": ["HS256"]}, GOOD), ALGORITHM),
    ("HS512 where HS256 is configured", make(algorithm="HS512"), ALGORITHM),
    ("RS256 with anything", by_hand({"alg": "RS256"}, GOOD), ALGORITHM),
    ("ES256 with anything", by_hand({"alg": "ES256"}, GOOD), ALGORITHM),
    ("another secret", make(key="another secret that is long enough too"), SIGNATURE),
    ("no signature", make().rpartition(".")[0] + ".", SIGNATURE),
    ("signature changed", turned(2), SIGNATURE),
    ("payload swapped", ".".join((make().split(".")[0], make({"sub": "eve", "exp": NOW + 600}).split(".")[1], make().split(".")[2])), SIGNATURE),
    ("an unknown crit", make(crit=["exp"], exp=1), HEADER),
    ("crit is a text", make(crit="exp"), HEADER),
    ("crit is empty", make(crit=[]), HEADER),
    ("kid is a number", by_hand({"alg": "HS256", "kid": 5}, GOOD), HEADER),
    ("b64 switched off", by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, GOOD), MALFORMED),
    ("payload no JSON", signed(b"{"), MALFORMED),
    ("payload empty", signed(b""), MALFORMED),
    ("payload a list", signed(b"[]"), "its payload is not a JSON object"),
    ("payload a text", signed(b'"x"'), "its payload is not a JSON object"),
    ("payload no UTF-8", signed(b'{"sub":"\xff"}'), MALFORMED),
    ("payload UTF-16", signed('{"sub":"ann"}'.encode("utf-16")), MALFORMED),
    ("payload with half a surrogate pair", signed(b'{"sub":"\\ud800"}'), MALFORMED),
    ("payload nested deeply", signed(b'{"sub":"a","exp":1700000600,"x":' + b"[" * 2500 + b"]" * 2500 + b"}"), MALFORMED),
    ("payload with an infinity", signed(b'{"sub":"a","exp":1e999}'), MALFORMED),
    ("payload with NaN", signed(b'{"sub":"a","exp":NaN}'), MALFORMED),
    ("a number of 4,500 digits", signed(b'{"sub":"a","exp":' + b"1" * 4500 + b"}"), MALFORMED),
    ("exp twice", signed(b'{"sub":"a","exp":1700000600,"exp":1700000700}'), TWICE),
    ("sub twice, once escaped", signed(b'{"sub":"a","s\\u0075b":"b","exp":1700000600}'), TWICE),
    ("a room twice", signed(b'{"sub":"a","exp":1700000600,"rooms":{"r":[],"r":["join"]}}'), TWICE),
    ("settings a list", make(GOOD | {"settings": []}), "settings must be an object from room ids to settings"),
    ("settings with a * inside", make(GOOD | {"settings": {"a*b": {}}}), "a room pattern may have one * and only at its end"),
    ("settings with a wrong value", make(GOOD | {"settings": {"*": {"maxUsers": 0}}}), "the settings of a room are not usable: Expected `int` >= 1 - at `$.maxUsers`"),
    ("exp missing", make({"sub": "ann"}), NO_EXP),
    ("exp null", make({"sub": "ann", "exp": None}), NO_EXP),
    ("exp past", make({"sub": "ann", "exp": NOW - 5}), EXPIRED),
    ("exp zero", make({"sub": "ann", "exp": 0}), EXPIRED),
    ("exp a float", signed(b'{"sub":"a","exp":1700000600.5}'), WHOLE.format("exp")),
    ("exp a float without a fraction", signed(b'{"sub":"a","exp":1700000600.0}'), WHOLE.format("exp")),
    ("exp 1e308", signed(b'{"sub":"a","exp":1e308}'), WHOLE.format("exp")),
    ("exp a text", signed(b'{"sub":"a","exp":"99999999999"}'), WHOLE.format("exp")),
    ("exp a bool", signed(b'{"sub":"a","exp":true}'), WHOLE.format("exp")),
    ("exp a list", signed(b'{"sub":"a","exp":[1700000600]}'), WHOLE.format("exp")),
    ("exp negative", signed(b'{"sub":"a","exp":-1}'), WHOLE.format("exp")),
    ("exp beyond 2^53", signed(b'{"sub":"a","exp":99999999999999999}'), WHOLE.format("exp")),
    ("exp beyond 2^64", signed(b'{"sub":"a","exp":' + b"9" * 30 + b"}"), WHOLE.format("exp")),
    ("exp in milliseconds", make({"sub": "ann", "exp": (NOW + 600) * 1000}), TOO_FAR),
    ("exp a second more than a day ahead", make({"sub": "ann", "exp": NOW + 86_406}), TOO_FAR),
    ("nbf ahead", make(GOOD | {"nbf": NOW + 6}), "it is not valid yet (nbf): compare the clocks"),
    ("nbf a text", make(GOOD | {"nbf": "soon"}), WHOLE.format("nbf")),
    ("iat ahead", make(GOOD | {"iat": NOW + 6}), "it was issued in the future (iat): compare the clocks"),
    ("iat a float", make(GOOD | {"iat": NOW + 0.5}), WHOLE.format("iat")),
    ("sub missing", make({"exp": NOW + 600}), NO_USER),
    ("sub empty", make(GOOD | {"sub": ""}), NO_USER),
    ("sub blank", make(GOOD | {"sub": " \u2003"}), NO_USER),
    ("sub a number", signed(b'{"sub":5,"exp":1700000600}'), NO_USER),
    ("sub an object", make(GOOD | {"sub": {"id": "ann"}}), NO_USER),
    ("sub too long", make(GOOD | {"sub": "x" * 129}), "its user id (sub) is longer than 128 characters"),
    ("sub with a newline", make(GOOD | {"sub": "a\nb"}), CONTROLS),
    ("sub with C1", make(GOOD | {"sub": "a\x9bb"}), CONTROLS),
    ("sub with a line separator", make(GOOD | {"sub": "a\u2028b"}), CONTROLS),
    ("sub turned round", make(GOOD | {"sub": "a\u202eb"}), CONTROLS),
    ("J4: sub system", make(GOOD | {"sub": "system"}), "the user id 'system' is reserved for the server: use another sub"),
    ("rooms a list", make(GOOD | {"rooms": ["video_1"]}), ROOMS),
    ("rooms null", make(GOOD | {"rooms": None}), ROOMS),
    ("scopes a text", make(GOOD | {"rooms": {"video_1": "join"}}), ROOMS),
    ("scopes an object", make(GOOD | {"rooms": {"video_1": {"join": True}}}), ROOMS),
    ("scopes of numbers", make(GOOD | {"rooms": {"video_1": [1]}}), ROOMS),
    ("a star inside", make(GOOD | {"rooms": {"vi*deo": ["join"]}}), STAR),
    ("two stars", make(GOOD | {"rooms": {"video_**": ["join"]}}), STAR),
    ("a thousand rooms", make(GOOD | {"rooms": {str(n): [] for n in range(1001)}}), TOO_LONG),
    ("presence a text", make(GOOD | {"presence": "off"}), "presence must be true or false"),
    ("presence a number", make(GOOD | {"presence": 0}), "presence must be true or false"),
    ("a huge claim", make(GOOD | {"pad": "x" * 8192}), TOO_LONG),
    ("a megabyte of dots", "." * 1_000_000, TOO_LONG),
]  # fmt: skip


@pytest.mark.parametrize(("token", "reason"), [pytest.param(t, r, id=name) for name, t, r in REFUSED])
def test_refused(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        HmacVerifier(SECRET).verify(token, NOW)
    assert str(refused.value) == reason
    for part in token[:20_000].split("."):
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
    for claims in ({"exp": NOW - 4}, {"exp": NOW + 86_405}, {"nbf": NOW + 5}, {"iat": NOW + 5}):
        assert verifier.verify(make(GOOD | claims), NOW)


def test_time_is_an_argument() -> None:
    verifier, token = HmacVerifier(SECRET), make({"sub": "ann", "exp": 4_102_444_800 + 600})
    assert verifier.verify(token, 4_102_444_800).user_id == "ann"
    with pytest.raises(TokenRefused, match="more than 86400 seconds ahead"):
        verifier.verify(token, NOW)


def test_a_kid_chooses_nothing() -> None:
    assert HmacVerifier(SECRET).verify(make(kid="../../etc/passwd"), NOW).user_id == "ann"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5), st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "name", "image", "picture", "rooms", "presence", "sid"]))  # fmt: skip
def test_whatever_a_claim_holds_the_answer_is_an_identity_or_a_refusal(value: object, claim: str) -> None:
    try:
        who = HmacVerifier(SECRET, issuer=None).verify(signed(json.dumps(GOOD | {claim: value}).encode()), NOW)
    except TokenRefused:
        return
    assert 0 < len(who.user_id) <= 128 and who.name and who.expires_at_s > NOW - 5


@given(st.text(max_size=60) | st.text("abc.=_-", max_size=60))
def test_whatever_a_token_is_the_answer_is_a_refusal(token: str) -> None:
    with pytest.raises(TokenRefused):
        HmacVerifier(SECRET).verify(token, NOW)


def test_every_claim_of_a_valid_token_is_read() -> None:
    rooms = {"video_123": ["join", "control", "broadcast", "fly"], "project_*": ["join"]}
    claims = GOOD | {"name": "John Doe", "picture": "https://x/y.png", "rooms": rooms, "presence": False, "sid": "s1"}
    who = HmacVerifier(SECRET).verify(make(claims), NOW)
    assert (who.user_id, who.name, who.image, who.expires_at_s) == ("ann", "John Doe", "https://x/y.png", NOW + 600)
    assert who.rooms == {"video_123": ("join", "control", "broadcast"), "project_*": ("join",)}
    assert (who.presence, who.sid) == (False, "s1")


def test_the_least_token_is_open_to_nothing_and_shows_the_user_id() -> None:
    who = HmacVerifier(SECRET).verify(make(), NOW)
    assert (who.name, who.image, who.rooms, who.presence, who.sid) == ("ann", None, {}, True, None)


@pytest.mark.parametrize("sid", [5, "", "x" * 129, "a\nb", None, ["s"]])
def test_a_sid_that_cannot_be_used_is_dropped(sid: object) -> None:
    assert HmacVerifier(SECRET).verify(make(GOOD | {"sid": sid}), NOW).sid is None


def test_a5_a_picture_stands_in_for_an_image_that_is_not_usable() -> None:
    for image in (None, "http://x/i"):
        who = HmacVerifier(SECRET).verify(make(GOOD | {"image": image, "picture": "https://x/p"}), NOW)
        assert who.image == "https://x/p"
    both = make(GOOD | {"image": "https://x/i", "picture": "https://x/p"})
    assert HmacVerifier(SECRET).verify(both, NOW).image == "https://x/i"


def test_issue_and_verify() -> None:
    token = issue_token(
        SECRET, user="u", name="N", rooms={"a*": ["join"]}, settings={"a*": {"title": "Cut 3"}}, ttl_s=60, now_s=NOW,
        issuer="i", audience="a",
    )  # fmt: skip
    who = HmacVerifier(SECRET, issuer="i", audience="a").verify(token, NOW + 30)
    assert (who.user_id, who.name, who.expires_at_s) == ("u", "N", NOW + 60)
    assert who.settings == {"a*": RoomSettings(title="Cut 3")}


@pytest.mark.parametrize(
    ("more", "text"),
    [({"user": ""}, "names no user"), ({"user": "system"}, "reserved"), ({"user": "a", "ttl_s": 0}, "at least 1 second"),
     ({"user": "x" * 129}, "longer than 128"), ({"user": "a", "ttl_s": 1.5}, "whole numbers"), ({"user": "a", "ttl_s": True}, "whole numbers"),
     ({"user": "a", "algorithm": "RS256"}, "no algorithm 'RS256' here: use HS256"), ({"user": "a", "algorithm": "none"}, "no algorithm 'none'"),
     ({"user": "a", "name": "x" * 7000}, "longer than 8192"), ({"user": "a", "rooms": {"r": "join"}}, "no such scope: join"),
     ({"user": "a", "rooms": {"r": ["fly"]}}, "no such scope: fly"), ({"user": "a", "rooms": {"a*b": ["join"]}}, "at its end"),
     ({"user": "a", "settings": {"r": {"title": 1}}}, "would be refused: the settings of a room are not usable")],
)  # fmt: skip
def test_issuing_a_token_that_would_be_refused_raises(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        issue_token(SECRET, now_s=NOW, **more)


PUBLIC_PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("", "at least 32 bytes"),
        ("x" * 31, "at least 32 bytes"),
        (PUBLIC_PEM, "a key pair's key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea", "a key pair's key"),
        ('{"kty":"oct","k":"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"}', "or a JWK"),
    ],
)
def test_a_weak_secret_or_a_public_key_is_no_secret(secret: str, text: str) -> None:
    """A weak secret or a public key is refused as the secret. With a public key every holder of that key could sign:
    the confusion of RS256 and HS256."""
    for use in (lambda: HmacVerifier(secret), lambda: issue_token(secret, user="a", now_s=NOW)):
        with pytest.raises(ValueError, match=text):
            use()


def test_32_bytes_of_any_alphabet_are_a_secret() -> None:
    token = issue_token("ü" * 16, user="a", now_s=NOW)
    assert HmacVerifier("ü" * 16).verify(token, NOW).user_id == "a"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_each_algorithm_and_no_warning_of_pyjwt(algorithm: str) -> None:
    """Warnings are errors in these tests; PyJWT has one for HS512 with fewer than 64 bytes."""
    token = issue_token(SECRET, user="a", now_s=NOW, algorithm=algorithm)
    assert HmacVerifier(SECRET, algorithms=[algorithm]).verify(token, NOW).user_id == "a"
    assert HmacVerifier(SECRET, algorithms=["HS256", "HS384", "HS512"]).verify(token, NOW).user_id == "a"
    for_others = issue_token(SECRET * 2, user="a", now_s=NOW, algorithm=algorithm)
    assert jwt.decode(for_others, SECRET * 2, algorithms=[algorithm], options={"verify_exp": False})["sub"] == "a"


def test_a_secret_goes_with_hmac_only() -> None:
    for algorithms in ((), ("RS256",), ("none",), ("HS256", "ES256")):
        with pytest.raises(ValueError, match="HS256"):
            HmacVerifier(SECRET, algorithms=algorithms)


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
    assert tokens.read(tokens.issue(user, session + "x", expires), user, expires - 1) == session + "x"
    assert len(token) < 300


def test_nc_a_resume_token_is_good_at_any_worker_and_fits_its_message() -> None:
    token = ResumeTokens(SECRET).issue("x" * 128, "s" * 22, 2**40)
    assert ResumeTokens(SECRET).read(token, "x" * 128, NOW) == "s" * 22
    assert len(token) < 100 and "=" not in token


def test_a1_a_resume_token_is_no_jwt_and_a_jwt_is_none() -> None:
    tokens = ResumeTokens(SECRET)
    assert tokens.read(make(), "ann", NOW) is None
    with pytest.raises(TokenRefused):
        HmacVerifier(SECRET).verify(tokens.issue("ann", "session", NOW + 60), NOW)
    body = base64.urlsafe_b64decode(tokens.issue("ann", "session", NOW + 60) + "==")[16:]
    with_the_secret_itself = hmac.digest(SECRET.encode(), b"\0\0\0\3ann" + body, "sha256")[:16] + body
    assert tokens.read(base64.urlsafe_b64encode(with_the_secret_itself).decode().rstrip("="), "ann", NOW) is None


@given(st.text(max_size=200))
def test_a1_garbage_is_no_resume_token(token: str) -> None:
    assert ResumeTokens(SECRET).read(token, "ann", 0) is None


def test_a1_a_changed_resume_token_is_none() -> None:
    tokens = ResumeTokens(SECRET)
    token = tokens.issue("ann", "session", 2**31)
    for at in range(len(token)):
        for other in "AB_-=.é":
            changed = token[:at] + other + token[at + 1 :]
            assert changed == token or tokens.read(changed, "ann", 0) is None
    for more in ("=", "A", " ", "\n"):
        assert tokens.read(token + more, "ann", 0) is None
    assert tokens.read(token, "ann", 0) == "session"
