"""Which pages may connect, from which of them a cookie counts, and what a refusal says [A8]."""

from collections.abc import Sequence

import pytest

from koko_presence.server.origins import Origins, Values, is_origin, of_page, refusal

APPS = ["capacitor://localhost", "ionic://localhost", "https://localhost", "app://bundle", "null", "file://"]


def headers(origin: str | None, host: str = "presence.example.com") -> Values:
    values = {"host": [host], "origin": [] if origin is None else [origin]}

    def of(name: str) -> Sequence[str]:
        return values.get(name, [])

    return of


@pytest.mark.parametrize("origin", APPS)
def test_apps_connect_when_their_origin_is_listed_and_no_cookie_counts_from_a_page_without_a_host(origin: str) -> None:
    assert not Origins().allow(headers(origin))
    listed = Origins([origin])
    assert listed.allow(headers(origin))
    assert listed.allow_cookie(headers(origin)) is (origin not in ("null", "file://"))


@pytest.mark.parametrize("host", ["\u2603.example", "b\u00fccher.example", "\udcff.example"])
def test_an_origin_that_is_not_ascii_is_refused_also_when_it_is_that_of_the_host(host: str) -> None:
    """Browsers write it as punycode; in the head of an answer it could not be encoded."""
    for scheme in ("http", "https"):
        for origins in (Origins(), Origins([f"{scheme}://{host}"]), Origins(local_only=True)):
            assert not origins.allow(headers(f"{scheme}://{host}", host))
            assert not origins.allow_cookie(headers(f"{scheme}://{host}", host))
    assert Origins().allow(headers("https://xn--n3h.example", "xn--n3h.example"))


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("capacitor://localhost", 'add "capacitor://localhost" to it.'),
        ("https://App.example.com:8443", 'add "https://app.example.com:8443" to it.'),
        ("null", "it has no host (null)"),
        ("file://", 'or add "file://" to the list.'),
        ("<script>", "(server.origins)."),
        ("https://app.example.com/<script>", "(server.origins)."),
        ("https://" + "a" * 300, "(server.origins)."),
    ],
)
def test_a_refusal_says_what_to_write(origin: str, told: str) -> None:
    text = refusal(headers(origin))
    assert text.startswith("This page's origin is not on the server's list (server.origins)")
    assert told in text and "<" not in text


def test_a_refusal_counts_the_origins_of_a_request_with_several() -> None:
    assert "the request has 2 of them" in refusal(lambda name: ["https://a.example", "https://b.example"])


LOCAL = [
    ("http://localhost:5173", True),
    ("http://127.0.0.1:3000", True),
    ("http://[::1]:3000", True),
    ("https://app.localhost", True),
    ("http://192.0.2.7:3000", False),
    ("http://localhost.example.com", False),
    ("http://localhost:99999", False),
    ("null", False),
    ("file://", False),
]


@pytest.mark.parametrize(("origin", "welcome"), LOCAL)
def test_pages_of_this_machine_connect_to_a_development_server_at_any_port(origin: str, welcome: bool) -> None:
    dev = Origins(local_only=True)
    assert dev.allow(headers(origin, "localhost:8080")) is welcome
    assert not dev.allow(headers(origin, "evil.example:8080")), "DNS rebinding"
    assert not Origins().allow(headers(origin, "localhost:8080")), "without --dev"


def test_a_request_without_an_origin_is_judged_by_the_page_that_it_names() -> None:
    listed = Origins(["https://app.example"])
    for page, host, welcome in (
        ("https://app.example", "10.0.0.7:8080", True),
        ("https://other.example", "10.0.0.7:8080", False),
        ("https://other.example", "other.example", True),
        ("", "10.0.0.7:8080", True),
    ):
        values = of_page(page, headers(None, host))
        assert listed.allow(values) is welcome and values("host") == [host]


def test_a_page_learns_nothing_about_the_origin_of_another_one() -> None:
    values = of_page("https://app.example", headers("https://evil.example"))
    assert not Origins(["https://app.example"]).allow(values) and "evil.example" in refusal(values)


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("https://app.example:8443", True),
        ("http://[::1]:8080", True),
        ("capacitor://localhost", True),
        ("null", True),
        ("file://", True),
        ("", False),
        ("app.example", False),
        ("https://app.example/page", False),
        ("https://app.example\n2026 a line of the log", False),
        ("https://app.example\n", False),
        ("https://ümlaut.example", False),
        ("https://" + "a" * 192, True),
        ("https://" + "a" * 193, False),
        ("s" * 300 + "://a", False),
    ],
)
def test_what_is_no_origin_of_a_page_is_told_from_one(text: str, fit: bool) -> None:
    assert is_origin(text) is fit
