"""The server and a real identity provider: keys that rotate under load, a provider that fails in every way, and users
who authenticate by a token signed with a key or by the application's cookie."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from koko_presence.auth.http_client import HttpClient, RequestFailed
from koko_presence.auth.identity import Identity, TokenRefused, VerifierUnavailable
from koko_presence.auth.introspection import Endpoint, IntrospectVerifier, VerdictCache
from koko_presence.auth.jwks import Jwks
from koko_presence.auth.jwt_claims import ClaimRules
from koko_presence.auth.public_key_jwt import KeyVerifier
from tests.integration.conftest import Run
from tests.integration.test_supervisor import Service
from tests.provider import Provider, jwk, jwk_set, provider, signed
from tests.unit.auth.fakes import Clock
from tests.unit.auth.test_introspection import BETTER_AUTH, structs
from tests.waiting import PATIENCE_S, wait_until

MB = 1024 * 1024


def token(number: int = 0, user: str = "ann", **headers: Any) -> str:
    return signed("EdDSA", {"sub": user, "exp": int(time.time()) + 600}, number, **headers)


async def verified(verifier: Any, given: str) -> Identity:
    answer = verifier.verify(given, time.time())
    return await answer if isinstance(answer, Awaitable) else answer  # type: ignore[no-any-return]


# --- requests -----------------------------------------------------------------------------------------------------


async def redirect(request: web.BaseRequest) -> web.StreamResponse:
    """Redirects to this machine, as an attacker would to have the server read an internal address."""
    return web.Response(status=302, headers={"location": f"http://{request.host}/secret"})


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(0.2)
    return await hang(request)


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def five_megabytes(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=b" " * 5 * MB)


async def five_megabytes_in_pieces(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(5 * 16):
        await response.write(b" " * (MB // 16))
    return response


async def cut_off(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def long_headers(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(headers={f"x-{number}": "x" * 5000 for number in range(20)} | {"x": "y" * 100_000})


BAD_WAYS = [
    (redirect, r"answers with a redirect \(status 302\), which is not followed"),
    (hang, r"did not answer within 0\.3 s"),
    (drip, r"did not answer within 0\.3 s"),
    (five_megabytes, "its answer is longer than 65536 bytes"),
    (five_megabytes_in_pieces, "its answer is longer than 65536 bytes"),
    (cut_off, "could not be asked: ServerDisconnected"),
    (long_headers, "could not be asked"),
]


@pytest.mark.parametrize(("way", "reason"), BAD_WAYS, ids=[way.__name__ for way, _ in BAD_WAYS])
def test_an_unusable_answer_fails_soon_and_causes_no_other_request(run: Run, way: Any, reason: str) -> None:
    async def test() -> None:
        async with provider() as idp:
            idp.handle = way
            never = way in (hang, drip)
            http_client = HttpClient(timeout_s=0.3 if never else PATIENCE_S)
            for ask in (
                http_client.get(f"{idp.base}/jwks"),
                http_client.post(f"{idp.base}/jwks", {"cookie": "a=b"}, b"x"),
            ):
                with pytest.raises(RequestFailed, match=reason):
                    await ask
            assert set(idp.asked) == {"/jwks"}, "and nothing else"
            assert idp.asked["/jwks"] <= 3, "a GET whose connection was cut off is sent once more"
            idp.handle = idp.answer
            if never:
                http_client._timeout_s = PATIENCE_S
            assert (await http_client.get(f"{idp.base}/jwks")).status == 200, "it is still of use"
            await http_client.close()
            with pytest.raises(RequestFailed, match="is stopping"):
                await http_client.get(f"{idp.base}/jwks")

    run(test())


def test_environment_proxies_and_cookies_of_earlier_answers_are_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def test() -> None:
        async with provider() as idp:
            http_client = HttpClient(timeout_s=PATIENCE_S)
            idp.handle = lambda request: web.Response(headers={"set-cookie": "who=eve"})
            for _ in range(2):
                await http_client.get(f"{idp.base}/x", {"x-one": "1"})
            assert [seen.get("cookie") for seen in idp.seen] == [None, None]
            assert idp.seen[0]["x-one"] == "1" and idp.seen[0]["accept-encoding"] == "identity"
            await http_client.close()

    run(test())


def test_a_closed_port_and_a_header_of_two_lines_fail_without_showing_the_secret(run: Run) -> None:
    async def test() -> None:
        http_client = HttpClient(timeout_s=PATIENCE_S)
        with pytest.raises(RequestFailed, match="could not be asked: "):
            await http_client.get("http://127.0.0.1:1/")
        with pytest.raises(RequestFailed) as failed:
            await http_client.get("http://127.0.0.1:1/", {"cookie": "s3cret\r\nx: y"})
        assert "s3cret" not in str(failed.value)
        await http_client.close()

    run(test())


# --- keys ---------------------------------------------------------------------------------------------------------


def jwks_of(idp: Provider, clock: Clock, timeout_s: float = PATIENCE_S) -> tuple[KeyVerifier, Jwks]:
    jwks = Jwks(f"{idp.base}/jwks", HttpClient(timeout_s=timeout_s), clock)
    return KeyVerifier(jwks, ["EdDSA"], ClaimRules()), jwks


@pytest.mark.long
def test_keys_rotate_under_load_and_no_valid_client_is_refused(run: Run) -> None:
    """Every 40 s the provider begins to sign with a new key and still publishes the previous one. 200 clients with
    either key, and 200 with unknown keys, are verified in each of 10 rotations."""

    async def test() -> None:
        async with provider() as idp:
            clock = Clock()
            verifier, jwks = jwks_of(idp, clock)
            welcome, refused = 0, 0
            for rotation in range(10):
                idp.keys = jwk_set(jwk("EdDSA", rotation), jwk("EdDSA", rotation + 1))
                clock.now += 40.0
                valid = [token(rotation + at % 2) for at in range(200)]
                bad = [token(99, kid=f"stranger {rotation} {at}") for at in range(200)]
                answers = [verified(verifier, given) for pair in zip(valid, bad, strict=True) for given in pair]
                found = await asyncio.gather(*answers, return_exceptions=True)
                welcome += sum(isinstance(one, Identity) for one in found[::2])
                refused += sum(isinstance(one, TokenRefused) for one in found[1::2])
            assert (welcome, refused) == (2000, 2000)
            assert idp.asked["/jwks"] <= 10
            await jwks.close()

    run(test())


@pytest.mark.parametrize("way", [redirect, hang, five_megabytes, cut_off])
def test_a_provider_that_fails_does_not_delay_tokens_with_a_known_key(run: Run, way: Any) -> None:
    async def test() -> None:
        async with provider() as idp:
            clock = Clock()
            verifier, jwks = jwks_of(idp, clock, timeout_s=2.0 if way is hang else PATIENCE_S)
            await verified(verifier, token())
            idp.handle = way
            clock.now += 600.0
            refreshing = asyncio.ensure_future(jwks.fetch())
            unknown = asyncio.ensure_future(verified(verifier, token(1)))
            while not refreshing.done():
                assert isinstance(verifier.verify(token(), time.time()), Identity), "without waiting for anything"
                await asyncio.sleep(0.01)
            with pytest.raises(VerifierUnavailable):
                await unknown
            assert isinstance(verifier.verify(token(), time.time()), Identity), "the last good keys stay"
            assert set(idp.asked) == {"/jwks"}
            await jwks.close()

    run(test())


# --- the application ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [redirect, hang, five_megabytes, cut_off])
def test_an_application_that_fails_refuses_with_a_retryable_error(run: Run, way: Any) -> None:
    async def test() -> None:
        async with provider() as idp:
            idp.handle = way
            http_client = HttpClient(timeout_s=2.0 if way is hang else PATIENCE_S)
            question = structs.replace(BETTER_AUTH, url=f"{idp.base}/get-session")
            introspector = IntrospectVerifier(
                question, (Endpoint(http_client), Endpoint(http_client)), VerdictCache(10), cache_s=30, session_s=3600
            )
            with pytest.raises(VerifierUnavailable):
                await verified(introspector, "abc")
            idp.handle = idp.answer
            idp.sign_in("abc", "ann")
            assert (await verified(introspector, "abc")).name == "Ann"
            idp.handle = way
            assert (await verified(introspector, "abc")).name == "Ann", "for as long as its answer is believed"
            assert set(idp.asked) == {"/get-session"}
            await http_client.close()

    run(test())


# --- the whole server ---------------------------------------------------------------------------------------------

CONFIG = """
[server]
port = 0
workers = {workers}
origins = ["https://app.example.com"]
runtime_dir = "{folder}/run"
[operator]
port = 0
[auth]
verifiers = ["jwt", "introspect"]
algorithms = ["EdDSA"]
cookie = "better-auth.session_token"
issuer = "{issuer}"
[auth.jwks]
url = "{base}/jwks"
[auth.introspect]
preset = "better-auth-cookie"
url = "{base}/get-session"
[access]
mode = "allow_all"
"""


class IntrospectingService(Service):
    """A server without a secret that verifies tokens with an identity provider."""

    def configure(self, **settings: Any) -> None:
        self.settings |= {"issuer": ""} | settings
        self.config.write_text(CONFIG.format(folder=self.folder, **self.settings))


async def enter(port: int, message: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The first answer to `auth`. If the connection was closed, `close` is the code."""
    async with connect(f"ws://127.0.0.1:{port}/presence", additional_headers=headers, proxy=None) as ws:
        await ws.send(json.dumps({"type": "auth"} | message))
        said: dict[str, Any] = json.loads(await ws.recv())
        if said["type"] == "error":
            try:
                await ws.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                said["close"] = closed.rcvd.code
        return said


@pytest.mark.parametrize("workers", [1, 2])
def test_users_authenticate_by_a_keys_token_and_by_the_applications_cookie(
    run: Run, tmp_path: Path, workers: int
) -> None:
    origin = {"Origin": "https://app.example.com"}

    def cookie(value: str) -> dict[str, str]:
        return {"Cookie": f"theme=dark; __Secure-better-auth.session_token={value}"}

    async def test() -> None:
        async with provider() as idp:
            idp.sign_in("ben.c2ln%3D", "ben")
            service = IntrospectingService(tmp_path, base=idp.base, workers=workers)
            try:
                port = await asyncio.to_thread(lambda: service.up().port)
                said = await enter(port, {"token": token()})
                assert (said["type"], said["userId"]) == ("authenticated", "ann")
                came_back = await enter(port, {"token": token(), "resumeToken": said["resumeToken"]})
                assert came_back["type"] == "authenticated"
                for _ in range(10):  # the kernel chooses the worker; the cached answer is shared by all workers
                    said = await enter(port, {}, **origin, **cookie("ben.c2ln%3D"))
                    assert (said["type"], said["userId"]) == ("authenticated", "ben")
                assert 1 <= idp.asked["/get-session"] <= workers

                said = await enter(port, {}, **origin, **cookie("nobody"))
                assert (said["code"], said["close"]) == ("UNAUTHENTICATED", 4401)
                said = await enter(port, {}, **cookie("ben.c2ln%3D"))
                assert said["message"].startswith("The cookie was refused: a cookie counts only from a page on")
                said = await enter(port, {"token": token(1, kid="EdDSA-0")})
                assert (said["code"], said["close"]) == ("UNAUTHENTICATED", 4401)

                idp.handle = cut_off
                said = await enter(port, {}, **origin, **cookie("cleo.c2ln"))
                assert (said["code"], said["close"]) == ("UNAUTHENTICATED", 1013) and said["retryAfterMs"] > 0
                said = await enter(port, {"token": token()})
                assert said["type"] == "authenticated", "its key is known"

                service.configure(issuer="https://id.example")
                service.signal(signal.SIGHUP)
                await asyncio.to_thread(service.wait, "configuration reloaded")
                await asyncio.to_thread(wait_until, lambda: idp_refuses(port))
                said = await enter(port, {}, **origin, **cookie("ben.c2ln%3D"))
                assert said["userId"] == "ben", "the answer is still believed, and nobody was asked"
                log = service.said()
                assert "ben.c2ln" not in log and token().partition(".")[0] not in log
            finally:
                await asyncio.to_thread(service.end)

    def idp_refuses(port: int) -> bool:
        return "iss" in asyncio.run(enter(port, {"token": token()})).get("message", "")

    run(test())
