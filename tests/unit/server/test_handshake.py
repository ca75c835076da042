"""Which upgrades are accepted: the request's line and headers [RFC 6455 section 4.2.1; RFC 9110, 9112]."""

import pytest

from koko_presence.server.handshake import Head, read_head, refuse_upgrade
from koko_presence.server.origins import Origins
from tests.raw_ws import handshake

PATHS = ("/presence", "/trpc")


def head_of(path: str = "/presence", **headers: str | None) -> Head:
    head = read_head(handshake(path, **headers).partition(b"\r\n\r\n")[0])
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/presence?a=1", "/presence?a=1"),
        ("http://example.com/presence", "/presence"),
        ("https://example.com:8443/presence?a=http://x/y", "/presence?a=http://x/y"),
        ("HTTP://example.com?a=1", "/?a=1"),
        ("http://example.com", "/"),
        ("ftp://example.com/presence", "ftp://example.com/presence"),
    ],
)
def test_an_absolute_target_means_its_path_rfc_9112_3_2_2(target: str, path: str) -> None:
    assert head_of(target).path == path


def test_an_absolute_target_is_welcome_and_its_host_counts() -> None:
    origins = Origins([])
    given = head_of("http://app.example.com/presence", Host="elsewhere", Origin="https://app.example.com")
    assert given.values("host") == ["app.example.com"] and refuse_upgrade(given, PATHS, origins) is None
    foreign = head_of("http://elsewhere/presence", Host="app.example.com", Origin="https://app.example.com")
    refusal = refuse_upgrade(foreign, PATHS, origins)
    assert refusal is not None and refusal[0] == 403


@pytest.mark.parametrize("version", ["8", None])
def test_another_version_is_answered_with_the_supported_one_and_upgrade_required(version: str | None) -> None:
    refusal = refuse_upgrade(head_of(Sec_WebSocket_Version=version), PATHS, Origins([]))
    assert refusal is not None and refusal[0] == 426
    assert {"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"} <= set(refusal[2].split("\r\n"))


@pytest.mark.parametrize("headers", [{"Content_Length": "5"}, {"Transfer_Encoding": "chunked"}])
def test_an_upgrade_has_no_body(headers: dict[str, str]) -> None:
    refusal = refuse_upgrade(head_of(**headers), PATHS, Origins([]))
    assert refusal is not None and refusal[0] == 400
    assert refuse_upgrade(head_of(Content_Length="0"), PATHS, Origins([])) is None
