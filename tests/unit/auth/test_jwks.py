"""An identity provider's keys: when they are fetched, which stay valid when they cannot be fetched, and that a new key
does not get its token refused."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from koko_presence.auth import jwks as jwks_module
from koko_presence.auth.identity import Identity, TokenRefused, VerifierUnavailable
from koko_presence.auth.jwks import FIRST_S, MIN_QUERY_INTERVAL_S, REFRESH_S, Jwks
from koko_presence.auth.jws import read_header
from koko_presence.auth.jwt_claims import ClaimRules
from koko_presence.auth.public_key_jwt import KeyVerifier
from tests.provider import jwk, jwk_set, signed

from .fakes import GOOD, NOW, Clock, FakeHttpClient

URL = "https://id.example/jwks"


class Setting:
    def __init__(self, body: bytes | None = None) -> None:
        self.http_client, self.clock = FakeHttpClient(body), Clock()
        self.jwks = Jwks(URL, self.http_client, self.clock)  # type: ignore[arg-type]
        self.verifier = KeyVerifier(self.jwks, ["EdDSA", "ES256"], ClaimRules())

    @property
    def fetches(self) -> int:
        return len(self.http_client.requests)

    def at_once(self, number: int, **headers: Any) -> Identity:
        answer = self.verifier.verify(signed("EdDSA", GOOD, number, **headers), NOW)
        assert isinstance(answer, Identity)
        return answer

    async def later(self, number: int, **headers: Any) -> Identity:
        answer = self.verifier.verify(signed("EdDSA", GOOD, number, **headers), NOW)
        assert isinstance(answer, Awaitable)
        return await answer


def on_a_loop(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_known_key_is_returned_at_once_and_an_unknown_one_is_fetched() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        assert (await s.later(0)).user_id == "ann"
        assert s.at_once(0).user_id == "ann" and s.fetches == 1

    on_a_loop(test())


def test_a_token_that_arrives_during_a_request_waits_for_the_same_answer() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        s.http_client.hold = asyncio.Event()
        waiting = [asyncio.ensure_future(s.later(0)) for _ in range(100)]
        await asyncio.sleep(0)
        s.http_client.hold.set()
        assert len(await asyncio.gather(*waiting)) == 100 and s.fetches == 1

    on_a_loop(test())


def test_a_thousand_unknown_kids_are_one_request_per_30_s_and_the_known_key_stays_usable() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        await s.later(0)
        begin = s.fetches
        outcomes = []
        for number in range(1000):  # over 100 s
            s.clock.now += 0.1
            try:
                await s.later(0, kid=f"unknown {number}")
            except TokenRefused as refused:
                outcomes.append(type(refused))
            s.at_once(0)
        assert outcomes.count(TokenRefused) == s.fetches - begin == 3  # at 30, 60 and 90 s
        assert outcomes.count(VerifierUnavailable) == 997

    on_a_loop(test())


def test_a_thousand_unknown_kids_at_one_moment_are_one_request() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        await s.jwks.fetch()
        answers = [asyncio.ensure_future(s.later(0, kid=f"unknown {number}")) for number in range(1000)]
        refusals = await asyncio.gather(*answers, return_exceptions=True)
        assert all(isinstance(refused, TokenRefused) for refused in refusals) and s.fetches == 2

    on_a_loop(test())


def test_a_token_too_early_for_a_request_gets_the_time_to_retry_and_is_then_accepted() -> None:
    """The key may be new: its token is not refused before the keys have been fetched again."""

    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        await s.later(0)
        s.clock.now += MIN_QUERY_INTERVAL_S
        with pytest.raises(TokenRefused, match="not among those"):
            await s.later(0, kid="a stranger's, which uses the question up")
        s.http_client.body = jwk_set(jwk("EdDSA"), jwk("EdDSA", 1))
        s.clock.now += 10
        with pytest.raises(VerifierUnavailable, match="too early") as unavailable:
            await s.later(1)
        assert unavailable.value.retry_after_s == pytest.approx(MIN_QUERY_INTERVAL_S - 10)
        assert not unavailable.value.is_silence, "the provider has answered"
        s.clock.now += unavailable.value.retry_after_s
        assert (await s.later(1)).user_id == "ann"

    on_a_loop(test())


def test_a_token_that_arrives_during_a_request_is_not_refused_by_an_older_answer() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        s.http_client.hold = asyncio.Event()
        refreshing = asyncio.ensure_future(s.jwks.fetch())
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(s.later(1))
        await asyncio.sleep(0)
        s.http_client.hold.set()
        await refreshing
        s.http_client.body = jwk_set(jwk("EdDSA"), jwk("EdDSA", 1))
        assert (await waiting).user_id == "ann" and s.fetches == 2

    on_a_loop(test())


def test_the_last_good_keys_stay_when_the_address_fails_or_answers_nonsense() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        await s.later(0)
        for body, status in (
            (None, 200),
            (b"", 200),
            (b'{"keys":[]}', 200),
            (jwk_set(jwk("EdDSA", 5)), 500),
            (b"<html>", 200),
        ):
            s.http_client.body, s.http_client.status = body, status
            await s.jwks.fetch()
            assert s.at_once(0).user_id == "ann"
            s.clock.now += MIN_QUERY_INTERVAL_S
            with pytest.raises(VerifierUnavailable, match="cannot be read now"):
                await s.later(5)

    on_a_loop(test())


def test_a_key_that_is_withdrawn_counts_no_more() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA"), jwk("EdDSA", 1)))
        await s.later(0)
        s.http_client.body = jwk_set(jwk("EdDSA", 1))
        await s.jwks.fetch()
        s.clock.now += MIN_QUERY_INTERVAL_S
        with pytest.raises(TokenRefused, match="not among those"):
            await s.later(0)
        assert s.at_once(1).user_id == "ann"

    on_a_loop(test())


def test_without_any_key_a_client_may_retry_soon() -> None:
    """A provider that starts together with this server delays no client for half a minute."""

    async def test() -> None:
        s = Setting(None)
        for _ in range(2):
            with pytest.raises(VerifierUnavailable) as unavailable:
                await s.later(0)
            assert unavailable.value.retry_after_s <= FIRST_S
        assert s.fetches == 1
        s.clock.now += FIRST_S
        s.http_client.body = jwk_set(jwk("EdDSA"))
        assert (await s.later(0)).user_id == "ann"

    on_a_loop(test())


def test_without_a_kid_the_only_key_of_that_algorithm_is_meant() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA", kid=None), jwk("ES256")))
        assert (await s.later(0, kid=None)).user_id == "ann"
        s.http_client.body = jwk_set(jwk("EdDSA", 1, kid=None), jwk("ES256"))  # exchanged without notice
        s.clock.now += MIN_QUERY_INTERVAL_S
        assert (await s.later(1, kid=None)).user_id == "ann"
        s.http_client.body = jwk_set(jwk("EdDSA"), jwk("EdDSA", 1))
        await s.jwks.fetch()
        with pytest.raises(TokenRefused, match="does not say which of several keys"):
            s.at_once(1, kid=None)

    on_a_loop(test())


def test_the_keys_are_fetched_at_the_start_and_not_after_a_stop() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        s.jwks.start()
        s.jwks.start()
        for _ in range(5):
            await asyncio.sleep(0)
        assert s.at_once(0).user_id == "ann" and s.fetches == 1
        await s.jwks.close()
        assert s.http_client.closed and len(asyncio.all_tasks()) == 1

    on_a_loop(test())


# --- between workers


class Read:
    """Records the calls of `on_read`."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, float, list[str]]] = []

    def __call__(self, body: bytes, read_at: float, withdrawn: Any) -> None:
        self.told.append((body, read_at, list(withdrawn)))


def test_keys_that_another_worker_has_fetched_count_while_the_provider_does_not_answer() -> None:
    async def test() -> None:
        s, told = Setting(jwk_set(jwk("EdDSA"))), Read()
        s.jwks._on_read = told
        await s.jwks.fetch()
        ((body, read_at, withdrawn),) = told.told
        assert (read_at, withdrawn) == (s.clock.now, [])
        successor = Setting(None)
        successor.jwks.learn(body, read_at, withdrawn)
        assert successor.at_once(0).user_id == "ann" and successor.fetches == 0

    on_a_loop(test())


def test_of_two_answers_the_later_requested_one_counts() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA", 1)))
        await s.jwks.fetch()
        s.jwks.learn(jwk_set(jwk("EdDSA", 2)), s.clock.now - 1.0, [])
        assert s.at_once(1).user_id == "ann"
        s.jwks.learn(b"nonsense", s.clock.now + 1.0, [])
        assert s.at_once(1).user_id == "ann"
        s.jwks.learn(jwk_set(jwk("EdDSA", 2)), s.clock.now + 1.0, [])
        assert s.at_once(2).user_id == "ann"
        s.http_client.body = jwk_set(jwk("EdDSA", 1))
        await s.jwks.fetch()  # requested before the one that was received
        assert s.at_once(2).user_id == "ann"

    on_a_loop(test())


def test_a_worker_that_received_the_keys_lately_does_not_fetch_them_at_its_start() -> None:
    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        s.jwks.learn(jwk_set(jwk("EdDSA")), s.clock.now - REFRESH_S / 2, [])
        s.jwks.start()
        for _ in range(5):
            await asyncio.sleep(0)
        assert s.fetches == 0
        await s.jwks.close()
        old = Setting(jwk_set(jwk("EdDSA")))
        old.jwks.learn(jwk_set(jwk("EdDSA")), old.clock.now - 2 * REFRESH_S, [])
        old.jwks.start()
        for _ in range(5):
            await asyncio.sleep(0)
        assert old.fetches == 1
        await old.jwks.close()

    on_a_loop(test())


def test_a_withdrawn_key_is_refused_while_the_provider_does_not_answer_by_a_new_worker_too() -> None:
    async def test() -> None:
        s, told = Setting(jwk_set(jwk("EdDSA"), jwk("EdDSA", 1))), Read()
        s.jwks._on_read = told
        await s.jwks.fetch()
        s.http_client.body = jwk_set(jwk("EdDSA", 1))
        await s.jwks.fetch()
        s.http_client.body = None
        successor = Setting(None)
        successor.jwks.learn(*told.told[-1])
        for one in (s, successor):
            one.clock.now += MIN_QUERY_INTERVAL_S
            with pytest.raises(TokenRefused, match="not among those") as refused:
                await one.later(0)
            assert not isinstance(refused.value, VerifierUnavailable)
            assert one.verifier.was_refused(signed("EdDSA", GOOD, 0), NOW)
            with pytest.raises(VerifierUnavailable):
                await one.later(7)  # may be new
            assert not one.verifier.was_refused(signed("EdDSA", GOOD, 7), NOW)
            assert not one.verifier.was_refused("no.jwt", NOW)
        s.http_client.body = jwk_set(jwk("EdDSA"))
        await s.jwks.fetch()
        assert s.at_once(0).user_id == "ann" and not s.jwks.withdrew(read_header(signed("EdDSA", GOOD, 0)))

    on_a_loop(test())


def test_a_token_does_not_wait_for_as_long_as_the_keys_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token waits for the keys for a shorter time than a fetch may take: in the background that is ten seconds, and
    an unauthenticated connection ends before."""
    monkeypatch.setattr(jwks_module, "TOKEN_WAITS_S", 0.01)

    async def test() -> None:
        s = Setting(jwk_set(jwk("EdDSA")))
        s.http_client.hold = asyncio.Event()
        with pytest.raises(VerifierUnavailable, match="still being read") as unavailable:
            await s.later(0)
        assert unavailable.value.retry_after_s == FIRST_S
        s.http_client.hold.set()
        await s.jwks.fetch()
        assert s.at_once(0).user_id == "ann" and s.fetches == 1, "the reading went on"

    assert jwks_module.TIMEOUT_S == 10.0
    on_a_loop(test())
