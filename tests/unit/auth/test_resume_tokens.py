"""Resume tokens: the contents of the long form, and for which user it is proof when a token cannot be checked."""

import base64

import pytest
from msgspec import structs

from koko_presence.access.policy import UNSURE, ClaimsAccess
from koko_presence.auth.identity import Identity
from koko_presence.auth.resume_tokens import MAX_RESUME_CHARS, ResumeTokens
from tests.provider import signed

from .fakes import NOW

TOKENS = ResumeTokens("a secret for tests that is long enough")
ANN = Identity(
    user_id="ann",
    name="Ann 👍",
    image="https://x.example/ann.png",
    expires_at_s=NOW + 600,
    rooms={"video_*": ("join", "control")},
    sid="s1",
)


def long_token(identity: Identity = ANN, token: str = "abc.def") -> str:
    return TOKENS.issue_for(identity, "session_1", NOW + 630, token)


def test_the_long_form_is_a_resume_token_like_the_short_one() -> None:
    for text in (long_token(), TOKENS.issue("ann", "session_1", NOW + 630)):
        assert TOKENS.read(text, "ann", NOW) == "session_1"
        assert TOKENS.read(text, "ben", NOW) is None and TOKENS.read(text, "ann", NOW + 630) is None
        assert ResumeTokens("another secret").read(text, "ann", NOW) is None


def test_with_the_same_token_it_restores_the_exact_identity() -> None:
    found = TOKENS.read_identity(long_token(), "abc.def", NOW)
    assert found is not None and (found.session_id, found.identity) == ("session_1", ANN)


def test_the_short_form_proves_nothing_by_itself() -> None:
    assert TOKENS.read_identity(TOKENS.issue("ann", "session_1", NOW + 630), "abc.def", NOW) is None


@pytest.mark.parametrize(
    ("token", "proves"),
    [
        ("another", False),
        ("", False),
        (signed("EdDSA", {"sub": "ann", "exp": NOW + 60}, 9), True),  # a fresh one, with a key that is not known yet
        (signed("EdDSA", {"sub": "ben", "exp": NOW + 60}, 9), False),  # signed in as another user meanwhile
        (signed("EdDSA", {"sub": "ann", "exp": NOW}, 9), False),
        (signed("EdDSA", {"sub": "ann"}, 9), False),
        (signed("EdDSA", {"sub": "ann", "exp": "soon"}, 9), False),
        ("eyJ.e30.x", False),
        ("eyJ.W10.x", False),
        ("eyJ.e.x", False),
        ("eyJ.ü.x", False),
        ("\ud800", False),
    ],
)
def test_with_another_token_only_when_that_names_the_same_user(token: str, proves: bool) -> None:
    assert (TOKENS.read_identity(long_token(), token, NOW) is not None) is proves


def test_a_changed_an_expired_and_a_foreign_token_prove_nothing() -> None:
    text = long_token()
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        spelled = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert TOKENS.read_identity(spelled, "abc.def", NOW) is None and TOKENS.read(spelled, "ann", NOW) is None
    assert TOKENS.read_identity(text, "abc.def", NOW + 630) is None
    assert ResumeTokens("another secret").read_identity(text, "abc.def", NOW) is None
    for nonsense in ("", "x", "ü", text + "=", text[:-1], "A" * 5000):
        assert TOKENS.read_identity(nonsense, "abc.def", NOW) is None and TOKENS.read(nonsense, "ann", NOW) is None


def test_it_fits_into_the_message_and_leaves_out_rooms_that_do_not() -> None:
    rooms = {f"project_{n}_{'x' * 40}": ("join", "control", "broadcast") for n in range(100)}
    widest = structs.replace(
        ANN, user_id="ü" * 128, name="ü" * 100, image="https://" + "x" * 2040, rooms=rooms, sid="ü" * 128
    )
    text = TOKENS.issue_for(widest, "session_1", NOW + 630, "abc.def")
    assert len(text) <= MAX_RESUME_CHARS
    found = TOKENS.read_identity(text, "abc.def", NOW)
    assert found is not None and not found.identity.rooms_known and found.identity.image == widest.image
    assert ClaimsAccess().check(found.identity, "project_1", None) == UNSURE, "not a no: it may be among them"


def test_what_is_forwarded_is_the_token_that_came_and_is_not_in_the_resume_token() -> None:
    cookie = "better-auth.session_token=s3cret; __Secure-better-auth.session_token=s3cret"
    for forward in ((("authorization", "Bearer s3cret"),), (("cookie", cookie),)):
        text = TOKENS.issue_for(structs.replace(ANN, forward=forward), "session_1", NOW + 630, "s3cret")
        assert b"s3cret" not in base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = TOKENS.read_identity(text, "s3cret", NOW)
        assert found is not None and found.identity.forward == forward
