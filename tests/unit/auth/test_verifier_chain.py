"""Several verifiers in order: which are called, which are not, and which refusal is reported."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from koko_presence.auth.hmac_jwt import HmacVerifier
from koko_presence.auth.identity import Identity, TokenRefused, VerifierUnavailable
from koko_presence.auth.jwks import Jwks
from koko_presence.auth.jwt_claims import ClaimRules
from koko_presence.auth.public_key_jwt import FixedKeys, KeyVerifier
from koko_presence.auth.public_keys import keys_from_pem
from koko_presence.auth.verifier_chain import VerifierChain
from tests.provider import jwk, jwk_set, public_pem, signed
from tests.unit.auth.test_hmac_jwt import SECRET, make

from .fakes import GOOD, NOW, Clock, FakeHttpClient
from .test_introspection import SESSION, answering, verifier


class Setting:
    """A secret, a PEM key, a JWK set and the application, in this order."""

    def __init__(self) -> None:
        self.provider, self.application = FakeHttpClient(jwk_set(jwk("ES256"))), answering(SESSION)
        self.jwks = Jwks("https://id.example", self.provider, Clock())  # type: ignore[arg-type]
        rules = ClaimRules()
        self.all = [
            HmacVerifier(SECRET),
            KeyVerifier(FixedKeys(keys_from_pem(public_pem("EdDSA"))), ["EdDSA"], rules),
            KeyVerifier(self.jwks, ["ES256"], rules),
            verifier(self.application, skips_signed=True),
        ]

    def say(self, token: str, order: Any = (0, 1, 2, 3)) -> Identity:
        async def say() -> Identity:
            answer = VerifierChain([self.all[at] for at in order]).verify(token, NOW)
            return await answer if isinstance(answer, Awaitable) else answer

        return asyncio.run(say())

    def refusal(self, token: str, order: Any = (0, 1, 2, 3)) -> TokenRefused:
        with pytest.raises(TokenRefused) as refused:
            self.say(token, order)
        return refused.value

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.provider.requests), len(self.application.requests)


@pytest.mark.parametrize(
    ("token", "asked"),
    [(make(GOOD), (0, 0)), (signed("EdDSA", GOOD), (0, 0)), (signed("ES256", GOOD), (1, 0)), ("abc.def", (0, 1)), ("abc", (0, 1))],
)  # fmt: skip
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_each_token_finds_its_verifier_in_any_order_and_no_other_is_called(
    token: str, asked: tuple[int, int], order: tuple[int, ...]
) -> None:
    setting = Setting()
    assert setting.say(token, order).user_id == "ann"
    assert setting.asked == asked


@pytest.mark.parametrize(
    ("token", "reason", "asked"),
    [
        (make({"sub": "ann", "exp": NOW - 60}), "it has expired: fetch a new one", (0, 0)),
        (signed("EdDSA", GOOD | {"sub": ""}), "it names no user: sub must be a text, not empty", (0, 0)),
        (signed("ES256", GOOD | {"exp": NOW - 60}), "it has expired: fetch a new one", (1, 0)),
        (make(key="another secret that is long enough too"), "its signature does not match: was it made with another secret?", (0, 0)),
        (signed("EdDSA", GOOD, 1), "its signature does not match: was it made with another key?", (0, 0)),
        (signed("RS256", GOOD), "it is not signed with HS256, as auth.algorithms asks", (0, 0)),
        ("a.b.c.d.e", "it is encrypted (JWE): sign it instead", (0, 0)),
    ],
)  # fmt: skip
def test_the_closest_refusal_is_reported_and_a_jwt_is_not_sent_to_the_application(
    token: str, reason: str, asked: tuple[int, int]
) -> None:
    for order in ((0, 1, 2, 3), (3, 0, 1, 2)):
        setting = Setting()
        if "JWE" in reason:
            setting.all.pop()  # the application may be able to verify it
            order = (0, 1, 2)
        assert str(setting.refusal(token, order)) == reason
        assert setting.asked == asked


def test_an_unknown_session_id_is_not_called_a_bad_jwt() -> None:
    setting = Setting()
    setting.application.body = b"null"
    assert str(setting.refusal("abc")) == "the application knows no such session: sign in again"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_an_unreachable_verifier_is_reported_before_any_refusal(order: tuple[int, ...]) -> None:
    for token in ("abc", signed("ES256", GOOD)):
        setting = Setting()
        setting.application.body = setting.provider.body = None
        assert isinstance(setting.refusal(token, order), VerifierUnavailable)


def test_two_asynchronous_verifiers_are_called_one_after_the_other() -> None:
    first, second = answering(None), answering(SESSION)
    several = VerifierChain([verifier(first), verifier(second)])
    answer = several.verify("abc", NOW)
    assert isinstance(answer, Awaitable)
    assert asyncio.run(answer).user_id == "ann"  # type: ignore[arg-type]
    assert (len(first.requests), len(second.requests)) == (1, 1)
