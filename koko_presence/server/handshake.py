"""Parses request heads, decides about upgrades to WebSocket and builds their response. Pure: bytes in, bytes out.

picows validates the handshake. The two functions that do it are not public, so the pinned version is checked here at
import. Holds no state.
"""

import re
from collections.abc import Collection, Container
from typing import Any, NamedTuple

from picows.picows import _parse_http_request, _validate_upgrade_request  # type: ignore[attr-defined]

from koko_presence._fastpath.build_info import check_abi
from koko_presence.auth.cookies import OTHER_PAGE, SessionCookie, find_cookie
from koko_presence.auth.hmac_jwt import TokenRefused

from .origins import Origins
from .origins import refusal as origin_refusal

check_abi()

ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)  # [RFC 9112 section 3.2.2]
PROXY_FIELDS = ("x-forwarded-for", "forwarded", "via")  # added by proxies [RFC 7239; RFC 9110 section 7.6.3]
UPGRADE_REQUIRED = "This is the address of a WebSocket. A proxy in front has to pass Upgrade and Connection on."


class Head(NamedTuple):
    """A request's line and headers, in the order received; header names in lower case."""

    method: str
    path: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: str) -> list[str]:
        """The comma-separated tokens of a header, in lower case [RFC 9110 section 5.6.1]."""
        return [token.strip().lower() for value in self.values(name) for token in value.split(",")]

    def in_origin_form(self) -> "Head":
        """This head with an absolute target replaced by its path, and its authority as the host [RFC 9112 section
        3.2.2]."""
        found = ABSOLUTE.fullmatch(self.path)
        if found is None:
            return self
        path = found[2] if found[2].startswith("/") else f"/{found[2]}"
        headers = [(name, value) for name, value in self.headers if name != "host"]
        return Head(self.method, path, [("host", found[1]), *headers])

    @property
    def wants_websocket(self) -> bool:
        return "websocket" in self.tokens("upgrade") and "upgrade" in self.tokens("connection")


def came_through_proxy(headers: Container[str]) -> bool:
    """True when a request has a header that proxies add; `headers` are case-insensitive. A client that forges one only
    limits its own delivery."""
    return any(field in headers for field in PROXY_FIELDS)


def read_head(data: bytes) -> Head | None:
    """Parse the head of a request, without the empty line. Returns None when the first line is no request line."""
    lines = data.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        return None
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return Head(parts[0], parts[1], headers).in_origin_form()


def refuse_upgrade(head: Head, ws_paths: Collection[str] | None, origins: Origins) -> tuple[int, str, str] | None:
    """Return why an upgrade is refused: status, reason and additional headers. None when it is allowed by path, origin,
    WebSocket version and the absence of a body."""
    path = head.path.partition("?")[0]
    if ws_paths is not None and path not in ws_paths:
        return 404, "There is no WebSocket here; it is at /presence.", ""
    if not origins.allow(head.values):
        return 403, origin_refusal(head.values), ""
    if head.values("sec-websocket-version") != ["13"]:
        headers = (
            "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"  # [RFC 9110 section 15.5.22]
        )
        return 426, "WebSocket version 13 is spoken here.", headers
    if head.values("transfer-encoding") or any(length != "0" for length in head.values("content-length")):
        return 400, "An upgrade has no body.", ""
    return None


def accept_upgrade(head: bytes) -> tuple[Any, bytes]:
    """Returns the request of an upgrade, with `headers` and `path`, and the 101 response [RFC 6455 section 4.2.2].
    `head` ends before the empty line. Errors: ValueError with the fault of the request."""
    try:
        request = _parse_http_request(head)
        # picows wants the value to be exactly "upgrade"; Firefox sends "keep-alive, Upgrade"
        request.headers["connection"] = "upgrade"
        request.headers["upgrade"] = "websocket"
        accepted = _validate_upgrade_request(request)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return request, (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accepted
    )


def session_cookie(head: Head, name: str, origins: Origins) -> SessionCookie | str | None:
    """The application's session cookie in an upgrade request, or the reason why there is none that counts. None when
    `name` is empty: cookie authentication is off. Browsers attach cookies to requests of any page, so a cookie counts
    only from an allowed origin [A8]."""
    if not name:
        return None
    if not origins.allow_cookie(head.values):
        return OTHER_PAGE
    try:
        return find_cookie(head.values("cookie"), name)
    except TokenRefused as refused:
        return str(refused)
