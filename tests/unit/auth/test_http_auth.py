"""Authentication of HTTP callers, and cookies: which origin, which cookie, and what is forwarded."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest
from multidict import CIMultiDict

from koko_presence.auth.cookies import SessionCookie, find_cookie, verify_cookie
from koko_presence.auth.hmac_jwt import HmacVerifier
from koko_presence.auth.http_auth import HttpAuthenticator
from koko_presence.auth.identity import Identity, TokenRefused
from koko_presence.server.handshake import Head, refuse_upgrade, session_cookie
from koko_presence.server.origins import Origins
from tests.unit.auth.test_hmac_jwt import SECRET, make

from .fakes import NOW
from .test_introspection import SESSION, answering, verifier

NAME = "better-auth.session_token"
TOKEN = make()


def authenticator(cookie: str = NAME) -> HttpAuthenticator:
    return HttpAuthenticator(HmacVerifier(SECRET), cookie)


def who(headers: Mapping[str, str], origin_allowed: bool = True, cookie: str = NAME) -> Identity:
    answer = authenticator(cookie).identify(headers, origin_allowed=origin_allowed, now_s=NOW)
    assert isinstance(answer, Identity)
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer  {TOKEN} "},
        CIMultiDict({"AUTHORIZATION": f"Bearer {TOKEN}"}),
    ],
)
def test_a_bearer_token_counts_from_anywhere(headers: Mapping[str, str]) -> None:
    assert who(headers, origin_allowed=False, cookie="").user_id == "ann"


@pytest.mark.parametrize("prefix", ["", "__Secure-", "__Host-"])
def test_a_cookie_counts_from_an_origin_that_may(prefix: str) -> None:
    headers = {"cookie": f"a=1; {prefix}{NAME}={TOKEN}; b=2"}
    assert who(headers).user_id == "ann"
    with pytest.raises(TokenRefused, match=r"only from a page on the list server\.origins"):
        who(headers, origin_allowed=False)
    with pytest.raises(TokenRefused, match="there is none: send the header"):
        who(headers, cookie="")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "there is no cookie"), ({"cookie": ""}, "there is no cookie"), ({"cookie": f"x{NAME}={TOKEN}"}, "there is no cookie"),
        ({"cookie": f"{NAME.upper()}={TOKEN}"}, "there is no cookie"), ({"cookie": NAME}, "three parts"),
        ({"authorization": "Basic YTpi"}, "is not `Bearer` and a token"), ({"authorization": "Bearer"}, "is not `Bearer`"), ({"authorization": ""}, "is not `Bearer`"),
        (CIMultiDict([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]), "is not `Bearer`"),
        ({"authorization": "Bearer x", "cookie": f"{NAME}={TOKEN}"}, "three parts"),
        ({"cookie": f"{NAME}={TOKEN}; {NAME}=evil"}, "several cookies"),
        (CIMultiDict([("Cookie", f"{NAME}={TOKEN}"), ("Cookie", f"{NAME}=evil")]), "several cookies"),
    ],
)  # fmt: skip
def test_requests_without_credentials(headers: Mapping[str, str], reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        who(headers)


def test_the_host_cookie_goes_before_those_that_a_neighbouring_domain_may_have_set() -> None:
    header = f"{NAME}=evil; __Secure-{NAME}=evil too; __Host-{NAME}=good"
    assert find_cookie([header], NAME) == SessionCookie(f"__Host-{NAME}", "good")
    assert find_cookie([f"{NAME}=a", f"{NAME}=a"], NAME).value == "a", "twice the same is one"
    assert find_cookie([f"{NAME}=a; __Secure-{NAME}=a"], NAME) == SessionCookie(f"__Secure-{NAME}", "a")


@pytest.mark.parametrize(
    "header",
    [f"{NAME}=a; __Secure-{NAME}=b", f"__Secure-{NAME}=a; __Secure-{NAME}=b", f"__Host-{NAME}=a; __Host-{NAME}=b"],
)
def test_of_cookies_with_different_values_none_counts(header: str) -> None:
    with pytest.raises(TokenRefused, match=r"several cookies .* that differ"):
        find_cookie([header], NAME)


def test_a_cookie_keeps_its_value_unchanged_and_no_repr_shows_it() -> None:
    cookie = find_cookie([f"{NAME}=abc.de%2Ff%3D; x=y"], NAME)
    assert cookie.value == "abc.de%2Ff%3D" and "abc" not in repr(cookie) and "abc" not in f"{cookie}"


def test_the_application_gets_back_the_cookie_as_it_came() -> None:
    cookie = SessionCookie(f"__Secure-{NAME}", "abc.def")

    async def test(**more: Any) -> Any:
        answer = verify_cookie(verifier(answering(SESSION), **more), cookie, NOW)
        assert isinstance(answer, Awaitable)
        return (await answer).forward

    assert asyncio.run(test(forwards=True)) == (("cookie", f"__Secure-{NAME}=abc.def"),)
    assert asyncio.run(test()) == ()
    at_once = verify_cookie(HmacVerifier(SECRET, forwards=True), SessionCookie("jwt", TOKEN), NOW)
    assert isinstance(at_once, Identity) and at_once.forward == (("cookie", f"jwt={TOKEN}"),)


LISTED = ("https://app.example.com", "http://localhost:3000", "https://xn--bcher-kva.example")
# the Origin header, whether the upgrade is accepted, and whether its cookie counts
ORIGINS: list[tuple[str, list[str], bool, bool]] = [
    ("the application's page", ["https://app.example.com"], True, True),
    ("the same in capitals", ["HTTPS://App.Example.Com"], True, True),
    ("this very host", ["https://presence.example.com"], True, True),
    ("a development server", ["http://localhost:3000"], True, True),
    ("an international name", ["https://xn--bcher-kva.example"], True, True),
    ("none: no browser", [], True, False),
    ("an empty one", [""], False, False),
    ("null: a sandbox, a file", ["null"], False, False),
    ("another site", ["https://evil.example"], False, False),
    ("one that ends alike", ["https://evil-app.example.com"], False, False),
    ("one that begins alike", ["https://app.example.com.evil.example"], False, False),
    ("a domain below", ["https://x.app.example.com"], False, False),
    ("the domain above", ["https://example.com"], False, False),
    ("without TLS", ["http://app.example.com"], False, False),
    ("another port", ["https://app.example.com:8443"], False, False),
    ("a port that others leave out", ["https://app.example.com:443"], False, False),
    ("with a path", ["https://app.example.com/"], False, False),
    ("with a user", ["https://app.example.com@evil.example"], False, False),
    ("the same name in its own letters", ["https://bücher.example"], False, False),
    ("two of them", ["https://app.example.com", "https://evil.example"], False, False),
    ("twice the same", ["https://app.example.com", "https://app.example.com"], False, False),
]  # fmt: skip


def upgrade(origins: list[str], cookie: str = f"{NAME}=abc.def", host: str = "presence.example.com") -> Head:
    headers = [("host", host), ("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13")]
    return Head("GET", "/presence", [*headers, ("cookie", cookie), *(("origin", origin) for origin in origins)])


@pytest.mark.parametrize(
    ("origins", "welcome", "counts"), [case[1:] for case in ORIGINS], ids=[case[0] for case in ORIGINS]
)
def test_a8_origins_and_whether_their_cookies_count(origins: list[str], welcome: bool, counts: bool) -> None:
    head = upgrade(origins)
    refusal = refuse_upgrade(head, ("/presence",), Origins(LISTED))
    assert refusal is None if welcome else refusal is not None and refusal[0] == 403
    found = session_cookie(head, NAME, Origins(LISTED))
    if counts:
        assert found == SessionCookie(NAME, "abc.def")
    else:
        assert found == "a cookie counts only from a page on the list server.origins: send a token"
    assert session_cookie(head, "", Origins(LISTED)) is None, "without auth.cookie none is looked for"


def test_there_are_twelve_origins_and_more() -> None:
    assert len(ORIGINS) >= 12


def test_a_page_without_the_cookie_gets_an_error_that_names_it() -> None:
    found = session_cookie(upgrade([LISTED[0]], "a=b"), NAME, Origins(LISTED))
    assert found == f"there is no cookie {NAME}: sign in first, or send a token"


HERE = "presence.example.com"


@pytest.mark.parametrize(
    ("origin", "host", "more", "tls", "welcome", "counts"),
    [
        # https://HOST is always own: TLS ends here or at a proxy
        ("https://presence.example.com", HERE, {}, True, True, True),
        ("https://presence.example.com", HERE, {}, False, True, True),
        # http://HOST only where nothing is encrypted, and its cookie only on this machine
        ("http://presence.example.com", HERE, {}, True, False, False),
        ("http://presence.example.com", HERE, {}, False, True, False),
        ("http://presence.example.com", HERE, {"x-forwarded-proto": "https"}, False, False, False),
        ("http://presence.example.com", HERE, {"x-forwarded-proto": "http, HTTPS"}, False, False, False),
        ("http://presence.example.com", HERE, {"forwarded": 'for=192.0.2.1; proto="https"'}, False, False, False),
        ("http://presence.example.com", HERE, {"x-forwarded-proto": "http"}, False, True, False),
        ("https://presence.example.com", HERE, {"x-forwarded-proto": "https"}, False, True, True),
        ("http://localhost:8080", "localhost:8080", {}, False, True, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", {}, False, True, True),
        ("http://[::1]:8080", "[::1]:8080", {}, False, True, True),
        ("http://192.168.1.5:8080", "192.168.1.5:8080", {}, False, True, False),
    ],
)
def test_a8_a_page_that_came_by_http_is_not_the_host_of_https_and_brings_no_cookie(
    origin: str, host: str, more: dict[str, str], tls: bool, welcome: bool, counts: bool
) -> None:
    head = upgrade([origin], host=host)
    head.headers.extend(more.items())
    origins = Origins(tls=tls)
    assert (refuse_upgrade(head, ("/presence",), origins) is None) is welcome
    assert isinstance(session_cookie(head, NAME, origins), SessionCookie) is counts


def test_a8_a_listed_http_origin_may_connect_but_its_cookie_does_not_count() -> None:
    origins = Origins(["http://intranet.example"])
    head = upgrade(["http://intranet.example"])
    assert refuse_upgrade(head, ("/presence",), origins) is None
    assert not isinstance(session_cookie(head, NAME, origins), SessionCookie)


@pytest.mark.parametrize(
    ("host", "welcome"),
    [("localhost:8080", True), ("127.0.0.1:8080", True), ("app.localhost:8080", True), ("rebound.example:8080", False)],
)
def test_dns_rebinding_with_dev_a_foreign_name_is_not_this_host(host: str, welcome: bool) -> None:
    head = upgrade([f"http://{host}"], host=host)
    assert (refuse_upgrade(head, None, Origins(local_only=True)) is None) is welcome
    assert refuse_upgrade(head, None, Origins()) is None
