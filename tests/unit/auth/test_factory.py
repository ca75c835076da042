"""From the configuration to its verifiers: the rules it must keep, what a reload keeps, what the commands print."""

import asyncio
import io
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from koko_presence import cli
from koko_presence.auth.factory import Verifiers, key_faults
from koko_presence.auth.hmac_jwt import HmacVerifier, Identity, ResumeTokens, TokenRefused
from koko_presence.auth.shared_cache import CacheEntry, SharedCache
from koko_presence.config.default_file import default_config_text
from koko_presence.config.schema import Config, ConfigError, load, with_secret
from tests.provider import jwk, jwk_set, private_pem, public_pem, signed
from tests.unit.config.test_schema import SECRET, faults, written
from tests.waiting import until

from .fakes import GOOD, NOW, FakeHttpClient

JWKS = '[auth]\nalgorithms = ["EdDSA"]\n[auth.jwks]\nurl = "https://id.example/jwks"\n'
INTROSPECT = '[auth]\nverifiers = ["introspect"]\n[auth.introspect]\nurl = "https://app.example/get-session"\npreset = "better-auth-cookie"\n'


def config(tmp_path: Path, toml: str, env: dict[str, str] | None = None) -> Config:
    return load(written(tmp_path, toml), env or {})


@pytest.mark.parametrize("toml", [JWKS, INTROSPECT])
def test_a_secret_is_needed_only_where_hmac_tokens_are_verified(tmp_path: Path, toml: str) -> None:
    assert config(tmp_path, toml).auth.secret == ""
    (told,) = faults(tmp_path, "[auth]\nalgorithms = ['HS256', 'EdDSA']\njwks.url = 'https://a'", {})
    assert told.startswith("auth.secret: is needed")


def test_without_a_secret_one_is_drawn_for_resume_tokens_and_stays_over_a_reload(tmp_path: Path) -> None:
    first = with_secret(config(tmp_path, JWKS))
    again = with_secret(config(tmp_path, JWKS), first.auth.secret)
    assert len(first.auth.secret) >= 32 and again.auth.secret == first.auth.secret
    assert with_secret(config(tmp_path, JWKS)).auth.secret != first.auth.secret
    assert first.auth.secret in first.secrets, "never logged"
    set_now = config(tmp_path, JWKS, {"KOKO_PRESENCE_AUTH_SECRET": SECRET})
    assert with_secret(set_now, first.auth.secret).auth.secret == SECRET
    assert with_secret(set_now, first.auth.secret, anyhow=True).auth.secret == first.auth.secret
    with pytest.raises(ValueError, match="need a secret"):
        ResumeTokens("")


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[auth]\nalgorithms = ['EdDSA']", "auth.algorithms: EdDSA needs public keys: set auth.jwks.url, auth.public_key or auth.public_key_file"),
        ("[auth.jwks]\nurl = 'https://a'", "auth.jwks.url: is used by none of auth.algorithms: add RS256, ES256, EdDSA, whichever signs"),
        ("[auth]\npublic_key = 'x'", "auth.public_key: is used by none of auth.algorithms: add RS256, ES256, EdDSA, whichever signs"),
        ("[auth]\nverifiers = ['introspect']\nintrospect.url = 'https://a'\njwks.url = 'https://a'", 'auth.jwks.url: is for the verifier "jwt", which auth.verifiers does not name'),
        ("[auth]\nverifiers = ['introspect']", "auth.introspect.url: is needed: the URL at which the application says whose a token is"),
        ("[auth]\nintrospect.url = 'https://a'", 'auth.introspect.url: is set, but auth.verifiers does not name "introspect": add it'),
        ("[auth]\nverifiers = []", 'auth.verifiers: expected a list of "introspect" or "jwt", not empty, got []'),
        ("[auth]\nverifiers = ['ldap']", 'auth.verifiers: expected a list of "introspect" or "jwt", not empty, got [\'ldap\']'),
        ("[auth]\ncookie = 'sid'", "auth.cookie: needs server.origins: browsers send cookies for any page, so list the pages that may connect"),
        ("[server]\norigins=['https://a']\n[auth]\ncookie = '__Secure-sid'", "auth.cookie: leave the prefix out: the cookie is found with and without it"),
        ("[server]\norigins=['https://a']\n[auth]\ncookie = 'a b'", "auth.cookie: 'a b' is not a valid name of a cookie"),
        ("[auth]\njwks = 'https://a'", "auth.jwks: is a section: write [auth.jwks] and its keys below it"),
        ("[auth.jwks]\nuri = 'x'", "auth.jwks.uri: no such key; did you mean auth.jwks.url?"),
        ("[auth.jwk]\nurl = 'x'", "auth.jwk: no such key; did you mean auth.jwks?"),
        ("[auth.introspect]\ncache_s = 0", "auth.introspect.cache_s: expected a number from 1.0 to 60.0, got 0"),
        ("[auth.introspect]\nauthorization = 5", "auth.introspect.authorization: expected a text, got a secret that is not shown"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_fault_that_names_its_key(tmp_path: Path, toml: str, told: str) -> None:
    assert faults(tmp_path, toml) == [told]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("method = 'GET'\npreset = 'generic'", 'auth.introspect.method: a GET has no body for token_in = "form": use POST'),
        ("token_in = 'json'", 'auth.introspect.method: a GET has no body for token_in = "json": use POST'),
        ("token_name = 'a b'", "auth.introspect.token_name: 'a b' is not a valid name of a cookie, header or field"),
        ("preset = 'better-auth-bearer'\nauthorization = 'Basic x'", "auth.introspect.authorization: carries the token already"),
        ("authorization = \"a\\nb\"", "auth.introspect.authorization: has to be one line of printable characters"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_sent_is_a_fault(tmp_path: Path, more: str, told: str) -> None:
    text = INTROSPECT.replace(
        'preset = "better-auth-cookie"\n', "" if "preset" in more else 'preset = "better-auth-cookie"\n'
    )
    (only,) = faults(tmp_path, text + more, {})
    assert only.startswith(told)


@pytest.mark.parametrize(
    ("url", "problem"),
    [("https://id.example/jwks", ""), ("http://127.0.0.1:3000/jwks", ""), ("http://localhost/jwks", ""), ("http://[::1]:3000/", ""),
     ("http://id.example/jwks", "is http"), ("http://10.0.0.1/jwks", "is http"), ("http://127.0.0.1.evil.example/", "is http"), ("ftp://id.example", "is not a URL"),
     ("id.example/jwks", "is not a URL"), ("file:///etc/passwd", "is not a URL"), ("https://", "is not a URL"), ("https://a b/", "is not a URL"), ("https://a:x/", "is not a URL"),
     ("https://u:p@id.example/", "user name"), ("https://id.example/#x", "fragment")],
)  # fmt: skip
def test_addresses_are_https_or_this_machine(tmp_path: Path, url: str, problem: str) -> None:
    text = JWKS.replace("https://id.example/jwks", url)
    if problem:
        (told,) = faults(tmp_path, text, {})
        assert told.startswith("auth.jwks.url: ") and problem in told
    else:
        assert config(tmp_path, text).auth.jwks.url == url


def test_tables_within_a_section_have_variables_too(tmp_path: Path) -> None:
    env = {
        "KOKO_PRESENCE_AUTH_ALGORITHMS": "RS256, ES256",
        "KOKO_PRESENCE_AUTH_JWKS_URL": "https://id.example/jwks",
        "KOKO_PRESENCE_AUTH_VERIFIERS": "jwt,introspect",
        "KOKO_PRESENCE_AUTH_INTROSPECT_URL": "https://app.example/x",
        "KOKO_PRESENCE_AUTH_INTROSPECT_CACHE_S": "45",
    }
    auth = config(tmp_path, "", env).auth
    assert (auth.jwks.url, auth.introspect.cache_s, auth.verifiers) == (
        "https://id.example/jwks",
        45.0,
        ("jwt", "introspect"),
    )
    told = faults(tmp_path, "", {"KOKO_PRESENCE_AUTH_JWKS_URI": "x", "KOKO_PRESENCE_AUTH_SECRET": SECRET})
    assert told == ["KOKO_PRESENCE_AUTH_JWKS_URI: no such variable; did you mean KOKO_PRESENCE_AUTH_JWKS_URL?"]


def test_keys_and_the_authorization_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(public_pem("EdDSA"))
    (tmp_path / "authorization").write_text("Basic c2VjcmV0\n")
    text = (
        f"[auth]\nverifiers = ['jwt', 'introspect']\nalgorithms = ['EdDSA']\npublic_key_file = '{tmp_path}/key.pem'\n"
    )
    text += f"[auth.introspect]\nurl = 'https://a'\nauthorization_file = '{tmp_path}/authorization'"
    read = config(tmp_path, text)
    assert read.auth.introspect.authorization == "Basic c2VjcmV0" and read.secrets == ["Basic c2VjcmV0"]
    assert "c2VjcmV0" not in repr(read) and key_faults(read) == []


@pytest.mark.parametrize(
    ("pem", "algorithms", "told"),
    [
        (private_pem("EdDSA"), ["EdDSA"], "auth.public_key: holds a private key"),
        ("nothing", ["EdDSA"], "auth.public_key: holds no public key"),
        (public_pem("EdDSA"), ["EdDSA", "RS256"], "auth.algorithms: there is no key for RS256 in auth.public_key"),
    ],
)  # fmt: skip
def test_keys_of_no_use_are_faults_of_the_configuration(
    tmp_path: Path, pem: str, algorithms: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"[auth]\nalgorithms = {algorithms}\npublic_key = '''\n{pem}'''"
    (only,) = key_faults(config(tmp_path, text))
    assert only.startswith(told)
    for command in ("check-config", "serve"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--config", str(tmp_path / "presence.toml")])
        assert ended.value.code == 2
        assert told in capsys.readouterr().err


def test_a_secret_that_is_a_public_key_is_a_fault(tmp_path: Path) -> None:
    (told,) = key_faults(config(tmp_path, "", {"KOKO_PRESENCE_AUTH_SECRET": public_pem("RS256")}))
    assert told.startswith("auth.secret: The secret is a key pair's key")


def test_the_printed_configuration_has_the_tables() -> None:
    text = default_config_text()
    assert (
        "\n[auth.jwks]\n" in text
        and "\n[auth.introspect]\n" in text
        and text.index("[auth]") < text.index("[auth.jwks]")
    )


# --- reload -----------------------------------------------------------------------------------------------------------


def on_a_loop(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_reload_keeps_keys_of_the_same_address_and_answers_to_the_same_request(tmp_path: Path) -> None:
    async def test() -> None:
        before = config(tmp_path, JWKS)
        verifiers = Verifiers()
        verifiers.make(before)
        jwks = verifiers._jwks
        assert jwks is not None
        jwks._http_client = http_client = FakeHttpClient(jwk_set(jwk("EdDSA")))  # type: ignore[assignment]
        await jwks.fetch()
        auth = structs.replace(before.auth, leeway_s=7.0)
        after = verifiers.make(structs.replace(before, auth=auth))
        assert isinstance(after.verify(signed("EdDSA", GOOD), NOW), Identity), "at once: the keys are still there"
        other = structs.replace(auth, jwks=structs.replace(auth.jwks, url="https://other.example/jwks"))
        verifiers.make(structs.replace(before, auth=other))
        await asyncio.sleep(0)
        assert verifiers._jwks is not jwks and http_client.closed
        introspecting = config(tmp_path, INTROSPECT)
        verifiers.make(introspecting)
        assert verifiers._jwks is None
        kept = verifiers._introspect
        longer = structs.replace(introspecting.auth.introspect, cache_s=60.0)
        verifiers.make(structs.replace(introspecting, auth=structs.replace(introspecting.auth, introspect=longer)))
        assert kept is not None and verifiers._introspect is kept
        elsewhere = structs.replace(longer, url="https://b.example")
        verifiers.make(structs.replace(introspecting, auth=structs.replace(introspecting.auth, introspect=elsewhere)))
        assert verifiers._introspect is not kept
        await verifiers.close()
        assert len(asyncio.all_tasks()) == 1

    on_a_loop(test())


def test_answers_of_one_worker_reach_its_successor(tmp_path: Path) -> None:
    """Keys and answers reach a successor by way of the supervisor, but only for the same address and request."""

    async def test() -> None:
        both = "[auth]\nverifiers = ['jwt', 'introspect']\nalgorithms = ['EdDSA']\n[auth.jwks]\nurl = 'https://id.example/jwks'\n"
        both += "[auth.introspect]\nurl = 'https://app.example/whoami'\n"
        read, now_s = config(tmp_path, both), time.time()
        told: list[CacheEntry] = []
        first, second = Verifiers(lambda: 1000.0, share=told.extend), Verifiers(lambda: 1100.0)
        verifier = first.make(read)
        assert first._jwks is not None and first._introspect is not None
        first._jwks._http_client = FakeHttpClient(jwk_set(jwk("EdDSA")))  # type: ignore[assignment]
        await first._jwks.fetch()
        answer = b'{"active": true, "sub": "ann", "rooms": {"video_*": ["join"]}}'
        for endpoint in first._introspect[1]:
            endpoint.http_client = FakeHttpClient(answer)  # type: ignore[assignment]
        ann = await verifier.verify("abc", now_s)  # type: ignore[misc]
        await until(lambda: len(told) == 2)
        cache = SharedCache()
        for entry in told:
            cache.put(entry)
        entries = [entry for batch in cache.batches(now_s) for entry in batch]
        after = second.make(read)
        second.learn(entries, now_s)
        assert after.verify("abc", now_s + 29) == ann, "without asking"
        assert isinstance(after.verify(signed("EdDSA", GOOD), NOW), Identity)
        introspect = structs.replace(read.auth.introspect, url="https://other.example")
        jwks = structs.replace(read.auth.jwks, url="https://other.example/jwks")
        other = Verifiers(lambda: 1100.0)
        other.make(structs.replace(read, auth=structs.replace(read.auth, introspect=introspect, jwks=jwks)))
        other.learn(entries, now_s)
        assert other._jwks is not None and other._introspect is not None
        assert not other._jwks._keys and len(other._introspect[2]._identities) == 0
        for one in (first, second, other):
            await one.close()

    on_a_loop(test())


def test_identities_carry_their_token_only_where_access_is_checked_by_the_application(tmp_path: Path) -> None:
    read = config(tmp_path, f"[auth]\nsecret = '{SECRET}'")
    token = __import__("koko_presence.auth.hmac_jwt", fromlist=["issue_token"]).issue_token(
        SECRET, user="ann", now_s=NOW
    )
    for mode, forward in (("claims", ()), ("trpc", (("authorization", f"Bearer {token}"),))):
        made = Verifiers().make(structs.replace(read, access=structs.replace(read.access, mode=mode)))
        who = made.verify(token, NOW)
        assert isinstance(who, Identity) and who.forward == forward


# --- commands ---------------------------------------------------------------------------------------------------------


def test_check_token_with_a_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, f"[auth]\nalgorithms = ['EdDSA']\npublic_key = '''\n{public_pem('EdDSA')}'''")
    good = signed("EdDSA", {"sub": "ann", "exp": int(time.time()) + 60, "rooms": {"video_1": ["join"]}})
    for token, code, said in (
        (good, 0, "room     video_1: join"),
        (good + "x", 1, "refused: it is not a well-formed JWT"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(token))
        assert cli.main(["check-token", "--config", str(path)]) == code
        assert said in capsys.readouterr().out


def test_check_token_without_an_answer_prints_that_the_token_could_not_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, JWKS.replace("https://id.example/jwks", "http://127.0.0.1:1/jwks"))
    monkeypatch.setattr("sys.stdin", io.StringIO(signed("EdDSA", GOOD)))
    assert cli.main(["check-token", "--config", str(path)]) == 1
    assert capsys.readouterr().out == "cannot be checked: the keys of auth.jwks.url cannot be read now\n"


def test_token_prints_that_others_sign_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "--config", str(written(tmp_path, JWKS)), "--user", "ann"]) == 2
    assert "here others sign the tokens" in capsys.readouterr().err


def test_check_config_lists_the_accepted_verifiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[server]\norigins = ["https://app.example"]\n' + INTROSPECT.replace(
        '["introspect"]', '["introspect"]\ncookie = "sid"'
    )
    assert cli.main(["check-config", "--config", str(written(tmp_path, text))]) == 0
    assert "tokens asked for at https://app.example/get-session, or the cookie sid" in capsys.readouterr().out


def test_dev_takes_its_own_tokens_besides_what_is_configured(tmp_path: Path) -> None:
    dev = load(
        written(tmp_path, JWKS + INTROSPECT.partition("\n")[2].partition("\n")[2]),
        {"KOKO_PRESENCE_AUTH_VERIFIERS": "introspect,jwt"},
        dev=True,
    )
    assert dev.auth.verifiers == ("jwt", "introspect") and dev.auth.algorithms == ("HS256", "EdDSA")
    assert HmacVerifier(dev.auth.secret)
    with pytest.raises((ConfigError, TokenRefused)):
        load(written(tmp_path, "[auth]\nsecret = 'short'"), {})
